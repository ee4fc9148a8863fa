#include "engine/decode/altup.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>

#include "core/base/error.h"

namespace torpor {
namespace {

constexpr std::int64_t kPiece = 256;         // values of each stream worked on at once: they stay in the first cache
constexpr float kSmallestMagnitude = 1e-5F;  // of the mean square that is divided by

double mean_square(const float* x, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum / static_cast<double>(n);
}

/// x with the magnitude of `like`.
void match_magnitude(const float* like, float* x, std::int64_t n) {
  const double wanted = mean_square(like, n), found = std::max(mean_square(x, n), double{kSmallestMagnitude});
  const auto factor = static_cast<float>(std::sqrt(wanted / found));
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void scale(float* x, std::int64_t n, float factor) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void add_scaled(float* x, const float* y, std::int64_t n, float factor) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += factor * y[i];
}

void reserve(std::vector<float>& buffer, std::int64_t size) {
  if (std::ssize(buffer) < size) buffer.resize(static_cast<std::size_t>(size));
}

}  // namespace

AltUp::AltUp(const Model& model, ThreadPool& pool, Products products)
    : model_(model), config_(model.config()), pool_(pool), products_(products), width_(config_.d_model) {
  TORPOR_ASSERT(config_.altup.any(), "a model without streams");
}

/// Calls job(row) for all rows, on several threads where there are several.
template <typename Job>
void AltUp::for_rows(const Job& job) {
  const auto part = [&job](long begin, long end, int) {
    for (long r = begin; r < end; ++r) job(r);
  };
  if (rows_ == 1) return part(0, 1, 0);
  pool_.parallel_for(rows_, 1, std::ref(part));  // by reference: a std::function that does not allocate
}

void AltUp::begin(std::span<const TokenId> tokens, const float* embedded) {
  const AltUpConfig& altup = config_.altup;
  const AltUpWeights& weights = model_.altup();
  const std::int64_t own = altup.layer_input, all_own = own * config_.n_layers;
  rows_ = std::ssize(tokens);
  reserve(streams_, altup.inputs * rows_ * width_);
  reserve(own_inputs_, rows_ * all_own);
  reserve(scratch_, rows_ * std::max(width_, all_own));
  reserve(gates_, rows_ * own);
  reserve(modes_, rows_ * altup.inputs);
  reserve(coefs_, rows_ * altup.inputs * altup.inputs);

  std::copy_n(embedded, rows_ * width_, stream(0));
  for (int j = 1; j < altup.inputs; ++j)
    linear(weights.stream_in[static_cast<std::size_t>(j - 1)], embedded, rows_, {}, stream(j), pool_, products_);
  linear(weights.layer_input_projection, embedded, rows_, {}, own_inputs_.data(), pool_, products_);
  const float projection_scale = 1 / std::sqrt(static_cast<float>(width_));
  for_rows([&](std::int64_t r) {
    for (int j = 1; j < altup.inputs; ++j) match_magnitude(embedded + r * width_, stream(j) + r * width_, width_);
    float* const inputs = own_inputs_.data() + r * all_own;
    float* const embedding = scratch_.data() + r * all_own;
    scale(inputs, all_own, projection_scale);
    rms_norm(inputs, config_.n_layers, weights.layer_input_norm.weight, 0, config_.norm_eps, inputs);
    const TokenId token = tokens[static_cast<std::size_t>(r)];
    row_to_f32(weights.layer_embedding, token < altup.layer_vocab_size ? token : 0,
               {embedding, static_cast<std::size_t>(all_own)});
    add_scaled(inputs, embedding, all_own, altup.layer_embedding_scale);
    scale(inputs, all_own, 1 / std::numbers::sqrt2_v<float>);
  });
}

/// modes_ = what the router makes of x: [rows, inputs].
void AltUp::route(const AltUpLayerWeights& weights, const float* x) {
  for_rows([&](std::int64_t r) {
    rms_norm(x + r * width_, 1, weights.router_norm.weight, 0, config_.norm_eps, scratch_.data() + r * width_);
    scale(scratch_.data() + r * width_, width_, 1 / static_cast<float>(width_));
  });
  linear(weights.router, scratch_.data(), rows_, {}, modes_.data(), pool_, Products::exact);
  for (std::int64_t i = 0; i < rows_ * config_.altup.inputs; ++i) {
    float& mode = modes_[static_cast<std::size_t>(i)];
    mode = std::tanh(mode);
  }
}

void AltUp::predict(int layer, float* x) {
  const AltUpLayerWeights& weights = model_.layers()[static_cast<std::size_t>(layer)].altup;
  const int inputs = config_.altup.inputs;
  route(weights, stream(config_.altup.active));
  linear(weights.predict_coefs, modes_.data(), rows_, {}, coefs_.data(), pool_, Products::exact);
  for_rows([&](std::int64_t r) {
    const float* const coefs = coefs_.data() + r * inputs * inputs;
    std::array<float, kMaxStreams * kPiece> before;
    for (std::int64_t from = 0; from < width_; from += kPiece) {
      const std::int64_t n = std::min(kPiece, width_ - from), at = r * width_ + from;
      for (int k = 0; k < inputs; ++k) std::copy_n(stream(k) + at, n, before.data() + k * kPiece);
      for (int j = 0; j < inputs; ++j)
        for (int k = 0; k < inputs; ++k)
          add_scaled(stream(j) + at, before.data() + k * kPiece, n, coefs[j * inputs + k]);
    }
    std::copy_n(stream(config_.altup.active) + r * width_, width_, x + r * width_);
  });
}

void AltUp::laurel(int layer, const float* normed, float* out) {
  const AltUpLayerWeights& weights = model_.layers()[static_cast<std::size_t>(layer)].altup;
  linear(weights.laurel_left, normed, rows_, {}, scratch_.data(), pool_, products_);
  linear(weights.laurel_right, scratch_.data(), rows_, {}, out, pool_, products_);
  for_rows([&](std::int64_t r) {
    rms_norm(out + r * width_, 1, weights.laurel_norm.weight, 0, config_.norm_eps, out + r * width_);
    add(out + r * width_, normed + r * width_, width_);
  });
}

void AltUp::correct(int layer, const float* activated) {
  const AltUpLayerWeights& weights = model_.layers()[static_cast<std::size_t>(layer)].altup;
  const int inputs = config_.altup.inputs;
  route(weights, activated);
  linear(weights.correct_coefs, modes_.data(), rows_, {}, coefs_.data(), pool_, Products::exact);
  for_rows([&](std::int64_t r) {
    const float* const predicted = stream(config_.altup.active) + r * width_;
    float* const innovation = scratch_.data() + r * width_;
    std::copy_n(activated + r * width_, width_, innovation);
    add_scaled(innovation, predicted, width_, -1);
    for (int j = 0; j < inputs; ++j)
      add_scaled(stream(j) + r * width_, innovation, width_, coefs_[static_cast<std::size_t>(r * inputs + j)] + 1);
  });
  let_in(layer, weights);
}

/// The layer's own input, to all streams but the first.
void AltUp::let_in(int layer, const AltUpLayerWeights& weights) {
  const AltUpConfig& altup = config_.altup;
  const std::int64_t own = altup.layer_input;
  const float* gated = stream(altup.active);
  if (altup.correct_scale) {
    for_rows([&](std::int64_t r) {
      for (std::int64_t i = 0; i < width_; ++i)
        scratch_[static_cast<std::size_t>(r * width_ + i)] =
            gated[r * width_ + i] * weights.correct_scale[static_cast<std::size_t>(i)];
    });
    gated = scratch_.data();
  }
  linear(weights.input_gate, gated, rows_, {}, gates_.data(), pool_, products_);
  for_rows([&](std::int64_t r) {
    const float* const input = own_inputs_.data() + r * own * config_.n_layers + layer * own;
    activate_gated(config_.activation, gates_.data() + r * own, input, own);
  });
  linear(weights.input_projection, gates_.data(), rows_, {}, scratch_.data(), pool_, products_);
  for_rows([&](std::int64_t r) {
    float* const update = scratch_.data() + r * width_;
    rms_norm(update, 1, weights.input_norm.weight, 0, config_.norm_eps, update);
    for (int j = 1; j < altup.inputs; ++j) add(stream(j) + r * width_, update, width_);
  });
}

void AltUp::end(float* x) {
  const int inputs = config_.altup.inputs;
  std::copy_n(stream(0), rows_ * width_, x);
  for (int j = 1; j < inputs; ++j) {
    linear(model_.altup().stream_out[static_cast<std::size_t>(j - 1)], stream(j), rows_, {}, scratch_.data(), pool_,
           products_);
    for_rows([&](std::int64_t r) {
      float* const back = scratch_.data() + r * width_;
      match_magnitude(stream(0) + r * width_, back, width_);
      add(x + r * width_, back, width_);
    });
  }
  for_rows([&](std::int64_t r) { scale(x + r * width_, width_, 1 / static_cast<float>(inputs)); });
}

}  // namespace torpor
