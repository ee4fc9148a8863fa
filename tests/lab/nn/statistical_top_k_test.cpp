// The operator against the digest's vector, against differences in double, and against the threshold that the engine
// uses.
#include "lab/nn/statistical_top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"

namespace torpor::lab {
namespace {

at::Tensor random(at::IntArrayRef shape, std::uint64_t seed, at::ScalarType type = at::kDouble) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble)).to(type);
}

std::vector<float> row_of(const at::Tensor& x, std::int64_t r) {
  const at::Tensor row = x.reshape({-1, x.size(-1)})[r].to(at::kFloat).contiguous();
  return {row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel()};
}

TEST(StatisticalTopK, GivesThePublishedExampleAndItsGradient) {
  // spark.md 2.3, by hand from the definition.
  auto x = torch::tensor({0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 3.0, -2.0}, torch::kDouble).requires_grad_(true);
  const auto y = statistical_top_k(x, 2);
  const auto expected = torch::tensor({0.0, 0.0, 0.5322016, 0.0, 0.0, 0.0, 1.5322016, 0.0}, torch::kDouble);
  EXPECT_LT((y - expected).abs().max().item<double>(), 2e-7);  // seven digits were printed
  y.sum().backward();
  const auto gradient = torch::tensor(
      {-0.2648680, -0.0864520, 0.5567159, -0.2053960, -0.3243400, -0.1459240, 0.4377719, 0.0324921}, torch::kDouble);
  EXPECT_LT((x.grad() - gradient).abs().max().item<double>(), 2e-7);
}

TEST(StatisticalTopK, GradientAgreesWithDifferences) {
  for (const std::int64_t k : {1, 3, 11}) {
    for (const Shrink shrink : {Shrink::soft, Shrink::hard}) {
      auto x = (random({3, 2, 12}, 7 + static_cast<std::uint64_t>(k)) * 2 + 5).requires_grad_(true);
      const auto weights = random({3, 2, 12}, 99);
      (statistical_top_k(x, k, shrink) * weights).sum().backward();
      const at::NoGradGuard no_gradient;
      const auto value = [&](const at::Tensor& at_x) {
        return (statistical_top_k(at_x, k, shrink) * weights).sum().item<double>();
      };
      constexpr double kStep = 1e-6;
      auto moved = x.detach().clone();
      auto flat = moved.view({-1});
      const auto gradient = x.grad().view({-1});
      for (std::int64_t i = 0; i < flat.numel(); ++i) {
        const double before = flat[i].item<double>();
        flat[i].fill_(before + kStep);
        const double above = value(moved);
        flat[i].fill_(before - kStep);
        const double below = value(moved);
        flat[i].fill_(before);
        EXPECT_NEAR(gradient[i].item<double>(), (above - below) / (2 * kStep), 1e-7) << "k " << k << " entry " << i;
      }
    }
  }
}

TEST(StatisticalTopK, KeepsWhatTheEnginesThresholdKeeps) {
  const auto x = random({5, 300}, 3, at::kFloat) * 3 - 40;
  for (const std::int64_t k : {1, 24, 299}) {
    const auto soft = statistical_top_k(x, k), hard = statistical_top_k(x, k, Shrink::hard);
    for (std::int64_t r = 0; r < 5; ++r) {
      const std::vector<float> scores = row_of(x, r), kept = row_of(soft, r), whole = row_of(hard, r);
      const double theta = statistical_threshold(scores, k);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const bool above = static_cast<double>(scores[i]) > theta;
        EXPECT_EQ(kept[i], above ? static_cast<float>(static_cast<double>(scores[i]) - theta) : 0.F);
        EXPECT_EQ(whole[i], above ? scores[i] : 0.F);
      }
    }
  }
}

TEST(StatisticalTopK, KeepsAboutKOfGaussianScores) {
  // Measured for the digest over 4000 draws: mean 123.0, deviation 6.8.
  const auto counts = (statistical_top_k(random({2000, 1536}, 5, at::kFloat), 123) != 0).sum(-1).to(at::kDouble);
  EXPECT_NEAR(counts.mean().item<double>(), 123, 0.7);
  EXPECT_NEAR(counts.std().item<double>(), 6.8, 0.5);
}

TEST(StatisticalTopK, TakesAnyStridesAndShapesAndHalfPrecision) {
  const auto x = random({7, 40, 3}, 11, at::kFloat);
  const auto across = x.transpose(1, 2);  // rows of 40, strided
  EXPECT_TRUE(at::equal(statistical_top_k(across, 5), statistical_top_k(across.contiguous(), 5)));
  EXPECT_TRUE(at::equal(statistical_top_k(across[0][0], 5), statistical_top_k(across, 5)[0][0]));
  const auto half = across.to(at::kBFloat16);
  const auto y = statistical_top_k(half, 5);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(y, statistical_top_k(half.to(at::kFloat), 5).to(at::kBFloat16))) << "statistics in f64";
  EXPECT_EQ(statistical_top_k(x.new_empty({0, 8}), 2).numel(), 0);
}

TEST(StatisticalTopK, AConstantRowGivesZerosAndAFiniteGradient) {
  auto x = torch::full({2, 9}, 1.5, torch::kDouble).requires_grad_(true);
  const auto y = statistical_top_k(x, 3);
  EXPECT_EQ(y.abs().max().item<double>(), 0);
  y.sum().backward();
  EXPECT_EQ(x.grad().abs().max().item<double>(), 0);
}

TEST(StatisticalTopK, RefusesWhatItCannotDo) {
  const auto x = random({2, 8}, 1);
  for (const std::int64_t k : {std::int64_t{0}, std::int64_t{8}, std::int64_t{-1}})
    EXPECT_THROW(statistical_top_k(x, k), InvalidArgument) << k;
  EXPECT_THROW(statistical_top_k(x.to(at::kLong), 2), InvalidArgument);
  EXPECT_THROW(statistical_top_k(at::Tensor(), 2), InvalidArgument);
  auto again = x.clone().requires_grad_(true);
  const auto sum = statistical_top_k(again, 2).sum();
  EXPECT_THROW(torch::autograd::grad({sum}, {again}, {}, true, true), InvalidArgument) << "a second derivative";
}

}  // namespace
}  // namespace torpor::lab
