#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/tensor/in_quotes.h"
#include "core/tensor/safetensors.h"
#include "core/tensor/safetensors_header.h"

namespace torpor {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kPiece = std::size_t{16} << 20;  // bytes between two looks for Ctrl-C
constexpr std::size_t kMostShards = 500;  // all are open at once until the commit; systems allow 1024 files

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump();
}

void check(std::span<const TensorView* const> tensors, const SafetensorsMetadata& metadata) {
  std::unordered_set<std::string_view> names;
  for (const TensorView* tensor : tensors) {
    static_cast<void>(safetensors::dtype_of(tensor->format));
    if (!is_utf8(tensor->name) || tensor->name == "__metadata__")
      throw InvalidArgument("[write_safetensors] expected a tensor name in UTF-8 other than __metadata__, got {}",
                            in_quotes(tensor->name));
    if (!names.insert(tensor->name).second)
      throw InvalidArgument("[write_safetensors] the tensor {} appears twice", in_quotes(tensor->name));
    const std::size_t wanted = bytes_of(tensor->format, tensor->elements());
    if (tensor->bytes.size() != wanted)
      throw InvalidArgument("[write_safetensors] tensor {}: {} {} take {} bytes, got {}", in_quotes(tensor->name),
                            tensor->shape_text(), traits(tensor->format).name, wanted, tensor->bytes.size());
  }
  for (const auto& [key, value] : metadata)
    if (!is_utf8(key) || !is_utf8(value))
      throw InvalidArgument("[write_safetensors] expected metadata in UTF-8, got {}: {}", in_quotes(key),
                            in_quotes(value));
}

// Writes without committing. `tensors` have been checked.
void write_into(AtomicFile& file, std::vector<const TensorView*> tensors, const SafetensorsMetadata& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorView* a, const TensorView* b) {
    const int left = safetensors::alignment_rank(a->format), right = safetensors::alignment_rank(b->format);
    return left != right ? left > right : a->name < b->name;
  });
  std::string header = "{";
  const auto separate = [&] { header += header.size() > 1 ? "," : ""; };
  if (!metadata.empty()) {
    std::string text;
    for (const auto& [key, value] : metadata)
      text += (text.empty() ? "" : ",") + json_string(key) + ":" + json_string(value);
    header += "\"__metadata__\":{" + text + "}";
  }
  std::uint64_t offset = 0;
  for (const TensorView* tensor : tensors) {
    std::string shape;
    for (const std::int64_t dimension : tensor->shape)
      shape += fmt::format("{}{}", shape.empty() ? "" : ",", dimension);
    separate();
    header += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", json_string(tensor->name),
                          safetensors::dtype_of(tensor->format), shape, offset, offset + tensor->bytes.size());
    offset += tensor->bytes.size();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the data, and so every number in it, starts aligned
  const std::uint64_t length = header.size();
  file.append({reinterpret_cast<const char*>(&length), sizeof length});
  file.append(header);
  for (const TensorView* tensor : tensors) {
    std::string_view rest(reinterpret_cast<const char*>(tensor->bytes.data()), tensor->bytes.size());
    while (!rest.empty()) {
      check_interrupt();
      file.append(rest.substr(0, kPiece));
      rest.remove_prefix(std::min(kPiece, rest.size()));
    }
  }
}

std::vector<const TensorView*> pointers(std::span<const TensorView> tensors) {
  std::vector<const TensorView*> all;
  for (const TensorView& tensor : tensors) all.push_back(&tensor);
  return all;
}

// Removes what an earlier model left: the other way of storing, and shards that the new index does not name.
void remove_stale(const fs::path& folder, const std::unordered_set<std::string>& kept) {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool shard =
        name.starts_with("model-") && name.find("-of-") != std::string::npos && name.ends_with(".safetensors");
    const bool whole = name == "model.safetensors" || name == "model.safetensors.index.json";
    if ((shard || whole) && !kept.contains(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) {
    std::error_code code;
    fs::remove(path, code);
    if (code) throw IoError("{}: cannot remove this file of an earlier model: {}", path.string(), code.message());
  }
}

}  // namespace

void write_safetensors(const fs::path& path, std::span<const TensorView> tensors, const SafetensorsMetadata& metadata) {
  const auto all = pointers(tensors);
  check(all, metadata);
  AtomicFile file(path);
  write_into(file, all, metadata);
  file.commit();
}

std::vector<std::string> write_safetensors_folder(const fs::path& folder, std::span<const TensorView> tensors,
                                                  const SafetensorsMetadata& metadata, std::int64_t max_shard_bytes) {
  if (max_shard_bytes <= 0)
    throw InvalidArgument("[write_safetensors_folder] expected max_shard_bytes > 0, got {}", max_shard_bytes);
  const auto all = pointers(tensors);
  check(all, metadata);

  std::vector<std::vector<const TensorView*>> shards(1);
  std::uint64_t total = 0, used = 0;
  for (const TensorView* tensor : all) {
    if (!shards.back().empty() && used + tensor->bytes.size() > static_cast<std::uint64_t>(max_shard_bytes)) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(tensor);
    used += tensor->bytes.size();
    total += tensor->bytes.size();
  }
  if (shards.size() > kMostShards)
    throw InvalidArgument("[write_safetensors_folder] max_shard_bytes = {} would make {} shards; expected at most {}",
                          max_shard_bytes, shards.size(), kMostShards);

  make_writable_folder(folder);
  std::vector<std::string> names;
  std::vector<std::unique_ptr<AtomicFile>> files;
  std::map<std::string, std::string> weight_map;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shards.size() == 1 ? "model.safetensors"
                                       : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    for (const TensorView* tensor : shards[i]) weight_map[tensor->name] = names.back();
    files.push_back(std::make_unique<AtomicFile>(folder / names.back()));
    write_into(*files.back(), shards[i], metadata);
  }
  std::unordered_set<std::string> kept(names.begin(), names.end());
  if (shards.size() == 1) {
    files.front()->commit();
    remove_stale(folder, kept);
    return names;
  }
  const fs::path index = folder / "model.safetensors.index.json";
  nlohmann::ordered_json json;
  json["metadata"]["total_size"] = total;
  json["weight_map"] = nlohmann::json(weight_map);
  AtomicFile index_file(index);
  index_file.append(json.dump(2) + "\n");

  // From here on names change. Without the old index the old shards mean nothing, so no mixture can be opened; an old
  // model.safetensors goes last but one, as open_safetensors prefers it.
  std::error_code code;
  fs::remove(index, code);
  for (const auto& file : files) file->commit();
  kept.insert(index.filename().string());
  index_file.commit();
  remove_stale(folder, kept);
  return names;
}

}  // namespace torpor
