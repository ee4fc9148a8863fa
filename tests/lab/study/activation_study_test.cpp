#include "lab/study/activation_study.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/error.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "lab/study/active_set_predictor.h"
#include "tests/lab/study/networks.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using torpor::testing::golden;
using torpor::testing::TemporaryFolder;

TEST(ActivationStudy, ItsNetworksHaveEqualNumbersOfParameters) {
  lab::testing::expect_equal_parameters(activation_variants("1m"), 4U);
}

/// Labels planted by a rule that the predictor can represent (relu2.md 6.1, test viii), and labels that nothing tells.
TEST(ActiveSetPredictor, LearnsAPlantedRuleAndNotNoise) {
  torch::manual_seed(8);
  const at::Tensor rule = torch::randn({4, 16}), out = torch::randn({24, 4});
  const auto planted = [&](std::int64_t tokens) {
    const at::Tensor x = torch::randn({tokens, 16});
    return PredictorTokens{x, at::relu(at::linear(at::linear(x, rule), out) - 4)};
  };
  const PredictorTokens train = planted(16384), test = planted(1024);
  const PredictorOptions options{.width = 64, .passes = 20, .batch = 256, .learning_rate = 1e-2};
  const PredictionQuality learnt = train_predictor(train, test, 0, options);
  EXPECT_GT(learnt.auc, 0.999);
  EXPECT_GT(learnt.at_zero.recall, 0.98);
  EXPECT_NEAR(learnt.at_recall_95.predicted_sparsity, 1 - 0.95 * learnt.density, 0.02);
  const PredictorTokens noise{train.x, at::relu(torch::randn({16384, 24}))},
      other{test.x, at::relu(torch::randn({1024, 24}))};
  EXPECT_NEAR(train_predictor(noise, other, 0, options).auc, 0.5, 0.02);
  EXPECT_EQ(train_predictor(train, test, 0, {.passes = 1}).auc, train_predictor(train, test, 0, {.passes = 1}).auc);
  EXPECT_NE(train_predictor(train, test, 0, {.passes = 1}).auc,
            train_predictor(train, test, 0, {.passes = 1, .seed = 2}).auc);
  EXPECT_THROW(train_predictor(train, {test.x, train.m}, 0), InvalidArgument);
}

/// The digest's preset B, and what it does not print filled in so that all holds.
std::vector<ActivationRun> plausible_runs() {
  struct Column {
    const char* name;
    double loss, zeros, cett, budget, rise_90, auc, predicted, mass, reuse, reuse_cett, gap;
  };
  std::vector<ActivationRun> runs;
  for (const Column& c : {Column{"relu", 2.131, .731, .870, .843, .088, .997, .892, .900, .259, .222, .690},
                          Column{"relu2", 2.059, .659, .924, .874, .021, .996, .887, .985, .230, .158, .601},
                          Column{"reglu", 2.057, .606, .910, .873, .019, .984, .837, .970, .202, .165, .510},
                          Column{"swiglu", 2.052, 0, .841, .739, .033, .967, .763, .939, .191, .252, .464}})
    for (const std::uint64_t seed : {1U, 2U}) {
      ActivationRun run;
      run.variant = c.name;
      run.seed = seed;
      run.training = {3, {8, 3}, 1};
      run.loss_nats_per_token = c.loss;
      run.exact_zeros = c.zeros;
      for (const double cett : {0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5}) run.levels.push_back({cett, c.cett, cett / 10});
      run.budget = {0.1, c.budget, 0.01};
      for (const char* name : {"CETT 0.2", "80 % sparsity", "90 % sparsity"}) {
        OperatingPoint point{.name = name, .level = {0.2, 0.9, c.rise_90}};
        point.auc = c.auc;
        point.predicted_sparsity_at_95 = c.predicted;
        point.mass_recall_at_95 = c.mass;
        point.reuse_1 = point.name == "CETT 0.2" ? c.reuse_cett : c.reuse;
        point.gap = c.gap;
        run.points.push_back(point);
      }
      runs.push_back(run);
    }
  return runs;
}

