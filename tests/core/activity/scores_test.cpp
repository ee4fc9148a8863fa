#include "core/activity/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/core/activity/layers.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::random_activations;
using testing::random_layer;

TEST(Scores, ZeroFractionCountsBothZeros) {
  const std::vector<float> a{0.F, -0.F, 1.F, -2.F, std::numeric_limits<float>::denorm_min()};
  EXPECT_DOUBLE_EQ(zero_fraction(a), 0.4);
  EXPECT_EQ(zero_fraction({}), 0);
}

TEST(Scores, MagnitudeIsTheNormOfWhatTheNeuronAdds) {
  const auto layer = random_layer(37, 11, 3);
  const auto a = random_activations(1, 37, 0.3, 3, true);
  const auto m = output_magnitudes(a, layer->outgoing_norms);
  for (int i = 0; i < 37; ++i)
    EXPECT_NEAR(m[static_cast<std::size_t>(i)], testing::slow_norm(a, *layer, [i](int j) { return i == j; }),
                1e-6 * m[static_cast<std::size_t>(i)]);
}

TEST(Scores, CutOnTheActivationIsTheThresholdOnTheMagnitudeInEveryBit) {
  Random random(5);
  const auto any = [&](double low, double high) {
    return static_cast<float>(std::exp2(low + (high - low) * random.uniform()));
  };
  for (int trial = 0; trial < 20000; ++trial) {
    const float epsilon = any(-140, 100), norm = any(-60, 60);
    const float cut = activation_cut(epsilon, norm);
    // Values around the boundary and anywhere.
    std::vector<float> tries{any(-140, 100), epsilon / norm};
    for (float x = cut, y = cut; tries.size() < 8;) {
      x = std::nextafter(x, std::numeric_limits<float>::infinity());
      y = std::nextafter(y, 0.F);
      tries.insert(tries.end(), {x, y});
    }
    tries.push_back(cut);
    for (const float x : tries)
      if (std::isfinite(x)) {
        EXPECT_EQ(x <= cut, x * norm <= epsilon) << x << " " << norm << " " << epsilon << " " << cut;
      }
  }
  EXPECT_EQ(activation_cut(0.F, 2.F), 0.F);
  EXPECT_EQ(activation_cut(0.F, 1e-30F), 0.F);  // a tiny a times a tiny norm underflows; a itself is no zero
  EXPECT_EQ(activation_cut(0.5F, 0.F), std::numeric_limits<float>::infinity());
  EXPECT_THROW(activation_cut(-1.F, 1.F), InvalidArgument);
  EXPECT_THROW(activation_cut(std::nanf(""), 1.F), InvalidArgument);
}

TEST(Scores, RedoScoresAverageToOneAndASilentLayerIsAllDormant) {
  const std::vector<double> means{0, 1, 2, 5};
  const auto scores = redo_scores(means);
  EXPECT_DOUBLE_EQ(std::accumulate(scores.begin(), scores.end(), 0.0) / 4, 1);
  EXPECT_DOUBLE_EQ(scores[3], 2.5);
  EXPECT_EQ(dormant_count(scores, 0), 1);
  EXPECT_EQ(dormant_count(scores, 0.5), 2);  // 1 / 2 is at tau, and counts
  const auto silent = redo_scores(std::vector<double>{0, 0, 0});
  EXPECT_EQ(silent, (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(dormant_count(silent, 0), 3);
  EXPECT_TRUE(redo_scores({}).empty());
}

TEST(Scores, NormalQuantilesAgreeWithTables) {
  // Table values: spark.md 2.3 and standard tables (0.975 -> 1.959963984540054).
  for (const auto& [p, x] : {std::pair{0.75, 0.6744897501960817},
                             {0.975, 1.959963984540054},
                             {0.875, 1.1503494},
                             {0.9375, 1.5341205},
                             {0.96875, 1.8627319},
                             {1 - 1106.0 / 13824, 1.405033},
                             {1 - 256.0 / 300, -1.0508373},
                             {1 - 256.0 / 257, -2.6613803},
                             {0.5, 0.0}})
    EXPECT_NEAR(normal_quantile(p), x, 1e-6) << p;
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-13);
  for (double p = 1e-300; p < 1; p = p < 0.4 ? p * 3.7 : p + 0.037)
    EXPECT_NEAR(0.5 * std::erfc(-normal_quantile(p) / std::sqrt(2.0)) / p, 1, 1e-11) << p;
  for (const double p : {0.0, 1.0, -1.0, 2.0, std::nan("")}) EXPECT_THROW(normal_quantile(p), InvalidArgument);
}

TEST(Scores, StatisticalThresholdAgreesWithThePapersExample) {
  const std::vector<float> x{0.5F, -1, 2, 0, 1, -0.5F, 3, -2};
  EXPECT_NEAR(statistical_threshold(x, 2), 1.4677984, 1e-6);
  EXPECT_EQ(statistical_threshold(x, 8), -std::numeric_limits<double>::infinity());
  EXPECT_THROW(statistical_threshold(x, 0), InvalidArgument);
  std::vector<float> shifted = x;  // a large common offset moves the threshold and nothing else
  for (auto& v : shifted) v += 65536.F;
  EXPECT_NEAR(statistical_threshold(shifted, 2) - 65536, 1.4677984, 1e-5);
}

TEST(Scores, StatisticalThresholdKeepsAboutKOfNormalScores) {
  // spark.md 2.3: n = 768, k = 61 keeps 60.9 +- 4.7 on Gaussian scores.
  Random random(1);
  double total = 0;
  for (int draw = 0; draw < 400; ++draw) {
    std::vector<float> x(768);
    for (auto& v : x) v = static_cast<float>(random.normal());
    const double threshold = statistical_threshold(x, 61);
    total += static_cast<double>(std::count_if(x.begin(), x.end(), [&](float v) { return v > threshold; }));
  }
  EXPECT_NEAR(total / 400, 60.9, 4 * 4.7 / std::sqrt(400.0));
}

TEST(Scores, RanksOrderByMagnitudeAndKeepTiesInOrder) {
  const std::vector<float> a{0.F, -3.F, 2.F, 3.F, 2.F};
  EXPECT_EQ(magnitude_ranks(a), (std::vector<std::int32_t>{4, 0, 2, 1, 3}));
}

TEST(Scores, RowNormsNameTheNeuronThatIsNotFinite) {
  const std::vector<float> rows{1.F, 2.F, 3.F, std::numeric_limits<float>::infinity()};
  try {
    row_norms(rows, 2, 2);
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("neuron 1"));
  }
  EXPECT_THROW(row_norms(rows, 3, 2), InvalidArgument);
}

}  // namespace
}  // namespace torpor
