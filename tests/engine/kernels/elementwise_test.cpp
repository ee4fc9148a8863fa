#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "engine/kernels/dense_cases.h"
#include "engine/kernels/reference/reference.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::Misaligned;
using testing::normal_values;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr Activation kActivations[] = {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu,
                                       Activation::relu2};

/// Every magnitude from 1e-30 to 100, both signs, and zero: 20000 numbers.
std::vector<float> all_magnitudes() {
  std::vector<float> x{0.0F, -0.0F};
  for (int i = 0; i < 10000; ++i) {
    // Half of them evenly over the numbers that occur.
    const double v = i % 2 == 0 ? std::pow(10.0, -30 + 32.0 * i / 10000) : 1e-4 + 30.0 * i / 10000;
    x.push_back(static_cast<float>(v));
    x.push_back(static_cast<float>(-v));
  }
  return x;
}

TEST(Activations, AreAccurateForEveryMagnitudeOnEveryInstructionSet) {
  const auto x = all_magnitudes();
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const Activation f : kActivations) {
      auto y = x;
      activate(f, y.data(), static_cast<std::int64_t>(y.size()));
      double worst = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto v = static_cast<double>(x[i]);
        const double wanted = reference::activation(f, v);
        // The tail of an exponential: rounding its argument u by half a unit costs u half units. The exact one (silu)
        // and the compensated one (gelu with FMA) are better; 1e-37: f32 has no smaller normal numbers.
        double u = 0;
        if (f == Activation::gelu_tanh && v < 0) u = 1.6 * (std::abs(v) + 0.0447 * std::abs(v * v * v));
        if (f == Activation::gelu && v < 0 && set == "SSE4") u = v * v / 2;
        const double error = std::abs(static_cast<double>(y[i]) - wanted) / (std::abs(wanted) * (1 + u) + 1e-36);
        if (std::abs(wanted) < 2e-36) continue;
        if (error > worst) worst = error;
      }
      EXPECT_LT(worst, 4e-7) << name_of(f) << " on " << set;
    }
  });
}

TEST(Activations, GiveZeroBelowWhatFloatCanHold) {
  for (const Activation f : kActivations) {
    std::vector<float> x = {-100.0F, -1e4F, -1e30F};
    activate(f, x.data(), 3);
    for (const float y : x) EXPECT_EQ(std::abs(y), 0.0F) << name_of(f);
  }
}

TEST(Activations, KeepNotANumber) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const Activation f : kActivations) {
      std::vector<float> x(19, 1.0F);
      x[3] = x[18] = kNan;
      activate(f, x.data(), 19);
      EXPECT_TRUE(std::isnan(x[3]) && std::isnan(x[18])) << name_of(f) << " on " << set;
      EXPECT_FALSE(std::isnan(x[4])) << name_of(f);
    }
  });
}

TEST(Activations, GiveTheSameBitsWhereverAnElementLies) {
  const std::int64_t count =
      *std::max_element(std::begin(kWidths), std::end(kWidths)) + 1;  // one more must stay as it is
  const auto x = normal_values(count, 1, 3), up = normal_values(count, 2);
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const Activation f : kActivations) {
      auto whole = x, gated = x;
      activate(f, whole.data(), count);
      activate_gated(f, gated.data(), up.data(), count);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(gated[i], whole[i] * up[i]) << name_of(f) << " on " << set;
      for (const std::int64_t n : kWidths) {
        Misaligned<float> some(x.data(), static_cast<std::size_t>(n + 1), 4);
        activate(f, some.data(), n);
        for (std::int64_t i = 0; i < n; ++i)
          ASSERT_EQ(some.data()[i], whole[static_cast<std::size_t>(i)]) << name_of(f) << " n " << n << " on " << set;
        ASSERT_EQ(some.data()[n], x[static_cast<std::size_t>(n)]) << "wrote past the end";
      }
    }
  });
}

TEST(SoftCap, FollowsTanhForEveryMagnitude) {
  const auto x = all_magnitudes();
  testing::with_every_instruction_set([&](const std::string& set) {
    auto y = x;
    soft_cap(y.data(), static_cast<std::int64_t>(y.size()), 30.0F);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double wanted = 30 * std::tanh(static_cast<double>(x[i]) / 30);
      ASSERT_NEAR(static_cast<double>(y[i]), wanted, 4e-7 * std::abs(wanted) + 1e-37) << x[i] << " on " << set;
    }
    std::vector<float> ends = {kInf, -kInf, kNan};
    soft_cap(ends.data(), 3, 50.0F);
    EXPECT_EQ(ends[0], 50.0F);
    EXPECT_EQ(ends[1], -50.0F);
    EXPECT_TRUE(std::isnan(ends[2]));
  });
}

TEST(Softmax, AgreesWithTheReferenceAndSumsToOne) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const std::int64_t n : kWidths) {
      const auto x = normal_values(n, static_cast<std::uint64_t>(n), 5);
      Misaligned<float> got(x.data(), x.size(), 4);
      auto wanted = x;
      softmax(got.data(), n);
      reference::softmax(wanted.data(), n);
      double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const auto p = static_cast<double>(got.data()[i]);
        ASSERT_NEAR(p, static_cast<double>(wanted[static_cast<std::size_t>(i)]), 1e-6 * p + 1e-12)
            << n << " on " << set;
        sum += p;
      }
      ASSERT_NEAR(sum, 1, 1e-6) << n << " on " << set;
      ASSERT_NEAR(log_sum_exp(x.data(), n), reference::log_sum_exp(x.data(), n), 3e-7) << n << " on " << set;
    }
  });
}

