#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/log.h"
#include "engine/models/model_files.h"

namespace torpor {
namespace {

/// Walks the table once; collects what it takes.
class Binder {
 public:
  explicit Binder(ModelFiles& files)
      : files_(files),
        config_(files.config),
        archive_(files.archive),
        architecture_(architecture_of(config_.model_type, files.config_where)),
        gguf_(files.format == ModelFormat::gguf),
        packed_(files.format == ModelFormat::packed) {}

  std::vector<BoundTensor> bind() {
    if (archive_.tensors().empty()) throw BadInput("{}: expected tensors, found none", archive_.where());
    if (!gguf_) choose_prefix();
    notice_missing_up();
    for (const auto& rule : architecture_.tensors) {
      const auto pattern = pattern_of(rule, gguf_, packed_);
      if (pattern.empty()) continue;
      // Of stacked tensors each matrix by itself, also where the file has one tensor of them all.
      for (const int number : numbers_of(rule, rule.stacked ? rule.huggingface : pattern, config_))
        bind_one(rule, number);
    }
    refuse_superfluous();
    return std::move(bound_);
  }

 private:
  /// The prefix under which the token embedding lies, or the first layer where a tied embedding lies under lm_head
  /// alone.
  void choose_prefix() {
    const auto& rule = architecture_.tensors.front();  // the token embedding, by the table's convention
    const auto& in_layer = *std::find_if(architecture_.tensors.begin(), architecture_.tensors.end(), [](const auto& r) {
      return r.part == Part::query || r.part == Part::query_key_value;
    });
    for (const auto* known : {&rule, &in_layer}) {
      if (known == &in_layer && !config_.tied_embeddings) break;
      for (const auto prefix : architecture_.prefixes) {
        if (archive_.find(expand(known->huggingface, prefix, 0) + ".weight") == nullptr) continue;
        prefix_ = prefix;
        return;
      }
    }
    throw BadInput(
        "{}: expected a tensor \"{}{}.weight\" (the token embedding of a {} model), found none; the first of {} "
        "tensors is \"{}\". config.json and the weights may belong to different models",
        archive_.where(), architecture_.prefixes.front(), rule.huggingface, config_.model_type,
        archive_.tensors().size(), archive_.tensors().front().name);
  }

  void notice_missing_up() {
    if (config_.model_type != "llama" || !config_.gated || gguf_) return;
    if (archive_.find(expand("layers.{}.mlp.up_proj.weight", prefix_, 0)) != nullptr) return;
    if (archive_.find(expand("layers.{}.mlp.gate_proj.weight", prefix_, 0)) == nullptr) return;
    config_.gated = false;
    log_info(
        "{}: no up_proj: an ungated FFN of gate_proj and down_proj, with {}. Such files do not tell relu from relu2; "
        "the activation can be overridden",
        archive_.where(), name_of(config_.activation));
  }

  const TensorView* take(const std::string& name) {
    const TensorView* tensor = archive_.find(name);
    if (tensor != nullptr) taken_.insert(name);
    return tensor;
  }

  void bind_one(const TensorRule& rule, int number) {
    const auto [weight_name, bias_name] = names_of(rule, gguf_, prefix_, number);
    if (rule.in_layer != nullptr && !rule.in_layer(config_, number)) {
      take(weight_name);  // there or not: nothing reads it
      return;
    }
    const bool wanted = rule.weight == nullptr || rule.weight(config_);
    const bool copy_of_embedding = rule.part == Part::unembedding && !wanted;
    BoundTensor bound{
        .rule = &rule, .number = number, .transposed = packed_ ? rule.part == Part::down : rule.transposed && !gguf_};
    if (wanted || (copy_of_embedding && !taken_.contains(weight_name))) bound.weight = take(weight_name);
    // Writers drop one of two tied tensors: usually lm_head, but some drop the embedding.
    if (bound.weight == nullptr && rule.part == Part::token_embedding && config_.tied_embeddings && !gguf_)
      bound.weight = take("lm_head.weight");
    if (bound.weight == nullptr) {
      if (!wanted || rule.optional) return;
      missing(weight_name);
    }
    if (rule.stacked && gguf_) {
      bound.piece = piece(*bound.weight, rule, number);
      bound.weight = bound.piece.get();
    }
    check(*bound.weight, rule, bound.transposed);
    if (rule.bias != nullptr && rule.bias(config_)) {
      bound.bias = take(bias_name);
      if (bound.bias == nullptr) missing(bias_name);
      check_vector(*bound.bias, size_of(rule.out, config_));
    }
    bound_.push_back(bound);
  }

