// What this machine can do at most, measured the plain way: reading memory, and multiplying and adding in registers.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/thread_pool.h"
#include "engine/bench/memory_rate.h"

namespace torpor::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double read_rate(std::span<const std::byte> memory, ThreadPool& pool) {
  return memory_read_rate(memory, pool);
}

/// Floating-point operations per second of independent f32 multiply-adds on all threads.
double multiply_add_rate(ThreadPool& pool);

}  // namespace torpor::bench
