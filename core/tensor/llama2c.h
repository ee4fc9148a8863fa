// Checkpoints of llama2.c, version 0 ("legacy"): seven int32 and then all weights as f32, without names. The sizes
// follow from the header, and the file must have exactly the size that they give. Source: llama2.c, run.c and
// export.py. Versions 1 and 2 (which start with the magic "ak42") are not read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "core/tensor/tensor.h"

namespace torpor {

struct Llama2cHeader {
  std::int32_t dim = 0, hidden_dim = 0, n_layers = 0, n_heads = 0, n_kv_heads = 0, vocab_size = 0, seq_len = 0;
  bool tied = true;  // output = token embedding; in the file the sign of the vocabulary's size

  std::int32_t head_dim() const { return dim / n_heads; }
  std::int32_t kv_dim() const { return head_dim() * n_kv_heads; }
};

/// The header, and the weights under the names that Hugging Face gives a Llama model (model.embed_tokens.weight,
/// model.layers.N.self_attn.q_proj.weight [dim, dim], …, lm_head.weight where the output is not tied), shapes [out,
/// in]. WARNING: q_proj and k_proj are as in the file: made for rotary embeddings on neighbouring pairs (2i, 2i + 1).
/// Hugging Face's Llama rotates pairs (i, i + head_dim/2) and has these rows permuted; here they are NOT permuted.
struct Llama2cCheckpoint {
  Llama2cHeader header;
  TensorArchive tensors;
};

/// Maps the file. Throws BadInput: impossible header (naming the field), wrong file size, another version.
Llama2cCheckpoint open_llama2c(const std::filesystem::path& path);

/// The same for a file that lies in memory. `owner` keeps `file` alive; `where` names it in errors.
Llama2cCheckpoint parse_llama2c(std::span<const std::byte> file, std::shared_ptr<const void> owner,
                                const std::string& where);

}  // namespace torpor
