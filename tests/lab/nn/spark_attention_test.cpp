#include "lab/nn/spark_attention.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <limits>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

struct Case {
  const char* name;
  std::int64_t sequences, heads, kv_heads, positions, width;
  SparkAttentionOptions options;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"Small", 1, 1, 1, 9, 4, {.predictor = 2, .active = 3, .scale = 0.5}},
      {"GroupedHeads", 2, 4, 2, 40, 8, {.predictor = 4, .active = 6, .scale = 0.35}},
      {"SeveralBlocks", 2, 2, 1, 290, 8, {.predictor = 2, .active = 20, .scale = 0.35}},
      {"Windowed", 1, 2, 2, 200, 8, {.predictor = 4, .active = 5, .window = 17, .scale = 0.35}},
      {"WholeHeadsScore", 2, 2, 1, 150, 6, {.predictor = 0, .active = 9, .scale = 0.4}},
      {"AllKept", 1, 2, 1, 30, 8, {.predictor = 4, .active = 64, .scale = 0.35}},
  };
  return all;
}

std::array<at::Tensor, 3> draw(const Case& c, at::ScalarType type) {
  torch::manual_seed(11);
  const auto one = [&](std::int64_t heads) {
    return torch::randn({c.sequences, c.positions, heads, c.width}, at::kDouble)
        .to(type)
        .transpose(1, 2)  // strided, as the network has them
        .requires_grad_();
  };
  return {one(c.heads), one(c.kv_heads), one(c.kv_heads)};
}

/// The definition, with LibTorch's own operators and gradients and core/activity's threshold, row by row.
at::Tensor plain(const Case& c, const at::Tensor& q, const at::Tensor& k_in, const at::Tensor& v_in,
                 SparkAttentionCounts& counts) {
  const at::Tensor k = k_in.repeat_interleave(c.heads / c.kv_heads, 1);
  const at::Tensor v = v_in.repeat_interleave(c.heads / c.kv_heads, 1);
  const std::int64_t r = c.options.predictor > 0 ? c.options.predictor : c.width, rest = c.width - r;
  const at::Tensor s1 = at::matmul(q.narrow(3, 0, r), k.narrow(3, 0, r).transpose(2, 3)) * c.options.scale;
  at::Tensor keep = at::zeros(s1.sizes(), at::kBool);
  const at::Tensor values = s1.detach().to(at::kFloat).contiguous();
  for (std::int64_t b = 0; b < c.sequences; ++b)
    for (std::int64_t h = 0; h < c.heads; ++h)
      for (std::int64_t i = 0; i < c.positions; ++i) {
        const std::int64_t from = c.options.window > 0 ? std::max<std::int64_t>(0, i + 1 - c.options.window) : 0;
        const float* const row = values[b][h][i].const_data_ptr<float>();
        const std::span<const float> visible(row + from, row + i + 1);
        const double theta = statistical_threshold(visible, c.options.active);
        std::int64_t kept = 0;
        for (std::int64_t j = from; j <= i; ++j)
          if (static_cast<double>(row[j]) > theta) {
            keep[b][h][i][j] = true;
            ++kept;
          }
        if (kept == 0) {
          keep[b][h][i][from + (std::max_element(visible.begin(), visible.end()) - visible.begin())] = true;
          ++counts.empty_rows;
          kept = 1;
        }
        ++counts.rows;
        counts.kept += kept;
        counts.most = std::max(counts.most, kept);
      }
  at::Tensor weights = at::softmax(s1.masked_fill(keep.logical_not(), -std::numeric_limits<float>::infinity()), -1);
  if (rest > 0)
    weights = weights *
              at::softplus(at::matmul(q.narrow(3, r, rest), k.narrow(3, r, rest).transpose(2, 3)) * c.options.scale);
  return at::matmul(weights, v);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

class SparkAttention : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(All, SparkAttention, ::testing::Range(std::size_t{0}, cases().size()),
                         [](const auto& one) { return std::string(cases()[one.param].name); });

TEST_P(SparkAttention, IsItsDefinitionForwardAndBackward) {
  const Case& c = cases()[GetParam()];
  for (const auto& [type, allowed] : {std::pair(at::kDouble, 1e-12), std::pair(at::kFloat, 2e-5)}) {
    const auto fused = draw(c, type), composed = draw(c, type);
    SparkAttentionCounts counts, expected_counts;
    const at::Tensor out = spark_attention(fused[0], fused[1], fused[2], c.options, counts);
    const at::Tensor expected = plain(c, composed[0], composed[1], composed[2], expected_counts);
    ASSERT_EQ(out.sizes(), expected.sizes());
    ASSERT_EQ(out.scalar_type(), type);
    EXPECT_LT(difference(out, expected), allowed);
    EXPECT_EQ(counts.rows, expected_counts.rows);
    EXPECT_EQ(counts.kept, expected_counts.kept);
    EXPECT_EQ(counts.most, expected_counts.most);
    EXPECT_EQ(counts.empty_rows, expected_counts.empty_rows);
    const at::Tensor direction = torch::randn_like(expected);
    (out * direction).sum().backward();
    (expected * direction).sum().backward();
    for (int i = 0; i < 3; ++i)
      EXPECT_LT(difference(fused[static_cast<std::size_t>(i)].grad(), composed[static_cast<std::size_t>(i)].grad()),
                allowed)
          << "of argument " << i;
  }
}

TEST_P(SparkAttention, ProductsInBf16AreCloseUnderAutocastAndGradientsKeepTheirType) {
  const Case& c = cases()[GetParam()];
  SparkAttentionCounts counts;
  // Numbers that bf16 holds, so that the same keys are chosen.
  auto exact = draw(c, at::kFloat);
  for (at::Tensor& x : exact) x = (x.detach() * 4).round().clamp(-8, 8).div(4).requires_grad_();
  const at::Tensor expected = spark_attention(exact[0], exact[1], exact[2], c.options, counts);
  auto rounded = exact;
  for (at::Tensor& x : rounded) x = x.detach().to(at::kBFloat16).requires_grad_();
  const at::Tensor out = spark_attention(rounded[0], rounded[1], rounded[2], c.options, counts);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  // Scores are rounded to bf16, so that a key near the threshold may change sides: on average, not everywhere.
  EXPECT_LT(((out.to(at::kFloat) - expected).square().mean() / expected.square().mean()).item<double>(), 2e-2);
  // Autocast rounds what is not yet rounded, as the network's rotated queries and keys.
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  EXPECT_TRUE(at::equal(spark_attention(exact[0], exact[1], rounded[2], c.options, counts), out));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  out.sum().backward();
  expected.sum().backward();
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rounded[i].grad().scalar_type(), at::kBFloat16);
    EXPECT_LT(((rounded[i].grad().to(at::kFloat) - exact[i].grad()).square().mean() /
               exact[i].grad().square().mean().clamp_min(1e-12))
                  .item<double>(),
              6e-2)
        << i;
  }
}

