// What is in a model, from its configuration and tensor headers alone: no weight is read, so a file of many gigabytes
// takes milliseconds. For loading see model.h; what `torpor inspect` prints comes from here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/models/model.h"

namespace torpor {

/// The weights of one role ("attention", "ffn", …).
struct PartSummary {
  std::string name;
  std::int64_t parameters = 0, bytes = 0;
  std::vector<std::string> formats;  // "bf16", largest share first
};

/// The neurons of one FFN layer. A neuron that is skipped saves its row of gate and up and its column of down.
struct FfnSummary {
  int layer = 0, neurons = 0;
  bool gated = false;
  std::string activation;  // "relu2"; "fatrelu(0.01)"
  std::string gate_format, up_format, down_format;
  std::int64_t bytes = 0;  // of gate, up and down
  double bytes_per_neuron = 0;
  bool exact_zeros = false;          // the activation gives exact zeros: skipping those changes nothing
  std::vector<std::string> reasons;  // what stands in the way of skipping, or must be paid for first; may be empty
};

struct ModelSummary {
  std::filesystem::path path;
  std::string format;  // "Hugging Face", "GGUF", "llama2.c"
  ModelConfig config;
  std::string description;  // describe(config)
  std::int64_t tensors = 0, parameters = 0, bytes = 0;
  std::vector<PartSummary> parts;  // embedding, attention, ffn, unembedding, norms
  std::vector<FfnSummary> layers;
  std::int64_t ffn_bytes = 0;              // that a token reads in all FFN layers
  std::int64_t bytes_per_token = 0;        // weights that decoding one token reads (not the whole embedding)
  std::int64_t kv_bytes_per_position = 0;  // cache of this engine
  std::vector<std::string> notes;          // what a user should know: soft caps, activation in doubt, …

  /// Share of the bytes of a token that FFN neurons hold: the most that skipping could ever save.
  double skippable_share() const {
    return bytes_per_token > 0 ? static_cast<double>(ffn_bytes) / static_cast<double>(bytes_per_token) : 0;
  }
};

/// Takes what Model::load takes and refuses what it refuses, except for what only reading the weights would show (NaN).
/// Throws BadInput. Thread-safe.
ModelSummary inspect_model(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace torpor
