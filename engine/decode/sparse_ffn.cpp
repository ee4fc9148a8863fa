#include "engine/decode/sparse_ffn.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/base/error.h"
#include "engine/models/neuron_layers.h"

namespace torpor {
namespace {

bool has_exact_zeros(const ModelConfig& config) {
  for (int layer = 0; layer < config.n_layers; ++layer)
    if (has_exact_zeros(config, layer)) return true;
  return false;
}

/// f of projections, of which those below FATReLU's threshold count as 0.
void activate_projections(const ModelConfig& config, float* values, std::int64_t count) {
  if (config.activation_threshold > 0)
    for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] >= config.activation_threshold ? values[i] : 0.F;
  activate(config.activation, values, count);
}

/// The model's own Gaussian top-k, if the layer has one: gates [tokens, d_ff] become what is above their cutoffs.
void cut_gates(const ModelConfig& config, std::size_t layer, float* gates, std::int64_t tokens, ThreadPool& pool) {
  if (const float sparsity = config.gate_sparsity_of(static_cast<int>(layer)); sparsity > 0)
    gaussian_shift(gates, tokens, config.d_ff, static_cast<double>(sparsity), pool);
}

/// values[index[k]] = packed[k] for n neurons of d_ff; the others become 0.
void scatter(const std::int32_t* index, const float* packed, std::int64_t n, float* values, std::int64_t d_ff) {
  std::fill_n(values, d_ff, 0.0F);
  for (std::int64_t k = 0; k < n; ++k) values[index[k]] = packed[k];
}

void add_down_bias(const FfnWeights& ffn, std::int64_t tokens, float* out) {
  const auto width = std::ssize(ffn.down_bias);  // 0: none
  for (std::int64_t t = 0; t < tokens && width > 0; ++t) add(out + t * width, ffn.down_bias.data(), width);
}

std::int64_t layer_bytes(const FfnWeights& ffn) {
  return ffn.gate.bytes() + ffn.up.bytes() + ffn.stored_down().bytes();
}

}  // namespace

std::string why_not_skippable(const ModelConfig& config) {
  if (has_exact_zeros(config)) return {};
  return fmt::format("{} leaves no neuron at exactly zero; `torpor profile` finds thresholds that cost little",
                     name_of(config.activation));
}

SparseFfn::SparseFfn(std::shared_ptr<const Model> model, std::shared_ptr<const NeuronMajorWeights> weights,
                     std::span<const SelectionRule> rules, std::shared_ptr<const LayerPredictors> predictors)
    : model_(std::move(model)), weights_(std::move(weights)), predictors_(std::move(predictors)) {
  const ModelConfig& config = model_->config();
  if (weights_ && weights_->layers().size() != model_->layers().size())
    throw InvalidArgument("[SparseFfn] expected weights of {} layers, got {}", model_->layers().size(),
                          weights_->layers().size());
  if (rules.empty() && !has_exact_zeros(config))
    throw InvalidArgument("[SparseFfn] expected a rule for each layer: {}", why_not_skippable(config));
  if (!rules.empty()) {
    if (rules.size() != model_->layers().size())
      throw InvalidArgument("[SparseFfn] expected a rule for each of {} layers, got {}", model_->layers().size(),
                            rules.size());
    for (std::size_t l = 0; l < rules.size(); ++l) {
      if (const Predictor* const rule = std::get_if<Predictor>(&rules[l])) {
        if (!predictors_)
          throw BadInput("layer {}: the plan wants the predictor \"{}\", and none was loaded", l, rule->file);
        static_cast<void>(predictors_->layer(static_cast<int>(l)));
        if (own_sparsity(l) > 0)
          throw BadInput("layer {}: the plan wants a predictor, and the model's own Gaussian top-k needs all gates", l);
        selectors_.emplace_back(std::nullopt);
        continue;
      }
      if (std::holds_alternative<GaussianTopK>(rules[l])) {
        if (config.spark.ffn())
          throw BadInput("layer {}: the plan wants Gaussian top-k, and a Spark model has its own", l);
        if (own_sparsity(l) > 0)
          throw BadInput("layer {}: the plan wants Gaussian top-k, and the model has its own", l);
        selectors_.emplace_back(std::nullopt);
        continue;
      }
      NeuronLayer layer;
      layer.neurons = config.d_ff;
      layer.width = config.d_model;
      // Norms of all rows take a second for a large model: only where the rule needs them.
      if (std::holds_alternative<OutputThreshold>(rules[l])) layer = neuron_layer(*model_, static_cast<int>(l), false);
      selectors_.emplace_back(RowSelector(rules[l], layer));
    }
  }
  rules_.assign(rules.begin(), rules.end());
  rules_.resize(model_->layers().size());
  for (std::size_t l = 0; l < rules_.size() && rules.empty(); ++l)
    if (own_sparsity(l) > 0) rules_[l] = GaussianTopK{own_sparsity(l)};
  counts_.resize(model_->layers().size());
  masked_.resize(counts_.size());
  skips_.resize(model_->layers().size());
  for (std::size_t l = 0; l < skips_.size(); ++l) skips_[l] = is_arranged(l);
  reserve(1);
  index_.resize(static_cast<std::size_t>(config.d_ff));
}