TEST(SparkAttention, WhatComesLaterCannotMatter) {
  const Case c = cases()[1];
  const auto x = draw(c, at::kFloat);
  SparkAttentionCounts counts;
  const at::NoGradGuard no_gradient;
  const at::Tensor out = spark_attention(x[0], x[1], x[2], c.options, counts);
  const auto changed = [&](const at::Tensor& from) {
    at::Tensor copy = from.clone();
    copy.narrow(2, 25, 15).mul_(-3).add_(1);
    return copy;
  };
  const at::Tensor other = spark_attention(changed(x[0]), changed(x[1]), changed(x[2]), c.options, counts);
  EXPECT_TRUE(at::equal(out.narrow(2, 0, 25), other.narrow(2, 0, 25)));
  EXPECT_FALSE(at::equal(out.narrow(2, 25, 15), other.narrow(2, 25, 15)));
}

TEST(SparkAttention, KeepsTheFirstLargestWhereNothingIsAboveAndCountsIt) {
  // One key far below the rest pulls the deviation up: the threshold lies above the largest.
  const at::Tensor q = at::ones({1, 1, 8, 2}), v = at::arange(16).to(at::kFloat).view({1, 1, 8, 2});
  at::Tensor k = at::zeros({1, 1, 8, 2});
  k[0][0][3][0] = -100;
  k[0][0][5][0] = k[0][0][6][0] = 0.5;
  SparkAttentionCounts counts;
  const at::Tensor out = spark_attention(q, k, v, {.predictor = 1, .active = 1, .scale = 1}, counts);
  const double half = std::log(2.0);  // softplus(0): the other halves of the heads
  EXPECT_NEAR(out[0][0][7][0].item<double>(), half * 10, 1e-5) << "the value of key 5";
  EXPECT_NEAR(out[0][0][2][1].item<double>(), half * 1, 1e-5) << "the first of three equals";
  EXPECT_EQ(counts.rows, 8);
  EXPECT_EQ(counts.kept, 8);
  EXPECT_EQ(counts.empty_rows, 7) << "all but the first query, which has one key and keeps all";
}

TEST(SparkAttention, RefusesWhatItCannotDo) {
  const auto x = [](std::int64_t heads, std::int64_t positions, std::int64_t width) {
    return at::zeros({1, heads, positions, width});
  };
  SparkAttentionCounts counts;
  const SparkAttentionOptions good{.predictor = 2, .active = 3};
  const auto refuses = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const SparkAttentionOptions& options) {
    EXPECT_THROW(spark_attention(q, k, v, options, counts), InvalidArgument);
  };
  EXPECT_NO_THROW(spark_attention(x(2, 5, 4), x(1, 5, 4), x(1, 5, 4), good, counts));
  refuses(x(3, 5, 4), x(2, 5, 4), x(2, 5, 4), good);
  refuses(x(2, 5, 4), x(1, 6, 4), x(1, 6, 4), good);
  refuses(x(2, 5, 4), x(1, 5, 4), x(1, 5, 6), good);
  refuses(x(2, 5, 4), x(1, 5, 4), x(1, 5, 4).to(at::kDouble), good);
  refuses(x(2, 5, 4).to(at::kHalf), x(1, 5, 4).to(at::kHalf), x(1, 5, 4).to(at::kHalf), good);
  refuses(x(2, 5, 4), x(1, 5, 4), x(1, 5, 4), {.predictor = 4, .active = 3});
  refuses(x(2, 5, 4), x(1, 5, 4), x(1, 5, 4), {.predictor = 2, .active = 0});
  refuses(x(2, 5, 4), x(1, 5, 4), x(1, 5, 4), {.predictor = 2, .active = 3, .window = -1});
}

}  // namespace
}  // namespace torpor::lab
