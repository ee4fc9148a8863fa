// Gemma 3n's residual. A token has several streams [d_model]; a block computes from one of them and corrects all
// (AltUp: Baykal et al. 2023), has a low-rank residual beside its attention (LAuReL: Menghani et al. 2024), and lets in
// an embedding of the token that it has for itself. As transformers' Gemma3nTextModel computes it:
//
//   begin      stream 0 = the embedding e, stream j = P_j e with e's magnitude;
//              a layer's own input = (norm(P e / sqrt(d_model)) + its embedding) / sqrt(2)
//   predict    m = tanh(router(norm(s_active) / d_model)); s_j += sum_k (A m)_{j,k} s_k
//   laurel     h + norm(right(left(h)))
//   correct    m as above of the block's result a; s_j += (1 + (B m)_j) (a - s_active), the s before;
//              then s_j += norm(project(gelu(gate(s_active * scale)) * own input)) for j > 0
//   end        the mean of stream 0 and the U_j s_j with its magnitude
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/text/tokenizer.h"
#include "engine/models/model.h"

namespace torpor {

/// The streams of the rows of one pass. One session's; `pool` is used inside calls alone.
class AltUp {
 public:
  /// model must have streams (config().altup.any()) and outlive this.
  AltUp(const Model& model, ThreadPool& pool, Products products);

  /// embedded: [tokens, d_model], scaled. From here on as many rows as tokens.
  void begin(std::span<const TokenId> tokens, const float* embedded);
  /// The streams as the block expects them. x: the active one, [rows, d_model], which the block computes from.
  void predict(int layer, float* x);
  /// normed: [rows, d_model], the block's input after its norm. out: [rows, d_model], not normed itself.
  void laurel(int layer, const float* normed, float* out);
  /// activated: [rows, d_model], what the block made of x.
  void correct(int layer, const float* activated);
  /// x: [rows, d_model], what the final norm gets.
  void end(float* x);

 private:
  void route(const AltUpLayerWeights& weights, const float* x);
  void let_in(int layer, const AltUpLayerWeights& weights);
  template <typename Job>
  void for_rows(const Job& job);
  float* stream(int j) { return streams_.data() + j * rows_ * width_; }

  const Model& model_;
  const ModelConfig& config_;
  ThreadPool& pool_;
  Products products_;
  std::int64_t width_, rows_ = 0;
  std::vector<float> streams_;     // [inputs, rows, d_model]
  std::vector<float> own_inputs_;  // [rows, n_layers * layer_input]
  std::vector<float> scratch_;     // [rows, d_model], or more: a router's input, LAuReL's hidden values, …
  std::vector<float> gates_;       // [rows, layer_input]
  std::vector<float> modes_;       // [rows, inputs] what the router says
  std::vector<float> coefs_;       // [rows, inputs * inputs]
};

}  // namespace torpor
