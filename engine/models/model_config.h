// What a model is made of, independent of the file it came from: one value that spans every architecture the engine
// runs. Read from Hugging Face's config.json, GGUF keys or a llama2.c header. Nothing is guessed: an unknown
// model_type, hidden_act, norm, rope scaling or quantisation is an error that names the field.
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

/// The Spark Transformer (You et al. 2025; docs/papers/spark.md). Zeros: not that part.
struct SparkConfig {
  int ffn_active = 0;        // k: neurons above the statistical threshold, nominally
  int ffn_predictor = 0;     // r: leading values of the FFN's input that score the neurons, the others feed `up`; 0: a
                             // whole gate scores them (the control without a predictor; Gemma 3n's form)
  int attention_active = 0;  // k: keys kept for a query and head, nominally
  int attention_predictor = 0;  // r: leading values of a head that score the keys, the others weigh what is kept; 0:
                                // all score, none weigh

  bool ffn() const { return ffn_active > 0; }
  bool attention() const { return attention_active > 0; }
  bool operator==(const SparkConfig&) const = default;
};

inline constexpr int kMaxStreams = 16;  // of AltUpConfig; far more than any model has

/// Gemma 3n's residual: several streams, of which blocks compute from one and correct all (AltUp: Baykal et al. 2023),
/// a low-rank residual beside attention (LAuReL: Menghani et al. 2024) and an embedding of the token for each layer.
/// Zeros: one plain residual. decode/altup.h computes it.
struct AltUpConfig {
  int inputs = 0;             // streams
  int active = 0;             // the one that blocks compute from
  bool correct_scale = true;  // whether altup.correct_output_scale counts
  int laurel_rank = 0;
  int layer_input = 0;              // width of a layer's own embedding
  int layer_vocab_size = 0;         // tokens that have one; others have token 0's
  float layer_embedding_scale = 1;  // sqrt(layer_input), rounded as embedding_scale is

  bool any() const { return inputs > 0; }
  bool operator==(const AltUpConfig&) const = default;
};

struct ModelConfig {
  std::string
      model_type;  // Hugging Face's: llama, mistral, arcee, nemotron, gpt2, opt, gemma2, gemma3n_text; and spark

  int n_layers = 0, d_model = 0, d_ff = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, vocab_size = 0;
  int context_length = 0;  // positions the model was made for

  Activation activation = Activation::silu;
  float activation_threshold = 0;    // FATReLU (ProSparse): inputs of the activation below it count as 0; 0: plain
  std::vector<float> gate_sparsity;  // [n_layers] Gaussian top-k on the gates (Gemma 3n): the share that it leaves out;
                                     // 0: none in that layer; empty: in no layer
  bool gated = true;                 // gate, up, down; else up, down
  bool ffn_bias = false, attention_bias = false, attention_output_bias = false;

  Norm norm = Norm::rms;
  float norm_eps = 1e-5F;
  float norm_weight_offset = 0;  // 1: the stored weight is w - 1 (Gemma, Nemotron; not in GGUF, which adds it)
  bool norm_affine = true;       // false: OPT with layer_norm_elementwise_affine false; weights are 1, biases 0
  bool norm_after = false;       // also norms after attention and after the FFN, before the residual sum (Gemma 2)
  bool norm_first = true;        // false: post-norm blocks (OPT-350m)
  bool final_norm = true;        // false: OPT with _remove_final_layer_norm or post-norm

  Positions positions = Positions::rope;
  int position_offset = 0;  // OPT: 2
  float rope_theta = 10000;
  float rope_local_theta = 0;  // of layers with a window, without scaling (Gemma 3n); 0: the same as of the others
  int rope_dims = 0;           // leading values of a head that rotate (Nemotron's partial rotary); else head_dim
  RopeScaling rope_scaling = RopeScaling::none;
  float rope_factor = 1, rope_low_freq_factor = 1, rope_high_freq_factor = 4;
  int rope_original_context = 0;
  std::vector<float> rope_frequency_divisors;  // [ceil(rope_dims / 2)] GGUF's rope_freqs.weight; empty: none
  bool rope_interleaved = false;               // pairs (2i, 2i+1), as in llama2.c and in GGUF's permuted llama weights

  float embedding_scale = 1;  // Gemma: sqrt(d_model), rounded to the weights' format as the reference does
  bool tied_embeddings = false;
  int d_embedding = 0;  // OPT-350m: word_embed_proj_dim; else d_model

  bool head_norms = false;      // each head's query and key are normed with weights, its value without (Gemma 3n)
  int shared_cache_layers = 0;  // last layers that read keys and values of an earlier one (cache_layer())

  float attention_scale = 0;              // multiplies q.k
  bool attention_scale_by_layer = false;  // divided by (layer + 1): GPT-2's scale_attn_by_inverse_layer_idx
  float attention_soft_cap = 0, logit_soft_cap = 0;
  SparkConfig spark;
  AltUpConfig altup;
  std::vector<int> windows;  // [n_layers] sliding window, 0 = full attention
  std::int64_t bos = -1, eos = -1;
  std::vector<std::int64_t> stop_ids;  // all ids that end a text

  int query_width() const { return n_heads * head_dim; }
  int kv_width() const { return n_kv_heads * head_dim; }
  int cache_layers() const { return n_layers - shared_cache_layers; }
  float gate_sparsity_of(int layer) const {
    return gate_sparsity.empty() ? 0 : gate_sparsity[static_cast<std::size_t>(layer)];
  }
};

/// Hugging Face's name of an activation ("silu", "swish", "gelu_new", "relu2", …). Throws BadInput naming `where`, the
/// field and what is known.
Activation parse_activation(std::string_view name, const std::string& where, std::string_view field);

/// Whether the layer's activations have exact zeros by the model's own making: ReLU, ReLU², FATReLU, or an operator
/// that leaves neurons out (Spark's, Gemma 3n's).
bool has_exact_zeros(const ModelConfig& config, int layer);

/// The layer whose keys and values this one attends to: itself, or, of the last shared_cache_layers, the last one
/// before those that has a window if it has one, and none if not.
int cache_layer(const ModelConfig& config, int layer);

/// "llama, 2 layers, d_model 128, d_ff 384, 8 heads (4 KV), vocab 2048, silu gated"
std::string describe(const ModelConfig& config);

/// Every field that changes results, as text: part of the model's fingerprint.
std::string canonical_text(const ModelConfig& config);

/// What every reader checks last: heads a multiple of KV heads, an even rotation, sizes that cannot overflow. Throws
/// BadInput.
void check_config(const ModelConfig& config, const std::string& where);

}  // namespace torpor
