// The identities of relu2.md 6.1 ("Exact tests without training"), each against the definition written out slowly.
#include "core/activity/cett.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activity/accumulator.h"
#include "core/activity/scores.h"
#include "core/activity/selection.h"
#include "core/base/error.h"
#include "tests/core/activity/layers.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::random_activations;
using testing::random_layer;
using testing::slow_cett;
using testing::slow_norm;

TokenTail tail_of(std::span<const float> a, const NeuronLayer& layer) {
  TailScratch scratch;
  TokenTail tail;
  token_tail(a, output_magnitudes(a, layer.outgoing_norms), layer.outgoing_rows, layer.width, scratch, tail);
  return tail;
}

CettCurve curve_of(std::span<const float> rows, const std::shared_ptr<const NeuronLayer>& layer) {
  ActivityOptions options;
  options.neurons = layer->neurons;
  options.width = layer->width;
  options.cett_stride = 1;
  ActivityAccumulator accumulator(options, layer);
  accumulator.add(rows);
  return accumulator.statistics().cett;
}

TEST(MagnitudeGrid, BucketsHoldTheirUpperEdgeAndNotTheLower) {
  EXPECT_EQ(MagnitudeGrid::edge(0), 0.F);
  EXPECT_EQ(MagnitudeGrid::edge(1), 0x1p-44F);
  EXPECT_EQ(MagnitudeGrid::edge(MagnitudeGrid::kEdges - 1), 0x1p20F);
  EXPECT_EQ(MagnitudeGrid::bucket(0.F), 0);
  for (int k = 1; k < MagnitudeGrid::kEdges; ++k) {
    const float edge = MagnitudeGrid::edge(k);
    EXPECT_GT(edge, MagnitudeGrid::edge(k - 1));
    EXPECT_EQ(MagnitudeGrid::bucket(edge), k);
    EXPECT_EQ(MagnitudeGrid::bucket(std::nextafter(edge, 1e30F)), k + 1);
  }
  EXPECT_EQ(MagnitudeGrid::bucket(1e-40F), 1);
  EXPECT_EQ(MagnitudeGrid::bucket(3e38F), MagnitudeGrid::kEdges);
}

TEST(Cett, NeuronsSumToTheLayersOutput) {  // (i)
  const auto layer = random_layer(129, 33, 1);
  const auto a = random_activations(1, 129, 0.4, 1, true);
  const double whole = slow_norm(a, *layer, [](int) { return true; });
  EXPECT_NEAR(tail_of(a, *layer).output_norm, whole, 1e-5 * whole);
}

TEST(Cett, EveryPrefixIsTheDefinitionAtThatEdge) {
  for (const int width : {1, 7, 8, 16, 33}) {
    const auto layer = random_layer(67, width, 2);
    const auto a = random_activations(1, 67, 0.3, 2, true);
    const auto tail = tail_of(a, *layer);
    int neurons = tail.zeros;
    for (const auto& step : tail.steps) {
      const float edge = MagnitudeGrid::edge(step.bucket);
      EXPECT_NEAR(step.prefix_norm / tail.output_norm, slow_cett(a, *layer, edge), 2e-5);
      neurons += step.neurons;
      const auto m = output_magnitudes(a, layer->outgoing_norms);
      EXPECT_EQ(neurons, std::count_if(m.begin(), m.end(), [&](float x) { return x <= edge; }));
    }
    EXPECT_EQ(neurons, 67);
  }
}

TEST(Cett, CurveIsTheMeanOfTheTokensRatios) {
  const auto layer = random_layer(50, 12, 3);
  const auto rows = random_activations(40, 50, 0.5, 3);
  const auto curve = curve_of(rows, layer);
  EXPECT_EQ(curve.tokens, 40);
  for (int k = 0; k < MagnitudeGrid::kEdges; k += 7) {
    double cett = 0, below = 0;
    for (int t = 0; t < 40; ++t) {
      const std::span<const float> a(rows.data() + t * 50, 50);
      cett += slow_cett(a, *layer, MagnitudeGrid::edge(k)) / 40;
      for (const float m : output_magnitudes(a, layer->outgoing_norms)) below += m <= MagnitudeGrid::edge(k) ? 1 : 0;
    }
    EXPECT_NEAR(curve.cett[static_cast<std::size_t>(k)], cett, 2e-5);
    EXPECT_NEAR(curve.sparsity[static_cast<std::size_t>(k)], below / (40 * 50), 1e-12);
  }
}

