#include "engine/models/model.h"

#include <cstring>

#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/large_memory.h"
#include "core/base/log.h"
#include "engine/kernels/interleaved.h"
#include "engine/models/model_files.h"
#include "engine/models/neuron_rows.h"
#include "engine/models/weight_checks.h"

namespace torpor {
namespace {

// Up to this size every weight is looked at on loading (a tenth of a second); beyond it, samples of each tensor are,
// and the session reports the rest when a value that is not finite reaches the output.
constexpr std::int64_t kFullScanBytes = std::int64_t{512} << 20;

/// to[c, r] = from[r, c] for elements of some bytes.
template <typename Element>
void transpose(const std::byte* from, std::int64_t rows, std::int64_t columns, std::byte* to) {
  constexpr std::int64_t kBlock = 32;  // a block of both sides stays in the first-level cache
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Element));
  for (std::int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (std::int64_t c0 = 0; c0 < columns; c0 += kBlock)
      for (std::int64_t r = r0; r < std::min(rows, r0 + kBlock); ++r)
        for (std::int64_t c = c0; c < std::min(columns, c0 + kBlock); ++c)
          std::memcpy(to + (c * rows + r) * kBytes, from + (r * columns + c) * kBytes, sizeof(Element));
}

std::vector<float> to_vector(const TensorView& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  to_f32(tensor.format, tensor.bytes.data(), values);
  return values;
}

}  // namespace

/// Turns bound tensors into a Model.
class ModelBuilder {
 public:
  static std::shared_ptr<const Model> build(ModelFiles files, const LoadOptions& options) {
    ModelBuilder builder(std::move(files), options);
    return builder.finish();
  }

 private:
  ModelBuilder(ModelFiles files, const LoadOptions& options)
      : files_(std::move(files)), bound_(bind_tensors(files_)), model_(new Model) {
    settle_ties();
    model_->path_ = files_.path;
    model_->layers_.resize(static_cast<std::size_t>(files_.config.n_layers));
    for (const auto& tensor : bound_) count(tensor);
    for (const auto& tensor : bound_) check_numbers(tensor);
    copy_ = options.large_pages && has_room();
    for (const auto& tensor : bound_) place(tensor);
  }

  std::shared_ptr<const Model> finish() {
    ModelConfig& config = files_.config;
    if (files_.embedding_scale)
      config.embedding_scale = *files_.embedding_scale;
    else if (config.embedding_scale != 1 && files_.format == ModelFormat::huggingface)
      config.embedding_scale = embedding_scale_as_stored(config.embedding_scale, model_->token_embedding_.format);
    AltUpConfig& altup = config.altup;
    if (files_.layer_embedding_scale)
      altup.layer_embedding_scale = *files_.layer_embedding_scale;
    else if (altup.any() && files_.format == ModelFormat::huggingface)
      altup.layer_embedding_scale =
          embedding_scale_as_stored(altup.layer_embedding_scale, model_->altup_.layer_embedding.format);
    if (config.tied_embeddings) model_->unembedding_ = model_->token_embedding_;
    if (!config.norm_affine) plain_norms();
    model_->config_ = config;
    settle_special_tokens();
    model_->fingerprint_ = files_.fingerprint.empty() ? fingerprint() : files_.fingerprint;
    model_->archive_ = files_.archive;
    return model_;
  }

  /// Files with tied embeddings may hold them twice; transformers ties them if they are equal and else keeps both.
  void settle_ties() {
    if (!files_.config.tied_embeddings) return;
    const TensorView* embedding = nullptr;
    auto copy = bound_.end();
    for (auto it = bound_.begin(); it != bound_.end(); ++it) {
      if (it->rule->part == Part::token_embedding) embedding = it->weight;
      if (it->rule->part == Part::unembedding) copy = it;
    }
    if (embedding == nullptr || copy == bound_.end()) return;
    const auto& a = embedding->bytes;
    const auto& b = copy->weight->bytes;
    if (embedding->format == copy->weight->format && a.size() == b.size() &&
        std::memcmp(a.data(), b.data(), a.size()) == 0) {
      bound_.erase(copy);
      return;
    }
    log_warning(
        "{}: config.json ties the embeddings, but \"{}\" differs from \"{}\": both are used, as transformers does",
        files_.archive.where(), copy->weight->name, embedding->name);
    files_.config.tied_embeddings = false;
  }

