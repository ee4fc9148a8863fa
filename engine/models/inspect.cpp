#include "engine/models/inspect.h"

#include <algorithm>
#include <array>
#include <map>

#include "core/base/error.h"
#include "engine/models/model_files.h"

namespace torpor {
namespace {

constexpr std::array kPartNames{"embedding", "attention", "ffn", "streams", "unembedding", "norms"};
enum PartIndex : std::size_t { kEmbedding, kAttention, kFfn, kStreams, kUnembedding, kNorms };

PartIndex index_of(Part part) {
  switch (part) {
    case Part::token_embedding:
    case Part::position_embedding:
    case Part::embedding_in:
    case Part::layer_embedding:
      return kEmbedding;
    case Part::query:
    case Part::key:
    case Part::value:
    case Part::query_key_value:
    case Part::attention_output:
      return kAttention;
    case Part::gate:
    case Part::up:
    case Part::down:
      return kFfn;
    case Part::stream_in:
    case Part::stream_out:
    case Part::layer_input_projection:
    case Part::router:
    case Part::predict_coefs:
    case Part::correct_coefs:
    case Part::correct_scale:
    case Part::laurel_left:
    case Part::laurel_right:
    case Part::input_gate:
    case Part::input_projection:
      return kStreams;
    case Part::embedding_out:
    case Part::unembedding:
      return kUnembedding;
    default:
      return kNorms;
  }
}

std::string activation_text(const ModelConfig& config) {
  if (config.activation_threshold > 0) return fmt::format("fatrelu({})", config.activation_threshold);
  return std::string(name_of(config.activation));
}

/// What stands between these weights and skipping neurons.
std::vector<std::string> reasons_of(const ModelConfig& config, int layer, const TensorView& down, bool transposed) {
  std::vector<std::string> reasons;
  const auto& format = traits(down.format);
  if (!has_exact_zeros(config, layer))
    reasons.push_back(fmt::format("{} gives no exact zeros: skipping needs a threshold and costs some quality",
                                  activation_text(config)));
  if (format.quantised && !transposed)
    reasons.push_back(
        fmt::format("down is {}: {} neurons share a block, so single columns can only be skipped after "
                    "repacking",
                    format.name, format.block_values));
  else if (!transposed)
    reasons.emplace_back("down lies by output rows: a neuron's column is scattered until it is packed by neurons");
  return reasons;
}

class Inspector {
 public:
  Inspector(const std::filesystem::path& path, const LoadOptions& options)
      : files_(open_model_files(path, options.activation_override)), bound_(bind_tensors(files_)) {
    summary_.path = path;
    summary_.format = std::string(name_of(files_.format));
    summary_.layers.resize(static_cast<std::size_t>(files_.config.n_layers));
  }

  ModelSummary inspect() {
    for (const auto& tensor : bound_) add(tensor);
    finish_parts();
    finish_layers();
    const ModelConfig& config = files_.config;
    summary_.config = config;
    summary_.description = describe(config);
    summary_.kv_bytes_per_position =
        2LL * config.cache_layers() * config.kv_width() * static_cast<std::int64_t>(sizeof(float));
    count_bytes_per_token();
    take_notes();
    return std::move(summary_);
  }

 private:
  void add(const BoundTensor& tensor) {
    const PartIndex part = index_of(tensor.rule->part);
    for (const TensorView* view : {tensor.weight, tensor.bias}) {
      if (view == nullptr) continue;
      ++summary_.tensors;
      const auto bytes = static_cast<std::int64_t>(view->bytes.size());
      parameters_[part] += view->elements();
      formats_[part][std::string(traits(view->format).name)] += bytes;
    }
    if (part == kFfn) add_ffn(tensor);
    if (tensor.rule->part == Part::unembedding) has_unembedding_ = true;
    if (tensor.rule->part == Part::token_embedding) embedding_ = tensor.weight;
    if (tensor.rule->part == Part::position_embedding || tensor.rule->part == Part::layer_embedding)
      tables_.push_back(tensor.weight);
  }

