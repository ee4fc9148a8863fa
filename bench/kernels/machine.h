// What the benchmarks of kernels share: the clock, how measurements are shown, and what this machine can multiply and
// add in registers at most. (How fast it reads: engine/bench/memory_rate.h.)
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/bench/memory_rate.h"

namespace torpor::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Of measurements.
struct Spread {
  double low, middle, high;
};
inline Spread spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}
inline std::string text(const Spread& s) {
  return fmt::format("{:5.2f} {:5.2f} {:5.2f}", s.low, s.middle, s.high);
}

/// Floating-point operations per second of independent f32 multiply-adds on all threads.
double multiply_add_rate(ThreadPool& pool);

}  // namespace torpor::bench
