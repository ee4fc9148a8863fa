// What GGUF metadata means, and what is refused.
#include "engine/models/config_gguf.h"

#include <functional>
#include <limits>
#include <map>
#include <variant>

#include "core/base/error.h"
#include "tests/engine/models/gguf_writer.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::GgufWriter;
using ::testing::HasSubstr;

using Value = std::variant<std::monostate, std::uint32_t, float, std::string, std::vector<std::int32_t>,
                           std::vector<float>, std::vector<bool>>;
using Keys = std::map<std::string, Value>;

Keys base_keys(const std::string& architecture) {
  const auto k = [&](const char* key) { return architecture + "." + key; };
  Keys keys{{"general.architecture", architecture},
            {k("block_count"), 4U},
            {k("embedding_length"), 24U},
            {k("feed_forward_length"), 53U},
            {k("attention.head_count"), 4U},
            {k("attention.head_count_kv"), 2U},
            {k("context_length"), 96U},
            {k("vocab_size"), 61U}};
  keys[k(architecture == "nemotron" || architecture == "gpt2" ? "attention.layer_norm_epsilon"
                                                              : "attention.layer_norm_rms_epsilon")] = 1e-5F;
  return keys;
}

ModelConfig read(const Keys& keys, const std::vector<std::string>& tensors = {"output.weight"},
                 const std::string& activation = {}) {
  GgufWriter writer;
  for (const auto& [key, value] : keys) {
    if (const auto* number = std::get_if<std::uint32_t>(&value)) writer.add_u32(key, *number);
    if (const auto* number = std::get_if<float>(&value)) writer.add_f32(key, *number);
    if (const auto* text = std::get_if<std::string>(&value)) writer.add_text(key, *text);
    if (const auto* list = std::get_if<std::vector<std::int32_t>>(&value)) writer.add_i32s(key, *list);
    if (const auto* list = std::get_if<std::vector<float>>(&value)) writer.add_f32s(key, *list);
    if (const auto* list = std::get_if<std::vector<bool>>(&value)) writer.add_bools(key, *list);
  }
  for (const auto& name : tensors) writer.add_tensor(name, {1}, {0.F});
  const auto bytes = std::make_shared<std::string>(writer.bytes());
  return read_gguf_config(GgufFile::parse(std::as_bytes(std::span(*bytes)), bytes, "model.gguf"), activation);
}

TEST(GgufConfig, ReadsEachArchitecture) {
  const auto llama = read(base_keys("llama"));
  EXPECT_EQ(llama.model_type, "llama");
  EXPECT_TRUE(llama.gated);
  EXPECT_TRUE(llama.rope_interleaved);
  EXPECT_FALSE(llama.tied_embeddings);
  EXPECT_EQ(llama.head_dim, 6);
  EXPECT_EQ(llama.n_kv_heads, 2);

  auto keys = base_keys("nemotron");
  keys["nemotron.rope.dimension_count"] = 2U;
  const auto nemotron = read(keys);
  EXPECT_EQ(nemotron.rope_dims, 2);
  EXPECT_EQ(nemotron.norm_weight_offset, 0);  // the converter adds 1
  EXPECT_EQ(nemotron.activation, Activation::relu2);
  EXPECT_FALSE(nemotron.rope_interleaved);

  EXPECT_EQ(read(base_keys("arcee")).activation, Activation::relu2);
  EXPECT_TRUE(read(base_keys("arcee")).rope_interleaved);
  EXPECT_EQ(read(base_keys("gpt2")).activation, Activation::gelu_tanh);

  const auto gemma = read(base_keys("gemma2"), {"token_embd.weight"});
  EXPECT_TRUE(gemma.tied_embeddings);
  EXPECT_EQ(gemma.norm_weight_offset, 0);
  EXPECT_EQ(gemma.windows, (std::vector<int>{4096, 0, 4096, 0}));
  EXPECT_FLOAT_EQ(gemma.embedding_scale, std::sqrt(24.F));
}

TEST(GgufConfig, Gemma2Of46LayersScalesByWidth) {  // 27B: query_pre_attn_scalar is d_model / heads, not head_dim
  auto keys = base_keys("gemma2");
  keys["gemma2.attention.key_length"] = keys["gemma2.attention.value_length"] = 8U;
  EXPECT_FLOAT_EQ(read(keys).attention_scale, 1 / std::sqrt(8.F));
  keys["gemma2.block_count"] = 46U;
  EXPECT_FLOAT_EQ(read(keys).attention_scale, 1 / std::sqrt(6.F));
}

