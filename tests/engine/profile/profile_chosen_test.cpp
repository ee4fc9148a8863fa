// What a profile says of the thresholds that it chose, measured again by other means.
#include <cstring>
#include <numeric>

#include "core/activity/plan.h"
#include "tests/engine/profile/profile_runs.h"

namespace torpor {
namespace {

using testing::ByteTokenizer;
using testing::golden;
using ::testing::HasSubstr;
using testing::TinyRun;
using Kind = ProfileTarget::Kind;

double perplexity_rise(const Evaluation& dense, const Evaluation& masked) {
  double nats = 0, tokens = 0;
  for (std::size_t w = 0; w < dense.windows().size(); ++w) {
    nats += masked.windows()[w].nats - dense.windows()[w].nats;
    tokens += static_cast<double>(dense.windows()[w].tokens);
  }
  return std::exp(nats / tokens);
}

TEST(Profile, AnEvaluationWithThePlanFromItsFileIsTheMaskedRun) {
  TinyRun run;
  const Profile profile = run.profile(run.options(Kind::budget, 0.01));
  write_plan(plan_of(profile), run.folder / "plan.json");
  const SparsityPlan plan = read_plan(run.folder / "plan.json");
  ASSERT_TRUE(plan_fits(plan, facts_of(*run.model)));
  std::vector<TextWindow> held_out, others;
  run.split(profile, held_out, others);

  std::vector<SelectionRule> rules;
  for (const PlanLayer& layer : plan.layers) rules.push_back(layer.rule);
  RuleMask mask(neuron_layers(*run.model), rules, run.pool, 4);
  std::vector<std::vector<double>> fired(2, std::vector<double>(88));
  const Evaluation masked = run.evaluate_windows(held_out, [&](const FfnActivations& a) {
    mask.apply(a);
    for (std::int64_t r = 0; r < a.rows; ++r)
      for (std::size_t i = 0; i < 88 && a.position[static_cast<std::size_t>(r)] >= 4; ++i)
        fired[static_cast<std::size_t>(a.layer)][i] += a.values[r * 88 + static_cast<std::int64_t>(i)] != 0;
  });
  const Evaluation dense = run.evaluate_windows(held_out);
  EXPECT_DOUBLE_EQ(profile.dense.loss_nats_per_token(), dense.loss_nats_per_token());
  EXPECT_DOUBLE_EQ(profile.masked.loss_nats_per_token(), masked.loss_nats_per_token());
  EXPECT_DOUBLE_EQ(plan.loss_nats_per_token, masked.loss_nats_per_token());
  EXPECT_NEAR(profile.ratio.mean, perplexity_rise(dense, masked), 1e-12);
  EXPECT_NEAR(plan.perplexity_ratio, profile.ratio.mean, 1e-12);
  EXPECT_LE(profile.ratio.mean, 1.01);
  EXPECT_GT(profile.ratio.mean, 1.0) << "the budget was not used";
  EXPECT_TRUE(profile.budget_met);

  const double tokens = static_cast<double>(held_out.size()) * (63 - 4);
  double total = 0;
  for (std::size_t l = 0; l < 2; ++l) {
    const LayerProfile& layer = profile.layers[l];
    const double count = std::accumulate(fired[l].begin(), fired[l].end(), 0.0);
    total += count;
    EXPECT_NEAR(layer.density.mean, count / tokens / 88, 1e-12);
    EXPECT_EQ(layer.density.blocks, static_cast<std::int64_t>(held_out.size())) << "a window is a block";
    for (std::size_t i = 0; i < 88; ++i) EXPECT_NEAR(layer.frequency[i], fired[l][i] / tokens, 1e-12);
    EXPECT_NEAR(layer.reuse.chance[0],
                std::inner_product(fired[l].begin(), fired[l].end(), fired[l].begin(), 0.0) / tokens / count, 1e-12);
    EXPECT_EQ(layer.reuse.reuse[0].blocks, static_cast<std::int64_t>(held_out.size()));
  }
  EXPECT_NEAR(profile.sparsity, 1 - total / tokens / 176, 1e-12);
  EXPECT_NEAR(profile.sparsity_interval.mean, profile.sparsity, 1e-12);
  EXPECT_LT(profile.sparsity_interval.low, profile.sparsity);
  EXPECT_GT(profile.sparsity_interval.high, profile.sparsity);
}

TEST(Profile, AWiderBudgetSkipsMoreAndBothAreMet) {
  TinyRun run(4000);
  double last = 0;
  for (const double budget : {0.0, 0.01, 0.1}) {
    const Profile profile = run.profile(run.options(Kind::budget, budget));
    EXPECT_TRUE(profile.budget_met);
    EXPECT_LE(perplexity_rise(profile.dense, profile.masked), 1 + budget);
    EXPECT_GT(profile.sparsity, last);
    last = profile.sparsity;
    for (const CurvePoint& point : profile.curve) {
      if (point.rule != "cett" || point.cett <= profile.cett) continue;
      EXPECT_GT(point.perplexity_ratio.mean, 1 + budget) << "a CETT of " << point.cett << " was measured to fit";
    }
    const auto thresholds_at = [&](double cett) {
      std::vector<float> out;
      for (const LayerProfile& layer : profile.layers) out.push_back(layer.activity.cett.threshold_for(cett).epsilon);
      return out;
    };
    EXPECT_TRUE(std::any_of(profile.curve.begin(), profile.curve.end(), [&](const CurvePoint& point) {
      return point.cett > profile.cett && thresholds_at(point.cett) == thresholds_at(profile.cett + 0.001);
    })) << "the search ends where the next step breaks the budget";
  }
}

TEST(Profile, TheSearchGoesUpFromTheLargestMeasuredLevelThatFitsEvenPastOneThatDoesNot) {
  // On little text a larger CETT is now and then better than a smaller one. A budget between the two separates a search
  // from the larger from one that stops at the first that does not fit.
  int found = 0;
  for (std::size_t bytes = 700; bytes < 4000 && found < 3; bytes += 100) {
    TinyRun run(bytes);
    const Profile levels = run.profile(run.options(Kind::cett, 0.1));
    std::vector<CurvePoint> points;
    for (const CurvePoint& point : levels.curve)
      if (point.rule == "cett" && point.cett != 0.1) points.push_back(point);
    for (std::size_t i = 1; i < points.size(); ++i) {
      const double worse = points[i - 1].perplexity_ratio.mean, better = points[i].perplexity_ratio.mean;
      if (!(worse > better + 1e-4) || better < 1) continue;
      ++found;
      const Profile profile = run.profile(run.options(Kind::budget, (worse + better) / 2 - 1));
      EXPECT_GE(profile.cett, points[i].cett) << bytes << " bytes: " << worse << ", then " << better;
    }
  }
  EXPECT_GT(found, 0) << "perplexity is monotone everywhere: nothing was tested";
}

TEST(Profile, ASparsityTargetIsReachedOnTheCalibrationTextByTheSmallestCett) {
  TinyRun run;
  const Profile profile = run.profile(run.options(Kind::sparsity, 0.85));
  const auto sparsity_at = [&](double cett) {
    double sum = 0;
    for (const LayerProfile& layer : profile.layers) sum += layer.activity.cett.threshold_for(cett).sparsity;
    return sum / 2;
  };
  EXPECT_GE(sparsity_at(profile.cett), 0.85);
  EXPECT_LT(sparsity_at(profile.cett - 1e-5), 0.85);
  EXPECT_NEAR(profile.sparsity, 0.85, 0.02) << "on held-out text";
}

TEST(Profile, TheCurveFallsWithSparsityAndBeginsAtExactZerosThatCostNothing) {
  TinyRun run;
  const Profile profile = run.profile(run.options(Kind::cett, 0.2));
  ASSERT_EQ(profile.curve.front().rule, "exact_zeros");
  EXPECT_DOUBLE_EQ(profile.curve.front().perplexity_ratio.mean, 1);
  EXPECT_DOUBLE_EQ(profile.curve.front().loss_nats_per_token, profile.dense.loss_nats_per_token());
  const CurvePoint* last = nullptr;
  int chosen = 0;
  for (const CurvePoint& point : profile.curve) {
    chosen += point.chosen;
    if (last != nullptr) {
      EXPECT_GE(point.sparsity, last->sparsity);
      EXPECT_GE(point.cett, last->cett) << "more sparsity comes from more error";
      EXPECT_GE(point.perplexity_ratio.mean, last->perplexity_ratio.mean - 0.005) << "noise of a short text";
    }
    last = &point;
  }
  EXPECT_EQ(chosen, 1);
  EXPECT_GT(last->perplexity_ratio.mean, 1.05);
}

TEST(Profile, BaselinesAreMeasuredAtLikeSparsitiesAndAreNoBetterByMuch) {
  TinyRun run;
  ProfileOptions options = run.options(Kind::cett, 0.2);
  options.baselines = true;
  const Profile profile = run.profile(options);
  for (const std::string rule : {"top_k", "cats", "fat"}) {
    int points = 0;
    for (const CurvePoint& point : profile.curve) {
      if (point.rule != rule) continue;
      ++points;
      EXPECT_NEAR(point.sparsity, point.parameter, 0.03) << rule;
      EXPECT_TRUE(std::isnan(point.cett)) << "a rule without CETT has none";
    }
    EXPECT_EQ(points, 5) << rule;
  }
}

/// A model of the golden folder, whose vocabulary is smaller than a byte.
Profile profile_of(const std::string& name, double cett) {
  const auto model = Model::load(golden("models/" + name));
  const ByteTokenizer tokenizer(model->config().vocab_size);
  ThreadPool pool(2);
  ProfileOptions options;
  options.target = {Kind::cett, cett};
  options.window = 32;
  options.calibration_tokens = 1024;
  options.held_out_tokens = 512;
  options.cett_tokens = 1024;
  options.baselines = false;
  options.show_progress = false;
  return profile_model(model, tokenizer, TextCorpus::open(golden("apps/text.txt")), options, pool);
}

TEST(Profile, ALayerThatCannotBeSkippedIsNamedWithItsReason) {
  const Profile none = profile_of("llama_silu", 0);
  const Profile little = profile_of("llama_silu", 0.01);
  for (int l = 0; l < 2; ++l) {
    const LayerProfile& layer = none.layers[static_cast<std::size_t>(l)];
    EXPECT_EQ(layer.name, "layer " + std::to_string(l));
    EXPECT_FALSE(layer.skippable);
    EXPECT_THAT(layer.reason, HasSubstr("no exact zeros"));
    EXPECT_EQ(layer.density.mean, 1);
    const PlanLayer planned = plan_of(none).layers[static_cast<std::size_t>(l)];
    EXPECT_FALSE(planned.skippable);
    EXPECT_EQ(planned.reason, layer.reason);
    EXPECT_TRUE(std::holds_alternative<ExactZeros>(planned.rule));
    const LayerProfile& next = little.layers[static_cast<std::size_t>(l)];
    if (next.density.mean >= 0.95) {
      EXPECT_THAT(next.reason, HasSubstr("must be computed"));
    }
    EXPECT_EQ(next.skippable, next.density.mean < 0.95);
  }
  for (const LayerProfile& layer : profile_of("gpt2_untied_relu", 0.2).layers) {
    EXPECT_TRUE(layer.skippable);
    EXPECT_EQ(layer.reason, "");
  }
}

TEST(Profile, BytesATokenAreThoseCountedByHand) {
  {  // gated, tied embeddings that are read whole to make the logits; 2 x 3 x 88 x 32 f32 in the FFNs
    TinyRun run(4000);
    const Profile profile = run.profile(run.options(Kind::cett, 0.2));
    const double matrix = 88 * 32 * 4;
    const double attention = (32 * 32 + 16 * 32 + 16 * 32 + 32 * 32) * 4, norms = 32 * 4;
    const double dense = 320 * 32 * 4 + 2 * (attention + 2 * norms + 3 * matrix) + norms;
    const double d0 = profile.layers[0].density.mean, d1 = profile.layers[1].density.mean;
    EXPECT_DOUBLE_EQ(profile.bytes.dense, dense);
    EXPECT_DOUBLE_EQ(profile.bytes.ffn_dense, 6 * matrix);
    EXPECT_NEAR(profile.bytes.known_set, dense - (3 - 3 * d0 + 3 - 3 * d1) * matrix, 1e-6);
    EXPECT_NEAR(profile.bytes.no_predictor, dense - (2 - 2 * d0 + 2 - 2 * d1) * matrix, 1e-6);
  }
  {  // GPT-2, f16: up is read whole without a predictor; one row of positions and one of the input embeddings
    const Profile profile = profile_of("gpt2_untied_relu", 0.2);
    const double d = 24, f = 96, matrix = d * f * 2;
    const double layer = (4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d) * 2;
    const double dense = 2 * layer + 2 * d * 2 + 61 * d * 2 + d * 2 + d * 2;
    const double d0 = profile.layers[0].density.mean, d1 = profile.layers[1].density.mean;
    EXPECT_DOUBLE_EQ(profile.bytes.dense, dense);
    EXPECT_NEAR(profile.bytes.no_predictor, dense - (2 - d0 - d1) * matrix, 1e-6);
    EXPECT_NEAR(profile.bytes.known_set, dense - 2 * (2 - d0 - d1) * matrix, 1e-6);
  }
}

}  // namespace
}  // namespace torpor
