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

void check_names(std::span<const TensorView* const> tensors, const SafetensorsMetadata& metadata) {
  std::unordered_set<std::string_view> names;
  for (const TensorView* tensor : tensors) {
    static_cast<void>(safetensors::dtype_of(tensor->format));
    if (!is_utf8(tensor->name) || tensor->name == "__metadata__")
      throw InvalidArgument("[write_safetensors] expected a tensor name in UTF-8 other than __metadata__, got {}",
                            in_quotes(tensor->name));
    if (!names.insert(tensor->name).second)
      throw InvalidArgument("[write_safetensors] the tensor {} appears twice", in_quotes(tensor->name));
  }
  for (const auto& [key, value] : metadata)
    if (!is_utf8(key) || !is_utf8(value))
      throw InvalidArgument("[write_safetensors] expected metadata in UTF-8, got {}: {}", in_quotes(key),
                            in_quotes(value));
}

void check(std::span<const TensorView* const> tensors, const SafetensorsMetadata& metadata) {
  check_names(tensors, metadata);
  for (const TensorView* tensor : tensors) {
    const std::size_t wanted = bytes_of(tensor->format, tensor->elements());
    if (tensor->bytes.size() != wanted)
      throw InvalidArgument("[write_safetensors] tensor {}: {} {} take {} bytes, got {}", in_quotes(tensor->name),
                            tensor->shape_text(), traits(tensor->format).name, wanted, tensor->bytes.size());
  }
}

// The header of tensors that lie one after another, with its length before it; the data begins at a multiple of
// `alignment`. Returns the bytes of the data.
std::uint64_t write_header(AtomicFile& file, std::span<const TensorView* const> tensors,
                           const SafetensorsMetadata& metadata, std::size_t alignment) {
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
    const std::uint64_t end = offset + bytes_of(tensor->format, tensor->elements());
    header += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", json_string(tensor->name),
                          safetensors::dtype_of(tensor->format), shape, offset, end);
    offset = end;
  }
  header += "}";
  std::uint64_t length = header.size() + sizeof length;
  length = (length + alignment - 1) / alignment * alignment - sizeof length;
  header.resize(length, ' ');  // the data, and so every number in it, starts aligned
  file.append({reinterpret_cast<const char*>(&length), sizeof length});
  file.append(header);
  return offset;
}

void append_pieces(AtomicFile& file, std::span<const std::byte> bytes) {
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (!rest.empty()) {
    check_interrupt();
    file.append(rest.substr(0, kPiece));
    rest.remove_prefix(std::min(kPiece, rest.size()));
  }
}

// Writes without committing. `tensors` have been checked.
void write_into(AtomicFile& file, std::vector<const TensorView*> tensors, const SafetensorsMetadata& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorView* a, const TensorView* b) {
    const int left = safetensors::alignment_rank(a->format), right = safetensors::alignment_rank(b->format);
    return left != right ? left > right : a->name < b->name;
  });
  write_header(file, tensors, metadata, 8);
  for (const TensorView* tensor : tensors) append_pieces(file, tensor->bytes);
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

struct SafetensorsWriter::State {
  explicit State(const fs::path& path) : file(path) {}
  AtomicFile file;
  std::uint64_t left = 0;
};

SafetensorsWriter::SafetensorsWriter(const fs::path& path, std::span<const TensorView> tensors,
                                     const SafetensorsMetadata& metadata, std::size_t data_alignment)
    : state_(std::make_unique<State>(path)) {
  const auto all = pointers(tensors);
  check_names(all, metadata);
  if (data_alignment < 8 || data_alignment % 8 != 0)
    throw InvalidArgument("[SafetensorsWriter] expected an alignment that is a multiple of 8, got {}", data_alignment);
  state_->left = write_header(state_->file, all, metadata, data_alignment);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > state_->left)
    throw InvalidArgument("[SafetensorsWriter] expected at most {} more bytes, got {}", state_->left, bytes.size());
  append_pieces(state_->file, bytes);
  state_->left -= bytes.size();
}

void SafetensorsWriter::commit() {
  if (state_->left > 0) throw InvalidArgument("[SafetensorsWriter] {} bytes of the tensors are missing", state_->left);
  state_->file.commit();
}

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
