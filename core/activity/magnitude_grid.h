// Fixed thresholds for magnitudes: 0, then 16 a doubling from 2^-44 to 2^20. The grid is the same for every layer and
// every text, so that statistics of different runs merge; consecutive edges differ by 4.4 % on average, far below the
// sampling error of what is measured at them. An edge is a float whose low 19 bits are zero: finding a bucket is a
// subtraction and a shift, and the comparison m <= edge is exact.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace torpor {

struct MagnitudeGrid {
  static constexpr int kLowest = -44, kHighest = 20, kPerOctave = 16;
  /// Edges 0 … kEdges-1; edge 0 is 0. Bucket k holds (edge(k-1), edge(k)], bucket 0 the exact zeros, bucket kEdges
  /// whatever is above the last edge. Magnitudes below edge 1 count as being at it.
  static constexpr int kEdges = (kHighest - kLowest) * kPerOctave + 2;
  static constexpr int kBuckets = kEdges + 1;

  static constexpr float edge(int k) {
    return k <= 0 ? 0.F : std::bit_cast<float>(kBase + (static_cast<std::int32_t>(k) - 1) * (1 << kShift));
  }
  /// x >= 0, not NaN. Thread-safe.
  static constexpr int bucket(float x) {
    if (x == 0) return 0;
    return std::clamp(((std::bit_cast<std::int32_t>(x) - 1 - kBase) >> kShift) + 2, 1, kEdges);
  }

 private:
  static constexpr int kShift = 19;  // 23 bits of mantissa, 4 of them in the grid
  static constexpr std::int32_t kBase = (127 + kLowest) << 23;
};

}  // namespace torpor
