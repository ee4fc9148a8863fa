#include "engine/models/model_files.h"

#include <array>
#include <fstream>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/gguf.h"
#include "core/tensor/llama2c.h"
#include "core/tensor/safetensors.h"
#include "engine/models/config_gguf.h"
#include "engine/models/config_huggingface.h"
#include "engine/models/packed.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;

bool is_gguf(const fs::path& file) {
  std::array<char, 4> magic{};
  std::ifstream stream(file, std::ios::binary);
  stream.read(magic.data(), magic.size());
  return stream.gcount() == 4 && std::string_view(magic.data(), 4) == "GGUF";
}

/// weights: the folder, or one file of it.
ModelFiles open_huggingface(const fs::path& path, const fs::path& folder, const std::string& activation_override) {
  ModelFiles files;
  files.path = path;
  const fs::path config = folder / "config.json";
  if (!fs::exists(config))
    throw BadInput("{}: expected a config.json beside the weights, found none. It says what the tensors mean",
                   folder.string());
  files.config_where = config.string();
  files.config = read_huggingface_config(read_json(config), files.config_where, activation_override);
  if (const fs::path generation = folder / "generation_config.json"; fs::exists(generation))
    add_generation_config(read_json(generation), generation.string(), files.config);
  files.archive = open_safetensors(path);
  return files;
}

ModelFiles open_folder(const fs::path& folder, const std::string& activation_override) {
  if (fs::exists(folder / kPackedFile)) return open_packed(folder, activation_override);
  const bool weights = fs::exists(folder / "model.safetensors") || fs::exists(folder / "model.safetensors.index.json");
  if (fs::exists(folder / "config.json") && !weights) {
    for (const char* old : {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "model.ckpt.index"})
      if (fs::exists(folder / old))
        throw BadInput(
            "{}: expected model.safetensors, found only {}, which can hold programs and is not read. Convert it with "
            "transformers: AutoModelForCausalLM.from_pretrained(\"…\").save_pretrained(\"…\")",
            folder.string(), old);
    throw BadInput("{}: expected model.safetensors or model.safetensors.index.json beside config.json, found neither",
                   folder.string());
  }
  if (!fs::exists(folder / "config.json"))
    throw BadInput("{}: expected a model folder with config.json and model.safetensors, found no config.json{}",
                   folder.string(), weights ? "" : " and no weights");
  return open_huggingface(folder, folder, activation_override);
}

ModelFiles open_gguf(const fs::path& path, const std::string& activation_override) {
  const GgufFile file = GgufFile::open(path);
  ModelFiles files{
      .format = ModelFormat::gguf, .path = path, .config_where = path.string(), .config = {}, .archive = {}};
  files.config = read_gguf_config(file, activation_override);
  files.archive = file.tensors();
  return files;
}

ModelFiles open_checkpoint(const fs::path& path, const std::string& activation_override) {
  Llama2cCheckpoint checkpoint = open_llama2c(path);
  ModelFiles files{
      .format = ModelFormat::llama2c, .path = path, .config_where = path.string(), .config = {}, .archive = {}};
  files.config = read_llama2c_config(checkpoint.header, path.string(), activation_override);
  files.archive = std::move(checkpoint.tensors);
  return files;
}

}  // namespace

std::string_view name_of(ModelFormat format) {
  switch (format) {
    case ModelFormat::huggingface:
      return "Hugging Face";
    case ModelFormat::gguf:
      return "GGUF";
    case ModelFormat::llama2c:
      return "llama2.c";
    case ModelFormat::packed:
      return "packed";
  }
  return "unknown";
}

ModelFiles open_model_files(const fs::path& path, const std::string& activation_override) {
  std::error_code code;
  const auto status = fs::status(path, code);
  if (!fs::exists(status))
    throw BadInput(
        "{}: expected a model (a Hugging Face folder, a .safetensors, .gguf or llama2.c .bin file), found nothing "
        "there",
        path.string());
  if (fs::is_directory(status)) return open_folder(path, activation_override);
  if (!fs::is_regular_file(status))
    throw BadInput("{}: expected a file or folder, found something else", path.string());
  const auto extension = path.extension();
  if (extension == ".gguf" || is_gguf(path)) return open_gguf(path, activation_override);
  if (path.filename() == kPackedFile) return open_folder(path.parent_path(), activation_override);
  if (extension == ".safetensors" || path.filename().string().ends_with(".safetensors.index.json"))
    return open_huggingface(path, path.parent_path(), activation_override);
  if (extension == ".bin") return open_checkpoint(path, activation_override);
  if (path.filename() == "config.json") return open_folder(path.parent_path(), activation_override);
  throw BadInput("{}: expected a Hugging Face folder, a .safetensors, .gguf or llama2.c .bin file, found \"{}\"",
                 path.string(), extension.string());
}

float embedding_scale_as_stored(float scale, NumberFormat format) {
  if (format != NumberFormat::bf16 && format != NumberFormat::f16) return scale;
  std::array<std::byte, 2> rounded;
  from_f32({&scale, 1}, format, rounded.data());
  float result = 0;
  to_f32(format, rounded.data(), {&result, 1});
  return result;
}

}  // namespace torpor