bool SparseFfn::skips(int layer, std::int64_t tokens) const {
  if (!skips(layer)) return false;
  return tokens == 1 || layer_bytes(model_->layers()[static_cast<std::size_t>(layer)].ffn) >= together_from_;
}

void SparseFfn::set_skips(int layer, bool skips) {
  if (skips && !is_arranged(static_cast<std::size_t>(layer)))
    throw InvalidArgument("[SparseFfn::set_skips] expected weights by neuron, got none of layer {}", layer);
  skips_[static_cast<std::size_t>(layer)] = skips;
}

void SparseFfn::reset_counts() {
  counts_.assign(counts_.size(), {});
  masked_.assign(masked_.size(), {});
}

void SparseFfn::reserve(std::int64_t tokens) {
  const auto size = static_cast<std::size_t>(tokens * model_->config().d_ff);
  if (predictors_) {
    const auto hidden = static_cast<std::size_t>(tokens * predictors_->largest_rank());
    if (hidden_.size() < hidden) hidden_.resize(hidden);
  }
  if (values_.size() >= size) return;
  values_.resize(size);
  packed_.resize(size);
}

void split_spark_input(const ModelConfig& config, const float* in, std::int64_t tokens, std::vector<float>& leading,
                       std::vector<float>& rest) {
  const std::int64_t d = config.d_model, r = config.spark.ffn_predictor;
  const auto grow = [](std::vector<float>& buffer, std::int64_t size) {
    if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  };
  grow(leading, tokens * r);
  grow(rest, tokens * (d - r));
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::copy_n(in + t * d, r, leading.data() + t * r);
    std::copy_n(in + t * d + r, d - r, rest.data() + t * (d - r));
  }
}

/// The neurons above each token's threshold: of one token index_ and packed_, f(shifted score), as list_union() leaves
/// them; of several values_, 0 elsewhere. Returns how many one token has.
std::int64_t SparseFfn::spark_values(const NeuronMajorLayer& rows, const float* in, std::int64_t tokens,
                                     ThreadPool& pool) {
  const ModelConfig& config = model_->config();
  const float* leading = in;
  if (tokens > 1 && config.spark.ffn_predictor > 0) {
    split_spark_input(config, in, tokens, leading_, rest_);
    leading = leading_.data();
  }
  linear(rows.gate, leading, tokens, {}, values_.data(), pool);
  return shifted_values(tokens, [&](const float* scores) {
    return statistical_top_k(scores, config.d_ff, config.spark.ffn_active, index_.data(), packed_.data());
  });
}

