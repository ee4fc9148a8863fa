#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace torpor::bench {

/// megabytes: of weights; 0: eight times the last-level cache.
void sparse(int rounds, std::int64_t megabytes, ThreadPool& pool);

}  // namespace torpor::bench