  /// The matrix of this number out of [times, out, in].
  std::shared_ptr<const TensorView> piece(const TensorView& all, const TensorRule& rule, int number) const {
    const std::vector<std::int64_t> expected{size_of(rule.times, config_), size_of(rule.out, config_),
                                             size_of(rule.in, config_)};
    check_shape(all, expected);
    const std::size_t bytes = all.bytes.size() / static_cast<std::size_t>(expected[0]);
    return std::make_shared<TensorView>(TensorView{fmt::format("{}[{}]", all.name, number),
                                                   all.format,
                                                   {expected[1], expected[2]},
                                                   all.bytes.subspan(static_cast<std::size_t>(number) * bytes, bytes)});
  }

  [[noreturn]] void missing(const std::string& name) const {
    throw BadInput(
        "{}: expected a tensor \"{}\" ({}), found none among {} tensors. The files are incomplete or of another "
        "architecture",
        archive_.where(), name, describe(config_), archive_.tensors().size());
  }

  void check(const TensorView& tensor, const TensorRule& rule, bool transposed) const {
    const auto out = size_of(rule.out, config_);
    if (rule.in == Dimension::none) return check_vector(tensor, out);
    const auto in = size_of(rule.in, config_);
    check_shape(tensor, transposed ? std::vector{in, out} : std::vector{out, in});
    const auto& format = traits(tensor.format);
    if (transposed && format.quantised && !packed_)
      throw BadInput("{}: tensor \"{}\": expected f32, f16 or bf16 (this architecture stores it transposed), found {}",
                     archive_.where(), tensor.name, format.name);
    const auto width = transposed ? out : in;
    if (format.quantised && width % format.block_values != 0)
      throw BadInput("{}: tensor \"{}\": expected rows of a multiple of {} values for {}, found {}", archive_.where(),
                     tensor.name, format.block_values, format.name, width);
  }

  void check_vector(const TensorView& tensor, std::int64_t size) const { check_shape(tensor, {size}); }

  void check_shape(const TensorView& tensor, const std::vector<std::int64_t>& expected) const {
    if (tensor.shape != expected)
      throw BadInput("{}: tensor \"{}\": expected shape [{}] by {}, found {}", archive_.where(), tensor.name,
                     fmt::join(expected, ", "), files_.config_where, tensor.shape_text());
    const auto& format = traits(tensor.format);
    if (!(format.floating || format.quantised) || tensor.format == NumberFormat::f64)
      throw BadInput("{}: tensor \"{}\": expected weights as f32, f16, bf16 or a supported quantisation, found {}",
                     archive_.where(), tensor.name, format.name);
    TORPOR_ASSERT(tensor.bytes.size() == bytes_of(tensor.format, tensor.elements()), "tensor {}", tensor.name);
  }

  void refuse_superfluous() const {
    std::string first;
    int count = 0;
    for (const auto& tensor : archive_.tensors()) {
      if (taken_.contains(tensor.name)) continue;
      if (std::any_of(architecture_.harmless.begin(), architecture_.harmless.end(),
                      [&](std::string_view end) { return std::string_view(tensor.name).ends_with(end); }))
        continue;
      if (std::any_of(architecture_.elsewhere.begin(), architecture_.elsewhere.end(),
                      [&](std::string_view start) { return std::string_view(tensor.name).starts_with(start); }))
        continue;
      if (count++ == 0) first = tensor.name;
    }
    if (count > 0)
      throw BadInput(
          "{}: expected only tensors of a {} model with {} layers, found {} more, the first \"{}\". They would "
          "change the result, so the model is refused",
          archive_.where(), config_.model_type, config_.n_layers, count, first);
  }

  ModelFiles& files_;
  ModelConfig& config_;
  const TensorArchive& archive_;
  const Architecture& architecture_;
  bool gguf_, packed_;
  std::string_view prefix_;
  std::unordered_set<std::string> taken_;
  std::vector<BoundTensor> bound_;
};

}  // namespace

std::vector<BoundTensor> bind_tensors(ModelFiles& files) {
  return Binder(files).bind();
}

}  // namespace torpor