  /// Files of a model whose vocabulary was cut, or set up with another model's defaults, may name tokens that it lacks.
  /// Such a token can neither be chosen nor run.
  void settle_special_tokens() const {
    ModelConfig& config = model_->config_;
    const auto beyond = [&](std::int64_t id) {
      if (id < config.vocab_size) return false;
      log_warning("{}: token {} is named to begin or end a text, but the vocabulary ends at {}: it is ignored",
                  files_.archive.where(), id, config.vocab_size - 1);
      return true;
    };
    std::erase_if(config.stop_ids, beyond);
    if (config.eos >= config.vocab_size) config.eos = config.stop_ids.empty() ? -1 : config.stop_ids.front();
    if (beyond(config.bos)) config.bos = -1;
  }

  void count(const BoundTensor& tensor) {
    for (const TensorView* view : {tensor.weight, tensor.bias}) {
      if (view == nullptr) continue;
      model_->parameters_ += view->elements();
      model_->weight_bytes_ += static_cast<std::int64_t>(view->bytes.size());
    }
  }

  static bool is_table(const BoundTensor& tensor) {
    return tensor.rule->part == Part::position_embedding || tensor.rule->part == Part::layer_embedding;
  }

  /// For a copy of the weights, and half of them for what decoding may add (weights by neuron, the cache).
  bool has_room() const {
    const std::int64_t available = available_memory_bytes();
    std::int64_t copied = model_->weight_bytes_;
    for (const BoundTensor& tensor : bound_)
      if (is_table(tensor)) copied -= static_cast<std::int64_t>(tensor.weight->bytes.size());
    if (available == 0 || copied <= available / 3 * 2) return true;
    if (copied > available)
      log_warning(
          "{}: {} MB of weights, {} MB of memory available: what does not fit is read from the disk for every token. "
          "`torpor pack --type q8` or q4 makes them smaller",
          files_.archive.where(), copied >> 20, available >> 20);
    log_info("{}: the weights stay where the file is mapped: {} MB of them, {} MB of memory available",
             files_.archive.where(), copied >> 20, available >> 20);
    return false;
  }

  void check_numbers(const BoundTensor& tensor) const {
    for (const TensorView* view : {tensor.weight, tensor.bias}) {
      if (view == nullptr) continue;
      if (const auto at = find_non_finite(*view, model_->weight_bytes_ > kFullScanBytes))
        throw BadInput(
            "{}: tensor \"{}\": expected finite numbers, found NaN or infinity at element {}. The file is damaged "
            "or the training diverged",
            files_.archive.where(), view->name, *at);
    }
  }

