#include "engine/bench/llama_cpp.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "core/base/process.h"
#include "core/tensor/gguf_write.h"
#include "engine/decode/rope.h"
#include "engine/kernels/interleaved.h"
#include "engine/models/architecture.h"

namespace torpor {
namespace {

/// A matrix or a vector of the model, and its bias.
struct Stored {
  const WeightMatrix* matrix = nullptr;
  const std::vector<float>* vector = nullptr;
  const std::vector<float>* bias = nullptr;
};

Stored stored(const Model& model, Part part, int layer) {
  const auto norm = [](const NormWeights& w) {
    return Stored{.matrix = nullptr, .vector = &w.weight, .bias = &w.bias};
  };
  if (part == Part::token_embedding) return {&model.token_embedding(), nullptr, nullptr};
  if (part == Part::unembedding) return {&model.unembedding(), nullptr, nullptr};
  if (part == Part::final_norm) return norm(model.final_norm());
  if (part == Part::layer_embedding) return {&model.altup().layer_embedding, nullptr, nullptr};
  if (part == Part::layer_input_projection) return {&model.altup().layer_input_projection, nullptr, nullptr};
  if (part == Part::layer_input_norm) return norm(model.altup().layer_input_norm);
  if (layer < 0) return {};
  const LayerWeights& weights = model.layers()[static_cast<std::size_t>(layer)];
  const AttentionWeights& attention = weights.attention;
  const FfnWeights& ffn = weights.ffn;
  const AltUpLayerWeights& altup = weights.altup;
  switch (part) {
    case Part::attention_norm:
      return norm(weights.attention_norm);
    case Part::post_attention_norm:
      return norm(weights.post_attention_norm);
    case Part::ffn_norm:
      return norm(weights.ffn_norm);
    case Part::post_ffn_norm:
      return norm(weights.post_ffn_norm);
    case Part::query:
      return {&attention.query, nullptr, &attention.query_bias};
    case Part::key:
      return {&attention.key, nullptr, &attention.key_bias};
    case Part::value:
      return {&attention.value, nullptr, &attention.value_bias};
    case Part::attention_output:
      return {&attention.output, nullptr, &attention.output_bias};
    case Part::gate:
      return {&ffn.gate, nullptr, &ffn.gate_bias};
    case Part::up:
      return {&ffn.up, nullptr, &ffn.up_bias};
    case Part::down:
      return {&ffn.down, nullptr, &ffn.down_bias};
    case Part::query_norm:
      return norm(attention.query_norm);
    case Part::key_norm:
      return norm(attention.key_norm);
    case Part::router_norm:
      return norm(altup.router_norm);
    case Part::router:
      return {&altup.router, nullptr, nullptr};
    case Part::predict_coefs:
      return {&altup.predict_coefs, nullptr, nullptr};
    case Part::correct_coefs:
      return {&altup.correct_coefs, nullptr, nullptr};
    case Part::correct_scale:
      return {nullptr, &altup.correct_scale, nullptr};
    case Part::laurel_left:
      return {&altup.laurel_left, nullptr, nullptr};
    case Part::laurel_right:
      return {&altup.laurel_right, nullptr, nullptr};
    case Part::laurel_norm:
      return norm(altup.laurel_norm);
    case Part::input_gate:
      return {&altup.input_gate, nullptr, nullptr};
    case Part::input_projection:
      return {&altup.input_projection, nullptr, nullptr};
    case Part::input_norm:
      return norm(altup.input_norm);
    default:
      return {};
  }
}

/// Collects tensors with the copies that they need.
class Export {
 public:
  explicit Export(const Model& model) : model_(model), config_(model.config()) {}

  GgufWriter make() {
    add_metadata();
    const Architecture& architecture = architecture_of(config_.model_type, model_.path().string());
    for (const TensorRule& rule : architecture.tensors) {
      const bool wanted = rule.weight == nullptr || rule.weight(config_);
      if (rule.gguf.empty() || !wanted) continue;
      for (const int number : numbers_of(rule, rule.gguf, config_)) add(rule, number);
    }
    add_rope_divisors();
    return std::move(writer_);
  }

