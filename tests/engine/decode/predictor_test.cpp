// Predicted layers: the predictor against plain loops, skipping against masking, and files that do not fit.
#include "engine/decode/predictor.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"
#include "engine/models/neuron_layers.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::copy;
using testing::expected_of;
using ::testing::HasSubstr;
using testing::relative_difference;
using testing::TemporaryFolder;
using ::testing::ThrowsMessage;

constexpr double kSelf = 2e-5;  // other orders of sums

/// Weights of a predictor: whole numbers over 64 with 127 / 64 in every block of 32, which q8_0 holds exactly.
std::vector<float> exact_weights(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = (i % 32 == 0 ? 127.0F : static_cast<float>(static_cast<int>(random.below(255)) - 127)) / 64;
  return values;
}

struct PredictorFile {
  std::int64_t rank = 32;
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, std::vector<std::int64_t>> shapes;
  SafetensorsMetadata metadata{{"torpor_predictor", "1"}, {"activation", "relu"}};

  PredictorFile(const ModelConfig& config, std::int64_t the_rank, bool bias) : rank(the_rank) {
    for (int l = 0; l < config.n_layers; ++l) {
      const std::string prefix = "layers." + std::to_string(l) + ".";
      const auto seed = static_cast<std::uint64_t>(10 * l);
      put(prefix + "fc1.weight", {rank, config.d_model}, exact_weights(rank, config.d_model, seed + 1));
      put(prefix + "fc2.weight", {config.d_ff, rank}, exact_weights(config.d_ff, rank, seed + 2));
      if (bias) put(prefix + "fc2.bias", {config.d_ff}, exact_weights(1, config.d_ff, seed + 3));
    }
  }

  void put(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> tensor) {
    shapes[name] = std::move(shape);
    values[name] = std::move(tensor);
  }

  void write(const std::filesystem::path& path) const {
    std::vector<TensorView> tensors;
    for (const auto& [name, tensor] : values)
      tensors.push_back({name, NumberFormat::f32, shapes.at(name), std::as_bytes(std::span(tensor))});
    write_safetensors(path, tensors, metadata);
  }
};

std::vector<SelectionRule> rules_of(const Model& model, float threshold = 0) {
  return std::vector<SelectionRule>(model.layers().size(), Predictor{"p.safetensors", threshold});
}

class Predicted : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = testing::load_model(GetParam());
  TemporaryFolder folder;
  ThreadPool pool{2};
};
INSTANTIATE_TEST_SUITE_P(Some, Predicted,
                         ::testing::Values("llama_silu", "llama_fatrelu", "arcee", "nemotron_bias", "gpt2", "opt",
                                           "gemma2_bias", "models/relu2"),
                         [](const auto& model) {
                           const std::string name = model.param;
                           return name.substr(name.find('/') + 1);
                         });

TEST_P(Predicted, LogitsAreThoseOfPlainLoops) {
  const ModelConfig& config = model->config();
  for (const bool relu : {true, false})
    for (const std::int64_t rank : {32, 7}) {
      PredictorFile file(config, rank, relu);
      file.metadata["activation"] = relu ? "relu" : "none";
      file.write(folder.path() / "p.safetensors");
      const auto predictors = LayerPredictors::load(rules_of(*model), folder.path(), config);
      ASSERT_NE(predictors, nullptr);
      EXPECT_EQ(predictors->largest_rank(), rank);
      const int layer = config.n_layers - 1;
      constexpr std::int64_t kTokens = 3;
      std::vector<float> x(static_cast<std::size_t>(kTokens * config.d_model)),
          hidden(static_cast<std::size_t>(kTokens * rank)), logits(static_cast<std::size_t>(kTokens * config.d_ff));
      Random random(9);
      for (float& v : x) v = static_cast<float>(random.normal());
      predictors->layer(layer).predict(x.data(), kTokens, hidden.data(), logits.data(), pool);
      const std::string prefix = "layers." + std::to_string(layer) + ".";
      const auto& first = file.values[prefix + "fc1.weight"];
      const auto& second = file.values[prefix + "fc2.weight"];
      for (std::int64_t t = 0; t < kTokens; ++t) {
        std::vector<double> h(static_cast<std::size_t>(rank));
        for (std::int64_t r = 0; r < rank; ++r) {
          double sum = 0;
          for (std::int64_t j = 0; j < config.d_model; ++j)
            sum += static_cast<double>(first[static_cast<std::size_t>(r * config.d_model + j)]) *
                   static_cast<double>(x[static_cast<std::size_t>(t * config.d_model + j)]);
          h[static_cast<std::size_t>(r)] = relu ? std::max(sum, 0.0) : sum;
        }
        for (std::int64_t i = 0; i < config.d_ff; ++i) {
          double sum = relu ? file.values[prefix + "fc2.bias"][static_cast<std::size_t>(i)] : 0, size = 1;
          for (std::int64_t r = 0; r < rank; ++r) {
            const double term =
                h[static_cast<std::size_t>(r)] * static_cast<double>(second[static_cast<std::size_t>(i * rank + r)]);
            sum += term;
            size += std::abs(term);
          }
          ASSERT_NEAR(logits[static_cast<std::size_t>(t * config.d_ff + i)], sum, 1e-4 * size) << i;
        }
      }
    }
}

