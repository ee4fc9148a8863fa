// How fast this machine reads memory: what decode speeds are measured against.
#pragma once

#include <cstddef>
#include <span>

#include "core/base/thread_pool.h"

namespace torpor {

/// Bytes per second of one pass of all threads over `memory`, whatever is in it. It should be several times the
/// last-level cache.
double memory_read_rate(std::span<const std::byte> memory, ThreadPool& pool);

}  // namespace torpor
