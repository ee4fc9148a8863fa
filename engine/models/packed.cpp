#include "engine/models/packed.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/safetensors.h"
#include "engine/models/config_huggingface.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;

const std::string& metadata(const TensorArchive& archive, const std::string& key) {
  const auto found = archive.metadata().find(key);
  if (found == archive.metadata().end())
    throw BadInput("{}: expected \"{}\" in the metadata of a packed model, found none. Pack the model again",
                   archive.where(), key);
  return found->second;
}

NumberFormat quantised_format(const std::string& name, const TensorArchive& archive, const std::string& tensor) {
  for (const NumberFormat format : {NumberFormat::q8_0, NumberFormat::q4_0})
    if (traits(format).name == name) return format;
  throw BadInput("{}: tensor \"{}\": expected the format q8_0 or q4_0, found \"{}\"", archive.where(), tensor, name);
}

/// The view with the format that the metadata names in place of bytes.
TensorView with_format(TensorView view, const TensorArchive& archive) {
  const auto named = archive.metadata().find("format " + view.name);
  if (named == archive.metadata().end()) return view;
  const NumberFormat format = quantised_format(named->second, archive, view.name);
  const auto& block = traits(format);
  if (view.format != NumberFormat::u8 || view.shape.size() != 2 || view.shape[1] % block.block_bytes != 0)
    throw BadInput("{}: tensor \"{}\": expected u8 rows of whole {} blocks of {} bytes, found {} {}", archive.where(),
                   view.name, block.name, block.block_bytes, traits(view.format).name, view.shape_text());
  view.format = format;
  view.shape[1] = view.shape[1] / block.block_bytes * block.block_values;
  return view;
}

std::string fingerprint_in(const TensorArchive& archive) {
  const std::string& text = metadata(archive, "torpor.fingerprint");
  const bool hex =
      std::all_of(text.begin(), text.end(), [](char c) { return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f'); });
  if (text.size() != 32 || !hex)
    throw BadInput("{}: expected 32 hexadecimal digits as \"torpor.fingerprint\", found \"{}\"", archive.where(), text);
  return text;
}

float number_in(const TensorArchive& archive, const std::string& key) {
  const std::string& text = metadata(archive, key);
  float value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    throw BadInput("{}: expected a number as \"{}\", found \"{}\"", archive.where(), key, text);
  return value;
}

bool truth_in(const TensorArchive& archive, const std::string& key) {
  const std::string& text = metadata(archive, key);
  if (text != "true" && text != "false")
    throw BadInput("{}: expected true or false as \"{}\", found \"{}\"", archive.where(), key, text);
  return text == "true";
}

}  // namespace

ModelFiles packed_files(const TensorArchive& stored, const ModelConfig& config, const std::string& config_where) {
  if (const std::string& layout = metadata(stored, "torpor.layout"); layout != kPackedLayout)
    throw BadInput(
        "{}: expected a packed model of layout version {}, found version \"{}\". Pack the model again with this "
        "version "
        "of torpor: torpor pack MODEL -o DIR",
        stored.where(), kPackedLayout, layout);
  ModelFiles files;
  files.format = ModelFormat::packed;
  files.path = stored.where();
  files.config_where = config_where;
  files.config = config;
  files.config.norm_weight_offset = number_in(stored, "torpor.norm_weight_offset");
  files.config.rope_interleaved = truth_in(stored, "torpor.rope_interleaved");
  files.fingerprint = fingerprint_in(stored);
  files.embedding_scale = number_in(stored, "torpor.embedding_scale");
  if (config.altup.any()) files.layer_embedding_scale = number_in(stored, "torpor.layer_embedding_scale");
  files.archive.set_where(stored.where());
  files.archive.set_metadata(stored.metadata());
  const auto owner = std::make_shared<TensorArchive>(stored);  // keeps the mapping
  for (const TensorView& view : stored.tensors())
    if (!view.name.starts_with("pad ")) files.archive.add(with_format(view, stored), owner);
  return files;
}

ModelFiles open_packed(const fs::path& folder, const std::string& activation_override) {
  const fs::path path = folder / "config.json";
  if (!fs::exists(path))
    throw BadInput("{}: expected a config.json beside {}, found none. Pack the model again", folder.string(),
                   kPackedFile);
  ModelConfig config = read_huggingface_config(read_json(path), path.string(), activation_override);
  if (const fs::path generation = folder / "generation_config.json"; fs::exists(generation))
    add_generation_config(read_json(generation), generation.string(), config);
  ModelFiles files = packed_files(open_safetensors(folder / kPackedFile), config, path.string());
  files.path = folder;
  return files;
}

}  // namespace torpor
