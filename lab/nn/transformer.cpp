#include "lab/nn/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/tensor/safetensors.h"
#include "engine/decode/rope.h"
#include "engine/models/config_huggingface.h"
#include "engine/models/model_files.h"
#include "lab/nn/rms_norm.h"
#include "lab/nn/spark_activations.h"
#include "lab/nn/spark_attention.h"
#include "lab/nn/tensor_views.h"

namespace torpor::lab {
namespace {

const ModelConfig& checked(const ModelConfig& config) {
  check_config(config, "the network's config");
  if (!config.rope_frequency_divisors.empty())
    throw BadInput("the network's config: expected no rope divisors (rope_freqs of a GGUF file), found {}",
                   config.rope_frequency_divisors.size());
  if (config.altup.any())
    throw BadInput(
        "the network's config: expected one residual stream, found {}: models of type {} are run, not trained",
        config.altup.inputs, config.model_type);
  return config;
}

at::Tensor activation_of(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
    case Activation::relu2:
      return at::relu(x).square();
  }
  throw InvalidArgument("[Transformer] expected an Activation, got the value {}", static_cast<int>(activation));
}

at::Tensor capped(const at::Tensor& x, float cap) {
  return cap > 0 ? at::tanh(x / cap) * cap : x;
}

bool is_vector(const TensorRule& rule) {
  return rule.in == Dimension::none;
}

}  // namespace

namespace {

/// MKL's vector functions choose their code at their first call, and where several threads make it at once, one of them
/// may get a version of half the digits (tanh: logits off by 4e-4, once in 50 starts of a busy machine). So one thread
/// calls them before.
void settle_vector_functions() {
  static const bool done = [] {
    const at::Tensor one = torch::ones(1);
    for (const auto function : {at::tanh, at::exp, at::log, at::erf, at::sin, at::cos}) function(one);
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace

TransformerImpl::TransformerImpl(const ModelConfig& config, const Architecture& architecture)
    : config_(checked(config)), architecture_(architecture) {
  settle_vector_functions();
  for (const TensorRule& rule : architecture_.tensors) {
    if (rule.huggingface.empty() || (rule.weight != nullptr && !rule.weight(config_))) continue;
    for (const int layer : numbers_of(rule, rule.huggingface, config_)) add_parameters(rule, layer);
  }
}

TransformerImpl::TransformerImpl(const ModelConfig& config, std::uint64_t seed)
    : TransformerImpl(config, architecture_of(config.model_type, "the network's config")) {
  initialise(seed);
}

void TransformerImpl::add_parameters(const TensorRule& rule, int layer) {
  const auto [weight_name, bias_name] = names_of(rule, false, architecture_.prefixes.front(), layer);
  const std::int64_t out = size_of(rule.out, config_);
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape, bool transposed) {
    std::string key = name;
    std::replace(key.begin(), key.end(), '.', '/');  // a Module's names have no dots
    at::Tensor parameter = register_parameter(key, torch::zeros(shape));
    named_.emplace_back(name, parameter);
    transposed_.push_back(transposed);
    return parameter;
  };
  Affine affine;
  if (is_vector(rule))
    affine.weight = add(weight_name, {out}, false);
  else
    affine.weight = add(weight_name, {out, size_of(rule.in, config_)}, rule.transposed);
  if (rule.bias != nullptr && rule.bias(config_)) affine.bias = add(bias_name, {out}, false);
  parts_.emplace(std::pair(rule.part, layer), std::move(affine));
}

void TransformerImpl::initialise(std::uint64_t seed) {
  const at::NoGradGuard no_gradient;
  auto generator = at::detail::createCPUGenerator(seed);
  for (const auto& [place, affine] : parts_) {
    at::Tensor weight = affine.weight;
    if (weight.dim() == 1) {
      weight.fill_(1 - config_.norm_weight_offset);
      continue;
    }
    double deviation = 1 / std::sqrt(static_cast<double>(weight.size(1)));
    if (place.first == Part::token_embedding && !config_.tied_embeddings && config_.embedding_scale == 1)
      deviation = 0.02;
    if (place.first == Part::position_embedding) deviation = 0.02;
    if (place.first == Part::attention_output || place.first == Part::down)
      deviation /= std::sqrt(2.0 * config_.n_layers);
    weight.normal_(0, deviation, generator);
  }
}

std::shared_ptr<TransformerImpl> TransformerImpl::load(const std::filesystem::path& path,
                                                       const std::string& activation_override) {
  ModelFiles files = open_model_files(path, activation_override);
  if (files.format == ModelFormat::packed)
    throw BadInput("{}: expected a model to train, found a packed one, which only the engine reads. Name its source",
                   path.string());
  const std::vector<BoundTensor> bound = bind_tensors(files);  // may change the config
  if (files.format == ModelFormat::huggingface && files.config.embedding_scale != 1)
    for (const BoundTensor& tensor : bound)
      if (tensor.rule->part == Part::token_embedding)
        files.config.embedding_scale = embedding_scale_as_stored(files.config.embedding_scale, tensor.weight->format);
  std::shared_ptr<TransformerImpl> model(
      new TransformerImpl(files.config, architecture_of(files.config.model_type, files.config_where)));
  const at::NoGradGuard no_gradient;
  const auto copy = [&](const TensorView& from, const at::Tensor& to, bool transposed) {
    const at::Tensor source = tensor_of(from, files.archive.where());
    to.copy_(transposed ? source.t() : source);
  };
  for (const BoundTensor& tensor : bound) {
    const auto place = model->parts_.find({tensor.rule->part, tensor.number});
    if (place == model->parts_.end()) continue;  // a second copy of a tied embedding, rope divisors
    copy(*tensor.weight, place->second.weight, tensor.transposed);
    if (tensor.bias != nullptr) copy(*tensor.bias, place->second.bias, false);
  }
  return model;
}

void TransformerImpl::save(const std::filesystem::path& folder, at::ScalarType type) const {
  NumberFormat format = NumberFormat::f32;
  if (type == at::kBFloat16)
    format = NumberFormat::bf16;
  else if (type == at::kHalf)
    format = NumberFormat::f16;
  else if (type != at::kFloat)
    throw InvalidArgument("[Transformer::save] expected f32, bf16 or f16, got {}", c10::toString(type));
  ModelConfig written = config_;
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(written.d_model)));
  if (written.embedding_scale != 1 && written.embedding_scale == embedding_scale_as_stored(scale, format))
    written.embedding_scale = scale;  // rounded again by whoever reads the folder
  const Json json = write_huggingface_config(written, traits(format).name);
  std::vector<at::Tensor> kept;
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < named_.size(); ++i) {
    const auto& [name, parameter] = named_[i];
    const at::Tensor& tensor =
        kept.emplace_back((transposed_[i] ? parameter.detach().t() : parameter.detach()).to(type).contiguous());
    views.push_back(view_of(name, tensor));
  }
  write_safetensors_folder(folder, views, {{"format", "pt"}});
  write_file_atomically(folder / "config.json", json.dump(2) + "\n");
}

