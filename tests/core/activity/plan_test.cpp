#include "core/activity/plan.h"

#include <cstdio>
#include <fstream>

#include "core/base/atomic_file.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::TemporaryFolder;

SparsityPlan example() {
  SparsityPlan plan;
  plan.model = {"tiny", "0123456789abcdef", "llama", 3, 64, 172, "relu2", false};
  plan.text_source = "novels/";
  plan.text_fingerprint = "feed";
  plan.calibration_tokens = 32768;
  plan.held_out_tokens = 16384;
  plan.window = 256;
  plan.target_kind = "budget";
  plan.target_value = 0.01;
  plan.cett = 0.2;
  plan.density = 0.4;
  plan.loss_dense_nats_per_token = 1.3;
  plan.loss_nats_per_token = 1.309;
  plan.perplexity_ratio = 1.009;
  plan.perplexity_ratio_ci95 = {1.007, 1.011};
  plan.layers = {{0, ExactZeros{}, 0.9, 0, false, "no small neuron"},
                 {1, OutputThreshold{0.0123F}, 0.2, 0.19, true, ""},
                 {2, TopK{17}, 0.1, 0.2, true, ""}};
  return plan;
}

TEST(SparsityPlan, RoundTripsThroughItsFile) {
  const TemporaryFolder folder;
  auto plan = example();
  write_plan(plan, folder / "plan.json");
  EXPECT_EQ(read_plan(folder / "plan.json"), plan);
  plan.perplexity_ratio_ci95.reset();
  write_plan(plan, folder / "plan.json");
  EXPECT_EQ(read_plan(folder / "plan.json"), plan);
}

TEST(SparsityPlan, DamagedFilesAreNamed) {
  const struct {
    const char* path;   // JSON pointer
    const char* value;  // nullptr: removed
    const char* message;
  } cases[] = {
      {"/schema", "\"torpor.plan/2\"", "torpor.plan/1"},
      {"/schema", nullptr, "schema"},
      {"/extra", "1", "unknown field \"extra\""},
      {"/model", "[]", "model"},
      {"/model/n_layers", "0", "n_layers"},
      {"/model/n_layers", "4", "4 entries"},
      {"/model/n_layers", "99999999999999999999", "n_layers"},
      {"/model/d_ff", "-1", "d_ff"},
      {"/model/d_ff", "1.5", "d_ff"},
      {"/model/gated", "0", "gated"},
      {"/model/fingerprint", "\"\"", "fingerprint"},
      {"/model/fingerprint", nullptr, "fingerprint"},
      {"/text/window", "0", "window"},
      {"/text/colour", "0", "colour"},
      {"/target/kind", "\"speed\"", "budget, cett or sparsity"},
      {"/target/value", "-0.5", "value"},
      {"/measured/density", "1.5", "density"},
      {"/measured/cett", "\"x\"", "cett"},
      {"/measured/perplexity_ratio_ci95", "[2, 1]", "perplexity_ratio_ci95"},
      {"/measured/perplexity_ratio_ci95", "[1]", "perplexity_ratio_ci95"},
      {"/layers", "{}", "layers"},
      {"/layers/1", "7", "layers[1]"},
      {"/layers/1/layer", "0", "in order"},
      {"/layers/1/density", "-0.1", "density"},
      {"/layers/1/density", "1.001", "density"},
      {"/layers/1/rule", "null", "rule"},
      {"/layers/1/rule/type", "\"magic\"", "unknown rule type"},
      {"/layers/1/rule/epsilon", "-1", "epsilon"},
      {"/layers/2/rule/k", "173", "k"},
      {"/layers/2/skippable", "1", "skippable"},
      {"/layers/2/reason", nullptr, "reason"},
  };
  for (const auto& c : cases) {
    Json json = to_json(example());
    const Json::json_pointer pointer(c.path);
    if (c.value == nullptr)
      json.at(pointer.parent_pointer()).erase(pointer.back());
    else
      json[pointer] = Json::parse(c.value);
    try {
      parse_plan(json.dump(), "plan.json");
      ADD_FAILURE() << c.path << " " << (c.value == nullptr ? "removed" : c.value);
    } catch (const BadInput& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("plan.json")) << c.path;
      EXPECT_THAT(error.what(), ::testing::HasSubstr(c.message)) << c.path;
    }
  }
  for (const char* text : {"", "{", "[]", "null", "{\"schema\":\"torpor.plan/1\"}", "{\"schema\":1}", "\xff"})
    EXPECT_THROW(parse_plan(text, "plan.json"), BadInput) << text;
  EXPECT_THROW(read_plan("/nowhere/plan.json"), BadInput);
}