  void place(const BoundTensor& tensor) {
    const ModelConfig& config = files_.config;
    const auto number = static_cast<std::size_t>(std::max(0, tensor.number));
    LayerWeights* const layer =
        tensor.number < 0 || tensor.rule->times != Dimension::layers ? nullptr : &model_->layers_[number];
    AltUpWeights& altup = model_->altup_;
    switch (tensor.rule->part) {
      case Part::token_embedding:
        model_->token_embedding_ = matrix(tensor);
        break;
      case Part::position_embedding:
        model_->position_embedding_ = matrix(tensor);
        break;
      case Part::embedding_in:
        model_->embedding_in_ = matrix(tensor);
        break;
      case Part::embedding_out:
        model_->embedding_out_ = matrix(tensor);
        break;
      case Part::unembedding:
        model_->unembedding_ = matrix(tensor);
        break;
      case Part::final_norm:
        model_->final_norm_ = norm(tensor);
        break;
      case Part::rope_divisors:
        set_rope_divisors(tensor);
        break;
      case Part::attention_norm:
        layer->attention_norm = norm(tensor);
        break;
      case Part::post_attention_norm:
        layer->post_attention_norm = norm(tensor);
        break;
      case Part::ffn_norm:
        layer->ffn_norm = norm(tensor);
        break;
      case Part::post_ffn_norm:
        layer->post_ffn_norm = norm(tensor);
        break;
      case Part::query:
        linear(tensor, layer->attention.query, layer->attention.query_bias);
        break;
      case Part::key:
        linear(tensor, layer->attention.key, layer->attention.key_bias);
        break;
      case Part::value:
        linear(tensor, layer->attention.value, layer->attention.value_bias);
        break;
      case Part::attention_output:
        linear(tensor, layer->attention.output, layer->attention.output_bias);
        break;
      case Part::gate:
        linear(tensor, layer->ffn.gate, layer->ffn.gate_bias);
        break;
      case Part::up:
        linear(tensor, layer->ffn.up, layer->ffn.up_bias);
        break;
      case Part::down:
        linear(tensor, by_neuron() ? layer->ffn.down_rows : layer->ffn.down, layer->ffn.down_bias);
        break;
      case Part::query_key_value:
        split(tensor, config, layer->attention);
        break;
      case Part::query_norm:
        layer->attention.query_norm = norm(tensor);
        break;
      case Part::key_norm:
        layer->attention.key_norm = norm(tensor);
        break;
      case Part::stream_in:
        altup.stream_in.push_back(matrix(tensor));
        break;
      case Part::stream_out:
        altup.stream_out.push_back(matrix(tensor));
        break;
      case Part::layer_embedding:
        altup.layer_embedding = matrix(tensor);
        break;
      case Part::layer_input_projection:
        altup.layer_input_projection = matrix(tensor);
        break;
      case Part::layer_input_norm:
        altup.layer_input_norm = norm(tensor);
        break;
      case Part::router_norm:
        layer->altup.router_norm = norm(tensor);
        break;
      case Part::router:
        layer->altup.router = matrix(tensor);
        break;
      case Part::predict_coefs:
        layer->altup.predict_coefs = matrix(tensor);
        break;
      case Part::correct_coefs:
        layer->altup.correct_coefs = matrix(tensor);
        break;
      case Part::correct_scale:
        layer->altup.correct_scale = to_vector(*tensor.weight);
        break;
      case Part::laurel_left:
        layer->altup.laurel_left = matrix(tensor);
        break;
      case Part::laurel_right:
        layer->altup.laurel_right = matrix(tensor);
        break;
      case Part::laurel_norm:
        layer->altup.laurel_norm = norm(tensor);
        break;
      case Part::input_gate:
        layer->altup.input_gate = matrix(tensor);
        break;
      case Part::input_projection:
        layer->altup.input_projection = matrix(tensor);
        break;
      case Part::input_norm:
        layer->altup.input_norm = norm(tensor);
        break;
    }
  }

  void linear(const BoundTensor& tensor, WeightMatrix& weight, std::vector<float>& bias) {
    weight = matrix(tensor);
    if (tensor.bias != nullptr) bias = to_vector(*tensor.bias);
  }

  static NormWeights norm(const BoundTensor& tensor) {
    return {to_vector(*tensor.weight), tensor.bias == nullptr ? std::vector<float>{} : to_vector(*tensor.bias)};
  }

  /// The fused rows are query, key, value, one after another: views, no copy.
  void split(const BoundTensor& tensor, const ModelConfig& config, AttentionWeights& attention) {
    const WeightMatrix fused = matrix(tensor);
    const std::vector<float> bias = tensor.bias == nullptr ? std::vector<float>{} : to_vector(*tensor.bias);
    std::int64_t row = 0;
    const auto next = [&](std::int64_t rows, WeightMatrix& weight, std::vector<float>& part) {
      weight = fused;
      weight.data = fused.row(row);
      weight.out = rows;
      if (!bias.empty()) part.assign(bias.begin() + row, bias.begin() + row + rows);
      row += rows;
    };
    next(config.query_width(), attention.query, attention.query_bias);
    next(config.kv_width(), attention.key, attention.key_bias);
    next(config.kv_width(), attention.value, attention.value_bias);
  }

  /// Whether down projections lie by neuron and stay so.
  bool by_neuron() const { return files_.format == ModelFormat::packed; }

