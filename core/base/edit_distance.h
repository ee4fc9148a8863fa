// How far apart two words are, to guess what was meant by one that is not known.
#pragma once

#include <cstddef>
#include <string_view>

namespace torpor {

/// Changes, insertions, removals and swaps of neighbours (restricted Damerau-Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace torpor
