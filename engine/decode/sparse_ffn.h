// Decoding with feed-forward layers of which only the active neurons are read: the rules of a plan, or what the model's
// own activation function (ReLU, ReLU², FATReLU) or operator (Spark's and Gemma 3n's top-k) leaves at exactly zero.
//
//   ungated                up dense, then the rows of down of the active neurons
//   gated, exact zeros     gate dense, then the rows of up and down of the neurons whose gate is not zero
//   gated, a plan's rule   gate dense, the rows of up where the gate is not zero, then down of what the rule keeps
//   Gaussian top-k         gate (ungated: up) dense, then the rows of up and down above the cutoff (Gemma 3n's own, or
//                          a plan's)
//   predictor              the predictor's two small matrices, then all rows of the neurons that it names
//   Spark                  predictor dense, then the rows of up and down above the statistical threshold
//
// What a layer computes for a token does not depend on what was skipped for speed: the bits are those of all neurons
// with the inactive ones at zero.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/activity/selection.h"
#include "core/base/thread_pool.h"
#include "engine/decode/neuron_major.h"
#include "engine/decode/predictor.h"
#include "engine/kernels/sparse.h"

namespace torpor {

/// What one layer did for the tokens that skipped.
struct SparseLayerCount {
  std::int64_t tokens = 0;
  std::int64_t active = 0;  // neurons, over all tokens
  std::int64_t bytes = 0;   // of weights read for them; tokens that were computed together read them together
  std::int64_t calls = 0;   // of one token or some together
  std::int64_t united = 0;  // neurons that some token of a call used, over all calls
};

/// What keeps a model from skipping anything by itself, or nothing if its activations have exact zeros: "silu has no
/// exact zeros: …".
std::string why_not_skippable(const ModelConfig& config);

/// Spark's parts of the input of a feed-forward layer: leading, [tokens, predictor], what the predictor scores neurons
/// from, and rest, [tokens, d_model - predictor]. in: [tokens, d_model]. The buffers grow where they must.
void split_spark_input(const ModelConfig& config, const float* in, std::int64_t tokens, std::vector<float>& leading,
                       std::vector<float>& rest);

/// Tokens one at a time or some together, which read the union of their neurons once. Holds scratch and counts: one
/// session at a time may use it.
class SparseFfn {
 public:
  /// Most tokens that read the union of their neurons; of more (prefill), each reads its own.
  static constexpr std::int64_t kMostTokens = 64;

  /// rules: one a layer (a plan's), or none: exact zeros. weights: null where nothing will be skipped, only masked.
  /// predictors: those that the rules name. Throws InvalidArgument if the rules do not fit the model or if there are
  /// none and why_not_skippable() has a reason; BadInput for a predictor that is not there.
  SparseFfn(std::shared_ptr<const Model> model, std::shared_ptr<const NeuronMajorWeights> weights,
            std::span<const SelectionRule> rules = {}, std::shared_ptr<const LayerPredictors> predictors = nullptr);

  /// out = the layer's down projection, bias included. in, out: [tokens, d_model]. A token's bits do not depend on the
  /// others while tokens are few, unless together they are above the density limit. products: of what is computed in
  /// full for many tokens. Throws BadInput naming the layer where `in` is not finite.
  void forward(int layer, const float* in, std::int64_t tokens, float* out, ThreadPool& pool,
               Products products = Products::exact);

  /// Several tokens that use more than this share of a layer's neurons, on the average, are computed densely (1). The
  /// share, not their union: skipping saves reading while tokens are few and arithmetic when they are many.
  void set_density_limit(double share) { density_limit_ = share; }
  /// Most tokens that read the union of their neurons (kMostTokens).
  void set_union_up_to(std::int64_t tokens) { union_up_to_ = tokens; }
  /// The density limit of more than those, whose products in full are limited by arithmetic; unless set, by how fast
  /// this processor's are.
  void set_many_tokens_limit(double share) { many_tokens_limit_ = share; }

  /// Whether forward() is for this layer; until said otherwise all layers of which there are weights by neuron. A layer
  /// that is not is computed densely and masked, with the same result up to the order of sums.
  bool skips(int layer) const { return skips_[static_cast<std::size_t>(layer)]; }
  /// Throws InvalidArgument where there are no weights by neuron of this layer.
  void set_skips(int layer, bool skips);
  /// Whether forward() is for so many tokens of this layer together: several only where a layer's gate, up and down are
  /// of some size. Smaller ones stay in the cache, and products of them in full are
  /// faster (layers of 4 MB: as fast; of 0.9 MB: 0.76x).
  bool skips(int layer, std::int64_t tokens) const;
  /// The size from which on several tokens skip together (4 MB).
  void set_together_from(std::int64_t bytes) { together_from_ = bytes; }

