// What a model is made of, independent of the file it came from: one value that spans every architecture the engine runs.
// Read from Hugging Face's config.json, GGUF keys or a llama2.c header. Nothing is guessed: an unknown model_type,
// hidden_act, norm, rope scaling or quantisation is an error that names the field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/kernels/dense.h"

namespace torpor {

enum class Norm : std::uint8_t { rms, layer };
enum class Positions : std::uint8_t { rope, learned };
enum class RopeScaling : std::uint8_t { none, linear, llama3 };

struct ModelConfig {
  std::string model_type;  // Hugging Face's: llama, mistral, arcee, nemotron, gpt2, opt, gemma2

  int n_layers = 0, d_model = 0, d_ff = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, vocab_size = 0;
  int context_length = 0;  // positions the model was made for

  Activation activation = Activation::silu;
  bool gated = true;         // gate, up, down; else up, down
  bool ffn_bias = false, attention_bias = false, attention_output_bias = false;

  Norm norm = Norm::rms;
  float norm_eps = 1e-5F;
  float norm_weight_offset = 0;  // 1: the stored weight is w - 1 (Gemma, Nemotron)
  bool norm_after = false;       // also norms after attention and after the FFN, before the residual sum (Gemma 2)
  bool norm_first = true;        // false: post-norm blocks (OPT-350m)
  bool final_norm = true;        // false: OPT with _remove_final_layer_norm or post-norm

  Positions positions = Positions::rope;
  int position_offset = 0;       // OPT: 2
  float rope_theta = 10000, rope_fraction = 1;  // rope_fraction: Nemotron's partial_rotary_factor
  RopeScaling rope_scaling = RopeScaling::none;
  float rope_factor = 1, rope_low_freq_factor = 1, rope_high_freq_factor = 4;
  int rope_original_context = 0;
  bool rope_interleaved = false; // pairs (2i, 2i+1), as in llama2.c and in GGUF's permuted llama weights

  float embedding_scale = 1;     // Gemma: sqrt(d_model), rounded to the weights' format as the reference does
  bool tied_embeddings = false;
  int d_embedding = 0;           // OPT-350m: word_embed_proj_dim; else d_model

  float attention_scale = 0;     // multiplies q.k
  float attention_soft_cap = 0, logit_soft_cap = 0;
  std::vector<int> windows;      // [n_layers] sliding window, 0 = full attention
  std::int64_t bos = -1, eos = -1;
  std::vector<std::int64_t> stop_ids;  // all ids that end a text
};

}  // namespace torpor
