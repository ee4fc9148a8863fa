// The decoder-only transformer of lab/: every architecture that the engine reads, with gradients. Its parameters are
// the rows of the engine's architecture table (engine/models/architecture.h), so that a checkpoint is a Hugging Face
// folder that the engine runs, and the other way round.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/kernels/spark.h"
#include "engine/models/architecture.h"
#include "engine/models/model_config.h"

namespace torpor::lab {

/// A feed-forward layer as acts on neurons see it. The tensors are the network's own parameters, not copies: changing
/// them under NoGradGuard changes the network.
struct NeuronLayerTensors {
  int layer = 0;
  std::string name;  // "model.layers.3.mlp"
  /// [neurons, d_model] each: gate and up, or up alone. Spark: the predictor [neurons, r] and up [neurons, d_model -
  /// r].
  std::vector<at::Tensor> incoming;
  std::vector<at::Tensor> bias;  // [neurons] each, as incoming; empty without biases
  at::Tensor outgoing;           // [d_model, neurons]: column i is what neuron i adds per unit of activation
};

/// One thread at a time.
class TransformerImpl : public torch::nn::Module {
 public:
  /// Weights drawn from N(0, 1 / fan_in) by `seed` (embeddings N(0, 1 / d_model) where they are scaled or tied, else
  /// N(0, 0.02^2); what adds to the residual stream divided by sqrt(2 n_layers)), norms 1, biases 0. Throws BadInput
  /// for a config that check_config refuses or that has GGUF's rope divisors.
  explicit TransformerImpl(const ModelConfig& config, std::uint64_t seed = 0);

  /// Anything that the engine loads (a Hugging Face folder, GGUF, llama2.c), as f32; activation_override as in
  /// LoadOptions. Throws BadInput as Model::load.
  static std::shared_ptr<TransformerImpl> load(const std::filesystem::path& path,
                                               const std::string& activation_override = {});

  /// Writes config.json and model.safetensors (in shards where large), weights as f32, bf16 or f16; the engine and
  /// (but for model_type "spark") transformers load the folder. The weights lie there before the config. Throws
  /// InvalidArgument for another type or a config that Hugging Face's format cannot express, IoError.
  void save(const std::filesystem::path& folder, at::ScalarType type = at::kFloat) const;

  /// tokens: [sequences, positions] int64, each from 0 to vocab_size - 1, at most context_length positions; every
  /// sequence starts at position 0. Returns logits [sequences, positions, vocab_size]. Throws InvalidArgument for
  /// another shape or type.
  at::Tensor forward(const at::Tensor& tokens);

  /// Called with each layer's activations [sequences, positions, neurons], between the activation function and the down
  /// projection; what it returns takes their place (return the argument to only look). Empty: none.
  using ActivationHook = std::function<at::Tensor(int layer, const at::Tensor& activations)>;
  void set_activation_hook(ActivationHook hook) { hook_ = std::move(hook); }

  /// Called with what each feed-forward layer reads, after its norm: [sequences, positions, d_model]. Empty: none.
  using FfnInputHook = std::function<void(int layer, const at::Tensor& x)>;
  void set_ffn_input_hook(FfnInputHook hook) { ffn_input_hook_ = std::move(hook); }

  /// What Spark attention attended to since the last call of this.
  SparkAttentionCounts take_attention_counts() { return std::exchange(attention_counts_, {}); }

  const ModelConfig& config() const { return config_; }
  std::vector<NeuronLayerTensors> neuron_layers() const;
  /// Name in Hugging Face's layout → the parameter; a Conv1D weight is [out, in] here.
  const std::vector<std::pair<std::string, at::Tensor>>& weights() const { return named_; }

 private:
  struct Affine {
    at::Tensor weight, bias;  // bias may be undefined
  };

  explicit TransformerImpl(const ModelConfig& config, const Architecture& architecture);
  void add_parameters(const TensorRule& rule, int layer);
  void initialise(std::uint64_t seed);
  const Affine& at_part(Part part, int layer = -1) const { return parts_.at({part, layer}); }
  bool has(Part part, int layer = -1) const { return parts_.count({part, layer}) > 0; }
  at::Tensor linear(Part part, int layer, const at::Tensor& x) const;
  at::Tensor normalise(Part part, int layer, const at::Tensor& x) const;
  at::Tensor attend(int layer, const at::Tensor& x) const;
  at::Tensor rotate(const at::Tensor& heads) const;
  at::Tensor feed_forward(int layer, const at::Tensor& x) const;
  void reserve_angles(std::int64_t positions);
  at::Tensor visible_keys(std::int64_t positions, int window) const;

  ModelConfig config_;
  const Architecture& architecture_;
  std::map<std::pair<Part, int>, Affine> parts_;
  std::vector<std::pair<std::string, at::Tensor>> named_;
  std::vector<bool> transposed_;  // as named_: stored [in, out] in files
  at::Tensor cosines_, sines_;    // [positions, pairs]
  ActivationHook hook_;
  FfnInputHook ffn_input_hook_;
  mutable SparkAttentionCounts attention_counts_;
};
TORCH_MODULE(Transformer);

}  // namespace torpor::lab