/// values_ holds scores of neurons. select(scores): which are above a token's threshold, into index_ and packed_. Of
/// one token these stay, f(what is above); of several values_ becomes that, 0 elsewhere. Returns how many one token
/// has.
template <class Select>
std::int64_t SparseFfn::shifted_values(std::int64_t tokens, const Select& select) {
  const ModelConfig& config = model_->config();
  const std::int64_t d_ff = config.d_ff;
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* const values = values_.data() + t * d_ff;
    const std::int64_t active = select(values);
    activate_projections(config, packed_.data(), active);
    if (tokens == 1) return active;
    scatter(index_.data(), packed_.data(), active, values, d_ff);
  }
  return 0;
}

/// The neurons that the predictor names: of one token index_ and packed_, all 1, as list_union() leaves them; of
/// several values_, 1 or 0. Returns how many one token has.
std::int64_t SparseFfn::predict(const LayerPredictor& predictor, float threshold, const float* in, std::int64_t tokens,
                                ThreadPool& pool) {
  const std::int64_t d_ff = model_->config().d_ff;
  predictor.predict(in, tokens, hidden_.data(), values_.data(), pool);
  if (tokens == 1) {
    const std::int64_t active = list_above(values_.data(), d_ff, threshold, index_.data());
    std::fill_n(packed_.begin(), active, 1.0F);
    return active;
  }
  for (std::int64_t i = 0; i < tokens * d_ff; ++i) {
    float& v = values_[static_cast<std::size_t>(i)];
    v = v > threshold ? 1.0F : 0.0F;
  }
  return 0;
}

/// Sets what the layer's rule leaves out to 0 in values_.
void SparseFfn::keep(std::size_t layer, std::int64_t tokens) {
  const std::int64_t d_ff = model_->config().d_ff;
  const TopK* const largest = std::get_if<TopK>(&rules_[layer]);
  for (std::int64_t t = 0; t < tokens; ++t) {
    float* const values = values_.data() + t * d_ff;
    if (largest == nullptr) {
      selectors_[layer]->keep_active({values, static_cast<std::size_t>(d_ff)});
      continue;
    }
    const std::int64_t kept = top_k(values, d_ff, largest->k, index_.data(), packed_.data());
    scatter(index_.data(), packed_.data(), kept, values, d_ff);
  }
}

/// values_ = f(gate . x), or f(up . x) of an ungated layer; what is below the model's own cutoff counts as 0.
void SparseFfn::gate_values(std::size_t layer, const float* in, std::int64_t tokens, ThreadPool& pool) {
  const ModelConfig& config = model_->config();
  const FfnWeights& ffn = model_->layers()[layer].ffn;
  const NeuronMajorLayer& rows = weights_->layers()[layer];
  if (config.gated)
    linear(rows.gate, in, tokens, ffn.gate_bias, values_.data(), pool);
  else
    linear(rows.up, in, tokens, ffn.up_bias, values_.data(), pool);
  cut_gates(config, layer, values_.data(), tokens, pool);
  activate_projections(config, values_.data(), tokens * config.d_ff);
}

/// index_ = the neurons that some token uses, packed_ = the tokens' values of them, [tokens, returned].
std::int64_t SparseFfn::list_union(std::int64_t tokens, SparseLayerCount& count) {
  const std::int64_t d_ff = model_->config().d_ff;
  if (tokens == 1) {
    const std::int64_t active = compact_nonzero(values_.data(), d_ff, index_.data(), packed_.data());
    count.active += active;
    return active;
  }
  std::int64_t listed = 0;
  for (std::int64_t i = 0; i < d_ff; ++i) {
    std::int64_t users = 0;
    for (std::int64_t t = 0; t < tokens; ++t) users += values_[static_cast<std::size_t>(t * d_ff + i)] != 0 ? 1 : 0;
    count.active += users;
    if (users > 0) index_[static_cast<std::size_t>(listed++)] = static_cast<std::int32_t>(i);
  }
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t k = 0; k < listed; ++k)
      packed_[static_cast<std::size_t>(t * listed + k)] =
          values_[static_cast<std::size_t>(t * d_ff + index_[static_cast<std::size_t>(k)])];
  return listed;
}