 private:
  void add_metadata() {
    const std::string name(architecture_of(config_.model_type, model_.path().string()).gguf);
    const auto size = [&](const char* key, int value) {
      writer_.add(name + "." + key, static_cast<std::uint32_t>(value));
    };
    const auto number = [&](const char* key, float value) { writer_.add(name + "." + key, value); };
    writer_.add("general.architecture", name);
    writer_.add("general.name", model_.path().filename().string());
    size("block_count", config_.n_layers);
    size("context_length", config_.context_length);
    size("embedding_length", config_.d_model);
    size("feed_forward_length", config_.d_ff);
    size("attention.head_count", config_.n_heads);
    size("attention.head_count_kv", config_.n_kv_heads);
    size("attention.key_length", config_.head_dim);
    size("attention.value_length", config_.head_dim);
    size("vocab_size", config_.vocab_size);
    size("rope.dimension_count", config_.rope_dims);
    number("rope.freq_base", config_.rope_theta);
    if (config_.rope_scaling == RopeScaling::linear) {
      writer_.add(name + ".rope.scaling.type", "linear");
      number("rope.scaling.factor", config_.rope_factor);
    }
    number(config_.norm == Norm::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
           config_.norm_eps);
    if (config_.attention_soft_cap > 0) number("attn_logit_softcapping", config_.attention_soft_cap);
    if (config_.logit_soft_cap > 0) number("final_logit_softcapping", config_.logit_soft_cap);
    if (const int window = *std::max_element(config_.windows.begin(), config_.windows.end()); window > 0)
      size("attention.sliding_window", window);
    if (config_.altup.any()) add_altup(name);
    writer_.add("tokenizer.ggml.model", "no_vocab");
  }

  void add_altup(const std::string& name) {
    const auto size = [&](const char* key, int value) {
      writer_.add(name + "." + key, static_cast<std::uint32_t>(value));
    };
    size("altup.num_inputs", config_.altup.inputs);
    size("altup.active_idx", config_.altup.active);
    size("embedding_length_per_layer_input", config_.altup.layer_input);
    size("attention.shared_kv_layers", config_.shared_cache_layers);
    writer_.add(name + ".rope.freq_base_swa", config_.rope_local_theta);
    std::vector<float> scales;  // standard deviations above the mean
    for (const float sparsity : config_.gate_sparsity)
      scales.push_back(sparsity > 0 ? static_cast<float>(normal_quantile(static_cast<double>(sparsity)))
                                    : -std::numeric_limits<float>::infinity());
    writer_.add(name + ".activation_sparsity_scale", scales);
    std::vector<bool> local;
    for (const int window : config_.windows) local.push_back(window > 0);
    writer_.add(name + ".attention.sliding_window_pattern", local);
  }

  /// Where row `row` of a query or key projection comes from: llama.cpp turns neighbours (2i, 2i + 1) of a llama, other
  /// files the two halves of a head.
  std::int64_t source_of(Part part, std::int64_t row) const {
    const bool turned = (part == Part::query || part == Part::key) && !config_.rope_interleaved &&
                        (config_.model_type == "llama" || config_.model_type == "arcee");
    if (!turned) return row;
    const std::int64_t head = row / config_.head_dim * config_.head_dim, at = row % config_.head_dim;
    return head + (at % 2) * (config_.head_dim / 2) + at / 2;
  }

  void add(const TensorRule& rule, int layer) {
    const auto [name, bias_name] = names_of(rule, true, {}, layer);
    if (rule.stacked)
      return add_stack(name, rule.part == Part::stream_in ? model_.altup().stream_in : model_.altup().stream_out);
    const Stored from = stored(model_, rule.part, layer);
    if (from.vector != nullptr && !from.vector->empty()) {
      std::vector<float>& values = vectors_.emplace_back(*from.vector);
      for (float& v : values) v += config_.norm_weight_offset;
      add_vector(name, values);
    } else if (from.matrix != nullptr && !from.matrix->empty()) {
      add_matrix(rule.part, name, *from.matrix);
    } else if (rule.in_layer != nullptr && !rule.in_layer(config_, layer)) {
      add_zeros(rule, name);
    } else {
      return;
    }
    if (from.bias == nullptr || from.bias->empty()) return;
    std::vector<float>& bias = vectors_.emplace_back(from.bias->size());
    for (std::size_t i = 0; i < bias.size(); ++i)
      bias[i] = (*from.bias)[static_cast<std::size_t>(source_of(rule.part, static_cast<std::int64_t>(i)))];
    add_vector(bias_name, bias);
  }