TEST(Cett, OrthonormalOutgoingWeightsGiveTheShareOfSquares) {  // (iii)
  const int neurons = 24, width = 40;
  auto layer = random_layer(neurons, width, 4);
  auto& w = layer->outgoing_rows;
  const auto row = [&](int i) { return std::span(w).subspan(static_cast<std::size_t>(i * width), width); };
  for (int i = 0; i < neurons; ++i) {  // Gram-Schmidt
    for (int j = 0; j < i; ++j) {
      double dot = 0;
      for (int k = 0; k < width; ++k)
        dot += static_cast<double>(row(i)[static_cast<std::size_t>(k)]) * row(j)[static_cast<std::size_t>(k)];
      for (int k = 0; k < width; ++k)
        row(i)[static_cast<std::size_t>(k)] -= static_cast<float>(dot) * row(j)[static_cast<std::size_t>(k)];
    }
    double square = 0;
    for (const float x : row(i)) square += static_cast<double>(x) * x;
    for (float& x : row(i)) x = static_cast<float>(x / std::sqrt(square));
  }
  layer->outgoing_norms = row_norms(w, neurons, width);
  const auto a = random_activations(1, neurons, 0.2, 4, true);
  const auto tail = tail_of(a, *layer);
  double all = 0;
  for (const float x : a) all += static_cast<double>(x) * x;
  ASSERT_GT(tail.steps.size(), 5U);
  for (const auto& step : tail.steps) {
    double below = 0;
    for (int i = 0; i < neurons; ++i)
      if (std::fabs(a[static_cast<std::size_t>(i)]) * layer->outgoing_norms[static_cast<std::size_t>(i)] <=
          MagnitudeGrid::edge(step.bucket))
        below += static_cast<double>(a[static_cast<std::size_t>(i)]) * a[static_cast<std::size_t>(i)];
    EXPECT_NEAR(std::pow(step.prefix_norm / tail.output_norm, 2), below / all, 1e-5);
  }
}

TEST(Cett, ScaleMovesBetweenActivationAndWeightWithoutEffect) {  // (iv)
  const auto layer = random_layer(45, 9, 5);
  const auto rows = random_activations(30, 45, 0.4, 5);
  auto scaled_layer = std::make_shared<NeuronLayer>(*layer);
  auto scaled_rows = rows;
  for (int i = 0; i < 45; ++i) {
    const float k = std::exp2(static_cast<float>(i % 7 - 3));  // powers of two: exact
    for (int t = 0; t < 30; ++t) scaled_rows[static_cast<std::size_t>(t * 45 + i)] *= k;
    for (int j = 0; j < 9; ++j) scaled_layer->outgoing_rows[static_cast<std::size_t>(i * 9 + j)] /= k;
  }
  scaled_layer->outgoing_norms = row_norms(scaled_layer->outgoing_rows, 45, 9);
  const auto curve = curve_of(rows, layer), scaled = curve_of(scaled_rows, scaled_layer);
  for (std::size_t k = 0; k < curve.cett.size(); ++k) {
    EXPECT_NEAR(curve.cett[k], scaled.cett[k], 1e-6);
    EXPECT_EQ(curve.sparsity[k], scaled.sparsity[k]);
  }

  auto larger = std::make_shared<NeuronLayer>(*layer);  // all weights times 4: epsilon times 4, CETT unchanged
  for (auto& w : larger->outgoing_rows) w *= 4;
  for (auto& n : larger->outgoing_norms) n *= 4;
  const auto moved = curve_of(rows, larger);
  for (const double target : {0.05, 0.2, 0.5}) {
    EXPECT_EQ(moved.threshold_for(target).epsilon, 4 * curve.threshold_for(target).epsilon);
    EXPECT_NEAR(moved.threshold_for(target).cett, curve.threshold_for(target).cett, 1e-6);
  }
}

