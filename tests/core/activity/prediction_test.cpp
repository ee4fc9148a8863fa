#include "core/activity/prediction.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/base/error.h"

namespace torpor {
namespace {

struct Sample {
  std::vector<float> scores, magnitudes;
  std::vector<std::uint8_t> active;
  PredictionQuality quality() const { return prediction_quality(scores, active, magnitudes); }
};

/// Scores on a coarse grid, so that many are equal.
Sample random_sample(int n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Sample out;
  for (int i = 0; i < n; ++i) {
    out.scores.push_back(std::round(normal(random) * 8) / 8);
    out.magnitudes.push_back(std::fabs(normal(random)));
    out.active.push_back(out.scores.back() + normal(random) > 0.7F ? 1 : 0);
  }
  return out;
}

TEST(Prediction, IsTheDefinitionPairByPairAndThresholdByThreshold) {
  const Sample s = random_sample(400, 1);
  const PredictionQuality quality = s.quality();
  double wins = 0, pairs = 0;
  for (std::size_t i = 0; i < s.scores.size(); ++i)
    for (std::size_t j = 0; j < s.scores.size(); ++j)
      if (s.active[i] != 0 && s.active[j] == 0) {
        wins += s.scores[i] > s.scores[j] ? 1 : s.scores[i] == s.scores[j] ? 0.5 : 0;
        ++pairs;
      }
  EXPECT_NEAR(quality.auc, wins / pairs, 1e-12);

  const auto at = [&](float threshold) {
    double hits = 0, active = 0, predicted = 0, mass = 0, all_mass = 0;
    for (std::size_t i = 0; i < s.scores.size(); ++i) {
      const double square = static_cast<double>(s.magnitudes[i]) * s.magnitudes[i];
      active += s.active[i];
      all_mass += square;
      if (s.scores[i] < threshold) continue;
      ++predicted;
      hits += s.active[i];
      mass += square;
    }
    return PredictionPoint{threshold, hits / active, hits / predicted,
                           1 - predicted / static_cast<double>(s.scores.size()), mass / all_mass};
  };
  const auto expect_same = [&](const PredictionPoint& found) {
    const PredictionPoint expected = at(found.threshold);
    EXPECT_NEAR(found.recall, expected.recall, 1e-12);
    EXPECT_NEAR(found.precision, expected.precision, 1e-12);
    EXPECT_NEAR(found.predicted_sparsity, expected.predicted_sparsity, 1e-12);
    EXPECT_NEAR(found.mass_recall, expected.mass_recall, 1e-12);
  };
  EXPECT_EQ(quality.at_zero.threshold, 0);
  expect_same(quality.at_zero);
  for (const auto& [found, recall] : {std::pair(quality.at_recall_95, 0.95), std::pair(quality.at_recall_99, 0.99)}) {
    expect_same(found);
    EXPECT_GE(found.recall, recall);
    EXPECT_LT(at(found.threshold + 0.125F).recall, recall) << "a higher threshold would do";
  }
}

TEST(Prediction, KnownCases) {
  const Sample perfect{{3, 2, -1, -2}, {1, 1, 1, 1}, {1, 1, 0, 0}};
  EXPECT_EQ(perfect.quality().auc, 1);
  EXPECT_EQ(perfect.quality().at_recall_99.predicted_sparsity, 0.5);
  EXPECT_EQ(perfect.quality().density, 0.5);
  const Sample reversed{{3, 2, -1, -2}, {1, 1, 1, 1}, {0, 0, 1, 1}};
  EXPECT_EQ(reversed.quality().auc, 0);
  EXPECT_EQ(reversed.quality().at_zero.recall, 0);
  EXPECT_EQ(reversed.quality().at_recall_95.predicted_sparsity, 0);
  const Sample constant{{1, 1, 1, 1}, {1, 1, 1, 3}, {1, 0, 0, 1}};
  EXPECT_EQ(constant.quality().auc, 0.5);
  EXPECT_EQ(constant.quality().at_zero.mass_recall, 1);
  const Sample nothing_above_zero{{-1, -2}, {1, 2}, {1, 0}};
  EXPECT_EQ(nothing_above_zero.quality().at_zero.predicted_sparsity, 1);
  const Sample silent{{1, 2}, {0, 0}, {0, 0}};
  EXPECT_TRUE(std::isnan(silent.quality().auc));
  EXPECT_TRUE(std::isnan(silent.quality().at_recall_95.recall));
  EXPECT_EQ(silent.quality().at_recall_95.predicted_sparsity, 1);
}

TEST(Prediction, RefusesWhatItCannotJudge) {
  EXPECT_THROW(prediction_quality({}, {}, {}), InvalidArgument);
  EXPECT_THROW((Sample{{1, 2}, {1, 2}, {1}}.quality()), InvalidArgument);
  EXPECT_THROW((Sample{{1, 2}, {1}, {1, 0}}.quality()), InvalidArgument);
  EXPECT_THROW((Sample{{1, std::numeric_limits<float>::quiet_NaN()}, {1, 2}, {1, 0}}.quality()), InvalidArgument);
}

}  // namespace
}  // namespace torpor
