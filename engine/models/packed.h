// Packed models: weights as decoding reads them, made by `torpor pack`. A folder with config.json, the tokenizer's
// files and packed.safetensors: matrices by output row, down projections by neuron (row i of gate, up and down belongs
// to neuron i), all of one type or quantised in blocks of 32 along the rows, each tensor at a multiple of 64 bytes.
//
// Names are Hugging Face's. A quantised matrix is a U8 tensor [rows, bytes of a row]; the metadata has "format NAME"
// for each of them: q8_0 or q4_0, GGUF's blocks. Further metadata: "torpor.layout", the version of all this;
// "torpor.fingerprint", the model's (its source's where packing lost nothing); "torpor.source", the source's;
// "torpor.embedding_scale" (Gemma 3n: and "torpor.layer_embedding_scale"), "torpor.norm_weight_offset" and
// "torpor.rope_interleaved", which its source's format decides. Tensors named "pad …" fill up to 64 bytes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "engine/models/model_files.h"

namespace torpor {

inline constexpr std::string_view kPackedFile = "packed.safetensors";
inline constexpr std::string_view kPackedLayout = "1";
inline constexpr std::size_t kPackedAlignment = 64;

/// The tensors and metadata of a packed file as a model of this configuration, which config_where names in errors. The
/// views share the archive's mapping. Throws BadInput: another layout version (pack the model again), or what is wrong.
ModelFiles packed_files(const TensorArchive& stored, const ModelConfig& config, const std::string& config_where);

/// The same of a folder. Throws BadInput, also for whatever is wrong with the files.
ModelFiles open_packed(const std::filesystem::path& folder, const std::string& activation_override);

}  // namespace torpor