TEST(Cett, PermutingNeuronsPermutesMasks) {  // (v)
  const int n = 70;
  const auto layer = random_layer(n, 6, 6);
  const auto a = random_activations(1, n, 0.3, 6, true);
  NeuronLayer permuted = *layer;
  std::vector<float> pa(a.size());
  const auto to = [&](int i) { return (i * 29 + 11) % n; };  // 29 and 70 share no factor
  for (int i = 0; i < n; ++i) {
    pa[static_cast<std::size_t>(to(i))] = a[static_cast<std::size_t>(i)];
    permuted.outgoing_norms[static_cast<std::size_t>(to(i))] = layer->outgoing_norms[static_cast<std::size_t>(i)];
  }
  for (const SelectionRule& rule :
       {SelectionRule{ExactZeros{}}, SelectionRule{OutputThreshold{0.7F}}, SelectionRule{ActivationThreshold{0.3F}},
        SelectionRule{TopK{9}}, SelectionRule{StatisticalTopK{9}}}) {
    const auto mask = select(rule, a, *layer), other = select(rule, pa, permuted);
    for (int i = 0; i < n; ++i) EXPECT_EQ(mask.test(i), other.test(to(i))) << name_of(rule);
    EXPECT_GT(mask.count(), 0);
  }
}

TEST(Cett, GrowsWithTheThresholdFromZeroToOne) {  // (vi)
  const auto curve = curve_of(random_activations(200, 90, 0.5, 7, true), random_layer(90, 30, 7));
  EXPECT_EQ(curve.cett.front(), 0);
  EXPECT_NEAR(curve.cett.back(), 1, 1e-9);
  EXPECT_EQ(curve.sparsity.back(), 1);
  for (std::size_t k = 1; k < curve.cett.size(); ++k) {
    EXPECT_GE(curve.cett[k], curve.cett[k - 1] - 1e-6) << k;
    EXPECT_GE(curve.sparsity[k], curve.sparsity[k - 1]);
  }
}

TEST(Cett, TargetZeroKeepsEverythingButExactZeros) {  // (vii)
  const auto rows = random_activations(64, 80, 0.6, 8);
  const auto zero = curve_of(rows, random_layer(80, 10, 8)).threshold_for(0);
  EXPECT_EQ(zero.epsilon, 0.F);
  EXPECT_EQ(zero.cett, 0);
  EXPECT_NEAR(zero.sparsity,
              static_cast<double>(std::count(rows.begin(), rows.end(), 0.F)) / static_cast<double>(rows.size()), 1e-12);
}

TEST(Cett, ThresholdNeverViolatesItsTargetAndNextEdgeDoes) {
  const auto layer = random_layer(60, 20, 9);
  const auto rows = random_activations(100, 60, 0.5, 9, true);
  const auto curve = curve_of(rows, layer);
  for (const double target : {0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9}) {
    const auto found = curve.threshold_for(target);
    double cett = 0, next = 0;
    const float next_edge = MagnitudeGrid::edge(MagnitudeGrid::bucket(found.epsilon) + 1);
    for (int t = 0; t < 100; ++t) {
      const std::span<const float> a(rows.data() + t * 60, 60);
      cett += slow_cett(a, *layer, found.epsilon) / 100;
      next += slow_cett(a, *layer, next_edge) / 100;
    }
    EXPECT_LE(cett, target + 1e-6);
    EXPECT_NEAR(cett, found.cett, 1e-5);
    if (found.epsilon > 0) {
      EXPECT_GT(next, target - 1e-6);
    }
  }
  EXPECT_THROW(curve.threshold_for(-0.1), InvalidArgument);
  EXPECT_THROW(curve.threshold_for(std::nan("")), InvalidArgument);
}

TEST(Cett, FallsBackToExactZerosWhereTheSmallestMagnitudeViolates) {
  // Two neurons of equal magnitude and some zeros: dropping either costs at least 1 / sqrt 2.
  auto layer = std::make_shared<NeuronLayer>();
  layer->neurons = 4;
  layer->width = 2;
  layer->outgoing_rows = {1, 0, 0, 1, 1, 1, 1, -1};
  layer->outgoing_norms = row_norms(layer->outgoing_rows, 4, 2);
  const std::vector<float> rows{1, 1, 0, 0, 2, 2, 0, 0};
  const auto found = curve_of(rows, layer).threshold_for(0.4);
  EXPECT_EQ(found.epsilon, 0.F);
  EXPECT_EQ(found.sparsity, 0.5);
}

