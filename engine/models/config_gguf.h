// The metadata of a GGUF file as a model configuration, and llama2.c's header as one.
#pragma once

#include <string>

#include "core/tensor/gguf.h"
#include "core/tensor/llama2c.h"
#include "engine/models/model_config.h"

namespace torpor {

/// Reads general.architecture and its keys. GGUF names no activation: it follows from the architecture, or from
/// `activation_override` (Hugging Face's name). Biases and tied embeddings show in which tensors the file has.
/// Throws BadInput naming the key: missing, of the wrong kind, or with a meaning that the engine does not have.
ModelConfig read_gguf_config(const GgufFile& file, const std::string& activation_override = {});

/// llama2.c's run.c: RMSNorm with eps 1e-5, SwiGLU, RoPE with theta 10000 on neighbouring pairs, BOS 1, EOS 2.
ModelConfig read_llama2c_config(const Llama2cHeader& header, const std::string& where,
                                const std::string& activation_override = {});

}  // namespace torpor
