#include "bench/kernels/machine.h"

#include <atomic>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/kernels/machine.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace torpor::bench::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// Operations done.
double multiply_add(std::int64_t rounds, float* out) {
  const hn::ScalableTag<float> d;
  const auto x = hn::Set(d, 0.999F), y = hn::Set(d, 1e-3F);
  auto a = hn::Set(d, *out), b = a, c = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a;
  for (std::int64_t r = 0; r < rounds; ++r) {
    a = hn::MulAdd(a, x, y);
    b = hn::MulAdd(b, x, y);
    c = hn::MulAdd(c, x, y);
    e = hn::MulAdd(e, x, y);
    f = hn::MulAdd(f, x, y);
    g = hn::MulAdd(g, x, y);
    h = hn::MulAdd(h, x, y);
    i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y);
    k = hn::MulAdd(k, x, y);
  }
  const auto s =
      hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(j, k)));
  *out = hn::GetLane(hn::SumOfLanes(d, s));
  return static_cast<double>(rounds) * 10 * 2 * static_cast<double>(hn::Lanes(d));
}

}  // namespace
}  // namespace torpor::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::bench {

HWY_EXPORT(multiply_add);

double multiply_add_rate(ThreadPool& pool) {
  std::atomic<double> operations{0};
  const double start = seconds();
  pool.run([&](int) {
    volatile float seed = 1;
    float out = seed;
    const double done = HWY_DYNAMIC_DISPATCH(multiply_add)(2'000'000, &out);
    seed = out;
    for (double old = operations; !operations.compare_exchange_weak(old, old + done);) {
    }
  });
  return operations / (seconds() - start);
}

}  // namespace torpor::bench
#endif