/// After a selection that lists one token's neurons by itself, as list_union() does: `listed`, or the union of several.
std::int64_t SparseFfn::list_selected(std::int64_t listed, std::int64_t tokens, SparseLayerCount& count) {
  if (tokens > 1) return list_union(tokens, count);
  count.active += listed;
  return listed;
}

/// values_ *= packed_, [tokens, d_ff].
void SparseFfn::multiply_by_packed(std::int64_t tokens, ThreadPool& pool) {
  pool.parallel_for(tokens * model_->config().d_ff, 65536, [&](long begin, long end, int) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) values_[i] *= packed_[i];
  });
}

/// What is read of the active neurons of a layer.
NeuronRows SparseFfn::rows_read(std::size_t layer) const {
  const ModelConfig& config = model_->config();
  const FfnWeights& ffn = model_->layers()[layer].ffn;
  const NeuronMajorLayer& rows = weights_->layers()[layer];
  NeuronRows read{.multiplier = {}, .multiplier_bias = {}, .down = rows.down};
  if (predictor_of(layer) != nullptr) {
    read.gate = config.gated ? rows.gate : rows.up;
    read.gate_bias = config.gated ? ffn.gate_bias : ffn.up_bias;
    read.activation = config.activation;
    read.activation_threshold = config.activation_threshold;
  } else if (!selectors_.empty() && !std::holds_alternative<GaussianTopK>(rules_[layer])) {
    return read;  // a rule about a = f(gate) * up, which is known before anything is left out
  }
  if (config.gated || config.spark.ffn()) {
    read.multiplier = rows.up;
    read.multiplier_bias = ffn.up_bias;
  }
  return read;
}

void SparseFfn::check_finite(int layer, const float* in, std::int64_t tokens) const {
  if (!all_finite(in, tokens * model_->config().d_model))
    throw BadInput(
        "{}: expected finite numbers, found NaN or infinity at the feed-forward layer {}. A weight that is not finite, "
        "or numbers that outgrow f32",
        model_->path().string(), layer);
}

/// values_ is a of the active neurons and 0 elsewhere, but for what `read` would still multiply it with: that, and the
/// down projection, for all neurons. Returns the bytes of weights.
std::int64_t SparseFfn::compute_in_full(const FfnWeights& ffn, const NeuronRows& read, const float* in, const float* x,
                                        std::int64_t tokens, float* out, ThreadPool& pool, Products products) {
  const ModelConfig& config = model_->config();
  if (!read.gate.empty()) {  // values_ says which are predicted
    linear(config.gated ? ffn.gate : ffn.up, in, tokens, read.gate_bias, packed_.data(), pool, products);
    pool.parallel_for(tokens, 1, [&](long begin, long end, int) {
      activate_projections(config, packed_.data() + begin * config.d_ff, (end - begin) * config.d_ff);
    });
    multiply_by_packed(tokens, pool);
  }
  if (!read.multiplier.empty()) {
    linear(ffn.up, x, tokens, ffn.up_bias, packed_.data(), pool, products);
    multiply_by_packed(tokens, pool);
  }
  ffn.project_down(values_.data(), tokens, out, pool, products);
  return read.gate.bytes() + read.multiplier.bytes() + ffn.stored_down().bytes();
}

/// select(values, index, packed): one token's row of values_ to its active neurons and what their activations are so
/// far; returns how many. All lists, and listed_; returns how many in all.
template <class Select>
std::int64_t SparseFfn::list_each(std::int64_t tokens, ThreadPool& pool, const Select& select) {
  const std::int64_t d_ff = model_->config().d_ff;
  listed_.resize(static_cast<std::size_t>(tokens));
  index_.resize(std::max(index_.size(), static_cast<std::size_t>(tokens * d_ff)));
  pool.parallel_for(tokens, 1, [&](long begin, long end, int) {
    for (std::int64_t t = begin; t < end; ++t)
      listed_[static_cast<std::size_t>(t)] =
          select(values_.data() + t * d_ff, index_.data() + t * d_ff, packed_.data() + t * d_ff);
  });
  return std::accumulate(listed_.begin(), listed_.end(), std::int64_t{0});
}

