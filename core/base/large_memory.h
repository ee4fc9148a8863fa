// Memory for weights: whole pages from the system, large ones (2 MB) where it grants them. Rows that are read here and
// there miss the tables of small pages at every one: sparse feed-forward layers were 1.2x as fast with large ones.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace torpor {

/// Zeros, aligned to 64 bytes at least (to 2 MB from that size on), given back with the last copy of the pointer.
/// Throws IoError("out of memory: … bytes for <purpose>").
std::shared_ptr<std::byte> allocate_large(std::size_t bytes, const std::string& purpose);

}  // namespace torpor
