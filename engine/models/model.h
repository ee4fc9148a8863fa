// A language model's weights, ready to run. Immutable after load, shared by sessions, mapped from the file where the
// file's format can be used as it is.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"
#include "engine/kernels/dense.h"
#include "engine/models/model_config.h"

namespace torpor {

struct NormWeights {
  std::vector<float> weight, bias;  // [d_model] unless said; bias may be empty
};

struct AttentionWeights {
  WeightMatrix query, key, value, output;                            // [heads*head_dim, d_model] …
  std::vector<float> query_bias, key_bias, value_bias, output_bias;  // may be empty
  NormWeights query_norm, key_norm;                                  // [head_dim]: of models with head_norms
};

/// The neuron layer of a block: neuron i is row i of gate and up, and column i of down or row i of down_rows.
struct FfnWeights {
  WeightMatrix gate;       // [d_ff, d_model]; empty if not gated
  WeightMatrix up;         // [d_ff, d_model]
  WeightMatrix down;       // [d_model, d_ff]; empty in a packed model
  WeightMatrix down_rows;  // [d_ff, d_model]: of a packed model; else empty
  std::vector<float> gate_bias, up_bias, down_bias;

  const WeightMatrix& stored_down() const { return down.empty() ? down_rows : down; }
  /// y = x down^T + down_bias, whichever way it is stored. x: [rows, d_ff], y: [rows, d_model].
  void project_down(const float* x, std::int64_t rows, float* y, ThreadPool& pool,
                    Products products = Products::exact) const;
};

/// A block's part of Gemma 3n's residual (AltUpConfig); empty in other models.
struct AltUpLayerWeights {
  NormWeights router_norm;
  WeightMatrix router;                     // [inputs, d_model]
  WeightMatrix predict_coefs;              // [inputs * inputs, inputs]
  WeightMatrix correct_coefs;              // [inputs, inputs]
  std::vector<float> correct_scale;        // [d_model]
  WeightMatrix laurel_left, laurel_right;  // [laurel_rank, d_model], [d_model, laurel_rank]
  NormWeights laurel_norm;
  WeightMatrix input_gate, input_projection;  // [layer_input, d_model], [d_model, layer_input]
  NormWeights input_norm;
};

/// What all blocks share of it.
struct AltUpWeights {
  std::vector<WeightMatrix> stream_in, stream_out;  // [inputs - 1] times [d_model, d_model]: to the other streams, back
  WeightMatrix layer_embedding;                     // [layer_vocab_size, n_layers * layer_input]
  WeightMatrix layer_input_projection;              // [n_layers * layer_input, d_model]
  NormWeights layer_input_norm;                     // [layer_input]
};

struct LayerWeights {
  NormWeights attention_norm, ffn_norm, post_attention_norm, post_ffn_norm;
  AttentionWeights attention;
  FfnWeights ffn;
  AltUpLayerWeights altup;
};

struct LoadOptions {
  std::string activation_override;  // Hugging Face's name; for files whose hidden_act is wrong (relu2.md section 4)
  /// Copy the matrices to large pages of memory, if there is room, instead of reading them where the file is mapped,
  /// and interleave quantised rows on the way where that pays (interleaved.h): loading takes the time of a copy,
  /// decoding is up to 2.6 times as fast.
  bool large_pages = false;
};

class Model {
 public:
  /// path: a Hugging Face folder, a .safetensors beside its config.json, a .gguf, a llama2.c .bin, or a folder that
  /// `torpor pack` made (pack.h).
  /// Throws BadInput naming file, tensor and field for anything missing, of the wrong shape or type, non-finite or
  /// unknown.
  static std::shared_ptr<const Model> load(const std::filesystem::path& path, const LoadOptions& options = {});

  const ModelConfig& config() const { return config_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const WeightMatrix& token_embedding() const { return token_embedding_; }        // [vocab, d_embedding]
  const WeightMatrix& position_embedding() const { return position_embedding_; }  // learned positions only
  const WeightMatrix& embedding_in() const { return embedding_in_; }              // OPT-350m project_in, else empty
  const WeightMatrix& embedding_out() const { return embedding_out_; }            // OPT-350m project_out, else empty
  const WeightMatrix& unembedding() const { return unembedding_; }                // [vocab, d_model]
  const std::vector<float>& unembedding_bias() const { return unembedding_bias_; }
  const NormWeights& final_norm() const { return final_norm_; }
  const AltUpWeights& altup() const { return altup_; }

  /// Names the weights: architecture, shapes, formats and contents (each tensor's ends and a sample of its middle).
  const std::string& fingerprint() const { return fingerprint_; }
  const std::filesystem::path& path() const { return path_; }
  std::int64_t parameters() const { return parameters_; }
  std::int64_t weight_bytes() const { return weight_bytes_; }

  /// Column i of `down` of this layer as row i, f32: [d_ff, d_model]. Makes a copy.
  std::vector<float> outgoing_rows(int layer) const;

 private:
  friend class ModelBuilder;
  Model() = default;

  std::filesystem::path path_;
  ModelConfig config_;
  std::vector<LayerWeights> layers_;
  WeightMatrix token_embedding_, position_embedding_, embedding_in_, embedding_out_, unembedding_;
  std::vector<float> unembedding_bias_;
  NormWeights final_norm_;
  AltUpWeights altup_;
  std::string fingerprint_;
  std::int64_t parameters_ = 0, weight_bytes_ = 0;
  TensorArchive archive_;                           // owns the mappings
  std::vector<std::shared_ptr<const void>> owned_;  // transposed or converted copies (GPT-2's Conv1D, …)
};

}  // namespace torpor
