// Upper bounds of what a config may say, so that nothing computed from it overflows or allocates much; check_config has
// the rest. Internal to the readers of configs.
#pragma once

#include <cstdint>

namespace torpor {

inline constexpr std::int64_t kMaxSize = std::int64_t{1} << 30, kMaxWidth = 1 << 20, kMaxHeads = 1 << 14,
                              kMaxLayers = 1 << 14;

}  // namespace torpor