at::Tensor TransformerImpl::linear(Part part, int layer, const at::Tensor& x) const {
  const Affine& affine = at_part(part, layer);
  return affine.bias.defined() ? at::linear(x, affine.weight, affine.bias) : at::linear(x, affine.weight);
}

at::Tensor TransformerImpl::normalise(Part part, int layer, const at::Tensor& x) const {
  if (!has(part, layer)) return at::layer_norm(x, {x.size(-1)}, {}, {}, config_.norm_eps);  // no affine part
  const Affine& affine = at_part(part, layer);
  if (config_.norm == Norm::rms) return rms_norm(x, affine.weight, config_.norm_weight_offset, config_.norm_eps);
  const at::Tensor weight =
      config_.norm_weight_offset == 0 ? affine.weight : affine.weight + config_.norm_weight_offset;
  return at::layer_norm(x, {x.size(-1)}, weight, affine.bias, config_.norm_eps);
}

void TransformerImpl::reserve_angles(std::int64_t positions) {
  const std::vector<float> frequencies = rope_frequencies(config_);
  if (frequencies.empty() || (cosines_.defined() && cosines_.size(0) >= positions)) return;
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  std::vector<std::int64_t> places(static_cast<std::size_t>(positions));
  std::iota(places.begin(), places.end(), 0);
  cosines_ = torch::empty({positions, pairs});
  sines_ = torch::empty({positions, pairs});
  rope_angles(frequencies, places, cosines_.mutable_data_ptr<float>(), sines_.mutable_data_ptr<float>());
}