TEST(Softmax, GivesZeroToMinusInfinityAndTakesLargeNumbers) {
  testing::with_every_instruction_set([&](const std::string&) {
    std::vector<float> x(37, -kInf);
    x[5] = 3e38F;
    x[36] = 3e38F;
    softmax(x.data(), 37);
    for (std::size_t i = 0; i < 37; ++i) EXPECT_EQ(x[i], i == 5 || i == 36 ? 0.5F : 0.0F) << i;
  });
}

TEST(LogSumExp, HandlesTheEnds) {
  testing::with_every_instruction_set([&](const std::string&) {
    const std::vector<float> none(20, -kInf);
    EXPECT_EQ(log_sum_exp(none.data(), 20), -INFINITY);
    EXPECT_EQ(log_sum_exp(nullptr, 0), -INFINITY);
    std::vector<float> x(20, -1.0F);
    x[19] = kNan;
    EXPECT_TRUE(std::isnan(log_sum_exp(x.data(), 20)));
    x[19] = kInf;
    EXPECT_EQ(log_sum_exp(x.data(), 20), INFINITY);
    x[19] = 1e30F;
    EXPECT_EQ(log_sum_exp(x.data(), 20), static_cast<double>(1e30F));
    // A long sum keeps its accuracy: 200000 equal terms.
    const std::vector<float> equal(200000, 7.25F);
    EXPECT_NEAR(log_sum_exp(equal.data(), 200000), 7.25 + std::log(200000.0), 1e-7);
  });
}

TEST(Add, AddsEveryElementOnce) {
  for (const std::int64_t n : kWidths) {
    const auto a = normal_values(n, 1), b = normal_values(n, 2);
    auto sum = a;
    sum.push_back(9.0F);
    add(sum.data(), b.data(), n);
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(sum[i], a[i] + b[i]);
    ASSERT_EQ(sum.back(), 9.0F);
  }
}

TEST(Norms, AgreeWithTheReference) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const std::int64_t n : kWidths) {
      const std::int64_t rows = 3;
      auto x = normal_values(rows * n, 3);
      for (std::int64_t i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] += 100.0F;  // a mean far from 0
      const auto weight = normal_values(n, 4), bias = normal_values(n, 5);
      std::vector<float> wanted(x.size()), got(x.size());
      const auto compare = [&](const char* what, double tolerance) {
        for (std::size_t i = 0; i < x.size(); ++i)
          ASSERT_NEAR(got[i], wanted[i], tolerance * (1 + std::abs(static_cast<double>(wanted[i]))))
              << what << " of " << n << " on " << set;
      };
      for (const float offset : {0.0F, 1.0F}) {
        reference::rms_norm(x.data(), rows, weight, offset, 1e-5F, wanted.data());
        rms_norm(x.data(), rows, weight, offset, 1e-5F, got.data());
        compare("rms_norm", 2e-6);
        got = x;
        rms_norm(got.data(), rows, weight, offset, 1e-5F, got.data());
        compare("rms_norm in place", 2e-6);
        reference::layer_norm(x.data(), rows, weight, offset, bias, 1e-5F, wanted.data());
        layer_norm(x.data(), rows, weight, offset, bias, 1e-5F, got.data());
        // The mean 100 costs 100 units of the deviations' rounding; of one value nothing but that would be left.
        if (n > 1) compare("layer_norm", 1e-4);
        reference::layer_norm(x.data(), rows, weight, offset, {}, 1e-5F, wanted.data());
        got = x;
        layer_norm(got.data(), rows, weight, offset, {}, 1e-5F, got.data());
        if (n > 1) compare("layer_norm in place without bias", 1e-4);
      }
    }
  });
}

TEST(Kernels, RefuseBadArguments) {
  std::vector<float> x(8), weight(4), bias(3);
  EXPECT_THROW(rms_norm(x.data(), 2, {}, 0, 1e-5F, x.data()), InvalidArgument);
  EXPECT_THROW(rms_norm(x.data(), -1, weight, 0, 1e-5F, x.data()), InvalidArgument);
  EXPECT_THROW(rms_norm(x.data(), 2, weight, 0, kNan, x.data()), InvalidArgument);
  EXPECT_THROW(layer_norm(x.data(), 2, weight, 0, bias, 1e-5F, x.data()), InvalidArgument);
  EXPECT_THROW(activate(Activation::relu, nullptr, 3), InvalidArgument);
  EXPECT_THROW(add(x.data(), x.data(), -3), InvalidArgument);
  EXPECT_THROW(soft_cap(x.data(), 3, 0), InvalidArgument);
  EXPECT_THROW(softmax(nullptr, 3), InvalidArgument);
  EXPECT_NO_THROW(softmax(nullptr, 0));
}

TEST(KernelInstructionSet, IsTheOneInUse) {
  testing::with_every_instruction_set([](const std::string& set) { EXPECT_EQ(kernel_instruction_set(), set); });
}

}  // namespace
}  // namespace torpor