TEST(ActivationStudy, EachClaimIsHeldByRunsThatHoldItAndNotByOthers) {
  const auto held = [](const std::vector<ActivationRun>& runs) {
    std::string out;
    for (const Claim& claim : activation_claims(runs)) out += claim.held ? 'y' : 'n';
    return out;
  };
  const std::vector<ActivationRun> good = plausible_runs();
  EXPECT_EQ(held(good), "yyyyyyyyyyyyyyyy");
  const auto with = [&](const std::string& name, const std::function<void(ActivationRun&)>& change) {
    std::vector<ActivationRun> runs = good;
    for (ActivationRun& run : runs)
      if (run.variant == name) change(run);
    return held(runs);
  };
  using R = ActivationRun;
  EXPECT_EQ(with("reglu", [](R& r) { r.levels[3].sparsity = 0.93; }), "nyyyyyyyyyyyyyyy");
  EXPECT_EQ(with("swiglu", [](R& r) { r.budget.sparsity = 0.80; }), "ynyyyyyyyyyyyyyy");
  EXPECT_EQ(with("relu", [](R& r) { r.exact_zeros = 0.65; }), "yynyyyyyyyyyyyyy");
  EXPECT_EQ(with("swiglu", [](R& r) { r.loss_nats_per_token = 2.02; }), "yyynyyyyyyyyyyyy");
  EXPECT_EQ(with("reglu", [](R& r) { r.points[1].auc = 0.998; }), "yyyynyyyyyyyyyyy");
  EXPECT_EQ(with("reglu", [](R& r) { r.points[1].predicted_sparsity_at_95 = 0.7; }), "yyyyynyyyyyyyyyy");
  EXPECT_EQ(with("relu", [](R& r) { r.points[1].mass_recall_at_95 = 0.99; }), "yyyyyynyyyyyyyyy");
  EXPECT_EQ(with("swiglu", [](R& r) { r.points[1].reuse_1 = 0.3; }), "yyyyyyynyyyyyyyy");
  EXPECT_EQ(with("relu", [](R& r) { r.points[1].gap = 0.5; }), "yyyyyyyynyyyyyyy");
  EXPECT_EQ(with("swiglu", [](R& r) { r.points[2].auc = 0.99; }), "yyyyyyyyynyyyyyy");
  EXPECT_EQ(with("relu2", [](R& r) { r.points[2].predicted_sparsity_at_95 = 0.8; }), "yyyyyyyyyynyyyyy");
  EXPECT_EQ(with("relu2", [](R& r) { r.points[2].mass_recall_at_95 = 0.8; }), "yyyyyyyyyyynyyyy");
  EXPECT_EQ(with("relu2", [](R& r) { r.points[2].reuse_1 = 0.2; }), "yyyyyyyyyyyynyyy");
  EXPECT_EQ(with("reglu", [](R& r) { r.points[2].gap = 0.4; }), "yyyyyyyyyyyyynyy");
  EXPECT_EQ(with("relu", [](R& r) { r.points[0].reuse_1 = 0.3; }), "yyyyyyyyyyyyyyny");
  EXPECT_EQ(with("relu2", [](R& r) { r.points[2].level.loss_rise = 0.03; }), "yyyyyyyyyyyyyyyn");
  std::vector<ActivationRun> one_seed = good;
  one_seed[0].exact_zeros = 0.6;  // of the first seed; the mean stays
  one_seed[1].exact_zeros = 0.8;
  EXPECT_THAT(activation_claims(one_seed)[2].detail, HasSubstr("1 of 2 seeds"));
  EXPECT_TRUE(activation_claims(one_seed)[2].held);
  std::vector<ActivationRun> none = good;
  std::erase_if(none, [](const ActivationRun& r) { return r.variant == "reglu"; });
  EXPECT_THROW(activation_claims(none), InvalidArgument);
}

