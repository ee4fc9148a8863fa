#include "engine/decode/sparse_ffn.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "engine/models/neuron_layers.h"

namespace torpor {
namespace {

bool has_exact_zeros(const ModelConfig& config) {
  return config.activation == Activation::relu || config.activation == Activation::relu2 ||
         config.activation_threshold > 0 || config.spark.ffn();
}

std::int64_t layer_bytes(const FfnWeights& ffn) {
  return ffn.gate.bytes() + ffn.up.bytes() + ffn.down.bytes();
}

}  // namespace

std::string why_not_skippable(const ModelConfig& config) {
  if (has_exact_zeros(config)) return {};
  return fmt::format("{} leaves no neuron at exactly zero; `torpor profile` finds thresholds that cost little",
                     name_of(config.activation));
}

SparseFfn::SparseFfn(std::shared_ptr<const Model> model, std::shared_ptr<const NeuronMajorWeights> weights,
                     std::span<const SelectionRule> rules)
    : model_(std::move(model)), weights_(std::move(weights)) {
  const ModelConfig& config = model_->config();
  if (weights_->layers().size() != model_->layers().size())
    throw InvalidArgument("[SparseFfn] expected weights of {} layers, got {}", model_->layers().size(),
                          weights_->layers().size());
  if (rules.empty() && !has_exact_zeros(config))
    throw InvalidArgument("[SparseFfn] expected a rule for each layer: {}", why_not_skippable(config));
  if (!rules.empty()) {
    if (rules.size() != model_->layers().size())
      throw InvalidArgument("[SparseFfn] expected a rule for each of {} layers, got {}", model_->layers().size(),
                            rules.size());
    for (std::size_t l = 0; l < rules.size(); ++l) {
      NeuronLayer layer;
      layer.neurons = config.d_ff;
      layer.width = config.d_model;
      // Norms of all rows take a second for a large model: only where the rule needs them.
      if (std::holds_alternative<OutputThreshold>(rules[l])) layer = neuron_layer(*model_, static_cast<int>(l), false);
      selectors_.emplace_back(rules[l], layer);
    }
  }
  counts_.resize(model_->layers().size());
  skips_.assign(model_->layers().size(), true);
  values_.resize(static_cast<std::size_t>(config.d_ff));
  packed_.resize(values_.size());
  index_.resize(values_.size());
}

std::int64_t SparseFfn::spark(const NeuronMajorLayer& rows, const float* in, ThreadPool& pool) {
  const ModelConfig& config = model_->config();
  linear(rows.gate, in, 1, {}, values_.data(), pool);
  const std::int64_t active =
      statistical_top_k(values_.data(), config.d_ff, config.spark.ffn_active, index_.data(), packed_.data());
  activate(config.activation, packed_.data(), active);
  return active;
}

/// values_ = f(gate . x), or f(up . x) of an ungated layer.
void SparseFfn::gates(const FfnWeights& ffn, const NeuronMajorLayer& rows, const float* in, ThreadPool& pool) {
  const ModelConfig& config = model_->config();
  if (config.gated)
    linear(rows.gate, in, 1, ffn.gate_bias, values_.data(), pool);
  else
    linear(rows.up, in, 1, ffn.up_bias, values_.data(), pool);
  if (config.activation_threshold > 0)
    for (float& v : values_) v = v >= config.activation_threshold ? v : 0.F;
  activate(config.activation, values_.data(), config.d_ff);
}

void SparseFfn::forward(int layer, const float* in, float* out, ThreadPool& pool) {
  const ModelConfig& config = model_->config();
  const auto l = static_cast<std::size_t>(layer);
  const FfnWeights& ffn = model_->layers()[l].ffn;
  const NeuronMajorLayer& rows = weights_->layers()[l];
  if (!all_finite(in, config.d_model))
    throw BadInput(
        "{}: expected finite numbers, found NaN or infinity at the feed-forward layer {}. A weight that is not finite, "
        "or numbers that outgrow f32",
        model_->path().string(), layer);
  SparseLayerCount& count = counts_[l];
  const std::int64_t d_ff = config.d_ff;
  NeuronRows read{.multiplier = {}, .multiplier_bias = {}, .down = rows.down};
  std::int64_t active;
  const float* x = in;
  if (config.spark.ffn()) {
    active = spark(rows, in, pool);
    read.multiplier = rows.up;
    x = in + config.spark.ffn_predictor;
    count.bytes += rows.gate.bytes();
  } else {
    gates(ffn, rows, in, pool);
    count.bytes += (config.gated ? rows.gate : rows.up).bytes();
    active = compact_nonzero(values_.data(), d_ff, index_.data(), packed_.data());
    if (config.gated && selectors_.empty()) {
      read.multiplier = rows.up;
      read.multiplier_bias = ffn.up_bias;
    } else if (config.gated) {
      // The rule is about a = f(gate) * up: all of `up` where most gates are open, else the rows that are.
      if (active * 2 > d_ff) {
        linear(rows.up, in, 1, ffn.up_bias, packed_.data(), pool);
        for (std::int64_t i = 0; i < d_ff; ++i)
          values_[static_cast<std::size_t>(i)] *= packed_[static_cast<std::size_t>(i)];
        count.bytes += rows.up.bytes();
      } else {
        const auto listed = static_cast<std::size_t>(active);
        dot_rows(rows.up, {index_.data(), listed}, in, ffn.up_bias, packed_.data(), pool);
        for (std::size_t k = 0; k < listed; ++k) values_[static_cast<std::size_t>(index_[k])] *= packed_[k];
        count.bytes += active * rows.up.row_bytes();
      }
    }
    if (!selectors_.empty()) {
      selectors_[l].keep_active(values_);
      active = compact_nonzero(values_.data(), d_ff, index_.data(), packed_.data());
    }
  }
  count.tokens += 1;
  count.active += active;
  count.bytes += active * (rows.down.row_bytes() + (read.multiplier.empty() ? 0 : read.multiplier.row_bytes()));
  sparse_ffn(read, {index_.data(), static_cast<std::size_t>(active)}, packed_.data(), x, out, scratch_, pool);
  if (!ffn.down_bias.empty()) add(out, ffn.down_bias.data(), config.d_model);
}

void SparseFfn::mask(int layer, float* values, std::int64_t rows, ThreadPool& pool) {
  if (selectors_.empty()) return;
  const RowSelector& selector = selectors_[static_cast<std::size_t>(layer)];
  const std::int64_t d_ff = model_->config().d_ff;
  const auto job = [&](long begin, long end, int) {
    for (long r = begin; r < end; ++r) selector.keep_active({values + r * d_ff, static_cast<std::size_t>(d_ff)});
  };
  pool.parallel_for(rows, 8, std::ref(job));
}

double SparseFfn::density() const {
  double sum = 0;
  int layers = 0;
  for (const SparseLayerCount& count : counts_) {
    if (count.tokens == 0) continue;
    sum += static_cast<double>(count.active) / (static_cast<double>(count.tokens) * model_->config().d_ff);
    ++layers;
  }
  return layers == 0 ? 0 : sum / layers;
}

double SparseFfn::bytes_per_token() const {
  double sum = 0;
  for (std::size_t l = 0; l < counts_.size(); ++l)
    sum += counts_[l].tokens > 0 ? static_cast<double>(counts_[l].bytes) / static_cast<double>(counts_[l].tokens)
                                 : static_cast<double>(layer_bytes(model_->layers()[l].ffn));
  return sum;
}

std::int64_t SparseFfn::dense_bytes_per_token() const {
  std::int64_t sum = 0;
  for (const LayerWeights& layer : model_->layers()) sum += layer_bytes(layer.ffn);
  return sum;
}

}  // namespace torpor
