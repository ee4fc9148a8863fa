#include "engine/decode/predictor.h"

#include <variant>

#include "core/base/error.h"
#include "core/base/large_memory.h"
#include "core/tensor/convert.h"
#include "core/tensor/safetensors.h"
#include "engine/kernels/interleaved.h"

namespace torpor {
namespace {

constexpr std::string_view kVersion = "1";

struct PredictorFile {
  TensorArchive archive;
  std::string path;  // for messages
  bool relu = true;
};

PredictorFile open(const std::filesystem::path& path) {
  PredictorFile file{open_safetensors(path), path.string()};
  const auto& metadata = file.archive.metadata();
  const auto value = [&](const char* key) {
    const auto at = metadata.find(key);
    return at == metadata.end() ? std::string() : at->second;
  };
  if (value("torpor_predictor") != kVersion)
    throw BadInput("{}: expected metadata \"torpor_predictor\": \"{}\", found \"{}\": this is no file of predictors",
                   file.path, kVersion, value("torpor_predictor"));
  const std::string activation = value("activation");
  if (activation != "relu" && activation != "none")
    throw BadInput("{}: expected metadata \"activation\" of \"relu\" or \"none\", found \"{}\"", file.path, activation);
  file.relu = activation == "relu";
  return file;
}

/// A tensor's values. Throws BadInput where the shape differs or a value is not finite.
std::vector<float> values_of(const PredictorFile& file, const std::string& name,
                             const std::vector<std::int64_t>& shape) {
  const TensorView& tensor = file.archive.at(name);
  if (tensor.shape != shape)
    throw BadInput("{}: expected {} of {}, found {}", file.path, name, shape_text(shape), tensor.shape_text());
  const NumberFormat format = tensor.format;
  if (format != NumberFormat::f32 && format != NumberFormat::f16 && format != NumberFormat::bf16)
    throw BadInput("{}: expected {} in f32, f16 or bf16, found {}", file.path, name, traits(format).name);
  std::vector<float> values = to_f32(tensor);
  if (!all_finite(values.data(), std::ssize(values)))
    throw BadInput("{}: expected finite numbers, found NaN or infinity in {}", file.path, name);
  return values;
}

}  // namespace

void LayerPredictor::predict(const float* x, std::int64_t tokens, float* hidden, float* logits,
                             ThreadPool& pool) const {
  linear(fc1, x, tokens, {}, hidden, pool);
  if (relu) activate(Activation::relu, hidden, tokens * fc1.out);
  linear(fc2, hidden, tokens, bias, logits, pool);
}

std::shared_ptr<const LayerPredictors> LayerPredictors::load(std::span<const SelectionRule> rules,
                                                             const std::filesystem::path& folder,
                                                             const ModelConfig& config) {
  std::map<std::string, PredictorFile> files;
  std::shared_ptr<LayerPredictors> predictors(new LayerPredictors);
  for (std::size_t l = 0; l < rules.size(); ++l) {
    const Predictor* const rule = std::get_if<Predictor>(&rules[l]);
    if (rule == nullptr) continue;
    if (config.spark.ffn())
      throw BadInput("layer {}: the plan wants the predictor \"{}\", and a Spark model has its own", l, rule->file);
    // A plan from elsewhere reads nothing outside its folder.
    const std::filesystem::path name(rule->file);
    if (name.empty() || name.is_absolute() || name != name.filename() || name == "..")
      throw BadInput("layer {}: expected a predictor file beside the plan, found \"{}\"", l, rule->file);
    auto at = files.find(rule->file);
    if (at == files.end()) at = files.emplace(rule->file, open(folder / name)).first;
    const PredictorFile& file = at->second;
    const std::string prefix = "layers." + std::to_string(l) + ".";
    const std::vector<std::int64_t>& shape = file.archive.at(prefix + "fc1.weight").shape;
    const std::int64_t rank = shape.empty() ? 0 : shape.front();
    if (rank < 1)
      throw BadInput("{}: expected {}fc1.weight with a row or more, found {}", file.path, prefix, shape_text(shape));
    const std::vector<float> first = values_of(file, prefix + "fc1.weight", {rank, config.d_model});
    const std::vector<float> second = values_of(file, prefix + "fc2.weight", {config.d_ff, rank});
    const auto stored = [&](const std::vector<float>& values, std::int64_t out, std::int64_t in) {
      const NumberFormat format = in % 32 == 0 ? NumberFormat::q8_0 : NumberFormat::f32;
      const std::size_t bytes = bytes_of(format, static_cast<std::int64_t>(values.size()));
      std::byte* const rows = predictors->owned_.emplace_back(allocate_large(bytes, "a predictor")).get();
      from_f32(values, format, rows);
      WeightMatrix w{format, rows, out, in};
      order_in_place(w, rows);
      return w;
    };
    LayerPredictor made{.fc1 = stored(first, rank, config.d_model),
                        .fc2 = stored(second, config.d_ff, rank),
                        .bias = {},
                        .relu = file.relu};
    if (file.archive.find(prefix + "fc2.bias") != nullptr)
      made.bias = values_of(file, prefix + "fc2.bias", {config.d_ff});
    predictors->largest_rank_ = std::max(predictors->largest_rank_, rank);
    predictors->layers_.emplace(static_cast<int>(l), std::move(made));
  }
  return predictors->layers_.empty() ? nullptr : predictors;
}

}  // namespace torpor
