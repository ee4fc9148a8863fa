// The threshold search against a slow one written from the paper: a dense pass that keeps every activation, CETT of
// each token by explicit sums, means of ratios, and a walk up the grid.
#include <algorithm>
#include <map>
#include <numeric>

#include "core/activity/magnitude_grid.h"
#include "core/base/error.h"
#include "tests/engine/profile/profile_runs.h"

namespace torpor {
namespace {

using testing::TinyRun;
using Kind = ProfileTarget::Kind;

/// One layer of a dense run: magnitudes of each token in ascending order and the relative error of leaving out the
/// smallest 1, 2, … of them.
struct SlowLayer {
  std::vector<std::vector<float>> magnitudes;  // [tokens][neurons] ascending
  std::vector<std::vector<double>> error;      // [tokens][neurons]
  double zeros = 0, entries = 0;
  std::vector<double> sum_of_magnitudes = std::vector<double>(88);  // of |a|

  double cett(float epsilon) const {
    double sum = 0;
    for (std::size_t t = 0; t < magnitudes.size(); ++t) {
      const auto left_out =
          std::upper_bound(magnitudes[t].begin(), magnitudes[t].end(), epsilon) - magnitudes[t].begin();
      if (left_out > 0) sum += error[t][static_cast<std::size_t>(left_out) - 1];
    }
    return sum / static_cast<double>(magnitudes.size());
  }
  double sparsity(float epsilon) const {
    double sum = 0;
    for (const auto& m : magnitudes)
      sum += static_cast<double>(std::upper_bound(m.begin(), m.end(), epsilon) - m.begin());
    return sum / entries;
  }
};

std::vector<SlowLayer> slow_dense_pass(TinyRun& run, std::span<const TextWindow> windows) {
  std::vector<SlowLayer> layers(2);
  std::vector<std::vector<float>> rows = {run.model->outgoing_rows(0), run.model->outgoing_rows(1)};  // [88, 32]
  run.evaluate_windows(windows, [&](const FfnActivations& a) {
    SlowLayer& layer = layers[static_cast<std::size_t>(a.layer)];
    const std::vector<float>& w = rows[static_cast<std::size_t>(a.layer)];
    for (std::int64_t r = 0; r < a.rows; ++r) {
      if (a.position[static_cast<std::size_t>(r)] < 4) continue;  // the first tokens of a window
      std::vector<std::pair<float, int>> order;
      for (int i = 0; i < 88; ++i) {
        double squares = 0;
        for (int d = 0; d < 32; ++d)
          squares += std::pow(static_cast<double>(w[static_cast<std::size_t>(i * 32 + d)]), 2);
        const float x = a.values[r * 88 + i];
        order.emplace_back(std::fabs(x) * static_cast<float>(std::sqrt(squares)), i);
        layer.zeros += x == 0;
        layer.entries += 1;
        layer.sum_of_magnitudes[static_cast<std::size_t>(i)] += std::fabs(x);
      }
      std::sort(order.begin(), order.end());
      std::vector<double> tail(32), errors;
      std::vector<float> magnitudes;
      for (const auto& [m, i] : order) {
        double squares = 0;
        for (int d = 0; d < 32; ++d) {
          tail[static_cast<std::size_t>(d)] +=
              static_cast<double>(a.values[r * 88 + i]) * w[static_cast<std::size_t>(i * 32 + d)];
          squares += tail[static_cast<std::size_t>(d)] * tail[static_cast<std::size_t>(d)];
        }
        errors.push_back(std::sqrt(squares));
        magnitudes.push_back(m);
      }
      for (double& e : errors) e /= errors.back();
      errors.back() = 1;
      layer.magnitudes.push_back(std::move(magnitudes));
      layer.error.push_back(std::move(errors));
    }
  });
  return layers;
}

TEST(Profile, ThresholdsAreThoseOfASlowSearchOverTheWindowsThatAreNotHeldOut) {
  TinyRun run(3000);  // short enough for CETT on every token
  const Profile profile = run.profile(run.options(Kind::cett, 0.2));
  std::vector<TextWindow> held_out, calibration;
  run.split(profile, held_out, calibration);
  ASSERT_EQ(held_out.size(), run.windows.size() / 3);
  ASSERT_EQ(profile.calibration_tokens, static_cast<std::int64_t>(calibration.size()) * 63);
  ASSERT_EQ(profile.held_out_tokens, static_cast<std::int64_t>(held_out.size()) * 63);
  const auto slow = slow_dense_pass(run, calibration);
  constexpr double kRounding = 2e-5;  // f32 sums there, double here
  for (std::size_t l = 0; l < 2; ++l) {
    const LayerProfile& layer = profile.layers[l];
    const auto tokens = static_cast<double>(slow[l].magnitudes.size());
    ASSERT_EQ(layer.activity.tokens, static_cast<std::int64_t>(tokens)) << "held-out text was used, or first tokens";
    ASSERT_EQ(layer.activity.cett_tokens, layer.activity.tokens);
    EXPECT_NEAR(layer.activity.zero_fraction.mean, slow[l].zeros / slow[l].entries, 1e-12);
    for (std::size_t i = 0; i < 88; ++i)
      EXPECT_NEAR(layer.activity.mean_magnitude[i], slow[l].sum_of_magnitudes[i] / tokens, 1e-6);
    for (const auto& [target, found] : layer.by_cett) {
      if (target == 0) {
        EXPECT_EQ(found.epsilon, 0);
        continue;
      }
      const int edge = MagnitudeGrid::bucket(found.epsilon);
      ASSERT_EQ(MagnitudeGrid::edge(edge), found.epsilon) << "no threshold of the grid";
      for (int k = 1; k <= edge; ++k)
        ASSERT_LE(slow[l].cett(MagnitudeGrid::edge(k)), target + kRounding) << "layer " << l << " edge " << k;
      EXPECT_GT(slow[l].cett(MagnitudeGrid::edge(edge + 1)), target - kRounding) << "not the largest, layer " << l;
      EXPECT_NEAR(found.cett, slow[l].cett(found.epsilon), kRounding);
      EXPECT_NEAR(found.sparsity, slow[l].sparsity(found.epsilon), 1e-9);
    }
    EXPECT_EQ(layer.threshold.epsilon, layer.activity.cett.threshold_for(0.2).epsilon);
  }
  EXPECT_EQ(profile.cett, 0.2);
}

TEST(Profile, CettIsSampledOnAsManyTokensAsAskedForButNoMoreThanEveryEighthOfALongText) {
  TinyRun run(20000);
  ProfileOptions options = run.options(Kind::cett, 0.2);
  const auto sampled_share = [&] {
    const Profile profile = run.profile(options);
    return static_cast<double>(profile.layers[0].activity.cett_tokens) /
           static_cast<double>(profile.layers[0].activity.tokens);
  };
  ASSERT_GT(options.calibration_tokens, 8 * 1024);
  EXPECT_NEAR(sampled_share(), 0.125, 0.01) << "of " << options.calibration_tokens;
  options.cett_tokens = options.calibration_tokens / 20;
  EXPECT_NEAR(sampled_share(), 0.05, 0.01);
}

TEST(Profile, CalibrationAndHeldOutWindowsShareNoTokenAndAreBothSpreadOverTheText) {
  TinyRun run;
  const Profile profile = run.profile(run.options(Kind::cett, 0.1));
  std::vector<TextWindow> held_out, calibration;
  run.split(profile, held_out, calibration);  // no window of the text is twice in it
  std::size_t first_half = 0;
  for (const TextWindow& w : held_out)
    for (std::size_t i = 0; i < run.windows.size() / 2; ++i) first_half += run.windows[i].tokens == w.tokens;
  EXPECT_NEAR(static_cast<double>(first_half), static_cast<double>(held_out.size()) / 2, 1);
}

Json without_seconds(const Profile& profile) {
  Json json = to_json(profile);
  json.erase("seconds");
  return json;
}

TEST(Profile, TheNumberOfThreadsAndASecondRunChangeNoNumber) {
  TinyRun two(4000, 2), one(4000, 1);
  ProfileOptions options = two.options(Kind::budget, 0.01);
  options.baselines = true;
  options.cett_tokens /= 3;
  Json first = without_seconds(two.profile(options)), second = without_seconds(two.profile(options)),
       single = without_seconds(one.profile(options));
  EXPECT_EQ(first, second);
  first["text"].erase("source");
  single["text"].erase("source");
  EXPECT_EQ(first.dump(1), single.dump(1));
}

TEST(Profile, RefusesTargetsAndWindowsOutOfRange) {
  TinyRun run(3000);
  const std::tuple<Kind, double> bad[] = {
      {Kind::budget, -0.01}, {Kind::budget, 11},  {Kind::budget, std::nan("")}, {Kind::cett, -0.1},
      {Kind::cett, 1.01},    {Kind::sparsity, 1}, {Kind::sparsity, -1},         {Kind::cett, std::nan("")}};
  for (const auto& [kind, value] : bad) EXPECT_THROW(run.profile(run.options(kind, value)), UsageError) << value;
  ProfileOptions options = run.options(Kind::cett, 0.1);
  options.window = 65;
  EXPECT_THROW(run.profile(options), UsageError) << "the model's context is 64";
  options.window = 5;
  EXPECT_THROW(run.profile(options), UsageError) << "four tokens are left out, two are needed";
  TinyRun tiny(60);
  EXPECT_THROW(tiny.profile(run.options(Kind::cett, 0.1)), BadInput);
}

}  // namespace
}  // namespace torpor