TEST(SparsityPlan, FitsItsModelAndNamesEverythingThatDiffersInAnother) {
  const auto plan = example();
  EXPECT_TRUE(plan_fits(plan, plan.model));
  auto renamed = plan.model;
  renamed.name = "moved";  // a name is for people
  EXPECT_TRUE(plan_fits(plan, renamed));
  const std::pair<const char*, std::function<void(ModelFacts&)>> changes[] = {
      {"fingerprint of the weights 0123456789abcdef in the plan, other in the model",
       [](auto& m) { m.fingerprint = "other"; }},
      {"layers 3 in the plan, 4 in the model", [](auto& m) { m.n_layers = 4; }},
      {"neurons a layer 172 in the plan, 171 in the model", [](auto& m) { m.neurons = 171; }},
      {"d_model 64", [](auto& m) { m.d_model = 1; }},
      {"activation relu2 in the plan, silu in the model", [](auto& m) { m.activation = "silu"; }},
      {"gated false in the plan, true in the model", [](auto& m) { m.gated = true; }},
      {"model_type llama in the plan, opt in the model", [](auto& m) { m.model_type = "opt"; }}};
  auto all = plan.model;
  for (const auto& [message, change] : changes) {
    auto model = plan.model;
    change(model);
    change(all);
    EXPECT_THAT(plan_fits(plan, model).reason(), ::testing::HasSubstr(message));
  }
  for (const auto& [message, change] : changes)
    EXPECT_THAT(plan_fits(plan, all).reason(), ::testing::HasSubstr(message));
  auto short_plan = plan;
  short_plan.layers.pop_back();
  EXPECT_FALSE(plan_fits(short_plan, plan.model));
}

TEST(SparsityPlan, WrittenPlansFollowThePublishedSchema) {
  if (std::system("python3 -c 'import jsonschema' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "needs python3 with PyPI jsonschema";
  const TemporaryFolder folder;
  const auto schema = std::string(TORPOR_SOURCE_DIR) + "/docs/schema/plan.schema.json";
  write_file_atomically(folder / "check.py",
                        "import json, sys, jsonschema\n"
                        "schema = json.load(open(sys.argv[1]))\n"
                        "jsonschema.Draft202012Validator.check_schema(schema)\n"
                        "jsonschema.Draft202012Validator(schema).validate(json.load(open(sys.argv[2])))\n");
  const auto valid = [&](const Json& json) {
    write_file_atomically(folder / "plan.json", json.dump());
    return std::system(("python3 " + (folder / "check.py").string() + " " + schema + " " +
                        (folder / "plan.json").string() + " >/dev/null 2>&1")
                           .c_str()) == 0;
  };
  auto plan = example();
  plan.layers[0].rule = StatisticalTopK{3};
  EXPECT_TRUE(valid(to_json(plan)));
  plan.layers[0].rule = LayerThreshold{0.5F, 0.9F};
  plan.layers[1].rule = ActivationThreshold{0.5F};
  plan.layers[2].rule = Predictor{"p"};
  for (std::int32_t i = plan.model.neurons; i-- > 0;) plan.layers[2].order.push_back(i);
  plan.perplexity_ratio_ci95.reset();
  EXPECT_TRUE(valid(to_json(plan)));
  plan.layers[2].rule = GaussianTopK{0.9F};
  EXPECT_TRUE(valid(to_json(plan)));
  for (const char* path : {"/schema", "/model/fingerprint", "/layers/0/rule/type", "/measured/cett"}) {
    Json json = to_json(example());
    json.at(Json::json_pointer(path).parent_pointer()).erase(Json::json_pointer(path).back());
    EXPECT_FALSE(valid(json)) << path;
  }
  Json json = to_json(example());
  json["layers"][1]["rule"]["epsilon"] = -1;
  EXPECT_FALSE(valid(json));
}

}  // namespace
}  // namespace torpor
