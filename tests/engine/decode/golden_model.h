// The golden models of tests/golden/models: a folder each, with what transformers computes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/tensor/safetensors.h"
#include "engine/decode/session.h"
#include "tests/test_support.h"

namespace torpor::testing {

// One of each kind; make_models.py says what is special about each.
inline const char* const kGoldenModels[] = {"lab_arcee",  // written by `torpor train`, the others by transformers
                                            "lab_llama",
                                            "lab_gemma2",
                                            "llama_silu",
                                            "llama_tied_bias",
                                            "llama_head_dim",
                                            "llama_rope_llama3",
                                            "llama_rope_llama3_old",
                                            "llama_rope_linear",
                                            "llama_sharded",
                                            "llama_fatrelu",
                                            "llama_ungated",
                                            "mistral_window",
                                            "mistral_no_window",
                                            "arcee",
                                            "arcee_tied_bias",
                                            "nemotron",
                                            "nemotron_bias",
                                            "gpt2",
                                            "gpt2_untied_relu",
                                            "opt",
                                            "opt_350m",
                                            "opt_no_bias",
                                            "gemma2",
                                            "gemma2_bias",
                                            "gemma3n",
                                            "gemma3n_whole"};
inline const char* const kGoldenGgufs[] = {
    "llama_silu", "llama_tied_bias", "llama_rope_llama3", "arcee", "nemotron", "gpt2", "gemma2", "gemma3n"};

/// A golden model, or one that ships where the name begins with "models/".
inline std::shared_ptr<const Model> load_model(const std::string& name) {
  LoadOptions options;
  if (name == "llama_ungated") options.activation_override = "relu2";
  return Model::load(
      name.starts_with("models/") ? std::filesystem::path(TORPOR_SOURCE_DIR) / name : golden("models/" + name),
      options);
}

struct Expected {
  std::vector<TokenId> ids;   // [positions]
  std::vector<float> logits;  // [positions, vocab]
};

inline Expected expected_of(const std::string& name) {
  const auto archive = open_safetensors(golden("models/" + name + "/expected.safetensors"));
  const auto& ids = archive.at("ids");
  const auto& logits = archive.at("logits");
  Expected expected{std::vector<TokenId>(static_cast<std::size_t>(ids.elements())),
                    std::vector<float>(static_cast<std::size_t>(logits.elements()))};
  std::memcpy(expected.ids.data(), ids.bytes.data(), ids.bytes.size());
  std::memcpy(expected.logits.data(), logits.bytes.data(), logits.bytes.size());
  return expected;
}

/// max |a - b| / max |b|
inline double relative_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= difference)) difference = d;  // NaN counts as infinite
    if (std::isnan(d)) return INFINITY;
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return difference / largest;
}

inline std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace torpor::testing
