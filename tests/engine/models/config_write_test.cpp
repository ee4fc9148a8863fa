// config.json written by the engine beside those that transformers wrote for the golden models.
#include <string>

#include "core/base/error.h"
#include "core/base/json.h"
#include "engine/models/config_huggingface.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::golden;

class WriteConfig : public ::testing::TestWithParam<const char*> {};

TEST_P(WriteConfig, SaysWhatTransformersWrote) {
  const auto path = golden(std::string("models/") + GetParam() + "/config.json");
  Json original = read_json(path);
  const ModelConfig config = read_huggingface_config(original, path.string());
  const Json written = write_huggingface_config(config, "f32");
  EXPECT_EQ(canonical_text(read_huggingface_config(written, "written")), canonical_text(config));
  EXPECT_EQ(read_huggingface_config(written, "written").stop_ids, config.stop_ids);
  if (original.contains("text_config")) original = original["text_config"];
  for (const auto& [key, value] : written.items()) {
    if (!original.contains(key) || original["model_type"] == "sparsellama") continue;
    if (key == "torch_dtype") continue;                                                          // of the weights
    if (key == "rope_scaling" || key == "activation_function" || key == "hidden_act") continue;  // have other spellings
    if (original[key].is_null() || value.is_null()) continue;                                    // an absent default
    if (key == "intermediate_size" && original[key].is_array()) continue;                        // one for all layers
    EXPECT_EQ(nlohmann::json(value), nlohmann::json(original[key])) << key;                      // in any order
  }
}

INSTANTIATE_TEST_SUITE_P(All, WriteConfig, ::testing::ValuesIn(testing::kGoldenModels),
                         [](const auto& test) { return std::string(test.param); });

TEST(WriteConfigBad, WhatTheFormatCannotSayIsRefused) {
  const auto path = golden("models/llama_silu/config.json");
  ModelConfig config = read_huggingface_config(read_json(path), path.string());
  EXPECT_THROW(write_huggingface_config(config, "q8_0"), InvalidArgument);
  config.rope_interleaved = true;
  EXPECT_THROW(write_huggingface_config(config, "f32"), InvalidArgument);
  config.rope_interleaved = false;
  config.model_type = "mamba";
  EXPECT_THROW(write_huggingface_config(config, "f32"), InvalidArgument);
}

}  // namespace
}  // namespace torpor
