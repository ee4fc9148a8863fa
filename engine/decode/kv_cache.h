// Keys and values of all positions seen so far, in f32 or q8_0. For each layer, sequence and KV head one contiguous
// table of [context, head_dim]: a head reads its positions as one stream, not one piece of each position's row. Keys
// may be split (Spark): a table of [context, r] for the leading values that score, and one of [context, head_dim - r]
// behind it.
#pragma once

#include <cstdint>
#include <memory>

#include "core/tensor/number_format.h"

namespace torpor {

struct KvCacheShape {
  int layers = 0, sequences = 1;
  std::int64_t context = 0;
  int kv_heads = 0, head_dim = 0;
  int leading = 0;                          // of a key, in a table of their own; 0: keys are not split
  NumberFormat format = NumberFormat::f32;  // or q8_0: head_dim and leading are then multiples of 32
};

/// Memory is reserved for the whole context at once and touched only as it fills, so that tables never move and no
/// token allocates. Not thread-safe to write; reading at once is fine.
class KvCache {
 public:
  /// Throws IoError if the address space does not suffice, InvalidArgument if the size overflows or the format does not
  /// fit.
  explicit KvCache(const KvCacheShape& shape);

  const std::byte* keys(int layer, int sequence) const { return table(2 * layer, sequence); }
  const std::byte* values(int layer, int sequence) const { return table(2 * layer + 1, sequence); }
  /// key, value: [kv_heads, head_dim], finite where the format is q8_0.
  void put(int layer, int sequence, std::int64_t position, const float* key, const float* value);

  bool quantised() const { return shape_.format == NumberFormat::q8_0; }
  std::int64_t head_stride() const { return shape_.context * shape_.head_dim; }  // values from a head to the next
  std::int64_t rest_offset() const { return shape_.context * shape_.leading; }   // to the second table of split keys

 private:
  std::byte* table(int which, int sequence) const {
    return memory_.get() +
           bytes((static_cast<std::int64_t>(which) * shape_.sequences + sequence) * shape_.kv_heads * head_stride());
  }
  std::int64_t bytes(std::int64_t values) const {
    return quantised() ? values / 32 * 34 : values * static_cast<std::int64_t>(sizeof(float));
  }

  KvCacheShape shape_;
  std::shared_ptr<std::byte> memory_;
};

}  // namespace torpor
