#include "engine/bench/memory_rate.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/bench/memory_rate.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace torpor::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// Exclusive or: a sum of lanes overflows in the compiler's own header, where the sanitizer sees it.
std::uint64_t mix_of(const std::byte* p, std::size_t n) {
  const hn::ScalableTag<std::uint64_t> d;
  const std::size_t step = hn::Lanes(d) * sizeof(std::uint64_t);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (std::size_t i = 0; i + 4 * step <= n; i += 4 * step) {
    const auto at = [&](std::size_t k)
                        HWY_ATTR { return hn::LoadU(d, reinterpret_cast<const std::uint64_t*>(p + i + k * step)); };
    a = hn::Xor(a, at(0));
    b = hn::Xor(b, at(1));
    c = hn::Xor(c, at(2));
    e = hn::Xor(e, at(3));
  }
  HWY_ALIGN std::uint64_t lanes[HWY_MAX_BYTES / sizeof(std::uint64_t)];
  hn::Store(hn::Xor(hn::Xor(a, b), hn::Xor(c, e)), d, lanes);
  std::uint64_t mixed = 0;
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) mixed ^= lanes[i];
  return mixed;
}

}  // namespace
}  // namespace torpor::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor {

HWY_EXPORT(mix_of);

double memory_read_rate(std::span<const std::byte> memory, ThreadPool& pool) {
  using Clock = std::chrono::steady_clock;
  std::atomic<std::uint64_t> mixed{0};
  const auto job = [&](long begin, long end, int) {
    mixed ^= HWY_DYNAMIC_DISPATCH(mix_of)(memory.data() + begin, static_cast<std::size_t>(end - begin));
  };
  const auto start = Clock::now();
  pool.parallel_for(static_cast<long>(memory.size()), 4096, std::ref(job));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return static_cast<double>(memory.size()) / seconds +
         static_cast<double>(mixed.load() == 42);  // used, so not left out
}

}  // namespace torpor
#endif