/// values_ = what list_each() listed, 0 elsewhere.
void SparseFfn::scatter_lists(std::int64_t tokens, ThreadPool& pool) {
  const std::int64_t d_ff = model_->config().d_ff;
  pool.parallel_for(tokens, 1, [&](long begin, long end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      scatter(index_.data() + t * d_ff, packed_.data() + t * d_ff, listed_[static_cast<std::size_t>(t)],
              values_.data() + t * d_ff, d_ff);
    }
  });
}

void SparseFfn::forward_many(int layer, const float* in, std::int64_t tokens, float* out, ThreadPool& pool,
                             Products products) {
  const ModelConfig& config = model_->config();
  const auto l = static_cast<std::size_t>(layer);
  const FfnWeights& ffn = model_->layers()[l].ffn;
  const NeuronMajorLayer& rows = weights_->layers()[l];
  const std::int64_t d_ff = config.d_ff;
  check_finite(layer, in, tokens);
  reserve(tokens);
  const NeuronRows read = rows_read(l);
  const float* x = in;
  std::int64_t active;
  const auto shifted = [&](const auto& top_k) {
    return list_each(tokens, pool, [&](const float* scores, std::int32_t* index, float* packed) {
      const std::int64_t n = top_k(scores, index, packed);
      activate_projections(config, packed, n);
      return n;
    });
  };
  const WeightMatrix& first = config.gated ? ffn.gate : ffn.up;
  const std::vector<float>& first_bias = config.gated ? ffn.gate_bias : ffn.up_bias;
  if (const Predictor* const rule = predictor_of(l)) {
    predictors_->layer(layer).predict(in, tokens, hidden_.data(), values_.data(), pool);
    active = list_each(tokens, pool, [&](const float* logits, std::int32_t* index, float* packed) {
      const std::int64_t n = list_above(logits, d_ff, rule->threshold, index);
      std::fill_n(packed, n, 1.0F);
      return n;
    });
  } else if (const GaussianTopK* const gaussian = std::get_if<GaussianTopK>(&rules_[l])) {
    linear(first, in, tokens, first_bias, values_.data(), pool, products);
    active = shifted([&](const float* scores, std::int32_t* index, float* packed) {
      return gaussian_top_k(scores, d_ff, static_cast<double>(gaussian->sparsity), index, packed);
    });
  } else if (config.spark.ffn()) {
    const float* leading = in;
    if (config.spark.ffn_predictor > 0) {
      split_spark_input(config, in, tokens, leading_, rest_);
      leading = leading_.data();
      x = rest_.data();
    }
    linear(rows.gate, leading, tokens, {}, values_.data(), pool, products);
    active = shifted([&](const float* scores, std::int32_t* index, float* packed) {
      return statistical_top_k(scores, d_ff, config.spark.ffn_active, index, packed);
    });
  } else {
    linear(first, in, tokens, first_bias, values_.data(), pool, products);
    cut_gates(config, l, values_.data(), tokens, pool);
    const bool ruled = !selectors_.empty();
    if (ruled && config.gated) linear(ffn.up, in, tokens, ffn.up_bias, packed_.data(), pool, products);
    const TopK* const largest = std::get_if<TopK>(&rules_[l]);
    active = list_each(tokens, pool, [&](float* values, std::int32_t* index, float* packed) {
      activate_projections(config, values, d_ff);
      if (ruled && config.gated)
        for (std::int64_t i = 0; i < d_ff; ++i) values[i] *= packed[i];
      if (ruled && largest != nullptr) return top_k(values, d_ff, largest->k, index, packed);
      if (ruled) selectors_[l]->keep_active({values, static_cast<std::size_t>(d_ff)});
      return compact_nonzero(values, d_ff, index, packed);
    });
  }
  masked_[l].tokens += tokens;
  masked_[l].active += active;
  const double limit = many_tokens_limit_ ? *many_tokens_limit_ : many_tokens_pay_below(ffn.up.format, products);
  if (static_cast<double>(active) > limit * static_cast<double>(tokens * d_ff)) {
    scatter_lists(tokens, pool);
    compute_in_full(ffn, read, in, x, tokens, out, pool, products);
    return;
  }
  sparse_ffn(read, {listed_, d_ff, index_.data()}, packed_.data(), x, out, pool);
  add_down_bias(ffn, tokens, out);
}

