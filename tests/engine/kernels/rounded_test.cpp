// Products of many rows in bf16: those of numbers that were rounded beforehand.
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/dense_cases.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/many_rows.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/simd/bf16.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::normal_values;
using testing::random_weights;

void skip_without_bf16() {
  if (!simd::bf16::available()) GTEST_SKIP() << "this processor does not multiply bf16";
}

std::vector<float> rounded(const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * 2);
  from_f32(values, NumberFormat::bf16, bytes.data());
  std::vector<float> back(values.size());
  to_f32(NumberFormat::bf16, bytes.data(), back);
  return back;
}

TEST(Rounded, NumbersAreTheNearestBf16InTheOrderAskedFor) {
  skip_without_bf16();
  if (IsSkipped()) return;
  for (const std::int64_t n : {1, 15, 16, 17, 100}) {
    auto x = normal_values(n, 1);
    x[0] = std::ldexp(1.00390625F, 3);  // halfway: to even
    const auto wanted = rounded(x);
    std::vector<std::int32_t> order;
    for (std::int64_t i = 0; i < n; ++i) order.push_back(static_cast<std::int32_t>(n - 1 - i));
    for (const bool turned : {false, true}) {
      std::vector<std::uint16_t> got(static_cast<std::size_t>(n) + 1, 7);
      simd::bf16::round(x.data(), turned ? order.data() : nullptr, n, got.data());
      std::vector<float> values(static_cast<std::size_t>(n));
      to_f32(NumberFormat::bf16, reinterpret_cast<const std::byte*>(got.data()), values);
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(values[i], wanted[turned ? values.size() - 1 - i : i]) << n << ", " << i;
      EXPECT_EQ(got.back(), 7) << "written behind the end";
    }
  }
  const float odd[] = {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
  std::uint16_t got[2];
  simd::bf16::round(odd, nullptr, 2, got);
  float back[2];
  to_f32(NumberFormat::bf16, reinterpret_cast<const std::byte*>(got), back);
  EXPECT_EQ(back[0], odd[0]);
  EXPECT_TRUE(std::isnan(back[1]));
}

/// Weights of a format, as values that were rounded too, and the product of rounded x with them, through f32 sums.
struct Case {
  Case(NumberFormat format, std::int64_t rows, std::int64_t in, std::int64_t out)
      : bytes(random_weights(format, out, in, 3)),
        w{format, bytes.data(), out, in},
        x(normal_values(rows * in, 4)),
        bias(normal_values(out, 5)) {
    values.resize(static_cast<std::size_t>(in * out));
    to_f32(format, bytes.data(), values);
    values = rounded(values);
  }
  std::vector<std::byte> bytes;
  WeightMatrix w;
  std::vector<float> x, bias, values;
};

/// The sums' rounding alone: terms are exact in f32.
void expect_product(const std::vector<float>& x, const std::vector<float>& weights, std::int64_t in,
                    const std::vector<float>& bias, const std::vector<float>& got, bool turned,
                    const std::string& what) {
  const auto out = static_cast<std::int64_t>(bias.size());
  const auto rows = static_cast<std::int64_t>(x.size()) / in;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < out; ++o) {
      double sum = static_cast<double>(bias[static_cast<std::size_t>(o)]), size = 1e-30;
      for (std::int64_t i = 0; i < in; ++i) {
        const double term = static_cast<double>(x[static_cast<std::size_t>(r * in + i)]) *
                            static_cast<double>(weights[static_cast<std::size_t>(turned ? i * out + o : o * in + i)]);
        sum += term;
        size += std::abs(term);
      }
      ASSERT_NEAR(static_cast<double>(got[static_cast<std::size_t>(r * out + o)]), sum, 1e-6 * size)
          << what << ", row " << r << ", output " << o;
    }
}

