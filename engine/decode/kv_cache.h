// Keys and values of all positions seen so far, f32: for each layer and sequence one contiguous table [context,
// kv_width], position p in row p.
#pragma once

#include <cstdint>
#include <memory>

namespace torpor {

/// Memory is reserved for the whole context at once and touched only as it fills, so that tables never move and no
/// token allocates. Not thread-safe to write; reading at once is fine.
class KvCache {
 public:
  /// Throws IoError if the address space does not suffice, InvalidArgument if the size overflows.
  KvCache(int layers, int sequences, std::int64_t context, std::int64_t kv_width);

  float* keys(int layer, int sequence) const { return table(2 * layer, sequence); }
  float* values(int layer, int sequence) const { return table(2 * layer + 1, sequence); }
  std::int64_t kv_width() const { return kv_width_; }

 private:
  float* table(int which, int sequence) const {
    return memory_.get() + (static_cast<std::int64_t>(which) * sequences_ + sequence) * context_ * kv_width_;
  }

  int sequences_;
  std::int64_t context_, kv_width_;
  std::shared_ptr<float> memory_;
};

}  // namespace torpor
