#include "lab/study/spark_study.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "tests/lab/study/networks.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using torpor::testing::golden;
using torpor::testing::TemporaryFolder;

const SparkVariant& variant(const std::vector<SparkVariant>& all, const std::string& name) {
  return *std::find_if(all.begin(), all.end(), [&](const SparkVariant& v) { return v.name == name; });
}

TEST(SparkStudy, ItsNetworksHaveEqualNumbersOfParameters) {
  lab::testing::expect_equal_parameters(spark_variants("1m"), 7U);
}

/// Gemma-2 2B's dimensions as spark.md 1.2 takes them: 245.4 and 102.6 million FLOPs a token and layer.
TEST(SparkStudy, FlopsAreThePapers) {
  const std::vector<SparkVariant> all = spark_variants("1m");
  const auto large = [](ModelConfig c, int d_ff) {
    c.n_layers = 1;
    c.d_model = 2304;
    c.d_ff = d_ff;
    c.n_heads = c.n_kv_heads = 9;
    c.head_dim = 256;
    c.context_length = 2 * 8192 - 1;  // whose mean position sees 8192 keys
    return c;
  };
  EXPECT_NEAR(flops_per_token(large(variant(all, "dense").config, 9216), 1, 0) / 1e6, 245.4, 0.05);
  ModelConfig spark = large(variant(all, "spark").config, 13824);
  spark.spark.ffn_predictor = 1152;
  spark.spark.attention_predictor = 128;
  EXPECT_NEAR(flops_per_token(spark, 0.08, 256) / 1e6, 102.6, 0.05);
  // Without a predictor a whole gate scores, and nothing is saved there.
  ModelConfig control = spark;
  control.d_ff = 9216;
  control.spark.ffn_predictor = 0;
  EXPECT_NEAR((flops_per_token(control, 1, 256) - flops_per_token(control, 0, 256)) / 1e6, 4 * 2304 * 9216 / 1e6, 1e-6);
}

std::vector<SparkRun> plausible_runs() {
  std::vector<SparkRun> runs;
  for (const SparkVariant& v : spark_variants("1m"))
    for (const std::uint64_t seed : {1U, 2U}) {
      SparkRun run;
      run.variant = v.name;
      run.seed = seed;
      run.training.bits_per_byte = v.name == "no_predictor" ? 2.1 : 2;
      run.training.training_bits = {8, 3};
      run.activity = {{0, {0.08, 0.08, 0.08, 0.08}}, {10, {0.06, 0.06, 0.06, 0.06}}};
      run.keys = run.keys_of_all = 32;
      run.training.seconds_per_step = 1;
      runs.push_back(run);
    }
  return runs;
}

TEST(SparkStudy, EachClaimIsHeldByRunsThatHoldItAndNotByOthers) {
  const auto held = [](const std::vector<SparkRun>& runs) {
    std::string out;
    for (const Claim& claim : spark_claims(runs, "1m")) out += claim.held ? 'y' : 'n';
    return out;
  };
  const std::vector<SparkRun> good = plausible_runs();
  EXPECT_EQ(held(good), "yyyyyy");
  const auto with = [&](const std::string& name, const std::function<void(SparkRun&)>& change) {
    std::vector<SparkRun> runs = good;
    for (SparkRun& run : runs)
      if (run.variant == name) change(run);
    return held(runs);
  };
  EXPECT_EQ(with("spark", [](SparkRun& r) { r.training.bits_per_byte = 2.05; }), "nyyyyy");
  EXPECT_EQ(with("no_predictor", [](SparkRun& r) { r.training.bits_per_byte = 1.9; }), "ynyyyy");
  EXPECT_EQ(with("spark_ffn", [](SparkRun& r) { r.activity[0].nonzero[2] = 0.09; }), "yynyyy");
  EXPECT_EQ(with("spark", [](SparkRun& r) { r.activity[1].nonzero[3] = 0.04; }), "yyynyy");
  EXPECT_EQ(with("dense", [](SparkRun& r) { r.activity[1].nonzero[3] = 1; }), "yyyyyy") << "not one of Spark's";
  EXPECT_EQ(with("spark", [](SparkRun& r) { r.keys = r.seed == 1 ? 32 : 38; }), "yyyyny");
  EXPECT_EQ(with("spark", [](SparkRun& r) { r.training.seconds_per_step = 1.2; }), "yyyyyn");
  std::vector<SparkRun> none = good;
  std::erase_if(none, [](const SparkRun& r) { return r.variant == "dense"; });
  EXPECT_THROW(spark_claims(none, "1m"), InvalidArgument);
}

TEST(SparkStudy, ARunIsReadBackAsItWasAndADamagedOneIsRefused) {
  const SparkRun run = plausible_runs().front();
  EXPECT_EQ(to_json(spark_run_from_json(to_json(run), "r.json")), to_json(run));
  Json damaged = to_json(run);
  damaged.erase("activity");
  try {
    spark_run_from_json(damaged, "r.json");
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("r.json"));
    EXPECT_THAT(error.what(), HasSubstr("activity"));
  }
}

TEST(SparkStudy, ARunIsMeasuredOnceAndThenRead) {
  const TemporaryFolder folder;
  const std::vector<SparkVariant> all = spark_variants("tiny");
  StudyOptions options;
  options.size = "tiny";
  options.train.steps = 20;
  options.train.warm_up = 4;
  options.train.held_out_windows = 8;
  const auto text = std::make_shared<ByteWindows>(TextCorpus::open(golden("apps/text.txt")), 64);
  int steps = 0;
  const auto measure = [&] {
    return run_spark_variant(variant(all, "spark"), 3, options, folder / "run", {text, text},
                             [&](const StepReport&) { ++steps; });
  };
  const SparkRun run = measure();
  EXPECT_EQ(steps, 20);
  EXPECT_EQ(run.activity.front().step, 0);
  EXPECT_EQ(run.activity.back().step, 20);
  for (const double x : run.activity.front().nonzero) EXPECT_NEAR(x, 12.0 / 144, 0.02);
  EXPECT_EQ(run.attention_rows, 8 * 64 * 2 * 2) << "windows, positions, heads, layers";
  EXPECT_NEAR(run.keys, 8, 1.5);
  EXPECT_LT(run.keys_of_all, run.keys) << "the first queries see fewer";
  EXPECT_LT(run.training.bits_per_byte, 8);
  EXPECT_GT(run.training.seconds_per_step, 0);
  EXPECT_EQ(to_json(measure()), to_json(run));
  EXPECT_EQ(steps, 20) << "trained again";
  options.train.steps = 21;
  EXPECT_THROW(measure(), BadInput);
}

TEST(SparkStudy, ThePagesNameEveryNetworkAndClaim) {
  SparkStudy study{{}, plausible_runs(), "torpor study spark"};
  study.options.seeds = {1, 2};
  const std::string page = render_page(page_of(study)), markdown = markdown_of(study);
  for (const SparkVariant& v : spark_variants("1m")) {
    EXPECT_THAT(page, HasSubstr(v.title));
    EXPECT_THAT(markdown, HasSubstr("| " + v.title + " |"));
  }
  for (const Claim& claim : spark_claims(study.runs, "1m"))
    EXPECT_THAT(markdown, HasSubstr("| " + claim.name + " | yes |"));
  EXPECT_EQ(to_json(study)["must_show"].size(), 6U);
}

}  // namespace
}  // namespace torpor::lab