  /// Gaussian top-k's part of a dense layer, a plan's or the model's own, before the activation function: gates
  /// [rows, d_ff] become what is above their cutoffs, and what is kept is counted. Nothing where there is none.
  void shift_gates(int layer, float* gates, std::int64_t rows, ThreadPool& pool);

  /// Applies the layer's rule to rows that were computed densely (prefill) and counts what it keeps. in: the layer's
  /// input, [rows, d_model]; values: [rows, d_ff]. Nothing where the model itself makes the zeros.
  void mask(int layer, const float* in, float* values, std::int64_t rows, ThreadPool& pool);

  std::span<const SparseLayerCount> counts() const { return counts_; }
  /// The same of tokens that were masked, or came in numbers above kMostTokens: tokens and active alone.
  std::span<const SparseLayerCount> masked() const { return masked_; }
  /// Share of neurons that masking kept, the mean over layers and tokens; 0 where nothing was masked.
  double masked_density() const { return mean_share(masked_, &SparseLayerCount::active, &SparseLayerCount::tokens); }
  /// Share of neurons active, the mean over the layers that skip and their tokens; 0 before the first token.
  double density() const;
  /// Share of neurons that some token of a call used, the mean over layers and calls.
  double united() const;
  void reset_counts();
  /// Bytes of feed-forward weights read for a token, and those that dense layers read.
  double bytes_per_token() const;
  std::int64_t dense_bytes_per_token() const;
  /// Null where nothing is skipped.
  const NeuronMajorWeights* weights() const { return weights_.get(); }

 private:
  void reserve(std::int64_t tokens);
  NeuronRows rows_read(std::size_t layer) const;
  void check_finite(int layer, const float* in, std::int64_t tokens) const;
  void forward_many(int layer, const float* in, std::int64_t tokens, float* out, ThreadPool& pool, Products products);
  template <class Select>
  std::int64_t list_each(std::int64_t tokens, ThreadPool& pool, const Select& select);
  void scatter_lists(std::int64_t tokens, ThreadPool& pool);
  std::int64_t compute_in_full(const FfnWeights& ffn, const NeuronRows& read, const float* in, const float* x,
                               std::int64_t tokens, float* out, ThreadPool& pool, Products products);
  template <class Select>
  std::int64_t shifted_values(std::int64_t tokens, const Select& select);
  std::int64_t spark_values(const NeuronMajorLayer& rows, const float* in, std::int64_t tokens, ThreadPool& pool);
  void gate_values(std::size_t layer, const float* in, std::int64_t tokens, ThreadPool& pool);
  std::int64_t predict(const LayerPredictor& predictor, float threshold, const float* in, std::int64_t tokens,
                       ThreadPool& pool);
  void keep(std::size_t layer, std::int64_t tokens);
  std::int64_t list_union(std::int64_t tokens, SparseLayerCount& count);
  std::int64_t list_selected(std::int64_t listed, std::int64_t tokens, SparseLayerCount& count);
  void multiply_by_packed(std::int64_t tokens, ThreadPool& pool);
  /// Of the model's own Gaussian top-k; 0: none.
  float own_sparsity(std::size_t layer) const { return model_->config().gate_sparsity_of(static_cast<int>(layer)); }
  bool is_arranged(std::size_t layer) const { return weights_ && !weights_->layers()[layer].down.empty(); }
  const Predictor* predictor_of(std::size_t layer) const { return std::get_if<Predictor>(&rules_[layer]); }
  /// Neurons over times and d_ff, the mean over the layers that have any times.
  double mean_share(std::span<const SparseLayerCount> counts, std::int64_t SparseLayerCount::*neurons,
                    std::int64_t SparseLayerCount::*times) const;

  std::shared_ptr<const Model> model_;
  std::shared_ptr<const NeuronMajorWeights> weights_;
  std::shared_ptr<const LayerPredictors> predictors_;
  std::vector<SelectionRule> rules_;                   // one a layer
  std::vector<std::optional<RowSelector>> selectors_;  // empty: exact zeros; none: a predictor's layer
  std::vector<SparseLayerCount> counts_, masked_;
  std::vector<bool> skips_;
  double density_limit_ = 1;
  std::optional<double> many_tokens_limit_;
  std::int64_t union_up_to_ = kMostTokens;
  std::int64_t together_from_ = std::int64_t{4} << 20;
  std::vector<float> values_, packed_;  // [tokens, d_ff]
  std::vector<float> leading_, rest_;   // [tokens, …]: Spark's parts of the input, for several tokens
  std::vector<float> hidden_;           // [tokens, rank]: a predictor's
  std::vector<std::int32_t> index_;     // [d_ff]; of many tokens [tokens, d_ff]
  std::vector<std::int64_t> listed_;    // [tokens] neurons of each, of many tokens
  SparseScratch scratch_;
};

}  // namespace torpor
