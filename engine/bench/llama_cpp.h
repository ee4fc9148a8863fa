// llama.cpp beside this engine: the same weights as a GGUF file, and its own program for measuring, llama-bench.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "core/base/json.h"
#include "engine/models/model.h"

namespace torpor {

/// Why llama.cpp has no such model, or nothing if it has: "llama.cpp has no Spark models".
std::string why_not_in_llama_cpp(const ModelConfig& config);

/// Writes the model as llama.cpp reads it: weights in their formats, rows of query and key in the order of its
/// rotation, norms with their offset added. Without a vocabulary. An activation function that its architecture does not
/// have (ReLU in a llama) is not in the file: it computes its own there, in the same time. A Gemma 3n of other numbers
/// than those built into llama.cpp is written too. Throws InvalidArgument where why_not_in_llama_cpp() has another
/// reason, IoError.
void write_gguf(const Model& model, const std::filesystem::path& path,
                const std::function<void(std::int64_t bytes)>& progress = {});

/// A dense model that reads as many feed-forward bytes a token as a Spark model without skipping: gated, with
/// two thirds of its neurons, Gemma 2's blocks, and else of the same sizes.
ModelConfig dense_counterpart(const ModelConfig& spark);

struct LlamaBenchOptions {
  std::filesystem::path program, model;
  std::int64_t context = 0;  // positions in the cache before the first token
  int tokens = 16, threads = 1;
};

/// Tokens a second that llama-bench measures, without loading. Throws IoError: it cannot be started, it failed (with
/// the end of what it said), or its answer is not understood.
double llama_bench(const LlamaBenchOptions& options);

}  // namespace torpor
