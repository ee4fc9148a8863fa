#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "engine/kernels/dense_cases.h"
#include "engine/kernels/many_rows.h"
#include "engine/kernels/reference/reference.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::Misaligned;
using testing::normal_values;
using testing::random_weights;

std::string describe(const LinearCase& c) {
  return fmt::format("rows {} in {} out {} {} bias {}", c.rows, c.in, c.out, traits(c.weights).name, c.bias);
}

/// Largest |got - wanted| over the size of the sum's terms.
void expect_close(const LinearCase& c, const WeightMatrix& w, const float* x, const std::vector<float>& got,
                  const std::vector<float>& wanted, const std::string& what) {
  std::vector<float> weights(static_cast<std::size_t>(c.in));
  for (std::int64_t o = 0; o < c.out; ++o) {
    to_f32(c.weights, w.row(o), weights);
    for (std::int64_t r = 0; r < c.rows; ++r) {
      double size = 1e-30;
      for (std::int64_t i = 0; i < c.in; ++i)
        size += std::pow(
            static_cast<double>(x[r * c.in + i]) * static_cast<double>(weights[static_cast<std::size_t>(i)]), 2);
      const auto k = static_cast<std::size_t>(r * c.out + o);
      ASSERT_NEAR(static_cast<double>(got[k]), static_cast<double>(wanted[k]),
                  static_cast<double>(c.tolerance) * (std::sqrt(size) + std::abs(static_cast<double>(wanted[k]))))
          << what << ", row " << r << ", output " << o;
    }
  }
}

TEST(Linear, AgreesWithTheReferenceForEveryFormatShapeAndInstructionSet) {
  ThreadPool pool(2);
  std::uint64_t seed = 1;
  for (const LinearCase& c : kLinearCases) {
    const auto bytes = random_weights(c.weights, c.out, c.in, ++seed);
    const auto x = normal_values(c.rows * c.in, ++seed);
    const auto bias = c.bias ? normal_values(c.out, ++seed) : std::vector<float>{};
    const WeightMatrix w{c.weights, bytes.data(), c.out, c.in};
    std::vector<float> wanted(static_cast<std::size_t>(c.rows * c.out));
    reference::linear(w, x.data(), c.rows, bias, wanted.data());
    testing::with_every_instruction_set([&](const std::string& set) {
      std::vector<float> got(wanted.size(), -7777.0F);
      linear(w, x.data(), c.rows, bias, got.data(), pool);
      expect_close(c, w, x.data(), got, wanted, set + ", " + describe(c));
    });
  }
}

TEST(LinearTurned, AgreesWithTheReferenceForEveryFormatAndNumberOfRows) {
  ThreadPool pool(2);
  for (const NumberFormat format :
       {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0})
    for (const std::int64_t rows : {1, 2, 5, 19, 20, 70})
      for (const std::int64_t out : {32, 96, 2080}) {
        const std::int64_t in = 133;
        const auto bytes = random_weights(format, in, out, 3);
        const WeightMatrix w{format, bytes.data(), in, out};
        // The same weights the usual way round, in f32.
        std::vector<float> values(static_cast<std::size_t>(in * out)), turned(values.size());
        to_f32(format, bytes.data(), values);
        for (std::int64_t i = 0; i < in; ++i)
          for (std::int64_t o = 0; o < out; ++o)
            turned[static_cast<std::size_t>(o * in + i)] = values[static_cast<std::size_t>(i * out + o)];
        const WeightMatrix usual{NumberFormat::f32, reinterpret_cast<const std::byte*>(turned.data()), out, in};
        const auto x = normal_values(rows * in, 4), bias = normal_values(out, 5);
        std::vector<float> wanted(static_cast<std::size_t>(rows * out)), got(wanted.size() + 4, -7777.0F);
        for (const bool with_bias : {false, true}) {
          const std::span<const float> shift = with_bias ? std::span(bias) : std::span<const float>();
          reference::linear(usual, x.data(), rows, shift, wanted.data());
          linear_turned(w, x.data(), rows, shift, got.data(), pool);
          const LinearCase c{rows, in, out, NumberFormat::f32, with_bias, kPlainTolerance};
          const std::vector<float> part(got.begin(), got.end() - 4);
          expect_close(c, usual, x.data(), part, wanted, "turned " + std::string(traits(format).name) + describe(c));
          for (std::size_t i = 0; i < 4; ++i) ASSERT_EQ(got[got.size() - 1 - i], -7777.0F);
        }
      }
  const WeightMatrix w{NumberFormat::q4_k, reinterpret_cast<const std::byte*>(&pool), 1, 256};
  std::vector<float> x(64), y(256), bias(3);
  EXPECT_THROW(linear_turned(w, x.data(), 1, {}, y.data(), pool), InvalidArgument);
  EXPECT_THROW(linear_turned(w, x.data(), 1, bias, y.data(), pool), InvalidArgument);
}

TEST(Linear, BothPathsAgreeWithTheReferenceOnEitherSideOfTheChange) {
  // linear() picks by the number of rows; here each is used for row counts that it would not get.
  ThreadPool pool(1);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q4_0, NumberFormat::q6_k}) {
    const std::int64_t limit = many_rows_from({format, nullptr, 70, 256}, Products::exact);
    for (const std::int64_t rows : {std::int64_t{1}, limit - 1, limit, limit + 5}) {
      const LinearCase c{rows, 256, 70, format, true, kQuantisedTolerance};
      const auto bytes = random_weights(format, c.out, c.in, 3);
      const auto x = normal_values(rows * c.in, 4), bias = normal_values(c.out, 5);
      const WeightMatrix w{format, bytes.data(), c.out, c.in};
      std::vector<float> wanted(static_cast<std::size_t>(rows * c.out)), got(wanted.size());
      reference::linear(w, x.data(), rows, bias, wanted.data());
      linear_many_rows(w, x.data(), rows, bias.data(), got.data(), pool, Products::exact);
      expect_close(c, w, x.data(), got, wanted, "many rows, " + describe(c));
    }
  }
}