  void add_ffn(const BoundTensor& tensor) {
    FfnSummary& layer = summary_.layers[static_cast<std::size_t>(tensor.number)];
    layer.bytes += static_cast<std::int64_t>(tensor.weight->bytes.size());
    const std::string format(traits(tensor.weight->format).name);
    if (tensor.rule->part == Part::gate) layer.gate_format = format;
    if (tensor.rule->part == Part::up) layer.up_format = format;
    if (tensor.rule->part != Part::down) return;
    layer.down_format = format;
    layer.reasons = reasons_of(files_.config, tensor.number, *tensor.weight, tensor.transposed);
  }

  void finish_parts() {
    for (std::size_t i = 0; i < kPartNames.size(); ++i) {
      PartSummary part{kPartNames[i], parameters_[i], 0, {}};
      std::vector<std::pair<std::int64_t, std::string>> by_size;
      for (const auto& [format, bytes] : formats_[i]) {
        part.bytes += bytes;
        by_size.emplace_back(-bytes, format);
      }
      std::sort(by_size.begin(), by_size.end());
      for (auto& [bytes, format] : by_size) part.formats.push_back(std::move(format));
      summary_.parameters += part.parameters;
      summary_.bytes += part.bytes;
      if (part.parameters > 0) summary_.parts.push_back(std::move(part));
    }
  }

  void finish_layers() {
    const ModelConfig& config = files_.config;
    for (std::size_t i = 0; i < summary_.layers.size(); ++i) {
      FfnSummary& layer = summary_.layers[i];
      layer.layer = static_cast<int>(i);
      layer.neurons = config.d_ff;
      layer.gated = config.gated;
      layer.activation = activation_text(config);
      layer.exact_zeros = has_exact_zeros(config, layer.layer);
      layer.bytes_per_neuron = static_cast<double>(layer.bytes) / config.d_ff;
      summary_.ffn_bytes += layer.bytes;
    }
  }

  /// All weights but the embeddings, of which a token reads one row, unless they are the unembedding too.
  void count_bytes_per_token() {
    summary_.bytes_per_token = summary_.bytes;
    if (has_unembedding_) summary_.bytes_per_token -= all_but_one_row(*embedding_);
    for (const TensorView* table : tables_) summary_.bytes_per_token -= all_but_one_row(*table);
  }

  static std::int64_t all_but_one_row(const TensorView& table) {
    const auto bytes = static_cast<std::int64_t>(table.bytes.size());
    return bytes - bytes / table.shape.front();
  }

  void take_notes() {
    const ModelConfig& config = files_.config;
    auto& notes = summary_.notes;
    if (config.model_type == "llama" && !config.gated)
      notes.push_back(
          fmt::format("the FFN is ungated (gate_proj and down_proj only); such files do not tell relu from relu2: "
                      "{} is used, and can be overridden",
                      activation_text(config)));
    if (config.tied_embeddings && has_unembedding_)
      notes.emplace_back("the embeddings are tied and also stored twice; loading compares the copies");
    if (files_.format == ModelFormat::gguf)
      notes.push_back(fmt::format("GGUF does not name the activation: {} is assumed for {}", activation_text(config),
                                  config.model_type));
    if (std::any_of(config.windows.begin(), config.windows.end(), [](int window) { return window > 0; }))
      notes.push_back(fmt::format(
          "attention sees the last {} positions in {} of {} layers",
          *std::max_element(config.windows.begin(), config.windows.end()),
          std::count_if(config.windows.begin(), config.windows.end(), [](int w) { return w > 0; }), config.n_layers));
  }

  ModelFiles files_;
  std::vector<BoundTensor> bound_;
  ModelSummary summary_;
  std::array<std::int64_t, kPartNames.size()> parameters_{};
  std::array<std::map<std::string, std::int64_t>, kPartNames.size()> formats_;
  const TensorView* embedding_ = nullptr;
  std::vector<const TensorView*> tables_;  // of which a token reads one row
  bool has_unembedding_ = false;
};

}  // namespace

ModelSummary inspect_model(const std::filesystem::path& path, const LoadOptions& options) {
  return Inspector(path, options).inspect();
}

}  // namespace torpor
