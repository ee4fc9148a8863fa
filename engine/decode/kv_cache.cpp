#include "engine/decode/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "core/base/error.h"

namespace torpor {

KvCache::KvCache(const KvCacheShape& shape) : shape_(shape) {
  std::int64_t bytes = 2 * static_cast<std::int64_t>(sizeof(float)) * shape.layers;
  for (const std::int64_t factor :
       {std::int64_t{shape.sequences}, shape.context, std::int64_t{shape.kv_heads}, std::int64_t{shape.head_dim}})
    if (__builtin_mul_overflow(bytes, factor, &bytes)) bytes = -1;
  if (bytes <= 0)
    throw InvalidArgument(
        "[KvCache] expected a size that can be addressed, got {} layers, {} sequences, {} positions of {} x {}",
        shape.layers, shape.sequences, shape.context, shape.kv_heads, shape.head_dim);
  const auto length = static_cast<std::size_t>(bytes);
  void* memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw IoError(
        "out of memory: {} bytes for the keys and values of {} sequences of {} tokens. Ask for a shorter context",
        bytes, shape.sequences, shape.context);
  memory_ = {static_cast<float*>(memory), [length](float* p) { ::munmap(p, length); }};
}

void KvCache::put(int layer, int sequence, std::int64_t position, const float* key, const float* value) {
  const std::int64_t d = shape_.head_dim, r = shape_.leading;
  float* const keys = table(2 * layer, sequence);
  float* const values = table(2 * layer + 1, sequence);
  for (std::int64_t h = 0; h < shape_.kv_heads; ++h) {
    float* const head = keys + h * head_stride();
    std::copy_n(key + h * d, r, head + position * r);
    std::copy_n(key + h * d + r, d - r, head + rest_offset() + position * (d - r));
    std::copy_n(value + h * d, d, values + h * head_stride() + position * d);
  }
}

}  // namespace torpor
