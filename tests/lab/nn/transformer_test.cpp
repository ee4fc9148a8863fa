// The network against PyPI transformers (the golden models of the engine) and against the engine through its
// checkpoints.
#include "lab/nn/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor::lab {
namespace {

using torpor::testing::Expected;
using torpor::testing::expected_of;
using torpor::testing::golden;
using torpor::testing::TemporaryFolder;

at::Tensor row_of(const std::vector<TokenId>& ids) {
  std::vector<std::int64_t> wide(ids.begin(), ids.end());
  return torch::tensor(wide, torch::kLong).unsqueeze(0);
}

double relative_difference(const at::Tensor& a, std::span<const float> b) {
  const at::Tensor flat = a.detach().reshape({-1}).contiguous();
  return torpor::testing::relative_difference({flat.const_data_ptr<float>(), static_cast<std::size_t>(flat.numel())},
                                              b);
}

/// Logits of the engine for the same tokens.
std::vector<float> engine_logits(const std::filesystem::path& path, const std::vector<TokenId>& ids) {
  ThreadPool pool(1);
  Session session(Model::load(path), pool);
  const auto logits = session.forward(ids, Logits::all);
  return {logits.begin(), logits.end()};
}

/// The golden model; its config does not name the activation that it was made with.
std::shared_ptr<TransformerImpl> load_golden(const std::string& name) {
  return TransformerImpl::load(golden("models/" + name), name == "llama_ungated" ? "relu2" : "");
}

class TransformerGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(TransformerGolden, ComputesWhatTransformersDoes) {
  const Expected expected = expected_of(GetParam());
  Transformer model(load_golden(GetParam()));
  EXPECT_LT(relative_difference(model->forward(row_of(expected.ids)), expected.logits), 1e-4);
}

TEST_P(TransformerGolden, ItsCheckpointIsTheSameModelForTheEngine) {
  const Expected expected = expected_of(GetParam());
  const TemporaryFolder folder;
  // Its embedding scale was rounded with the weights, which f32 weights would not do again.
  const std::string name = GetParam();
  const bool rounded = name == "gemma2_bias" || name == "lab_gemma2";
  load_golden(GetParam())->save(folder / "saved", rounded ? at::kBFloat16 : at::kFloat);
  EXPECT_LT(torpor::testing::relative_difference(engine_logits(folder / "saved", expected.ids), expected.logits), 1e-4);
}

bool has_streams(const char* model) {
  return std::string_view(model).starts_with("gemma3n");
}

std::vector<const char*> models_of_one_stream() {
  std::vector<const char*> models(std::begin(torpor::testing::kGoldenModels), std::end(torpor::testing::kGoldenModels));
  std::erase_if(models, has_streams);
  return models;
}

INSTANTIATE_TEST_SUITE_P(All, TransformerGolden, ::testing::ValuesIn(models_of_one_stream()),
                         [](const auto& test) { return std::string(test.param); });

TEST(Transformer, RefusesWhatItDoesNotTrain) {
  EXPECT_THAT([] { load_golden("gemma3n"); },
              ::testing::ThrowsMessage<BadInput>(::testing::HasSubstr("run, not trained")));
}

ModelConfig small(const std::string& model_type) {
  ModelConfig c;
  c.model_type = model_type;
  c.n_layers = 2;
  c.d_model = c.d_embedding = 24;
  c.d_ff = 40;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.head_dim = 6;
  c.rope_dims = 6;
  c.vocab_size = 50;
  c.context_length = 32;
  c.attention_scale = static_cast<float>(1 / std::sqrt(6.0));
  c.windows = {0, 0};
  c.norm_eps = 1e-5F;
  return c;
}

const std::vector<TokenId> kIds = {3, 1, 4, 1, 5, 9, 2, 6, 49, 0};

TEST(Transformer, AFreshNetworkSavedInHalfPrecisionRunsInTheEngine) {
  const TemporaryFolder folder;
  for (const auto& [activation, gated] :
       {std::pair(Activation::relu, true), std::pair(Activation::relu2, true), std::pair(Activation::silu, true)}) {
    ModelConfig config = small("llama");
    config.activation = activation;
    config.gated = gated;
    Transformer model(config, 5);
    model->save(folder / "saved", at::kBFloat16);
    Transformer again(TransformerImpl::load(folder / "saved"));  // the rounded weights
    EXPECT_LT(relative_difference(again->forward(row_of(kIds)), engine_logits(folder / "saved", kIds)), 1e-4);
    EXPECT_GT(relative_difference(again->forward(row_of(kIds)),
                                  [&] {
                                    const at::Tensor exact =
                                        model->forward(row_of(kIds)).detach().reshape({-1}).contiguous();
                                    return std::vector<float>(exact.const_data_ptr<float>(),
                                                              exact.const_data_ptr<float>() + exact.numel());
                                  }()),
              1e-4)
        << "nothing was rounded";
  }
}

ModelConfig spark(int ffn_predictor, int attention_predictor) {
  ModelConfig c = small("spark");
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.head_dim = c.rope_dims = 8;
  c.attention_scale = static_cast<float>(1 / std::sqrt(8.0));
  c.activation = Activation::gelu_tanh;
  c.norm_weight_offset = 1;
  c.norm_after = true;
  c.tied_embeddings = true;
  c.embedding_scale = static_cast<float>(std::sqrt(24.0));
  c.context_length = 160;
  c.spark = {.ffn_active = 5,
             .ffn_predictor = ffn_predictor,
             .attention_active = 12,
             .attention_predictor = attention_predictor};
  return c;
}

std::vector<TokenId> many_ids(int count) {
  std::vector<TokenId> ids;
  for (int i = 0; i < count; ++i) ids.push_back((i * i * 7 + i * 3 + i / 9) % 50);
  return ids;
}

/// A network none of whose selections hangs on the last bits of a score: where a key lies on the threshold, whether it
/// is attended to depends on the order of additions, thus on the processor. Such a key shows as a jump of the logits
/// when the weights move by 1e-5 of themselves.
Transformer with_clear_selections(const ModelConfig& config, const std::vector<TokenId>& ids) {
  const at::NoGradGuard no_gradient;
  for (std::uint64_t seed = 3; seed < 40; ++seed) {
    Transformer model(config, seed);
    const at::Tensor logits = model->forward(row_of(ids));
    double moved = 0;
    for (int i = 0; i < 6; ++i) {
      torch::manual_seed(i);
      Transformer near(config, seed);
      for (const auto& [name, weight] : near->weights()) at::Tensor(weight).mul_(1 + 1e-5 * torch::randn_like(weight));
      moved = std::max(moved, ((near->forward(row_of(ids)) - logits).abs().max() / logits.abs().max()).item<double>());
    }
    if (moved < 2e-4) return model;
  }
  throw std::runtime_error("each of these networks has a key on its threshold");
}

TEST(Spark, TheEngineComputesTheSameFromTheCheckpoint) {
  const std::vector<TokenId> ids = many_ids(128);
  for (const auto& [ffn, attention] : {std::pair(12, 4), std::pair(12, 0), std::pair(0, 4), std::pair(0, 0)}) {
    const TemporaryFolder folder;
    Transformer model = with_clear_selections(spark(ffn, attention), ids);
    model->save(folder / "saved");
    const at::Tensor logits = model->forward(row_of(ids));
    EXPECT_LT(relative_difference(logits, engine_logits(folder / "saved", ids)), 1e-4) << ffn << " " << attention;
    Transformer again(TransformerImpl::load(folder / "saved"));
    EXPECT_EQ(canonical_text(again->config()), canonical_text(model->config()));
    EXPECT_TRUE(at::equal(again->forward(row_of(ids)), logits));

    // Token by token, with the cache, as at once.
    ThreadPool pool(2);
    Session session(Model::load(folder / "saved"), pool);
    std::vector<float> last;
    for (const TokenId id : ids) {
      const auto out = session.forward(std::span(&id, 1), Logits::last);
      last.assign(out.begin(), out.end());
    }
    EXPECT_LT(relative_difference(logits[0][127], last), 1e-4);
  }
}

TEST(Spark, SkippingTheInactiveNeuronsIsTheSameAsMaskingThem) {
  Transformer model(spark(12, 4), 3);
  const at::Tensor tokens = row_of(many_ids(64));
  const at::NoGradGuard no_gradient;
  std::int64_t active = 0, all = 0;
  double largest = 0;
  model->set_activation_hook([&](int layer, const at::Tensor& a) {
    // Each token's output again, from the active neurons' rows alone.
    const at::Tensor outgoing = model->neuron_layers()[static_cast<std::size_t>(layer)].outgoing;
    for (std::int64_t t = 0; t < a.size(1); ++t) {
      const at::Tensor which = a[0][t].nonzero().squeeze(1);
      const at::Tensor skipped = at::mv(outgoing.index_select(1, which), a[0][t].index_select(0, which));
      largest = std::max(largest, (skipped - at::mv(outgoing, a[0][t])).abs().max().item<double>());
      active += which.numel();
      all += a.size(2);
    }
    return a;
  });
  model->forward(tokens);
  EXPECT_LT(largest, 1e-6);
  EXPECT_NEAR(static_cast<double>(active) / static_cast<double>(all), 5.0 / 40, 0.04) << "about k of them";
}

TEST(Spark, AttendsToAboutKKeysAndCountsThem) {
  Transformer model(spark(12, 4), 3);
  model->forward(row_of(many_ids(128)));
  const SparkAttentionCounts counts = model->take_attention_counts();
  EXPECT_EQ(counts.rows, 2 * 4 * 128);
  EXPECT_NEAR(static_cast<double>(counts.kept) / static_cast<double>(counts.rows), 12, 2);
  EXPECT_GT(counts.most, 12);
  EXPECT_LT(counts.most, 64);
  EXPECT_EQ(model->take_attention_counts().rows, 0);
}

TEST(Spark, ItsGradientAgreesWithDifferences) {
  Transformer model(spark(12, 4), 3);
  model->to(torch::kDouble);
  const at::Tensor tokens = row_of(many_ids(40));
  const auto loss = [&] {
    return at::cross_entropy_loss(model->forward(tokens.narrow(1, 0, 39))[0], tokens[0].narrow(0, 1, 39));
  };
  loss().backward();
  const at::NoGradGuard no_gradient;
  torch::manual_seed(5);
  for (const auto& parameter : model->named_parameters()) {
    ASSERT_TRUE(parameter.value().grad().defined()) << parameter.key();
    const at::Tensor direction = torch::randn_like(parameter.value());
    at::Tensor value = parameter.value();
    constexpr double kStep = 1e-7;  // no selection may change on the way
    value.add_(direction, kStep);
    const double above = loss().item<double>();
    value.sub_(direction, 2 * kStep);
    const double below = loss().item<double>();
    value.add_(direction, kStep);
    const double slope = (value.grad() * direction).sum().item<double>();
    EXPECT_NEAR(slope, (above - below) / (2 * kStep), 1e-5 * std::max(1.0, std::fabs(slope))) << parameter.key();
  }
}

TEST(Transformer, StartsAtAUniformGuessAndTheSeedDecides) {
  ModelConfig config = small("llama");
  Transformer model(config, 1), same(config, 1), other(config, 2);
  const at::Tensor tokens = row_of(kIds);
  const at::Tensor logits = model->forward(tokens);
  EXPECT_TRUE(at::equal(logits, same->forward(tokens)));
  EXPECT_FALSE(at::equal(logits, other->forward(tokens)));
  // The mean over every token that could come next, so that no draw of targets decides.
  EXPECT_NEAR(-at::log_softmax(logits, -1).mean().item<double>(), std::log(50.0), 1);
}

TEST(Transformer, APositionSeesNothingThatComesLater) {
  for (const char* name : {"llama_silu", "gpt2", "gemma2", "mistral_window", "opt"}) {
    Transformer model(load_golden(name));
    const Expected expected = expected_of(name);
    std::vector<TokenId> changed = expected.ids;
    changed.back() = (changed.back() + 1) % model->config().vocab_size;
    const at::Tensor a = model->forward(row_of(expected.ids))[0], b = model->forward(row_of(changed))[0];
    const std::int64_t last = a.size(0) - 1;
    EXPECT_LT((a.narrow(0, 0, last) - b.narrow(0, 0, last)).abs().max().item<double>(), 1e-5) << name;
    EXPECT_GT((a[last] - b[last]).abs().max().item<double>(), 1e-5) << name;
  }
}

TEST(Transformer, ANeuronIsItsColumnOfTheOutgoingWeights) {
  Transformer model(TransformerImpl::load(golden("models/llama_silu")));
  const at::Tensor tokens = row_of(expected_of("llama_silu").ids);
  const auto layers = model->neuron_layers();
  ASSERT_EQ(layers.size(), static_cast<std::size_t>(model->config().n_layers));
  EXPECT_EQ(layers[1].name, "model.layers.1.mlp");
  ASSERT_EQ(layers[1].incoming.size(), 2U);
  EXPECT_EQ(layers[1].incoming[0].size(0), model->config().d_ff);
  EXPECT_TRUE(layers[1].bias.empty());
  const at::Tensor whole = model->forward(tokens);
  std::vector<int> seen;
  model->set_activation_hook([&](int layer, const at::Tensor& a) {
    seen.push_back(layer);
    EXPECT_EQ(a.size(-1), model->config().d_ff);
    return layer == 1 ? a.index_fill(-1, torch::tensor({7}), 0) : a;
  });
  const at::Tensor masked = model->forward(tokens);
  EXPECT_THAT(seen, ::testing::ElementsAre(0, 1));
  model->set_activation_hook({});
  {
    const at::NoGradGuard no_gradient;
    at::Tensor outgoing = layers[1].outgoing;  // the network's own
    outgoing.select(1, 7).zero_();
  }
  const at::Tensor cut = model->forward(tokens);
  EXPECT_LT((masked - cut).abs().max().item<double>(), 1e-6);
  EXPECT_GT((masked - whole).abs().max().item<double>(), 1e-6);
}

TEST(Transformer, EveryParameterGetsAGradientThatAgreesWithDifferences) {
  for (const char* name : {"llama_silu", "gpt2", "gemma2", "nemotron_bias", "opt_350m"}) {
    Transformer model(load_golden(name));
    model->to(torch::kDouble);
    const at::Tensor tokens = row_of(expected_of(name).ids).narrow(1, 0, 12);
    const auto loss = [&] {
      return at::cross_entropy_loss(model->forward(tokens.narrow(1, 0, 11))[0], tokens[0].narrow(0, 1, 11));
    };
    loss().backward();
    const at::NoGradGuard no_gradient;
    torch::manual_seed(3);
    std::vector<at::Tensor> direction;
    double slope = 0;
    for (const auto& parameter : model->parameters()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      direction.push_back(torch::randn_like(parameter) * 0.01);
      slope += (parameter.grad() * direction.back()).sum().item<double>();
    }
    constexpr double kStep = 1e-4;
    const auto at_step = [&](double step) {
      for (std::size_t i = 0; i < direction.size(); ++i) model->parameters()[i].add_(direction[i], step);
      const double value = loss().item<double>();
      for (std::size_t i = 0; i < direction.size(); ++i) model->parameters()[i].sub_(direction[i], step);
      return value;
    };
    const double difference = (at_step(kStep) - at_step(-kStep)) / (2 * kStep);
    EXPECT_NEAR(slope, difference, 1e-5 * std::max(1.0, std::fabs(difference))) << name;
  }
}

TEST(Transformer, RefusesWhatItCannotDo) {
  ModelConfig config = small("llama");
  Transformer model(config, 1);
  EXPECT_THROW(model->forward(torch::zeros({4}, torch::kLong)), InvalidArgument);
  EXPECT_THROW(model->forward(torch::zeros({1, 4}, torch::kFloat)), InvalidArgument);
  EXPECT_THROW(model->forward(torch::zeros({1, 33}, torch::kLong)), InvalidArgument) << "longer than the context";
  const TemporaryFolder folder;
  EXPECT_THROW(model->save(folder / "x", at::kDouble), InvalidArgument);
  config.rope_interleaved = true;  // llama2.c's pairs have no place in config.json
  Transformer interleaved(config, 1);
  EXPECT_THROW(interleaved->save(folder / "x"), InvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
  config.n_kv_heads = 3;
  EXPECT_THROW(Transformer(config, 1), BadInput);
}

}  // namespace
}  // namespace torpor::lab