Keys gemma3n_keys() {
  Keys keys = base_keys("gemma3n");
  keys["gemma3n.attention.sliding_window"] = 512U;
  keys["gemma3n.attention.sliding_window_pattern"] = std::vector<bool>{true, true, false, true};
  keys["gemma3n.attention.shared_kv_layers"] = 1U;
  keys["gemma3n.activation_sparsity_scale"] = std::vector<float>{1.6448535F, -INFINITY, -INFINITY, -INFINITY};
  keys["gemma3n.altup.num_inputs"] = 4U;
  keys["gemma3n.altup.active_idx"] = 0U;
  keys["gemma3n.embedding_length_per_layer_input"] = 16U;
  return keys;
}
const std::vector<std::string> kGemma3nTensors{"per_layer_token_embd.weight", "blk.0.laurel_l.weight"};

TEST(GgufConfig, ReadsGemma3n) {
  const auto config = read(gemma3n_keys(), kGemma3nTensors);
  EXPECT_EQ(config.model_type, "gemma3n_text");
  EXPECT_EQ(config.gate_sparsity, (std::vector<float>{0.95F, 0, 0, 0})) << "the very number, not one beside it";
  EXPECT_EQ(config.windows, (std::vector<int>{512, 512, 0, 512}));
  EXPECT_EQ(config.cache_layers(), 3);
  EXPECT_EQ(cache_layer(config, 3), 1);
  EXPECT_EQ(config.rope_local_theta, 10000);
  EXPECT_EQ(config.altup.inputs, 4);
  EXPECT_EQ(config.altup.layer_embedding_scale, 4);
  EXPECT_EQ(config.logit_soft_cap, 30);
  EXPECT_EQ(config.attention_scale, 1);
}

TEST(GgufConfig, TakesEqualNumbersForEveryLayer) {
  auto keys = base_keys("llama");
  keys["llama.attention.head_count_kv"] = std::vector<std::int32_t>{2, 2, 2, 2};
  EXPECT_EQ(read(keys).n_kv_heads, 2);
}

TEST(GgufConfig, CollectsStopIds) {
  auto keys = base_keys("llama");
  keys["tokenizer.ggml.eos_token_id"] = 2U;
  keys["tokenizer.ggml.eot_token_id"] = 5U;
  EXPECT_EQ(read(keys).stop_ids, (std::vector<std::int64_t>{2, 5}));
}

TEST(GgufConfig, ActivationCanBeOverridden) {
  EXPECT_EQ(read(base_keys("llama"), {"output.weight"}, "relu").activation, Activation::relu);
}

struct BadKeys {
  const char* name;
  const char* architecture;
  std::function<void(Keys&)> change;
  std::vector<const char*> words;
};

