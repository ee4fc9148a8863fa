// From a path to a configuration and named tensors: what kind of model it is, which of its tensors plays which part,
// and whether anything is missing, superfluous or of the wrong shape. Headers only; no weight is read here.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"
#include "engine/models/architecture.h"
#include "engine/models/model_config.h"

namespace torpor {

class Model;
struct LoadOptions;

enum class ModelFormat : std::uint8_t { huggingface, gguf, llama2c, packed };
std::string_view name_of(ModelFormat format);

struct ModelFiles {
  ModelFormat format = ModelFormat::huggingface;
  std::filesystem::path path;  // as given
  std::string config_where;    // the file that sizes come from, for errors
  ModelConfig config;
  TensorArchive archive;
  std::string fingerprint{};  // of a packed model, which may have its source's; else empty: of the weights
  std::optional<float> embedding_scale{}, layer_embedding_scale{};  // of a packed model: as its source had them
  bool own_memory = false;  // the archive lies in memory that may be written to: matrices may be rearranged in place
};

/// path: a Hugging Face folder, a .safetensors file beside its config.json, a .gguf file, a llama2.c .bin or a packed
/// folder.
/// Throws BadInput: none of these, or whatever is wrong with them.
ModelFiles open_model_files(const std::filesystem::path& path, const std::string& activation_override = {});

/// A row of the architecture table and the tensors that the files have for it. The views live in the archive.
struct BoundTensor {
  const TensorRule* rule = nullptr;
  int number = -1;  // of its kind (TensorRule::times), usually the layer; -1: there is one
  const TensorView* weight = nullptr;
  const TensorView* bias = nullptr;           // may be null
  bool transposed = false;                    // stored [in, out]; a packed model's down projection: by neuron
  std::shared_ptr<const TensorView> piece{};  // `weight`, where it is one of several in a tensor of the archive
};

/// transformers casts Gemma's embedding scale to the weights' type: 48 stays 48, sqrt(3072) = 55.4256 becomes 55.5 in
/// bf16.
float embedding_scale_as_stored(float scale, NumberFormat format);

/// Finds every tensor of the model and checks shapes and formats. May set config.gated (Llama files without up_proj).
/// With tied embeddings a second copy of the embedding is bound too if the files have one: the caller compares.
/// Throws BadInput naming the tensor: missing, of another shape, of a type that is no weight, or not part of this
/// architecture.
std::vector<BoundTensor> bind_tensors(ModelFiles& files);

/// The rest of Model::load, for files that may also lie in memory. Reads the weights. Throws BadInput as it does.
std::shared_ptr<const Model> build_model(ModelFiles files);
std::shared_ptr<const Model> build_model(ModelFiles files, const LoadOptions& options);

}  // namespace torpor
