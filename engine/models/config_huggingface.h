// config.json of a Hugging Face folder, as transformers reads it (versions 4 and 5 write RoPE differently; both are
// read).
#pragma once

#include <string>
#include <string_view>

#include "core/base/json.h"
#include "engine/models/model_config.h"

namespace torpor {

/// Reads config.json. `where` names the file in errors. `activation_override`, when not empty, replaces hidden_act.
/// Missing keys take the value that transformers gives them; those without which nothing fits are required.
/// Throws BadInput naming the field: missing, of the wrong kind, or with a meaning that the engine does not have.
ModelConfig read_huggingface_config(const Json& json, const std::string& where,
                                    const std::string& activation_override = {});

/// The other way round: a config.json that read_huggingface_config turns into `config`, and transformers into the same
/// model. weights: "f32", "bf16" or "f16", for torch_dtype.
/// Throws InvalidArgument for what the format cannot say (interleaved rotation, an FFN that the model_type does not
/// have).
Json write_huggingface_config(const ModelConfig& config, std::string_view weights);

/// Adds what generation_config.json says about the ids that end a text.
void add_generation_config(const Json& json, const std::string& where, ModelConfig& config);

}  // namespace torpor