  /// What no layer reads and llama.cpp wants all the same.
  void add_zeros(const TensorRule& rule, const std::string& name) {
    const std::int64_t out = size_of(rule.out, config_), in = size_of(rule.in, config_);
    if (rule.in == Dimension::none) return add_vector(name, vectors_.emplace_back(static_cast<std::size_t>(out)));
    const NumberFormat format = model_.layers().front().attention.key.format;
    const auto& zeros = matrices_.emplace_back(static_cast<std::size_t>(out) * bytes_of(format, in));
    writer_.add_tensor({name, format, {out, in}, zeros});
  }

  /// Matrices of one shape as one tensor.
  void add_stack(const std::string& name, const std::vector<WeightMatrix>& all) {
    std::vector<std::byte>& rows = matrices_.emplace_back();
    for (const WeightMatrix& w : all) {
      const auto plain = plain_rows(w, [](std::int64_t row) { return row; });
      rows.insert(rows.end(), plain.begin(), plain.end());
    }
    const WeightMatrix& first = all.front();
    writer_.add_tensor({name, first.format, {std::ssize(all), first.out, first.in}, rows});
  }

  /// Row source(r) of w for each r, its blocks as GGUF has them.
  template <class Source>
  static std::vector<std::byte> plain_rows(const WeightMatrix& w, const Source& source) {
    const auto row_bytes = static_cast<std::size_t>(w.row_bytes());
    std::vector<std::byte> rows(static_cast<std::size_t>(w.bytes()));
    for (std::int64_t r = 0; r < w.out; ++r) {
      std::byte* const to = rows.data() + static_cast<std::size_t>(r) * row_bytes;
      if (w.interleaved)
        plain_row(w.format, w.in, w.row(source(r)), to);
      else
        std::memcpy(to, w.row(source(r)), row_bytes);
    }
    return rows;
  }

  void add_vector(const std::string& name, const std::vector<float>& values) {
    writer_.add_tensor({name, NumberFormat::f32, {std::ssize(values)}, std::as_bytes(std::span(values))});
  }

  void add_matrix(Part part, const std::string& name, const WeightMatrix& w) {
    std::span<const std::byte> bytes(w.data, static_cast<std::size_t>(w.bytes()));
    if (source_of(part, 1) != 1 || w.interleaved)
      bytes = matrices_.emplace_back(plain_rows(w, [&](std::int64_t row) { return source_of(part, row); }));
    writer_.add_tensor({name, w.format, {w.out, w.in}, bytes});
  }

  /// What divides the frequencies of plain rotation: Llama 3's scaling, and what a GGUF file had.
  void add_rope_divisors() {
    if (config_.rope_scaling != RopeScaling::llama3 && config_.rope_frequency_divisors.empty()) return;
    const std::vector<float> frequencies = rope_frequencies(config_);
    std::vector<float>& divisors = vectors_.emplace_back(frequencies.size());
    for (std::size_t i = 0; i < divisors.size(); ++i)
      divisors[i] = static_cast<float>(
          std::pow(static_cast<double>(config_.rope_theta), -2.0 * static_cast<double>(i) / config_.rope_dims) /
          static_cast<double>(frequencies[i]));
    add_vector("rope_freqs.weight", divisors);
  }

  const Model& model_;
  const ModelConfig& config_;
  GgufWriter writer_;
  std::deque<std::vector<float>> vectors_;  // where they are they stay: the writer has views
  std::deque<std::vector<std::byte>> matrices_;