TEST_P(Predicted, SkippingHasTheLogitsOfMasking) {
  const ModelConfig& config = model->config();
  PredictorFile(config, 32, true).write(folder.path() / "p.safetensors");
  SparsityPlan plan;
  plan.model = facts_of(*model);
  for (const SelectionRule& rule : rules_of(*model, 0.5F))
    plan.layers.push_back({.layer = static_cast<int>(plan.layers.size()), .rule = rule, .density = 0.5, .reason = {}});
  const PlanInFolder planned{plan, folder.path()};
  const Skipping masking = prepare_skipping(model, &planned, Skip::never, pool);
  const Skipping skipping = prepare_skipping(model, &planned, Skip::always, pool);
  EXPECT_EQ(masking.ffn->weights(), nullptr);
  ASSERT_TRUE(skipping.reason.empty());
  const auto ids = GetParam() == std::string("models/relu2") ? std::vector<TokenId>{5, 400, 17, 30, 2, 90, 41}
                                                             : expected_of(GetParam()).ids;
  Session masked(model, pool), skipped(model, pool);
  masked.set_sparse_ffn(masking.ffn);
  skipped.set_sparse_ffn(skipping.ffn);
  for (const TokenId id : ids) {
    const auto wanted = copy(masked.forward({&id, 1}));
    ASSERT_LT(relative_difference(skipped.forward({&id, 1}), wanted), kSelf);
  }
  const auto tokens = static_cast<std::int64_t>(ids.size());
  std::int64_t active = 0;
  for (std::size_t l = 0; l < model->layers().size(); ++l) {
    const SparseLayerCount& mask = masking.ffn->masked()[l];
    const SparseLayerCount& skip = skipping.ffn->counts()[l];
    EXPECT_EQ(mask.tokens, tokens);
    EXPECT_EQ(skip.tokens, tokens);
    EXPECT_EQ(mask.active, skip.active);
    active += mask.active;
  }
  EXPECT_GT(active, 0);
  EXPECT_LT(active, tokens * config.n_layers * config.d_ff);
  EXPECT_LT(skipping.ffn->bytes_per_token(), 2.0 * static_cast<double>(skipping.ffn->dense_bytes_per_token()));
  // Together: by the union, by the union above the limit (densely), and in full.
  masked.clear(0);
  const auto wanted = copy(masked.forward(ids, Logits::all));
  skipping.ffn->set_together_from(0);
  for (const double limit : {1.0, 0.0}) {
    skipping.ffn->set_density_limit(limit);
    skipped.clear(0);
    EXPECT_LT(relative_difference(skipped.forward(ids, Logits::all), wanted), kSelf);
  }
  skipping.ffn->set_union_up_to(1);
  for (const double limit : {1.0, 0.0}) {
    skipping.ffn->set_many_tokens_limit(limit);
    skipped.clear(0);
    EXPECT_LT(relative_difference(skipped.forward(ids, Logits::all), wanted), kSelf);
  }
  // And masking does something.
  Session dense(model, pool);
  EXPECT_GT(relative_difference(dense.forward(ids, Logits::all), wanted), 1e-3);
}

TEST_P(Predicted, GaussianTopKSkipsAsItIsComputedInFull) {
  const std::vector<SelectionRule> rules(model->layers().size(), GaussianTopK{0.8F});
  Session dense(model, pool), skipped(model, pool);
  const auto in_full = std::make_shared<SparseFfn>(model, nullptr, rules);
  const auto ffn = std::make_shared<SparseFfn>(model, NeuronMajorWeights::pack(model, pool), rules);
  dense.set_sparse_ffn(in_full);
  skipped.set_sparse_ffn(ffn);
  const std::vector<TokenId> ids{5, 7, 17, 30, 2, 9, 4};
  std::vector<float> wanted;
  for (const TokenId id : ids) {
    wanted = copy(dense.forward({&id, 1}));
    ASSERT_LT(relative_difference(skipped.forward({&id, 1}), wanted), kSelf);
  }
  const auto tokens = std::ssize(ids);
  std::int64_t kept = 0, computed = 0;
  for (std::size_t l = 0; l < rules.size(); ++l) {
    EXPECT_EQ(in_full->masked()[l].tokens, tokens);
    kept += in_full->masked()[l].active;
    computed += ffn->counts()[l].active;
  }
  EXPECT_EQ(kept, computed);
  EXPECT_LT(ffn->density(), 0.5);
  EXPECT_GT(ffn->density(), 0.05);
  // At once, by the union, above the density limit; each the same.
  ffn->set_together_from(0);
  for (const double limit : {1.0, 0.0}) {
    ffn->set_density_limit(limit);
    skipped.clear(0);
    EXPECT_LT(relative_difference(skipped.forward(ids), wanted), kSelf);
  }
  ffn->set_union_up_to(1);
  for (const double limit : {1.0, 0.0}) {
    ffn->set_many_tokens_limit(limit);
    skipped.clear(0);
    EXPECT_LT(relative_difference(skipped.forward(ids), wanted), kSelf);
  }
  dense.clear(0);
  EXPECT_LT(relative_difference(dense.forward(ids), wanted), kSelf);
  EXPECT_THROW(
      SparseFfn(testing::load_model("models/spark"), nullptr,
                std::vector<SelectionRule>(testing::load_model("models/spark")->layers().size(), GaussianTopK{0.8F})),
      BadInput);
}

