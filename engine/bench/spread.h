// Rounds of a measurement, as the results of this library tell them.
#pragma once

#include <algorithm>
#include <vector>

#include "core/base/json.h"

namespace torpor {

/// The upper one of the two in the middle; 0 of none.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

/// {"min", "median", "max"} of at least one value.
inline Json spread(const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return {{"min", *least}, {"median", median(values)}, {"max", *most}};
}

}  // namespace torpor
