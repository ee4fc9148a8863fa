#include "core/activity/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/activity/scores.h"
#include "tests/core/activity/layers.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::random_activations;
using testing::random_layer;

// The rule's sentence, one neuron at a time.
bool slow_active(const SelectionRule& rule, std::span<const float> a, const NeuronLayer& layer, std::size_t i) {
  const float x = std::fabs(a[i]);
  if (x == 0) return false;
  if (const auto* r = std::get_if<OutputThreshold>(&rule))
    return r->epsilon == 0 || x * layer.outgoing_norms[i] > r->epsilon;
  if (const auto* r = std::get_if<ActivationThreshold>(&rule)) return x > r->threshold;
  if (const auto* r = std::get_if<LayerThreshold>(&rule)) return x > r->threshold;
  if (const auto* r = std::get_if<TopK>(&rule)) return magnitude_ranks(a)[i] < r->k;
  if (const auto* r = std::get_if<StatisticalTopK>(&rule)) {
    std::vector<float> magnitudes(a.size());
    for (std::size_t j = 0; j < a.size(); ++j) magnitudes[j] = std::fabs(a[j]);
    return static_cast<double>(x) > statistical_threshold(magnitudes, r->k);
  }
  return true;
}

TEST(RowSelector, FollowsEachRulesSentence) {
  for (const int neurons : {1, 7, 64, 65, 130}) {
    const auto layer = random_layer(neurons, 3, 31);
    for (const bool both : {false, true}) {
      const auto rows = random_activations(12, neurons, 0.4, static_cast<std::uint64_t>(neurons), both);
      for (const SelectionRule& rule :
           {SelectionRule{ExactZeros{}}, SelectionRule{OutputThreshold{0}}, SelectionRule{OutputThreshold{0.5F}},
            SelectionRule{ActivationThreshold{0.2F}}, SelectionRule{LayerThreshold{0.2F, 0.5F}}, SelectionRule{TopK{1}},
            SelectionRule{TopK{std::max(1, neurons / 3)}}, SelectionRule{TopK{neurons}},
            SelectionRule{StatisticalTopK{1}}, SelectionRule{StatisticalTopK{std::max(1, neurons / 3)}},
            SelectionRule{StatisticalTopK{neurons}}}) {
        const RowSelector selector(rule, *layer);
        for (std::size_t t = 0; t < 12; ++t) {
          const auto a =
              std::span(rows).subspan(t * static_cast<std::size_t>(neurons), static_cast<std::size_t>(neurons));
          const auto mask = selector.select(a);
          std::vector<float> masked(a.begin(), a.end());
          EXPECT_EQ(selector.keep_active(masked), mask.count());
          for (std::size_t i = 0; i < a.size(); ++i) {
            EXPECT_EQ(mask.test(static_cast<int>(i)), slow_active(rule, a, *layer, i)) << describe(rule) << " " << i;
            EXPECT_EQ(masked[i], mask.test(static_cast<int>(i)) ? a[i] : 0.F);
          }
        }
      }
    }
  }
}