TEST_P(Predicted, EveryThreadCountAndBatchGivesTheSameBits) {
  PredictorFile(model->config(), 32, false).write(folder.path() / "p.safetensors");
  const auto rules = rules_of(*model);
  const auto predictors = LayerPredictors::load(rules, folder.path(), model->config());
  std::vector<float> wanted;
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool some(threads);
    const std::vector wanted_rows(rules.size(), Arranged::whole);
    const auto ffn =
        std::make_shared<SparseFfn>(model, NeuronMajorWeights::pack(model, some, {}, wanted_rows), rules, predictors);
    ffn->set_together_from(0);
    Session session(model, some, {.sequences = 3});
    session.set_sparse_ffn(ffn);
    std::vector<float> got;
    for (const TokenId id : {5, 7, 9}) {
      const std::vector<TokenId> tokens{id, 3, 11};
      std::vector<SequenceTokens> batch;
      for (int s = 0; s < 3; ++s) batch.push_back({s, std::span(tokens).subspan(static_cast<std::size_t>(s), 1)});
      const auto logits = session.forward(batch);
      got.insert(got.end(), logits.begin(), logits.begin() + model->config().vocab_size);
    }
    if (wanted.empty()) {
      Session alone(model, some);
      alone.set_sparse_ffn(ffn);
      for (const TokenId id : {5, 7, 9}) {
        const auto logits = alone.forward({&id, 1});
        wanted.insert(wanted.end(), logits.begin(), logits.end());
      }
    }
    ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0) << threads;
  }
}

TEST(LayerPredictors, BadFilesAreNamed) {
  const auto model = testing::load_model("arcee");
  const ModelConfig& config = model->config();
  TemporaryFolder folder;
  const auto load = [&](const PredictorFile& file) {
    file.write(folder.path() / "p.safetensors");
    LayerPredictors::load(rules_of(*model), folder.path(), config);
  };
  const auto expect = [&](const char* message, const std::function<void(PredictorFile&)>& spoil) {
    PredictorFile file(config, 32, true);
    spoil(file);
    EXPECT_THAT([&] { load(file); }, ThrowsMessage<BadInput>(HasSubstr(message)));
  };
  load(PredictorFile(config, 32, true));
  expect("this is no file of predictors", [](PredictorFile& f) { f.metadata.erase("torpor_predictor"); });
  expect("this is no file of predictors", [](PredictorFile& f) { f.metadata["torpor_predictor"] = "2"; });
  expect("\"activation\" of \"relu\" or \"none\", found \"gelu\"",
         [](PredictorFile& f) { f.metadata["activation"] = "gelu"; });
  expect("layers.1.fc1.weight", [](PredictorFile& f) { f.values.erase("layers.1.fc1.weight"); });
  expect("layers.0.fc2.weight", [](PredictorFile& f) { f.values.erase("layers.0.fc2.weight"); });
  expect("layers.0.fc1.weight", [&](PredictorFile& f) {
    f.put("layers.0.fc1.weight", {32, config.d_model + 1},
          std::vector<float>(static_cast<std::size_t>(32 * (config.d_model + 1))));
  });
  expect("layers.0.fc1.weight with a row or more", [&](PredictorFile& f) {
    f.put("layers.0.fc1.weight", {0, config.d_model}, {});
  });
  expect("layers.0.fc2.bias", [](PredictorFile& f) { f.put("layers.0.fc2.bias", {1}, {0}); });
  expect("NaN or infinity in layers.1.fc2.weight",
         [](PredictorFile& f) { f.values["layers.1.fc2.weight"][3] = std::nanf(""); });
  std::filesystem::remove(folder.path() / "p.safetensors");
  EXPECT_THROW(LayerPredictors::load(rules_of(*model), folder.path(), config), BadInput);
  for (const char* name : {"../p.safetensors", "/p.safetensors", "..", "", "a/p.safetensors"})
    EXPECT_THAT(
        [&] {
          LayerPredictors::load(std::vector<SelectionRule>(model->layers().size(), Predictor{name}), folder.path(),
                                config);
        },
        ThrowsMessage<BadInput>(HasSubstr("beside the plan")))
        << name;
  const std::vector<SelectionRule> others(model->layers().size(), ExactZeros{});
  EXPECT_EQ(LayerPredictors::load(others, folder.path(), config), nullptr);
  const auto spark = testing::load_model("models/spark");
  EXPECT_THROW(LayerPredictors::load(rules_of(*spark), folder.path(), spark->config()), BadInput);
}

}  // namespace
}  // namespace torpor
