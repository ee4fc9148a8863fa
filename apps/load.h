// What the verbs load: a model, its tokenizer, a machine's worth of threads; and a timer for what they tell.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/text/tokenizer.h"
#include "engine/models/model.h"

namespace torpor::apps {

struct ModelOptions {
  std::filesystem::path model;
  std::filesystem::path tokenizer;  // empty: the model's own
};

/// The tokenizer that was named, else the one inside or beside the model: a Hugging Face folder and a GGUF file have
/// theirs; beside a llama2.c checkpoint tok<vocabulary>.bin, tokenizer.bin and tokenizer.model are looked for.
/// Throws BadInput where there is none, and where it does not fit the model.
std::unique_ptr<const Tokenizer> load_tokenizer_for(const Model& model, const ModelOptions& options);

}  // namespace torpor::apps
