// Layers of neurons as recycling sees them: which parameters make a neuron, and which read it. An explicit graph of
// producers and consumers, never positions in a list of parameters (redo.md 7).
//
// A neuron is one output of a dense layer, or one feature map of a convolution. Tensors are LibTorch's, [out, in, …],
// and are edited in place, so that an optimizer's state stays theirs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace torpor::lab {

/// How the maps of a convolution lie in the inputs of a dense layer behind a flatten.
enum class FlattenOrder : std::uint8_t {
  channel_major,  // NCHW, LibTorch: map i's values one after another
  channel_minor,  // NHWC, Flax: position by position, all maps of each
};

/// A parameter whose inputs (dimension 1) read a layer's neurons.
struct OutgoingWeight {
  std::string name = {};
  at::Tensor weight = {};       // [out, in, …]
  std::int64_t per_neuron = 1;  // inputs that a neuron has: H W behind a flatten
  FlattenOrder order = FlattenOrder::channel_major;
  std::int64_t first = 0;  // input of the first neuron, where others lie before it
  at::Tensor bias = {};    // [out] of the layer that reads, or undefined
  bool pooled = false;     // a pool lies between: what it reads is not what a probe sees
  std::function<void(const at::Tensor&)> initialise = {};  // as the layer that reads was initialised
};

/// A batch norm between the product and the activation function, or behind it. Others keep a neuron from being changed
/// without the rest of its layer.
struct NeuronNorm {
  std::string name = {};
  at::Tensor weight = {}, bias = {};               // [neurons] or undefined
  at::Tensor running_mean = {}, running_var = {};  // [neurons] or undefined
};

/// A parameter whose rows make a layer's neurons.
struct IncomingWeight {
  std::string name = {}, bias_name = {};
  at::Tensor weight = {};                                  // [neurons, in, …]
  at::Tensor bias = {};                                    // [neurons] or undefined
  std::function<void(const at::Tensor&)> initialise = {};  // fills a tensor like weight with fresh weights
};

struct RecyclableLayer {
  std::string name = {};
  std::string weight_name = {}, bias_name = {};
  at::Tensor weight = {};                                  // [neurons, in, …]
  at::Tensor bias = {};                                    // [neurons] or undefined
  std::function<void(const at::Tensor&)> initialise = {};  // fills a tensor like weight with fresh weights
  std::vector<IncomingWeight> gates = {};                  // more of the kind: a gated unit's
  std::vector<NeuronNorm> norms = {};
  std::vector<OutgoingWeight> outgoing = {};  // all that read the layer
  /// What keeps its neurons from being recycled without changing others: "a residual sum reads them". Empty: nothing.
  std::string obstacle = {};

  std::int64_t neurons() const { return weight.size(0); }
  /// All that makes its neurons: its own weight, and the gates.
  std::vector<IncomingWeight> incoming() const;
};

/// Throws InvalidArgument, naming the layer, where tensors do not fit: an outgoing weight with too few inputs for the
/// neurons, a bias or norm of another size, no outgoing weight and no obstacle.
void check_layer(const RecyclableLayer& layer);

/// Which inputs of `to` read the neurons of `mask`: bool [neurons] to bool [to.weight.size(1)].
at::Tensor inputs_of(const OutgoingWeight& to, const at::Tensor& mask);

/// The error of the official code, whose flatten is channel-minor and whose mask is for a channel-major one: here the
/// other order's mask for either, so that most of a neuron's inputs stay and others' go (redo.md 5.1).
at::Tensor inputs_of_official(const OutgoingWeight& to, const at::Tensor& mask);

/// A bool mask [n] along dimension `dim` of a tensor like `like`, spread over the other dimensions.
at::Tensor along(const at::Tensor& mask, const at::Tensor& like, std::int64_t dim);

}  // namespace torpor::lab