TEST(Cett, ThresholdStopsAtTheFirstCrossingWhereTheTailCancelsTheHead) {
  // m = 1, 1.9 and 2 along one axis with signs +, -, +: the tail's error is not monotone (0.91, 0.82, 1).
  auto layer = std::make_shared<NeuronLayer>();
  layer->neurons = 3;
  layer->width = 1;
  layer->outgoing_rows = {1, 1, 1};
  layer->outgoing_norms = {1, 1, 1};
  const std::vector<float> rows{1, -1.9F, 2};
  const auto curve = curve_of(rows, layer);
  EXPECT_NEAR(curve.at(1.F).cett, 1 / 1.1, 1e-6);
  EXPECT_NEAR(curve.at(1.9375F).cett, 0.9 / 1.1, 1e-6);
  EXPECT_EQ(curve.threshold_for(0.85).epsilon, 0.F);
}

TEST(Cett, AnEdgeThatMeetsTheTargetExactlyIsTaken) {
  CettCurve curve;
  curve.cett = {0, 0.125, 0.25, 0.5};
  curve.sparsity = {0, 0.1, 0.2, 0.3};
  EXPECT_EQ(curve.threshold_for(0.25).epsilon, MagnitudeGrid::edge(2));
  EXPECT_EQ(curve.threshold_for(0.25).sparsity, 0.2);
  EXPECT_EQ(curve.threshold_for(0.24).epsilon, MagnitudeGrid::edge(1));
}

TEST(Cett, InterpolatesBetweenEdges) {
  const auto curve = curve_of(random_activations(50, 40, 0.3, 10, true), random_layer(40, 8, 10));
  const int k = MagnitudeGrid::bucket(curve.threshold_for(0.3).epsilon);
  const auto low = static_cast<std::size_t>(k);
  const float between = std::sqrt(MagnitudeGrid::edge(k) * MagnitudeGrid::edge(k + 1));
  EXPECT_NEAR(curve.at(between).cett, 0.5 * (curve.cett[low] + curve.cett[low + 1]), 1e-6);
  const float quarter = std::pow(MagnitudeGrid::edge(k), 0.75F) * std::pow(MagnitudeGrid::edge(k + 1), 0.25F);
  EXPECT_NEAR(curve.at(quarter).cett, 0.75 * curve.cett[low] + 0.25 * curve.cett[low + 1], 1e-6);
  EXPECT_GT(curve.cett[low + 1] - curve.cett[low], 1e-5) << "nothing to interpolate";
  EXPECT_EQ(curve.at(MagnitudeGrid::edge(k)).cett, curve.cett[low]);
  EXPECT_EQ(curve.at(0).cett, 0);
  EXPECT_NEAR(curve.at(1e30F).cett, 1, 1e-9);
  EXPECT_THROW(curve.at(-1), InvalidArgument);
  const auto near = curve.nearest_sparsity(0.7);
  for (const double s : curve.sparsity) EXPECT_LE(std::fabs(near.sparsity - 0.7), std::fabs(s - 0.7));
}

TEST(Cett, TruncationErrorIsTheDefinitionForAnyMask) {
  const auto layer = random_layer(66, 13, 12);
  const auto a = random_activations(1, 66, 0.3, 12, true);
  for (const int k : {1, 10, 40, 66}) {
    const auto mask = select(TopK{k}, a, *layer);
    const double slow =
        slow_norm(a, *layer, [&](int i) { return !mask.test(i); }) / slow_norm(a, *layer, [](int) { return true; });
    EXPECT_NEAR(truncation_error(a, mask, layer->outgoing_rows, 13), slow, 1e-5);
  }
  EXPECT_EQ(truncation_error(std::vector<float>(66, 0.F), NeuronMask(66), layer->outgoing_rows, 13), 0);
}

TEST(Cett, MassInTheTopIsTheSortedShare) {
  const auto layer = random_layer(200, 5, 13);
  const auto a = random_activations(1, 200, 0.2, 13, true);
  auto m = output_magnitudes(a, layer->outgoing_norms);
  std::sort(m.begin(), m.end(), std::greater<>());
  double total = 0, head = 0;
  for (const float x : m) total += static_cast<double>(x) * x;
  const auto tail = tail_of(a, *layer);
  for (const double share : kMassShares) {
    head = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(std::lround(share * 200)); ++i)
      head += static_cast<double>(m[i]) * m[i];
    EXPECT_NEAR(tail.mass_in_top(share, 200), head / total, 0.01);
  }
  EXPECT_NEAR(tail.mass_in_top(1, 200), 1, 1e-12);
}

}  // namespace
}  // namespace torpor