void SparseFfn::forward(int layer, const float* in, std::int64_t tokens, float* out, ThreadPool& pool,
                        Products products) {
  if (tokens < 1) throw InvalidArgument("[SparseFfn::forward] expected at least 1 token, got {}", tokens);
  if (tokens > union_up_to_) return forward_many(layer, in, tokens, out, pool, products);
  const ModelConfig& config = model_->config();
  const auto l = static_cast<std::size_t>(layer);
  const FfnWeights& ffn = model_->layers()[l].ffn;
  const NeuronMajorLayer& rows = weights_->layers()[l];
  check_finite(layer, in, tokens);
  reserve(tokens);
  SparseLayerCount& count = counts_[l];
  count.tokens += tokens;
  const std::int64_t active_before = count.active;
  const std::int64_t d_ff = config.d_ff;
  const NeuronRows read = rows_read(l);
  const float* x = in;
  std::int64_t listed;
  if (const Predictor* const rule = predictor_of(l)) {
    const LayerPredictor& predictor = predictors_->layer(layer);
    listed = predict(predictor, rule->threshold, in, tokens, pool);
    count.bytes += predictor.bytes();
    listed = list_selected(listed, tokens, count);
  } else if (const GaussianTopK* const gaussian = std::get_if<GaussianTopK>(&rules_[l])) {
    const WeightMatrix& first = config.gated ? rows.gate : rows.up;
    linear(first, in, tokens, config.gated ? ffn.gate_bias : ffn.up_bias, values_.data(), pool);
    listed = shifted_values(tokens, [&](const float* scores) {
      return gaussian_top_k(scores, d_ff, static_cast<double>(gaussian->sparsity), index_.data(), packed_.data());
    });
    count.bytes += first.bytes();
    listed = list_selected(listed, tokens, count);
  } else if (config.spark.ffn()) {
    listed = spark_values(rows, in, tokens, pool);
    x = tokens > 1 && config.spark.ffn_predictor > 0 ? rest_.data() : in + config.spark.ffn_predictor;
    count.bytes += rows.gate.bytes();
    listed = list_selected(listed, tokens, count);
  } else {
    gate_values(l, in, tokens, pool);
    count.bytes += (config.gated ? rows.gate : rows.up).bytes();
    if (config.gated && !selectors_.empty()) {
      // The rule is about a = f(gate) * up: all of `up` where most gates are open, else the rows that are.
      const std::int64_t open =
          tokens == 1 ? compact_nonzero(values_.data(), d_ff, index_.data(), packed_.data()) : d_ff;
      if (open * 2 > d_ff) {
        linear(ffn.up, in, tokens, ffn.up_bias, packed_.data(), pool);
        multiply_by_packed(tokens, pool);
        count.bytes += rows.up.bytes();
      } else {
        const auto some = static_cast<std::size_t>(open);
        dot_rows(rows.up, {index_.data(), some}, in, ffn.up_bias, packed_.data(), pool);
        for (std::size_t k = 0; k < some; ++k) values_[static_cast<std::size_t>(index_[k])] *= packed_[k];
        count.bytes += open * rows.up.row_bytes();
      }
    }
    if (!selectors_.empty()) keep(l, tokens);
    listed = list_union(tokens, count);
  }
  count.calls += 1;
  count.united += listed;
  const auto used = static_cast<double>(count.active - active_before);
  if (tokens > 1 && used > density_limit_ * static_cast<double>(tokens * d_ff)) {
    count.bytes += compute_in_full(ffn, read, in, x, tokens, out, pool, Products::exact);
    return;
  }
  for (const WeightMatrix* w : {&read.gate, &read.multiplier, &read.down})
    if (!w->empty()) count.bytes += listed * w->row_bytes();
  sparse_ffn(read, {index_.data(), static_cast<std::size_t>(listed)}, packed_.data(), x, tokens, out, scratch_, pool);
  add_down_bias(ffn, tokens, out);
}

