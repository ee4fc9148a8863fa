#include "engine/decode/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>

#include "core/base/error.h"

namespace torpor {

KvCache::KvCache(const KvCacheShape& shape) : shape_(shape) {
  if (shape.format != NumberFormat::f32 && shape.format != NumberFormat::q8_0)
    throw InvalidArgument("[KvCache] expected f32 or q8_0, got {}", traits(shape.format).name);
  if (quantised() && (shape.head_dim % 32 != 0 || shape.leading % 32 != 0))
    throw InvalidArgument("[KvCache] expected heads of a multiple of 32 values for q8_0, got {} (of them {} apart)",
                          shape.head_dim, shape.leading);
  std::int64_t bytes = 2 * static_cast<std::int64_t>(sizeof(float)) * shape.layers;
  for (const std::int64_t factor :
       {std::int64_t{shape.sequences}, shape.context, std::int64_t{shape.kv_heads}, std::int64_t{shape.head_dim}})
    if (__builtin_mul_overflow(bytes, factor, &bytes)) bytes = -1;
  if (bytes <= 0)
    throw InvalidArgument(
        "[KvCache] expected a size that can be addressed, got {} layers, {} sequences, {} positions of {} x {}",
        shape.layers, shape.sequences, shape.context, shape.kv_heads, shape.head_dim);
  if (quantised()) bytes = bytes / 4 / 32 * 34;
  const auto length = static_cast<std::size_t>(bytes);
  void* memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw IoError(
        "out of memory: {} bytes for the keys and values of {} sequences of {} tokens. Ask for a shorter context",
        bytes, shape.sequences, shape.context);
  memory_ = {static_cast<std::byte*>(memory), [length](std::byte* p) { ::munmap(p, length); }};
}

void KvCache::put(int layer, int sequence, std::int64_t position, const float* key, const float* value) {
  const std::int64_t d = shape_.head_dim, r = shape_.leading;
  std::byte* const keys = table(2 * layer, sequence);
  std::byte* const values = table(2 * layer + 1, sequence);
  const auto store = [&](const float* from, std::int64_t count, std::byte* to) {
    if (count > 0) from_f32({from, static_cast<std::size_t>(count)}, shape_.format, to);
  };
  for (std::int64_t h = 0; h < shape_.kv_heads; ++h) {
    const std::int64_t head = h * head_stride();
    store(key + h * d, r, keys + bytes(head + position * r));
    store(key + h * d + r, d - r, keys + bytes(head + rest_offset() + position * (d - r)));
    store(value + h * d, d, values + bytes(head + position * d));
  }
}

}  // namespace torpor
