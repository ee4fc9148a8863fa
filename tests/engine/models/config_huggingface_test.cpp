// What config.json means, and that what it cannot mean is refused with the field's name.
#include "engine/models/config_huggingface.h"

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

// A complete config of each kind that the cases below change by one field.
Json base_config(const std::string& model_type) {
  if (model_type == "gpt2")
    return Json{{"model_type", "gpt2"}, {"vocab_size", 61}, {"n_embd", 24},
                {"n_layer", 2},         {"n_head", 4},      {"n_positions", 96}};
  if (model_type == "opt")
    return Json{{"model_type", "opt"},          {"vocab_size", 61}, {"hidden_size", 24},
                {"num_hidden_layers", 2},       {"ffn_dim", 53},    {"num_attention_heads", 4},
                {"max_position_embeddings", 96}};
  return Json{{"model_type", model_type}, {"vocab_size", 61},
              {"hidden_size", 24},        {"num_hidden_layers", 4},
              {"intermediate_size", 53},  {"num_attention_heads", 4},
              {"num_key_value_heads", 2}, {"max_position_embeddings", 96}};
}

ModelConfig read(const std::string& model_type, const Json& changes = Json::object(),
                 const std::string& activation = {}) {
  Json config = base_config(model_type);
  config.update(changes);
  return read_huggingface_config(config, "config.json", activation);
}

TEST(HuggingFaceConfig, AssumesWhatTransformersAssumes) {
  const auto llama = read("llama");
  EXPECT_EQ(llama.activation, Activation::silu);
  EXPECT_TRUE(llama.gated);
  EXPECT_FLOAT_EQ(llama.norm_eps, 1e-6F);
  EXPECT_FLOAT_EQ(llama.rope_theta, 10000);
  EXPECT_EQ(llama.rope_dims, 6);
  EXPECT_FALSE(llama.tied_embeddings);
  EXPECT_FLOAT_EQ(llama.attention_scale, 1 / std::sqrt(6.F));

  const auto mistral = read("mistral");
  EXPECT_EQ(mistral.windows, std::vector<int>(4, 4096));
  EXPECT_EQ(read("mistral", {{"sliding_window", nullptr}}).windows, std::vector<int>(4, 0));

  EXPECT_FLOAT_EQ(read("arcee").norm_eps, 1e-5F);
  EXPECT_EQ(read("arcee").activation, Activation::relu2);
  EXPECT_FALSE(read("arcee").gated);

  const auto nemotron = read("nemotron");
  EXPECT_EQ(nemotron.rope_dims, 3);
  EXPECT_EQ(nemotron.norm_weight_offset, 1);
  EXPECT_EQ(nemotron.norm, Norm::layer);

  const auto gpt2 = read("gpt2");
  EXPECT_EQ(gpt2.d_ff, 96);
  EXPECT_TRUE(gpt2.tied_embeddings);
  EXPECT_EQ(gpt2.positions, Positions::learned);

  const auto opt = read("opt");
  EXPECT_EQ(opt.position_offset, 2);
  EXPECT_EQ(opt.activation, Activation::relu);
  EXPECT_FALSE(read("opt", {{"do_layer_norm_before", false}}).final_norm);
  EXPECT_FALSE(read("opt", {{"_remove_final_layer_norm", true}}).final_norm);

  const auto gemma = read("gemma2");
  EXPECT_EQ(gemma.head_dim, 256);
  EXPECT_FLOAT_EQ(gemma.attention_scale, 1 / 16.F);
  EXPECT_EQ(gemma.windows, (std::vector<int>{4096, 0, 4096, 0}));
  EXPECT_EQ(gemma.attention_soft_cap, 50);
  EXPECT_EQ(gemma.logit_soft_cap, 30);
  EXPECT_EQ(read("gemma2", {{"attn_logit_softcapping", nullptr}}).attention_soft_cap, 0);
}