const std::vector<BadKeys>& bad_keys() {
  static const std::vector<BadKeys> cases{
      {"UnknownArchitecture",
       "llama",
       [](Keys& k) { k["general.architecture"] = "mamba"; },
       {"mamba", "not supported"}},
      {"NoArchitecture", "llama", [](Keys& k) { k.erase("general.architecture"); }, {"general.architecture"}},
      {"NoBlockCount", "llama", [](Keys& k) { k.erase("llama.block_count"); }, {"llama.block_count"}},
      {"BlockCountIsText", "llama", [](Keys& k) { k["llama.block_count"] = "two"; }, {"llama.block_count"}},
      {"TooManyBlocks", "llama", [](Keys& k) { k["llama.block_count"] = 4000000000U; }, {"llama.block_count"}},
      {"NoHeads", "llama", [](Keys& k) { k["llama.attention.head_count"] = 0U; }, {"head_count"}},
      {"NoEps",
       "llama",
       [](Keys& k) { k.erase("llama.attention.layer_norm_rms_epsilon"); },
       {"layer_norm_rms_epsilon"}},
      {"KvHeadsDoNotDivide",
       "llama",
       [](Keys& k) { k["llama.attention.head_count_kv"] = 3U; },
       {"key/value heads", "3"}},
      {"HeadsVary",
       "llama",
       [](Keys& k) {
         k["llama.attention.head_count_kv"] = std::vector<std::int32_t>{2, 1, 2, 2};
       },
       {"head_count_kv", "different"}},
      {"NegativeInList",
       "llama",
       [](Keys& k) {
         k["llama.feed_forward_length"] = std::vector<std::int32_t>{-5, -5, -5, -5};
       },
       {"feed_forward_length", "-5"}},
      {"EmptyList",
       "llama",
       [](Keys& k) { k["llama.feed_forward_length"] = std::vector<std::int32_t>{}; },
       {"feed_forward_length", "none"}},
      {"Experts", "llama", [](Keys& k) { k["llama.expert_count"] = 8U; }, {"llama.expert_count", "8"}},
      {"ResidualScale", "llama", [](Keys& k) { k["llama.residual_scale"] = 0.2F; }, {"llama.residual_scale"}},
      {"Split", "llama", [](Keys& k) { k["split.count"] = 3U; }, {"part", "llama-gguf-split"}},
      {"Yarn", "llama", [](Keys& k) { k["llama.rope.scaling.type"] = "yarn"; }, {"rope.scaling.type", "yarn"}},
      {"LinearWithoutFactor",
       "llama",
       [](Keys& k) {
         k["llama.rope.scaling.type"] = "linear";
         k["llama.rope.scaling.factor"] = 0.F;
       },
       {"factor", "0"}},
      {"ValueWidth", "llama", [](Keys& k) { k["llama.attention.value_length"] = 8U; }, {"one width", "8"}},
      {"OddRotation",
       "llama",
       [](Keys& k) {
         k["llama.attention.key_length"] = 5U;
         k["llama.attention.value_length"] = 5U;
       },
       {"rotated", "5"}},
      {"Gemma3nPatternShort",
       "gemma3n",
       [](Keys& k) { k["gemma3n.attention.sliding_window_pattern"] = std::vector<bool>{true}; },
       {"sliding_window_pattern", "4", "1"}},
      {"Gemma3nSparsityShort",
       "gemma3n",
       [](Keys& k) { k["gemma3n.activation_sparsity_scale"] = std::vector<float>{1}; },
       {"activation_sparsity_scale", "4", "1"}},
      {"Gemma3nSparsityNaN",
       "gemma3n",
       [](Keys& k) {
         k["gemma3n.activation_sparsity_scale"] = std::vector<float>{1, NAN, 1, 1};
       },
       {"activation_sparsity_scale", "nan"}},
      {"Gemma3nSparsityInfinite",
       "gemma3n",
       [](Keys& k) {
         k["gemma3n.activation_sparsity_scale"] = std::vector<float>{1, INFINITY, 1, 1};
       },
       {"activation_sparsity_scale", "inf"}},
      {"Gemma3nNoStreams", "gemma3n", [](Keys& k) { k.erase("gemma3n.altup.num_inputs"); }, {"altup.num_inputs"}},
      {"Gemma3nNoLayerEmbedding", "gemma3n", [](Keys&) {}, {"per_layer_token_embd.weight"}},
      {"NegativeSoftCap", "gemma2", [](Keys& k) { k["gemma2.attn_logit_softcapping"] = -2.F; }, {"soft cap", "-2"}},
      {"InfiniteSoftCap",
       "gemma2",
       [](Keys& k) { k["gemma2.final_logit_softcapping"] = std::numeric_limits<float>::infinity(); },
       {"final_logit_softcapping"}},
  };
  return cases;
}

class BadGgufConfig : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(All, BadGgufConfig, ::testing::Range(std::size_t{0}, bad_keys().size()),
                         [](const auto& one) { return std::string(bad_keys()[one.param].name); });

TEST_P(BadGgufConfig, IsRefusedNamingFileAndKey) {
  const BadKeys& bad = bad_keys()[GetParam()];
  Keys keys = bad.architecture == std::string_view("gemma3n") ? gemma3n_keys() : base_keys(bad.architecture);
  bad.change(keys);
  try {
    read(keys);
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.gguf"));
    for (const char* word : bad.words) EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(GgufConfig, AVocabularyAloneIsNoModel) {
  try {
    read(base_keys("llama"), {});
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("only a vocabulary"));
  }
}

}  // namespace
}  // namespace torpor