  WeightMatrix matrix(const BoundTensor& tensor) {
    const TensorView& view = *tensor.weight;
    const bool transposed = tensor.transposed && !by_neuron();
    const std::size_t out_axis = transposed ? 1 : 0;
    WeightMatrix weight{view.format, view.bytes.data(), view.shape[out_axis], view.shape[1 - out_axis]};
    const auto element = static_cast<std::size_t>(traits(view.format).quantised ? 2 : traits(view.format).block_bytes);
    const bool misaligned = reinterpret_cast<std::uintptr_t>(weight.data) % element != 0;
    // Of a table a token reads one row: it stays in the file. (The token embedding may be the unembedding too.)
    const bool table = is_table(tensor);
    // Down projections by neuron are added row by row too, in parts (linear_turned).
    const bool interleave = (copy_ || files_.own_memory) && !transposed && !table &&
                            !(tensor.rule->part == Part::down && by_neuron()) &&
                            interleaving_pays(weight.format, weight.in);
    if (!transposed && !misaligned && (!copy_ || table)) {
      if (interleave) interleave_in_place(weight, const_cast<std::byte*>(weight.data), nullptr);
      return weight;  // used where it lies
    }
    auto copy = allocate_large(view.bytes.size(), view.name);
    if (!transposed) {
      if (interleave)
        for (std::int64_t r = 0; r < weight.out; ++r)
          interleave_row(weight.format, weight.in, weight.row(r), copy.get() + r * weight.row_bytes());
      else
        std::memcpy(copy.get(), weight.data, view.bytes.size());
      weight.interleaved = interleave;
    } else if (element == 4) {
      transpose<std::uint32_t>(weight.data, weight.in, weight.out, copy.get());
    } else {
      transpose<std::uint16_t>(weight.data, weight.in, weight.out, copy.get());
    }
    weight.data = copy.get();
    model_->owned_.push_back(std::move(copy));
    return weight;
  }

  void set_rope_divisors(const BoundTensor& tensor) {
    auto divisors = to_vector(*tensor.weight);
    for (const float divisor : divisors)
      if (!(divisor > 0))
        throw BadInput("{}: tensor \"{}\": expected divisors > 0, found {}", files_.archive.where(),
                       tensor.weight->name, divisor);
    files_.config.rope_frequency_divisors = std::move(divisors);
  }

  /// LayerNorm without parameters is LayerNorm with weight 1 and bias 0.
  void plain_norms() {
    const NormWeights ones{std::vector<float>(static_cast<std::size_t>(files_.config.d_model), 1.F), {}};
    for (auto& layer : model_->layers_) layer.attention_norm = layer.ffn_norm = ones;
    if (files_.config.final_norm) model_->final_norm_ = ones;
  }

  std::string fingerprint() const {
    constexpr std::size_t kSample = 4096;
    Fingerprint hash;
    hash.add(canonical_text(files_.config));
    for (const auto& tensor : bound_) {
      for (const TensorView* view : {tensor.weight, tensor.bias}) {
        if (view == nullptr) continue;
        hash.add(fmt::format("\n{} {} {}\n", view->name, traits(view->format).name, view->shape_text()));
        const auto bytes = view->bytes;
        const std::size_t piece = std::min(kSample, bytes.size());
        hash.add(bytes.first(piece));
        hash.add(bytes.subspan((bytes.size() - piece) / 2, piece));
        hash.add(bytes.last(piece));
      }
    }
    return hash.hex();
  }

  ModelFiles files_;
  std::vector<BoundTensor> bound_;
  std::shared_ptr<Model> model_;
  bool copy_ = false;  // matrices that could be used where they lie are copied
};

std::shared_ptr<const Model> Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  return build_model(open_model_files(path, options.activation_override), options);
}

std::shared_ptr<const Model> build_model(ModelFiles files) {
  return build_model(std::move(files), {});
}

std::shared_ptr<const Model> build_model(ModelFiles files, const LoadOptions& options) {
  return ModelBuilder::build(std::move(files), options);
}

void FfnWeights::project_down(const float* x, std::int64_t rows, float* y, ThreadPool& pool, Products products) const {
  if (down.empty())
    linear_turned(down_rows, x, rows, down_bias, y, pool, products);
  else
    linear(down, x, rows, down_bias, y, pool, products);
}

std::vector<float> Model::outgoing_rows(int layer) const {
  if (layer < 0 || layer >= config_.n_layers)
    throw InvalidArgument("[Model::outgoing_rows] expected a layer from 0 to {}, got {}", config_.n_layers - 1, layer);
  const FfnWeights& ffn = layers_[static_cast<std::size_t>(layer)].ffn;
  std::vector<float> rows(static_cast<std::size_t>(config_.d_ff) * static_cast<std::size_t>(config_.d_model));
  if (ffn.down.empty())
    to_f32(ffn.down_rows.format, ffn.down_rows.data, rows);
  else
    turned_rows(ffn.down, 0, ffn.down.in, rows.data());
  return rows;  // [d_ff, d_model]
}

}  // namespace torpor