TEST(HuggingFaceConfig, ReadsEachPartOfSparkWhereItsKeysAre) {
  const auto dense = read("spark");
  EXPECT_EQ(dense.spark, SparkConfig{});
  EXPECT_TRUE(dense.norm_after);
  EXPECT_TRUE(dense.tied_embeddings);
  EXPECT_EQ(dense.activation, Activation::gelu_tanh);
  EXPECT_EQ(dense.attention_soft_cap, 0);
  EXPECT_FLOAT_EQ(dense.embedding_scale, std::sqrt(24.F));
  const Json keys{{"ffn_active_neurons", 5},       {"ffn_predictor_size", 8}, {"attention_active_keys", 7},
                  {"attention_predictor_size", 2}, {"use_post_norms", false}, {"sliding_window", 40}};
  const auto spark = read("spark", keys);
  EXPECT_EQ(spark.spark,
            (SparkConfig{.ffn_active = 5, .ffn_predictor = 8, .attention_active = 7, .attention_predictor = 2}));
  EXPECT_FALSE(spark.norm_after);
  EXPECT_EQ(spark.windows, std::vector<int>(4, 40));
  EXPECT_NE(canonical_text(spark), canonical_text(dense));
  EXPECT_EQ(read("spark", {{"ffn_active_neurons", 5}}).spark.ffn_predictor, 0) << "a whole gate";
  EXPECT_EQ(canonical_text(read_huggingface_config(write_huggingface_config(spark, "f32"), "config.json")),
            canonical_text(spark));
}

TEST(HuggingFaceConfig, ReadsGemma3n) {
  const auto plain = read("gemma3n_text", {{"num_hidden_layers", 21}});
  EXPECT_EQ(plain.windows[3], 512);
  EXPECT_EQ(plain.windows[4], 0);
  EXPECT_EQ(plain.windows[20], 512);
  EXPECT_EQ(plain.cache_layers(), 6);
  EXPECT_EQ(cache_layer(plain, 5), 5);
  EXPECT_EQ(cache_layer(plain, 6), 5) << "the last one before the shared with a window";
  EXPECT_EQ(cache_layer(plain, 9), 4) << "and without";
  EXPECT_EQ(plain.gate_sparsity_of(9), 0.95F);
  EXPECT_EQ(plain.gate_sparsity_of(10), 0);
  EXPECT_TRUE(has_exact_zeros(plain, 9));
  EXPECT_FALSE(has_exact_zeros(plain, 10));
  EXPECT_EQ(plain.altup, (AltUpConfig{.inputs = 4,
                                      .active = 0,
                                      .correct_scale = true,
                                      .laurel_rank = 64,
                                      .layer_input = 256,
                                      .layer_vocab_size = 262144,
                                      .layer_embedding_scale = 16}));
  EXPECT_EQ(plain.rope_theta, 1e6F);
  EXPECT_EQ(plain.rope_local_theta, 1e4F);
  EXPECT_EQ(plain.attention_scale, 1);
  EXPECT_EQ(plain.logit_soft_cap, 30);
  EXPECT_EQ(plain.head_dim, 256);
  EXPECT_EQ(plain.norm_weight_offset, 0);
  EXPECT_TRUE(plain.head_norms);

  const Json none{{"num_kv_shared_layers", 0}};
  EXPECT_TRUE(read("gemma3n_text", none).gate_sparsity == std::vector<float>(4, 0)) << "10 layers or fewer";
  const auto changed = [&](const Json& changes) {
    Json all = none;
    all.update(changes);
    return read("gemma3n_text", all);
  };
  EXPECT_EQ(changed({{"intermediate_size", {53, 53, 53, 53}}}).d_ff, 53);
  const auto old = changed({{"rope_theta", 3e5}, {"rope_local_base_freq", 2e3}, {"rope_scaling", nullptr}});
  const auto now = changed({{"rope_parameters",
                             {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 3e5}}},
                              {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e3}}}}}});
  EXPECT_EQ(canonical_text(old), canonical_text(now));
  EXPECT_EQ(now.rope_local_theta, 2e3F);
  for (const Json& change : {Json{{"altup_num_inputs", 3}}, Json{{"altup_active_idx", 2}}, Json{{"laurel_rank", 5}},
                             Json{{"altup_correct_scale", false}}, Json{{"hidden_size_per_layer_input", 9}},
                             Json{{"vocab_size_per_layer_input", 7}}, Json{{"num_kv_shared_layers", 1}},
                             Json{{"activation_sparsity_pattern", {0.5, 0, 0, 0}}}, Json{{"sliding_window", 3}}})
    EXPECT_NE(canonical_text(changed(change)), canonical_text(changed(Json::object()))) << change.dump();
}