/// heads: [sequences, heads, positions, head_dim]
at::Tensor TransformerImpl::rotate(const at::Tensor& heads) const {
  if (!cosines_.defined()) return heads;
  const std::int64_t positions = heads.size(2), pairs = cosines_.size(1), turned = 2 * pairs;
  const at::Tensor cosine = cosines_.narrow(0, 0, positions), sine = sines_.narrow(0, 0, positions);
  const auto turn = [&](std::int64_t from, std::int64_t size) {  // pairs (i, i + size / 2) of a part of the head
    const std::int64_t half = size / 2;
    const at::Tensor c = cosine.narrow(1, from / 2, half), s = sine.narrow(1, from / 2, half);
    const at::Tensor a = heads.narrow(3, from, half), b = heads.narrow(3, from + half, half);
    return at::cat({a * c - b * s, b * c + a * s}, 3);
  };
  at::Tensor out;
  if (const std::int64_t r = config_.spark.attention_predictor; r > 0) {  // turned apart, each with its own frequencies
    out = at::cat({turn(0, r), turn(r, turned - r)}, 3);
  } else if (config_.rope_interleaved) {
    const at::Tensor a = heads.slice(3, 0, turned, 2), b = heads.slice(3, 1, turned, 2);
    out = at::stack({a * cosine - b * sine, b * cosine + a * sine}, -1).flatten(3);
  } else {
    out = turn(0, turned);
  }
  if (turned == heads.size(3)) return out;
  return at::cat({out, heads.narrow(3, turned, heads.size(3) - turned)}, 3);
}

/// [positions, positions] bool: query i sees key j.
at::Tensor TransformerImpl::visible_keys(std::int64_t positions, int window) const {
  const at::Tensor causal = at::ones({positions, positions}, at::kBool).tril();
  return window > 0 && window < positions ? causal.triu(1 - window) : causal;
}

at::Tensor TransformerImpl::attend(int layer, const at::Tensor& x) const {
  const std::int64_t sequences = x.size(0), positions = x.size(1);
  const auto split = [&](const at::Tensor& rows, int heads) {
    return rows.view({sequences, positions, heads, config_.head_dim}).transpose(1, 2);
  };
  at::Tensor q, k, v;
  if (has(Part::query_key_value, layer)) {
    const auto parts = linear(Part::query_key_value, layer, x)
                           .split_with_sizes({config_.query_width(), config_.kv_width(), config_.kv_width()}, -1);
    q = split(parts[0].contiguous(), config_.n_heads);
    k = split(parts[1].contiguous(), config_.n_kv_heads);
    v = split(parts[2].contiguous(), config_.n_kv_heads);
  } else {
    q = split(linear(Part::query, layer, x), config_.n_heads);
    k = split(linear(Part::key, layer, x), config_.n_kv_heads);
    v = split(linear(Part::value, layer, x), config_.n_kv_heads);
  }
  q = rotate(q);
  k = rotate(k);
  const double scale =
      static_cast<double>(config_.attention_scale) / (config_.attention_scale_by_layer ? layer + 1 : 1);
  const int window = config_.windows[static_cast<std::size_t>(layer)];
  if (const int group = config_.n_heads / config_.n_kv_heads; group > 1 && !config_.spark.attention()) {
    k = k.repeat_interleave(group, 1);
    v = v.repeat_interleave(group, 1);
  }
  at::Tensor out;
  if (config_.spark.attention()) {
    out = spark_attention(q, k, v,
                          {.predictor = config_.spark.attention_predictor,
                           .active = config_.spark.attention_active,
                           .window = window,
                           .scale = scale},
                          attention_counts_);
  } else if (config_.attention_soft_cap == 0) {
    const bool all = window == 0 || window >= positions;
    out = at::scaled_dot_product_attention(q, k, v, all ? std::optional<at::Tensor>() : visible_keys(positions, window),
                                           0, all, scale);
  } else {
    const at::Tensor scores = capped(at::matmul(q, k.transpose(2, 3)) * scale, config_.attention_soft_cap);
    const at::Tensor hidden = visible_keys(positions, window).logical_not();
    out = at::matmul(at::softmax(scores.masked_fill(hidden, -std::numeric_limits<float>::infinity()), -1), v);
  }
  return linear(Part::attention_output, layer,
                out.transpose(1, 2).reshape({sequences, positions, config_.query_width()}));
}

