#include "engine/decode/ffn_cost.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "engine/kernels/sparse.h"

namespace torpor {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLow = 0.02, kHigh = 0.3;  // densities measured
constexpr double kSeconds = 0.1;            // for all
constexpr int kMinRounds = 5, kMaxRounds = 200;

double median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

class Layers {
 public:
  Layers(const Model& model, const NeuronMajorWeights& weights, ThreadPool& pool, const LayerPredictors* predictors)
      : model_(model), weights_(weights), pool_(pool), predictors_(predictors), config_(model.config()) {
    if (predictors != nullptr) hidden_.resize(static_cast<std::size_t>(predictors->largest_rank()));
    const auto neurons = static_cast<std::size_t>(config_.d_ff), width = static_cast<std::size_t>(config_.d_model);
    x_.resize(width);
    out_.resize(width);
    gates_.resize(neurons);
    ups_.resize(neurons);
    index_.reserve(neurons);
    Random random(1);
    for (float& v : x_) v = static_cast<float>(random.normal());
  }

  double dense(std::size_t layer) {
    const FfnWeights& ffn = model_.layers()[layer].ffn;
    return time([&] {
      if (config_.gated) {
        linear(ffn.gate, x_.data(), 1, {}, gates_.data(), pool_);
        linear(ffn.up, x_.data(), 1, {}, ups_.data(), pool_);
        activate_gated(config_.activation, gates_.data(), ups_.data(), config_.d_ff);
      } else {
        linear(ffn.up, x_.data(), 1, {}, gates_.data(), pool_);
        activate(config_.activation, gates_.data(), config_.d_ff);
      }
      ffn.project_down(gates_.data(), 1, out_.data(), pool_);
    });
  }

  double sparse(std::size_t layer, double density) {
    const NeuronMajorLayer& rows = weights_.layers()[layer];
    index_.clear();
    for (std::int32_t i = 0; i < config_.d_ff; ++i)
      if (random_.uniform() < density) index_.push_back(i);
    const WeightMatrix& first = config_.gated ? rows.gate : rows.up;
    const WeightMatrix multiplier = config_.gated ? rows.up : WeightMatrix{};
    if (const LayerPredictor* const predictor =
            predictors_ == nullptr ? nullptr : predictors_->find(static_cast<int>(layer)))
      return time([&] {
        predictor->predict(x_.data(), 1, hidden_.data(), gates_.data(), pool_);
        std::fill_n(ups_.begin(), index_.size(), 1.0F);
        sparse_ffn({.multiplier = multiplier,
                    .multiplier_bias = {},
                    .down = rows.down,
                    .gate = first,
                    .gate_bias = {},
                    .activation = Activation::silu,
                    .activation_threshold = 0},  // never 0
                   index_, ups_.data(), x_.data(), out_.data(), scratch_, pool_);
      });
    return time([&] {
      linear(first, x_.data(), 1, {}, gates_.data(), pool_);
      activate(config_.activation, gates_.data(), config_.d_ff);
      std::fill_n(ups_.begin(), index_.size(), 1.0F);
      sparse_ffn({multiplier, {}, rows.down}, index_, ups_.data(), x_.data(), out_.data(), scratch_, pool_);
    });
  }

 private:
  template <typename Work>
  static double time(const Work& work) {
    const auto start = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  const Model& model_;
  const NeuronMajorWeights& weights_;
  ThreadPool& pool_;
  const LayerPredictors* predictors_;
  const ModelConfig& config_;
  std::vector<float> x_, out_, gates_, ups_, hidden_;
  std::vector<std::int32_t> index_;
  SparseScratch scratch_;
  Random random_{2};
};

}  // namespace

FfnCost measure_ffn_cost(const Model& model, const NeuronMajorWeights& weights, ThreadPool& pool,
                         const LayerPredictors* predictors) {
  Layers layers(model, weights, pool, predictors);
  std::vector<std::size_t> arranged;
  for (std::size_t l = 0; l < weights.layers().size(); ++l)
    if (!weights.layers()[l].down.empty()) arranged.push_back(l);
  TORPOR_ASSERT(!arranged.empty(), "no layer is arranged by neuron");
  std::vector<double> dense, low, high;
  const auto start = Clock::now();
  for (int round = 0; round < kMaxRounds; ++round) {
    const std::size_t layer = arranged[static_cast<std::size_t>(round) % arranged.size()];
    const double times[] = {layers.dense(layer), layers.sparse(layer, kLow), layers.sparse(layer, kHigh)};
    if (round == 0) continue;  // pages that were never touched
    dense.push_back(times[0]);
    low.push_back(times[1]);
    high.push_back(times[2]);
    if (round > kMinRounds && std::chrono::duration<double>(Clock::now() - start).count() > kSeconds) break;
  }
  FfnCost cost;
  cost.dense = median(dense);
  const double at_low = median(low), at_high = median(high);
  cost.per_density = std::max(0.0, (at_high - at_low) / (kHigh - kLow));
  cost.fixed = std::max(0.0, at_low - kLow * cost.per_density);
  return cost;
}

}  // namespace torpor