TEST(HuggingFaceConfig, ReadsTheLanguageModelOfGemma3nWithinTheWhole) {
  Json text = base_config("gemma3n_text");
  text["num_kv_shared_layers"] = 0;
  const Json whole{{"model_type", "gemma3n"}, {"text_config", text}, {"eos_token_id", {1, 106}}, {"bos_token_id", 2}};
  const auto config = read_huggingface_config(whole, "config.json");
  EXPECT_EQ(canonical_text(config), canonical_text(read_huggingface_config(text, "config.json")));
  EXPECT_EQ(config.stop_ids, (std::vector<std::int64_t>{1, 106}));
  EXPECT_EQ(config.bos, 2);
}

TEST(HuggingFaceConfig, ReadsRopeAsBothVersionsOfTransformersWriteIt) {
  const Json scaling{{"rope_type", "llama3"},
                     {"factor", 8.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 24}};
  const auto old = read("llama", {{"rope_theta", 5e5}, {"rope_scaling", scaling}});
  Json parameters = scaling;
  parameters["rope_theta"] = 5e5;
  EXPECT_EQ(canonical_text(old), canonical_text(read("llama", {{"rope_parameters", parameters}})));
  EXPECT_EQ(old.rope_scaling, RopeScaling::llama3);
  EXPECT_EQ(old.rope_original_context, 24);

  const auto linear = read("llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}});
  EXPECT_EQ(linear.rope_scaling, RopeScaling::linear);
  EXPECT_EQ(linear.rope_factor, 2);
  EXPECT_EQ(read("llama", {{"rope_scaling", nullptr}}).rope_scaling, RopeScaling::none);
}

TEST(HuggingFaceConfig, OneFormulaHasSeveralNames) {
  for (const char* name : {"gelu_new", "gelu_fast", "gelu_pytorch_tanh"})
    EXPECT_EQ(read("llama", {{"hidden_act", name}}).activation, Activation::gelu_tanh) << name;
  EXPECT_EQ(read("llama", {{"hidden_act", "swish"}}).activation, Activation::silu);
  EXPECT_EQ(read("llama", {{"hidden_act", "relu"}}, "relu2").activation, Activation::relu2);
  const auto fat = read("sparsellama", {{"hidden_act", "fatrelu"}, {"hidden_act_param", 0.01}});
  EXPECT_EQ(fat.activation, Activation::relu);
  EXPECT_FLOAT_EQ(fat.activation_threshold, 0.01F);
  EXPECT_EQ(fat.model_type, "llama");
}

TEST(HuggingFaceConfig, CollectsAllIdsThatEndAText) {
  auto config = read("llama", {{"eos_token_id", {7, 9}}, {"bos_token_id", 1}});
  add_generation_config(Json{{"eos_token_id", {9, 11}}}, "generation_config.json", config);
  EXPECT_EQ(config.bos, 1);
  EXPECT_EQ(config.eos, 7);
  EXPECT_EQ(config.stop_ids, (std::vector<std::int64_t>{7, 9, 11}));
}

struct BadConfig {
  const char* name;
  const char* model_type;
  Json changes;
  std::vector<const char*> words;  // that the message must hold
};

const std::vector<BadConfig>& bad_configs() {
  static const std::vector<BadConfig> cases{
      {"UnknownModelType", "llama", {{"model_type", "qwen3"}}, {"model_type", "qwen3", "not supported"}},
      {"NoModelType", "llama", {{"model_type", nullptr}}, {"model_type"}},
      {"UnknownActivation", "llama", {{"hidden_act", "xielu"}}, {"hidden_act", "xielu"}},
      {"ClippedGelu", "llama", {{"hidden_act", "gelu_10"}}, {"hidden_act", "gelu_10"}},
      {"ActivationOfAnotherType", "llama", {{"hidden_act", 3}}, {"hidden_act", "a string"}},
      {"FatreluWithoutThreshold", "llama", {{"hidden_act", "fatrelu"}}, {"hidden_act_param"}},
      {"FatreluNegative", "llama", {{"hidden_act", "fatrelu"}, {"hidden_act_param", -1}}, {"hidden_act_param", "-1"}},
      {"UnknownRope", "llama", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}}}, {"rope_type", "yarn"}},
      {"UnknownRopeNew", "llama", {{"rope_parameters", {{"rope_type", "longrope"}}}}, {"rope_parameters", "longrope"}},
      {"RopeIsAString", "llama", {{"rope_scaling", "linear"}}, {"rope_scaling", "an object"}},
      {"RopeFactorZero", "llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}, {"factor", "0"}},
      {"Llama3WithoutFactors", "llama", {{"rope_scaling", {{"type", "llama3"}, {"factor", 8}}}}, {"low_freq_factor"}},
      {"Llama3EqualFactors",
       "llama",
       {{"rope_scaling", {{"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
       {"low_freq_factor"}},
      {"RopeThetaNegative", "llama", {{"rope_theta", -1}}, {"rope_theta", "-1"}},
      {"PartialRotaryInLlama", "llama", {{"partial_rotary_factor", 0.5}}, {"partial_rotary_factor"}},
      {"PartialRotaryTooLarge", "nemotron", {{"partial_rotary_factor", 1.5}}, {"partial_rotary_factor", "1.5"}},
      {"OtherNorm", "llama", {{"norm_type", "layernorm"}}, {"norm_type", "layernorm", "llama"}},
      {"QueryKeyNorm", "llama", {{"use_qk_norm", true}}, {"use_qk_norm", "true"}},
      {"SparkPredictorAlone", "spark", {{"ffn_predictor_size", 8}}, {"ffn_active_neurons", "ffn_predictor_size"}},
      {"SparkPredictorTooWide",
       "spark",
       {{"ffn_predictor_size", 24}, {"ffn_active_neurons", 5}},
       {"predictor", "23", "24"}},
      {"SparkKeepsAll", "spark", {{"ffn_active_neurons", 53}}, {"active neurons", "53"}},
      {"SparkOddHeadPart",
       "spark",
       {{"attention_predictor_size", 3}, {"attention_active_keys", 5}},
       {"attention", "even", "3"}},
      {"WholeWithoutText", "llama", {{"model_type", "gemma3n"}}, {"text_config"}},
      {"WholeOfAnotherText",
       "llama",
       {{"model_type", "gemma3n"}, {"text_config", base_config("llama")}},
       {"model_type", "gemma3n_text", "llama"}},
      {"WholeQuantised",
       "llama",
       {{"model_type", "gemma3n"},
        {"text_config",
         {{"model_type", "gemma3n_text"},
          {"vocab_size", 61},
          {"hidden_size", 24},
          {"num_hidden_layers", 4},
          {"intermediate_size", 53},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"num_kv_shared_layers", 0},
          {"max_position_embeddings", 96}}},
        {"quantization_config", {{"quant_method", "gptq"}}}},
       {"quantization_config", "GGUF"}},
      {"Quantised", "llama", {{"quantization_config", {{"quant_method", "gptq"}}}}, {"quantization_config", "GGUF"}},
      {"NoHiddenSize", "llama", {{"hidden_size", nullptr}}, {"hidden_size"}},
      {"HiddenSizeZero", "llama", {{"hidden_size", 0}}, {"hidden_size", "0"}},
      {"HiddenSizeNegative", "llama", {{"hidden_size", -24}}, {"hidden_size", "-24"}},
      {"HiddenSizeHuge", "llama", {{"hidden_size", 9223372036854775807}}, {"hidden_size"}},
      {"HiddenSizeFraction", "llama", {{"hidden_size", 24.5}}, {"hidden_size", "24.5"}},
      {"HiddenSizeString", "llama", {{"hidden_size", "big"}}, {"hidden_size", "big"}},
      {"TooManyLayers", "llama", {{"num_hidden_layers", 1000000000}}, {"num_hidden_layers"}},
      {"HeadsDoNotDivide", "llama", {{"num_attention_heads", 5}}, {"hidden_size", "num_attention_heads"}},
      {"KvHeadsDoNotDivide", "llama", {{"num_key_value_heads", 3}}, {"key/value heads", "3"}},
      {"OddHead", "llama", {{"head_dim", 5}}, {"rotated", "5"}},
      {"WindowZero", "mistral", {{"sliding_window", 0}}, {"sliding_window", "0"}},
      {"MistralLayerTypes", "mistral", {{"layer_types", {"full_attention"}}}, {"layer_types"}},
      {"EpsTooLarge", "llama", {{"rms_norm_eps", 2}}, {"epsilon", "2"}},
      {"EosIsText", "llama", {{"eos_token_id", "</s>"}}, {"eos_token_id"}},
      {"EosListOfText", "llama", {{"eos_token_id", {"</s>"}}}, {"eos_token_id"}},
      {"GemmaLayerTypeUnknown",
       "gemma2",
       {{"layer_types", {"full_attention", "chunked_attention", "full_attention", "full_attention"}}},
       {"layer_types", "chunked_attention"}},
      {"GemmaLayerTypesShort", "gemma2", {{"layer_types", {"full_attention"}}}, {"layer_types", "4", "1"}},
      {"GemmaBidirectional", "gemma2", {{"use_bidirectional_attention", true}}, {"use_bidirectional_attention"}},
      {"GemmaScalar", "gemma2", {{"query_pre_attn_scalar", 0}}, {"query_pre_attn_scalar"}},
      {"GemmaCap", "gemma2", {{"final_logit_softcapping", -3}}, {"final_logit_softcapping", "-3"}},
      {"Gemma3nWidthsDiffer",
       "gemma3n_text",
       {{"intermediate_size", {53, 53, 64, 53}}},
       {"intermediate_size", "53", "64", "not supported"}},
      {"Gemma3nWidthsShort", "gemma3n_text", {{"intermediate_size", {53}}}, {"intermediate_size", "4", "1"}},
      {"Gemma3nWidthIsText", "gemma3n_text", {{"intermediate_size", "wide"}}, {"intermediate_size", "wide"}},
      {"Gemma3nSharesMoreThanThereAre", "gemma3n_text", {{"num_kv_shared_layers", 4}}, {"share", "3", "4"}},
      {"Gemma3nSharesWhatIsNotThere",
       "gemma3n_text",
       {{"num_kv_shared_layers", 1},
        {"layer_types", {"sliding_attention", "sliding_attention", "sliding_attention", "full_attention"}}},
       {"layer 3", "without"}},
      {"Gemma3nSparsityOne",
       "gemma3n_text",
       {{"num_kv_shared_layers", 0}, {"activation_sparsity_pattern", {0.5, 1.0, 0, 0}}},
       {"activation_sparsity_pattern", "1.0"}},
      {"Gemma3nSparsityShort",
       "gemma3n_text",
       {{"num_kv_shared_layers", 0}, {"activation_sparsity_pattern", {0.5}}},
       {"activation_sparsity_pattern", "4", "1"}},
      {"Gemma3nOneStream",
       "gemma3n_text",
       {{"num_kv_shared_layers", 0}, {"altup_num_inputs", 1}},
       {"altup_num_inputs"}},
      {"Gemma3nActiveStream",
       "gemma3n_text",
       {{"num_kv_shared_layers", 0}, {"altup_active_idx", 4}},
       {"altup_active_idx", "4"}},
      {"Gemma3nRopeType",
       "gemma3n_text",
       {{"rope_parameters", {{"full_attention", {{"rope_type", "yarn"}}}}}},
       {"rope_type", "yarn"}},
      {"Gemma3nLayerInput",
       "gemma3n_text",
       {{"num_kv_shared_layers", 0}, {"hidden_size_per_layer_input", 0}},
       {"hidden_size_per_layer_input", "0"}},
      {"Gpt2CrossAttention", "gpt2", {{"add_cross_attention", true}}, {"add_cross_attention"}},
      {"Gpt2Activation", "gpt2", {{"activation_function", "tanh"}}, {"activation_function", "tanh"}},
      {"Gpt2WidthHuge", "gpt2", {{"n_embd", 2000000000}}, {"n_embd"}},
      {"OptBiasIsANumber", "opt", {{"enable_bias", 1}}, {"enable_bias"}},
      {"OptProjectionZero", "opt", {{"word_embed_proj_dim", 0}}, {"word_embed_proj_dim"}},
  };
  return cases;
}

class BadHuggingFaceConfig : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(All, BadHuggingFaceConfig, ::testing::Range(std::size_t{0}, bad_configs().size()),
                         [](const auto& one) { return std::string(bad_configs()[one.param].name); });

TEST_P(BadHuggingFaceConfig, IsRefusedNamingFileAndField) {
  const BadConfig& bad = bad_configs()[GetParam()];
  try {
    read(bad.model_type, bad.changes);
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("config.json"));
    for (const char* word : bad.words) EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(HuggingFaceConfig, UnknownOverrideIsRefused) {
  EXPECT_THROW(read("llama", Json::object(), "mish"), BadInput);
}

}  // namespace
}  // namespace torpor
