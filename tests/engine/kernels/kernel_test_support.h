// What the kernel tests share: random inputs, inputs at odd addresses, and every instruction set of this machine in
// turn.
#pragma once

#include <hwy/highway.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/tensor/number_format.h"
#include "engine/kernels/simd/vnni.h"

namespace torpor::testing {

inline std::vector<float> normal_values(std::int64_t n, std::uint64_t seed, double scale = 1) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = static_cast<float>(scale * random.normal());
  return values;
}

/// Random bytes that are a valid matrix [rows, in] of `format`; the block scales are about 0.02.
inline std::vector<std::byte> random_weights(NumberFormat format, std::int64_t rows, std::int64_t in,
                                             std::uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(bytes_of(format, rows * in));
  if (format == NumberFormat::f64) {
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      const double v = random.normal();
      std::memcpy(bytes.data() + i, &v, 8);
    }
    return bytes;
  }
  if (!traits(format).quantised) {
    from_f32(normal_values(rows * in, seed), format, bytes.data());
    return bytes;
  }
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
  const auto block = static_cast<std::size_t>(traits(format).block_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    const auto put = [&](std::size_t offset) {
      const auto scale = static_cast<float>(0.02 * (random.uniform() + 0.2) * (random.below(4) == 0 ? -1 : 1));
      from_f32({&scale, 1}, NumberFormat::f16, bytes.data() + at + offset);
    };
    put(format == NumberFormat::q6_k ? 208 : 0);
    if (format == NumberFormat::q4_k) put(2);
  }
  return bytes;
}

/// A copy at an address that is `offset` bytes past an aligned one.
template <class T>
class Misaligned {
 public:
  Misaligned(const T* data, std::size_t count, std::size_t offset) : storage_(count * sizeof(T) + 192), count_(count) {
    const auto start = reinterpret_cast<std::uintptr_t>(storage_.data());
    at_ = storage_.data() + (64 - start % 64) + offset;
    if (count > 0) std::memcpy(at_, data, count * sizeof(T));
  }
  T* data() { return reinterpret_cast<T*>(at_); }
  std::size_t size() const { return count_; }

 private:
  std::vector<std::byte> storage_;
  std::byte* at_;
  std::size_t count_;
};

/// Runs `body` once with each instruction set that this machine has, from the best to the oldest.
inline void with_every_instruction_set(const std::function<void(const std::string&)>& body) {
  std::int64_t all = hwy::SupportedTargets() & (HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_NEON);
  if (all == 0) return body("default");
  // What is beyond Highway's, first: VNNI instructions (vnni.h).
  if (simd::vnni::available()) body("AVX-512 with VNNI");
  simd::vnni::switched_off = true;
  for (; all != 0; all &= all - 1) {
    const std::int64_t one = all & -all;
    hwy::SetSupportedTargetsForTest(one);
    hwy::GetChosenTarget().Update(one);
    body(hwy::TargetName(one));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
  simd::vnni::switched_off = false;
}

}  // namespace torpor::testing