TEST(Linear, GivesTheSameBitsForEveryThreadCount) {
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0,
                                    NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    for (const std::int64_t rows : {1, 3, 8, 64, 600}) {
      const std::int64_t in = 256, out = 1111;  // enough bytes that few rows are split too
      const auto bytes = random_weights(format, out, in, 6);
      const auto x = normal_values(rows * in, 7);
      const WeightMatrix w{format, bytes.data(), out, in};
      std::vector<float> one(static_cast<std::size_t>(rows * out)), several(one.size());
      ThreadPool single(1);
      linear(w, x.data(), rows, {}, one.data(), single);
      for (const int threads : {2, 3, 5}) {
        ThreadPool pool(threads);
        linear(w, x.data(), rows, {}, several.data(), pool);
        ASSERT_EQ(std::memcmp(one.data(), several.data(), one.size() * sizeof(float)), 0)
            << traits(format).name << ", " << rows << " rows, " << threads << " threads";
      }
    }
  }
}

TEST(Linear, TakesWeightsAndRowsAtAnyAddressAndWritesNothingElse) {
  ThreadPool pool(1);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0,
                                    NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    const std::int64_t in = 256, out = 5;
    const auto bytes = random_weights(format, out, in, 8);
    for (const std::int64_t rows : {1, 2, 20}) {
      const auto x = normal_values(rows * in, 9);
      const WeightMatrix w{format, bytes.data(), out, in};
      std::vector<float> wanted(static_cast<std::size_t>(rows * out));
      linear(w, x.data(), rows, {}, wanted.data(), pool);
      for (const std::size_t offset : {1, 2, 3, 6, 13}) {
        Misaligned<std::byte> odd(bytes.data(), bytes.size(), offset);
        Misaligned<float> odd_x(x.data(), x.size(), 4 * offset);
        std::vector<float> got(wanted.size() + 2, 42.0F);
        linear({format, odd.data(), out, in}, odd_x.data(), rows, {}, got.data() + 1, pool);
        EXPECT_EQ(got.front(), 42.0F);
        EXPECT_EQ(got.back(), 42.0F);
        for (std::size_t i = 0; i < wanted.size(); ++i)
          ASSERT_NEAR(got[i + 1], wanted[i], 1e-4F) << traits(format).name << " at " << offset;
      }
    }
  }
}

TEST(Linear, KeepsNotANumberAndInfinityVisible) {
  // Rounding rows to integers must not turn what is broken into a number.
  ThreadPool pool(1);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0,
                                    NumberFormat::q4_k, NumberFormat::q6_k}) {
    const auto bytes = random_weights(format, 3, 512, 10);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      auto x = normal_values(2 * 512, 11);
      x[300] = bad;
      std::vector<float> y(6);
      linear({format, bytes.data(), 3, 512}, x.data(), 2, {}, y.data(), pool);
      for (int o = 0; o < 3; ++o) {
        EXPECT_FALSE(std::isfinite(y[static_cast<std::size_t>(o)])) << traits(format).name;
        EXPECT_TRUE(std::isfinite(y[static_cast<std::size_t>(3 + o)])) << traits(format).name;
      }
    }
  }
}

TEST(Linear, TakesRowsOfZerosAndOfVerySmallAndLargeNumbers) {
  ThreadPool pool(1);
  const auto bytes = random_weights(NumberFormat::q4_0, 4, 64, 12);
  const WeightMatrix w{NumberFormat::q4_0, bytes.data(), 4, 64};
  for (const float size : {0.0F, 1e-30F, 1e-20F, 1e20F, 1e30F}) {
    auto x = normal_values(64, 13);
    for (float& v : x) v *= size;
    std::vector<float> y(4), wanted(4);
    linear(w, x.data(), 1, {}, y.data(), pool);
    reference::linear(w, x.data(), 1, {}, wanted.data());
    for (std::size_t o = 0; o < 4; ++o)
      EXPECT_NEAR(y[o], wanted[o], 1e-3F * std::abs(wanted[o]) + 1e-4F * size) << size;
  }
}

TEST(Linear, RefusesWhatItCannotMultiply) {
  ThreadPool pool(1);
  std::vector<float> x(64), y(64), bias(3);
  const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
  const auto call = [&](WeightMatrix w, std::int64_t rows, std::span<const float> b) {
    linear(w, x.data(), rows, b, y.data(), pool);
  };
  EXPECT_THROW(call({NumberFormat::i32, bytes, 2, 8}, 1, {}), InvalidArgument);
  EXPECT_THROW(call({NumberFormat::q8_0, bytes, 1, 33}, 1, {}), InvalidArgument);
  EXPECT_THROW(call({NumberFormat::f32, bytes, 2, 0}, 1, {}), InvalidArgument);
  EXPECT_THROW(call({NumberFormat::f32, bytes, 2, 8}, -1, {}), InvalidArgument);
  EXPECT_THROW(call({NumberFormat::f32, bytes, 2, 8}, 1, bias), InvalidArgument);
  EXPECT_THROW(call({NumberFormat::f32, nullptr, 2, 8}, 1, {}), InvalidArgument);
  EXPECT_NO_THROW(call({NumberFormat::f32, bytes, 2, 8}, 0, {}));
}

}  // namespace
}  // namespace torpor
