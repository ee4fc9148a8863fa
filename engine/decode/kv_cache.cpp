#include "engine/decode/kv_cache.h"

#include <sys/mman.h>

#include "core/base/error.h"

namespace torpor {

KvCache::KvCache(int layers, int sequences, std::int64_t context, std::int64_t kv_width)
    : sequences_(sequences), context_(context), kv_width_(kv_width) {
  std::int64_t bytes = 2 * static_cast<std::int64_t>(sizeof(float)) * layers;
  if (__builtin_mul_overflow(bytes, sequences, &bytes) || __builtin_mul_overflow(bytes, context, &bytes) ||
      __builtin_mul_overflow(bytes, kv_width, &bytes) || bytes <= 0)
    throw InvalidArgument(
        "[KvCache] expected a size that can be addressed, got {} layers, {} sequences, {} positions of {}", layers,
        sequences, context, kv_width);
  const auto length = static_cast<std::size_t>(bytes);
  void* memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw IoError(
        "out of memory: {} bytes for the keys and values of {} sequences of {} tokens. Ask for a shorter context",
        bytes, sequences, context);
  memory_ = {static_cast<float*>(memory), [length](float* p) { ::munmap(p, length); }};
}

}  // namespace torpor