void SparseFfn::shift_gates(int layer, float* gates, std::int64_t rows, ThreadPool& pool) {
  const auto l = static_cast<std::size_t>(layer);
  const GaussianTopK* const rule = std::get_if<GaussianTopK>(&rules_[l]);
  const float sparsity = rule != nullptr ? rule->sparsity : own_sparsity(l);
  if (sparsity <= 0) return;
  const std::int64_t kept = gaussian_shift(gates, rows, model_->config().d_ff, static_cast<double>(sparsity), pool);
  if (rule == nullptr) return;  // mask() counts what the plan's rule keeps of them
  masked_[l].tokens += rows;
  masked_[l].active += kept;
}

void SparseFfn::mask(int layer, const float* in, float* values, std::int64_t rows, ThreadPool& pool) {
  if (selectors_.empty()) return;
  const auto l = static_cast<std::size_t>(layer);
  if (std::holds_alternative<GaussianTopK>(rules_[l])) return;  // shift_gates() did
  const std::int64_t d_ff = model_->config().d_ff;
  std::atomic<std::int64_t> active{0};
  if (const Predictor* const rule = predictor_of(l)) {
    const LayerPredictor& predictor = predictors_->layer(layer);
    for (std::int64_t from = 0; from < rows; from += kMostTokens) {  // in pieces: logits of a few tokens at once
      const std::int64_t tokens = std::min(kMostTokens, rows - from);
      reserve(tokens);
      predictor.predict(in + from * model_->config().d_model, tokens, hidden_.data(), values_.data(), pool);
      std::int64_t kept = 0;
      for (std::int64_t i = 0; i < tokens * d_ff; ++i) {
        const bool predicted = values_[static_cast<std::size_t>(i)] > rule->threshold;
        kept += predicted ? 1 : 0;
        if (!predicted) values[from * d_ff + i] = 0;
      }
      active += kept;
    }
  } else {
    const RowSelector& selector = *selectors_[l];
    const auto job = [&](long begin, long end, int) {
      std::int64_t kept = 0;
      for (long r = begin; r < end; ++r)
        kept += selector.keep_active({values + r * d_ff, static_cast<std::size_t>(d_ff)});
      active.fetch_add(kept, std::memory_order_relaxed);
    };
    pool.parallel_for(rows, 8, std::ref(job));
  }
  masked_[l].tokens += rows;
  masked_[l].active += active.load();
}

double SparseFfn::mean_share(std::span<const SparseLayerCount> counts, std::int64_t SparseLayerCount::*neurons,
                             std::int64_t SparseLayerCount::*times) const {
  double sum = 0;
  int layers = 0;
  for (const SparseLayerCount& count : counts) {
    if (count.*times == 0) continue;
    sum += static_cast<double>(count.*neurons) / (static_cast<double>(count.*times) * model_->config().d_ff);
    ++layers;
  }
  return layers == 0 ? 0 : sum / layers;
}

double SparseFfn::density() const {
  return mean_share(counts_, &SparseLayerCount::active, &SparseLayerCount::tokens);
}

double SparseFfn::united() const {
  return mean_share(counts_, &SparseLayerCount::united, &SparseLayerCount::calls);
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
