// What the verbs load: a model and its tokenizer.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "core/text/tokenizer.h"
#include "engine/decode/skipping.h"
#include "engine/models/model.h"

namespace torpor::apps {

struct ModelOptions {
  std::filesystem::path model;
  std::filesystem::path tokenizer;  // empty: the model's own
  std::string activation;           // overrides what the model's files say

  bool mapped = false;  // of verbs that decode: leave the weights in the file's mapping

  LoadOptions load() const { return {.activation_override = activation}; }
  LoadOptions load_to_decode() const { return {.activation_override = activation, .large_pages = !mapped}; }
};

/// MODEL and, where a verb needs the weights, --tokenizer and --activation.
void add_model_options(CLI::App& app, ModelOptions& options, bool required = true);
/// --mapped, for verbs that decode.
void add_mapped_option(CLI::App& app, ModelOptions& options);
/// --activation alone.
void add_activation_option(CLI::App& app, ModelOptions& options);

/// The tokenizer that was named, else the one inside or beside the model: a Hugging Face folder and a GGUF file have
/// theirs; beside a llama2.c checkpoint tok<vocabulary>.bin, tokenizer.bin and tokenizer.model are looked for.
/// Throws BadInput where there is none, and where it does not fit the model.
std::unique_ptr<const Tokenizer> load_tokenizer_for(const Model& model, const ModelOptions& options);

/// Copies the model's tokenizer into `folder`, under a name that is found there. False where the model has none and
/// none was named. Throws IoError, BadInput for one that was named and is not there.
bool copy_tokenizer(const Model& model, const ModelOptions& options, const std::filesystem::path& folder);

/// The plan that lies in a packed model's folder, or an empty path.
std::filesystem::path packed_plan(const std::filesystem::path& model);

/// --cache, the format of keys and values: f32 (the default) or q8.
void add_cache_option(CLI::App& app, NumberFormat& format);

/// The format of weights that a --type names: bf16, f32, q8 or q4. Throws UsageError.
NumberFormat weight_type(const std::string& type);

/// A plan for this model. Throws BadInput: damaged, or made for another model (it says what differs).
PlanInFolder read_plan_for(const Model& model, const std::filesystem::path& plan);
/// The same as what a session masks by: all neurons are computed, and what the plan leaves out is set to zero.
std::shared_ptr<SparseFfn> load_masks(const std::shared_ptr<const Model>& model, const std::filesystem::path& plan,
                                      ThreadPool& pool);

}  // namespace torpor::apps