TEST(RowSelector, TopKTakesEqualsInOrderAndNoZeros) {
  const auto layer = random_layer(6, 2, 1);
  EXPECT_EQ(select(TopK{3}, std::vector<float>{1, -2, 2, 2, 0, 2}, *layer).indices(),
            (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(select(TopK{4}, std::vector<float>{0, -2, 0, 0, 0, 1}, *layer).indices(),
            (std::vector<std::int32_t>{1, 5}));
}

TEST(RowSelector, ThresholdIsOnTheMagnitudeNotOnTheActivation) {
  NeuronLayer layer;
  layer.neurons = 2;
  layer.outgoing_norms = {10.F, 0.1F};
  EXPECT_EQ(select(OutputThreshold{1}, std::vector<float>{0.2F, 5.F}, layer).indices(), (std::vector<std::int32_t>{0}));
  EXPECT_EQ(select(ActivationThreshold{1}, std::vector<float>{0.2F, 5.F}, layer).indices(),
            (std::vector<std::int32_t>{1}));
  EXPECT_EQ(select(OutputThreshold{2}, std::vector<float>{0.2F, 5.F}, layer).count(), 0);  // m = 2 is at the threshold
}

TEST(RowSelector, EpsilonZeroLeavesEveryBitOfTheRow) {  // relu2.md 6.1 (ii), one layer
  for (const bool both : {false, true}) {
    const auto layer = random_layer(77, 3, 2);
    auto row = random_activations(1, 77, 0.5, 2, both);
    row[3] = std::numeric_limits<float>::denorm_min();
    row[4] = -0.F;
    for (const SelectionRule& rule :
         {SelectionRule{ExactZeros{}}, SelectionRule{OutputThreshold{0}}, SelectionRule{ActivationThreshold{0}}}) {
      auto copy = row;
      RowSelector(rule, *layer).keep_active(copy);
      EXPECT_EQ(copy, row);
      EXPECT_EQ(copy[3], row[3]);
    }
  }
}

TEST(RowSelector, RefusesRulesThatDoNotFit) {
  const auto layer = random_layer(5, 2, 1);
  EXPECT_THROW(RowSelector(TopK{6}, *layer), InvalidArgument);
  EXPECT_THROW(RowSelector(StatisticalTopK{0}, *layer), InvalidArgument);
  EXPECT_THROW(RowSelector(OutputThreshold{-1}, *layer), InvalidArgument);
  EXPECT_THROW(RowSelector(ActivationThreshold{std::nanf("")}, *layer), InvalidArgument);
  EXPECT_THROW(RowSelector(Predictor{"x"}, *layer), BadInput);
  EXPECT_THROW(RowSelector(GaussianTopK{0.5F}, *layer), BadInput);
  EXPECT_THROW(RowSelector(ExactZeros{}, *layer).select(std::vector<float>(4)), InvalidArgument);
  NeuronLayer bare;
  bare.neurons = 5;
  EXPECT_THROW(RowSelector(OutputThreshold{1}, bare), InvalidArgument);
}

TEST(SelectionRule, RoundTripsThroughJsonInEveryBit) {
  for (const SelectionRule& rule :
       {SelectionRule{ExactZeros{}}, SelectionRule{OutputThreshold{0.1F}},
        SelectionRule{OutputThreshold{1.1754944e-38F}}, SelectionRule{ActivationThreshold{3.3e10F}},
        SelectionRule{LayerThreshold{0.3F, 0.7F}}, SelectionRule{TopK{17}}, SelectionRule{StatisticalTopK{1}},
        SelectionRule{Predictor{"layer3.safetensors"}}, SelectionRule{Predictor{"p", -0.1F}},
        SelectionRule{GaussianTopK{0.95F}}}) {
    const auto text = to_json(rule).dump();
    EXPECT_EQ(rule_from_json(parse_json(text, "test"), 32, "test"), rule) << text;
  }
  EXPECT_EQ(to_json(OutputThreshold{0.1F}).dump(), R"({"type":"output_threshold","epsilon":0.1})");
}

TEST(SelectionRule, BadJsonIsNamed) {
  const struct {
    const char* text;
    const char* message;
  } cases[] = {{"3", "expected a rule"},
               {"{}", "type"},
               {R"({"type":"relu"})", "unknown rule type \"relu\""},
               {R"({"type":"output_threshold"})", "epsilon"},
               {R"({"type":"output_threshold","epsilon":-1})", "expected \"epsilon\" in [0"},
               {R"({"type":"output_threshold","epsilon":1e39})", "expected \"epsilon\" in [0"},
               {R"({"type":"output_threshold","epsilon":"1"})", "epsilon"},
               {R"({"type":"output_threshold","epsilon":1,"k":2})", "unknown field \"k\""},
               {R"({"type":"layer_threshold","threshold":1,"sparsity":1.5})", "sparsity"},
               {R"({"type":"top_k","k":0})", "k"},
               {R"({"type":"top_k","k":33})", "k"},
               {R"({"type":"top_k","k":2.5})", "k"},
               {R"({"type":"gaussian_top_k"})", "sparsity"},
               {R"({"type":"gaussian_top_k","sparsity":0})", "between 0 and 1"},
               {R"({"type":"gaussian_top_k","sparsity":1})", "between 0 and 1"},
               {R"({"type":"predictor"})", "file"},
               {R"({"type":"predictor","file":"p","threshold":1e39})", "finite \"threshold\""},
               {R"({"type":"predictor","file":"p","k":1})", "unknown field \"k\""}};
  for (const auto& c : cases) {
    try {
      rule_from_json(parse_json(c.text, "plan.json"), 32, "plan.json");
      ADD_FAILURE() << c.text;
    } catch (const BadInput& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(c.message));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("plan.json"));
    }
  }
}

}  // namespace
}  // namespace torpor