at::Tensor TransformerImpl::feed_forward(int layer, const at::Tensor& x) const {
  if (ffn_input_hook_) ffn_input_hook_(layer, x);
  if (config_.spark.ffn()) {
    const std::int64_t r = config_.spark.ffn_predictor, d = config_.d_model;
    const at::Tensor scores = linear(Part::gate, layer, r > 0 ? x.narrow(-1, 0, r) : x);
    at::Tensor a =
        spark_activations(config_.activation, scores, linear(Part::up, layer, r > 0 ? x.narrow(-1, r, d - r) : x),
                          config_.spark.ffn_active);
    if (hook_) a = hook_(layer, a);
    return linear(Part::down, layer, a);
  }
  at::Tensor a = linear(config_.gated ? Part::gate : Part::up, layer, x);
  if (config_.activation_threshold > 0) a = a.masked_fill(a < config_.activation_threshold, 0);  // FATReLU
  a = activation_of(config_.activation, a);
  if (config_.gated) a = a * linear(Part::up, layer, x);
  if (hook_) a = hook_(layer, a);
  return linear(Part::down, layer, a);
}

at::Tensor TransformerImpl::forward(const at::Tensor& tokens) {
  if (!tokens.defined() || tokens.dim() != 2 || tokens.scalar_type() != at::kLong || tokens.size(1) < 1)
    throw InvalidArgument("[Transformer::forward] expected tokens [sequences, positions] as int64");
  const std::int64_t positions = tokens.size(1);
  if (positions > config_.context_length)
    throw InvalidArgument("[Transformer::forward] expected at most {} positions, got {}", config_.context_length,
                          positions);
  reserve_angles(positions);
  at::Tensor x = at::embedding(at_part(Part::token_embedding).weight, tokens);
  if (config_.embedding_scale != 1) x = x * config_.embedding_scale;
  if (has(Part::embedding_in)) x = linear(Part::embedding_in, -1, x);
  if (config_.positions == Positions::learned)
    x = x + at_part(Part::position_embedding).weight.narrow(0, config_.position_offset, positions);

  for (int layer = 0; layer < config_.n_layers; ++layer) {
    if (config_.norm_first) {
      at::Tensor update = attend(layer, normalise(Part::attention_norm, layer, x));
      if (config_.norm_after) update = normalise(Part::post_attention_norm, layer, update);
      x = x + update;
      update = feed_forward(layer, normalise(Part::ffn_norm, layer, x));
      if (config_.norm_after) update = normalise(Part::post_ffn_norm, layer, update);
      x = x + update;
    } else {
      x = normalise(Part::attention_norm, layer, x + attend(layer, x));
      x = normalise(Part::ffn_norm, layer, x + feed_forward(layer, x));
    }
  }
  if (config_.final_norm) x = normalise(Part::final_norm, -1, x);
  if (has(Part::embedding_out)) x = linear(Part::embedding_out, -1, x);
  const at::Tensor logits =
      has(Part::unembedding) ? linear(Part::unembedding, -1, x) : at::linear(x, at_part(Part::token_embedding).weight);
  return capped(logits, config_.logit_soft_cap);
}

std::vector<NeuronLayerTensors> TransformerImpl::neuron_layers() const {
  std::vector<NeuronLayerTensors> layers;
  for (int layer = 0; layer < config_.n_layers; ++layer) {
    NeuronLayerTensors out;
    out.layer = layer;
    for (const Part part : {Part::gate, Part::up}) {
      if (!has(part, layer)) continue;
      const Affine& affine = at_part(part, layer);
      out.incoming.push_back(affine.weight);
      if (affine.bias.defined()) out.bias.push_back(affine.bias);
    }
    out.outgoing = at_part(Part::down, layer).weight;
    for (const TensorRule& rule : architecture_.tensors)
      if (rule.part == Part::down) {
        const std::string stem = expand(rule.huggingface, architecture_.prefixes.front(), layer);
        out.name = stem.substr(0, stem.rfind('.'));
      }
    layers.push_back(std::move(out));
  }
  return layers;
}

}  // namespace torpor::lab