TEST(ActivationStudy, ARunIsReadBackAsItWasAndADamagedOneIsRefused) {
  const ActivationRun run = plausible_runs().front();
  EXPECT_EQ(to_json(activation_run_from_json(to_json(run), "r.json")), to_json(run));
  Json damaged = to_json(run);
  damaged["points"][1].erase("auc");
  try {
    activation_run_from_json(damaged, "r.json");
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("r.json"));
    EXPECT_THAT(error.what(), HasSubstr("auc"));
  }
}

TEST(ActivationStudy, ThePagesShowEveryNumberAndClaim) {
  ActivationStudy study{{}, plausible_runs(), "torpor study activations"};
  const std::string page = render_page(page_of(study)), markdown = markdown_of(study);
  for (const std::string& text : {std::string("ReLU²"), std::string("torpor study activations"), format_share(0.874)})
    EXPECT_THAT(page, HasSubstr(text)) << text;
  EXPECT_THAT(markdown, HasSubstr("| exact zeros | 73.1 | 65.9 | 60.6 | 0.0 |"));
  for (const Claim& claim : activation_claims(study.runs))
    EXPECT_THAT(markdown, HasSubstr("| " + claim.name + " | yes |"));
  EXPECT_EQ(to_json(study)["must_show"].size(), 16U);
}

TEST(ActivationStudy, ARunIsMeasuredOnceAndThenRead) {
  const TemporaryFolder folder;
  StudyOptions options;
  options.size = "tiny";
  options.train.steps = 20;
  options.train.warm_up = 4;
  options.train.held_out_windows = 8;
  const auto text = std::make_shared<ByteWindows>(TextCorpus::open(golden("apps/text.txt")), 64);
  int steps = 0;
  std::vector<std::string> notes;
  const auto measure = [&](const std::string& name) {
    for (const ActivationVariant& variant : activation_variants("tiny"))
      if (variant.name == name)
        return run_activation(
            variant, 3, options, folder / name, {text, text}, [&](const StepReport&) { ++steps; },
            [&](const std::string& note) { notes.push_back(note); });
    throw InvalidArgument("no variant {}", name);
  };
  const ActivationRun run = measure("relu");
  EXPECT_EQ(steps, 20);
  EXPECT_THAT(notes, ::testing::ElementsAre("CETT at +1 %", "CETT 0.2", "80 % sparsity", "90 % sparsity"));
  EXPECT_EQ(run.levels.size(), 7U);
  EXPECT_NEAR(run.levels.front().sparsity, run.exact_zeros, 0.03) << "calibration and held-out text differ";
  EXPECT_NEAR(run.levels.front().loss_rise, 0, 1e-9) << "leaving out zeros changes nothing";
  EXPECT_NEAR(run.loss_nats_per_token / std::log(2.0), run.training.bits_per_byte, 0.1);
  EXPECT_NEAR(run.points[1].level.sparsity, 0.8, 0.03);
  EXPECT_NEAR(run.points[2].level.sparsity, 0.9, 0.03);
  for (const OperatingPoint& point : run.points) {
    EXPECT_GT(point.auc, 0.6) << point.name;
    EXPECT_GT(point.reuse_5, point.reuse_1) << point.name;
    EXPECT_GT(point.predicted_sparsity_at_95, point.predicted_sparsity_at_99) << point.name;
    EXPECT_NEAR(point.gap, point.top - point.average, 1e-9) << point.name;
  }
  EXPECT_EQ(to_json(measure("relu")), to_json(run));
  EXPECT_EQ(steps, 20) << "trained again";
  EXPECT_EQ(measure("swiglu").exact_zeros, 0);
  options.train.steps = 21;
  EXPECT_THROW(measure("relu"), BadInput);
}

}  // namespace
}  // namespace torpor::lab