 public:
  Export(const Export&) = delete;
  Export& operator=(const Export&) = delete;
};

/// What has no form in GGUF as llama.cpp reads it.
std::string why_not_written(const ModelConfig& config) {
  if (config.spark.ffn() || config.spark.attention()) return "llama.cpp has no Spark models";
  const std::string_view type = config.model_type;
  if (type != "llama" && type != "arcee" && type != "nemotron" && type != "gemma2" && type != "gemma3n_text")
    return fmt::format(
        "models of type {} are not written for llama.cpp (llama, arcee, nemotron, gemma2 and gemma3n_text are)", type);
  if (type == "llama" && !config.gated) return "llama.cpp has no llama without a gate";
  if ((type == "arcee" || type == "nemotron") && config.activation != Activation::relu2)
    return fmt::format("llama.cpp has no {} with {}", type, name_of(config.activation));
  return {};
}

}  // namespace

std::string why_not_in_llama_cpp(const ModelConfig& config) {
  if (config.altup.any()) {  // built into llama.cpp, whatever a file says
    bool same = config.altup.inputs == 4 && config.cache_layers() == 20 && config.altup.correct_scale;
    for (int layer = 0; layer < config.n_layers; ++layer)
      same = same && config.gate_sparsity_of(layer) == (layer < 10 ? 0.95F : 0.F);
    if (!same)
      return "llama.cpp has Gemma 3n with 4 streams, 10 sparse layers of 95 % and 20 layers with keys of their own "
             "alone";
  }
  return why_not_written(config);
}

void write_gguf(const Model& model, const std::filesystem::path& path,
                const std::function<void(std::int64_t)>& progress) {
  if (const std::string reason = why_not_written(model.config()); !reason.empty())
    throw InvalidArgument("[write_gguf] {}", reason);
  if (model.layers().front().ffn.down.empty())
    throw InvalidArgument("[write_gguf] expected down projections as files hold them, got a packed model's");
  Export out(model);
  out.make().write(path, progress);
}

ModelConfig dense_counterpart(const ModelConfig& spark) {
  ModelConfig config = spark;
  config.model_type = "gemma2";
  config.spark = {};
  config.d_ff = spark.d_ff * 2 / 3;
  config.gated = true;
  config.activation = Activation::gelu_tanh;
  config.activation_threshold = 0;
  config.norm_after = true;
  config.tied_embeddings = true;
  config.attention_soft_cap = 50;
  config.logit_soft_cap = 30;
  return config;
}

double llama_bench(const LlamaBenchOptions& options) {
  std::vector<std::string> arguments{options.program.string(),
                                     "-m",
                                     options.model.string(),
                                     "-p",
                                     "0",
                                     "-n",
                                     std::to_string(options.tokens),
                                     "-t",
                                     std::to_string(options.threads),
                                     "-r",
                                     "1",
                                     "-o",
                                     "jsonl"};
  if (options.context > 0) arguments.insert(arguments.end(), {"-d", std::to_string(options.context)});
  const ProcessOutput ran = run_process(arguments);
  const auto last_lines = [](std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    std::size_t from = text.size();
    for (int lines = 0; lines < 4 && from != std::string::npos && from > 0; ++lines) from = text.rfind('\n', from - 1);
    return from == std::string::npos ? text : text.substr(from + (from < text.size() && text[from] == '\n' ? 1 : 0));
  };
  if (ran.exit_code != 0)
    throw IoError("{} ended with exit code {}: {}", options.program.string(), ran.exit_code, last_lines(ran.error));
  try {
    std::string line = ran.output;
    while (line.ends_with('\n')) line.pop_back();
    const Json json = parse_json(line.substr(line.rfind('\n') == std::string::npos ? 0 : line.rfind('\n') + 1),
                                 options.program.string());
    const double rate = json.at("avg_ts").get<double>();
    if (rate > 0 && std::isfinite(rate)) return rate;
    throw IoError("{}: expected tokens a second above 0, found {}", options.program.string(), rate);
  } catch (const Json::exception&) {
  } catch (const BadInput&) {
  }
  throw IoError("{}: expected a line of JSON with \"avg_ts\", found \"{}\". Is this llama-bench?",
                options.program.string(), last_lines(ran.output));
}

}  // namespace torpor