TEST(Rounded, ProductsAreThoseOfRoundedNumbers) {
  skip_without_bf16();
  if (IsSkipped()) return;
  ThreadPool pool(2);
  for (const NumberFormat format :
       {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k})
    for (const std::int64_t in : {256, 512, 1280, 2560 + 256})
      for (const std::int64_t rows : {60, 77}) {  // many of every format on every processor
        Case c(format, rows, in, in == 256 ? 2080 : 70);
        const auto x = rounded(c.x);
        std::vector<float> got(static_cast<std::size_t>(rows * c.w.out), -7777.0F);
        const std::string what = fmt::format("{}, {} rows of {}", traits(format).name, rows, in);
        linear(c.w, c.x.data(), rows, c.bias, got.data(), pool, Products::rounded);
        expect_product(x, c.values, in, c.bias, got, false, what);
        order_in_place(c.w, c.bytes.data());
        if (!c.w.interleaved) continue;
        linear(c.w, c.x.data(), rows, c.bias, got.data(), pool, Products::rounded);
        expect_product(x, c.values, in, c.bias, got, false,
                       fmt::format("{} together, interleaved {}", c.w.together, what));
      }
}

TEST(Rounded, TurnedProductsToo) {
  skip_without_bf16();
  if (IsSkipped()) return;
  ThreadPool pool(2);
  for (const NumberFormat format : {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0})
    for (const std::int64_t out : {32, 96, 2080}) {
      const std::int64_t in = 133, rows = 21;
      Case c(format, rows, out, in);  // a row for each input
      c.x = normal_values(rows * in, 6);
      c.bias = normal_values(out, 7);
      std::vector<float> got(static_cast<std::size_t>(rows * out), -7777.0F);
      linear_turned(c.w, c.x.data(), rows, c.bias, got.data(), pool, Products::rounded);
      expect_product(rounded(c.x), c.values, in, c.bias, got, true, fmt::format("{}, {}", traits(format).name, out));
    }
}

TEST(Rounded, FullFormatsFewRowsAndOtherProcessorsAreExact) {
  ThreadPool pool(1);
  const auto same = [&](NumberFormat format, std::int64_t rows) {
    const Case c(format, rows, 512, 70);
    std::vector<float> exact(static_cast<std::size_t>(rows * 70)), got(exact.size());
    linear(c.w, c.x.data(), rows, c.bias, exact.data(), pool);
    linear(c.w, c.x.data(), rows, c.bias, got.data(), pool, Products::rounded);
    return exact == got;
  };
  EXPECT_TRUE(same(NumberFormat::f32, 40));
  EXPECT_TRUE(same(NumberFormat::f16, 40));
  const std::int64_t limit = many_rows_from({NumberFormat::bf16, nullptr, 70, 512}, Products::rounded);
  EXPECT_TRUE(same(NumberFormat::bf16, limit - 1));
  EXPECT_EQ(same(NumberFormat::bf16, limit), !simd::bf16::available());
  EXPECT_EQ(same(NumberFormat::bf16, 40), !simd::bf16::available());
  simd::vnni::switched_off = true;
  EXPECT_TRUE(same(NumberFormat::bf16, 40));
  simd::vnni::switched_off = false;
}

TEST(Rounded, GivesTheSameBitsForEveryThreadCount) {
  for (const NumberFormat format : {NumberFormat::bf16, NumberFormat::q8_0}) {
    const Case c(format, 600, 256, 1111);
    std::vector<float> one(600 * 1111), several(one.size());
    ThreadPool single(1);
    linear(c.w, c.x.data(), 600, {}, one.data(), single, Products::rounded);
    for (const int threads : {2, 3, 5}) {
      ThreadPool pool(threads);
      linear(c.w, c.x.data(), 600, {}, several.data(), pool, Products::rounded);
      ASSERT_EQ(std::memcmp(one.data(), several.data(), one.size() * sizeof(float)), 0)
          << traits(format).name << ", " << threads << " threads";
    }
  }
}

TEST(Interleaved, RowOrderSaysWhichValueEachNumberIs) {
  for (const NumberFormat format : {NumberFormat::q8_0, NumberFormat::q4_0})
    for (const std::int64_t in : {32, 480, 512, 544 + 96}) {
      const std::vector<std::int32_t> order = row_order(format, in);
      ASSERT_EQ(order.size(), static_cast<std::size_t>(in));
      std::vector<bool> seen(order.size());
      for (const std::int32_t value : order) seen[static_cast<std::size_t>(value)] = true;
      EXPECT_EQ(std::count(seen.begin(), seen.end(), true), in) << traits(format).name << ", " << in;
    }
}

}  // namespace
}  // namespace torpor
