#include "core/tensor/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <unordered_map>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/tensor/in_quotes.h"
#include "core/tensor/safetensors_header.h"

namespace torpor {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "tensor files are little endian and used as they are");

constexpr std::uint64_t kLongestHeader = 100'000'000;  // the reference implementation's limit
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// What a file is that starts like no safetensors file, for the error message.
std::string guess(std::span<const std::byte> file) {
  const std::string_view start(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 8));
  if (start.starts_with("GGUF")) return " It looks like a GGUF file.";
  if (start.starts_with("PK\x03\x04")) return " It looks like a PyTorch or zip archive; save it as safetensors first.";
  if (start.starts_with("{")) return " It looks like JSON.";
  if (start.starts_with("version ")) return " It looks like a Git LFS pointer: fetch the real file with git lfs pull.";
  return "";
}

TensorArchive open_file(const fs::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse_safetensors(bytes, std::move(mapped), path.string());
}

// A shard's name comes from the index: it must be the name of a file beside it, nothing that leads elsewhere.
void check_shard_name(const std::string& shard, const std::string& tensor, const std::string& where) {
  if (shard.empty() || shard == "." || shard == ".." ||
      shard.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
    throw BadInput("{}: tensor {}: expected the name of a file in the same folder, found {}", where, in_quotes(tensor),
                   in_quotes(shard));
}

TensorArchive open_index(const fs::path& path) {
  const std::string where = path.string();
  const std::string text = read_file(path, kLongestHeader);
  std::unordered_map<std::string, std::size_t> shard_of;       // tensor → its shard, by number
  std::unordered_map<std::string, std::size_t> shard_numbers;  // in order of appearance
  std::vector<std::string> shards;
  safetensors::parse_index(text, where, [&](const std::string& tensor, const std::string& shard) {
    const auto [number, is_new] = shard_numbers.emplace(shard, shards.size());
    if (is_new) {
      check_shard_name(shard, tensor, where);
      shards.push_back(shard);
    }
    if (!shard_of.emplace(tensor, number->second).second)
      throw BadInput("{}: the tensor {} appears twice in weight_map", where, in_quotes(tensor));
  });
  if (shards.empty()) throw BadInput("{}: expected at least one tensor in weight_map, found none", where);

  // All absent shards at once: a person fetches them in one go.
  std::string absent;
  std::size_t n_absent = 0;
  for (const std::string& shard : shards) {
    if (fs::exists(path.parent_path() / shard)) continue;
    if (++n_absent <= 3) absent += (absent.empty() ? "" : ", ") + in_quotes(shard);
  }
  if (n_absent > 0)
    throw BadInput("{}: {} of {} shards are missing: {}{}. Is the download complete?", where, n_absent, shards.size(),
                   absent, n_absent > 3 ? ", …" : "");

  TensorArchive all;
  all.set_where(where);
  std::unordered_map<std::string, std::string> metadata;
  for (const auto& [file, number] :
       std::map(shard_numbers.begin(), shard_numbers.end())) {  // by name: the same order always
    auto mapped = MappedFile::open(path.parent_path() / file);
    const auto bytes = mapped->bytes();
    const TensorArchive shard = parse_safetensors(bytes, mapped, mapped->path().string());
    for (const TensorView& tensor : shard.tensors()) {
      const auto listing = shard_of.find(tensor.name);
      if (listing != shard_of.end() && listing->second != number)
        throw BadInput("{}: the tensor {} is listed in {}, found in {}", where, in_quotes(tensor.name),
                       in_quotes(shards[listing->second]), in_quotes(file));
      all.add(tensor, mapped);  // also those that the index does not list: other readers of the format load them too
    }
    for (const auto& [key, value] : shard.metadata()) metadata.emplace(key, value);
  }
  for (const auto& [name, number] : shard_of)
    if (all.find(name) == nullptr)
      throw BadInput("{}: the tensor {} is listed in {}, which does not hold it", where, in_quotes(name),
                     in_quotes(shards[number]));
  all.set_metadata(std::move(metadata));
  return all;
}

TensorArchive open_folder(const fs::path& folder) {
  if (fs::exists(folder / kSingle)) return open_file(folder / kSingle);
  if (fs::exists(folder / kIndex)) return open_index(folder / kIndex);
  std::string found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".gguf"))
      found += (found.empty() ? "" : ", ") + in_quotes(name);
  }
  throw BadInput("{}: expected {} or {} in this folder, found {}", folder.string(), kSingle, kIndex,
                 found.empty() ? "no model files" : found);
}

}  // namespace

TensorArchive parse_safetensors(std::span<const std::byte> file, const std::shared_ptr<const void>& owner,
                                const std::string& where) {
  if (file.size() < 8)
    throw BadInput("{}: expected a safetensors file of at least 8 bytes, found {}. Is the download complete?", where,
                   file.size());
  std::uint64_t header_bytes;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  if (header_bytes > kLongestHeader)
    throw BadInput(
        "{}: expected a safetensors header of at most {} bytes, found a length of {}. Is this the right file?{}", where,
        kLongestHeader, header_bytes, guess(file));
  if (header_bytes > file.size() - 8)
    throw BadInput("{}: the header takes {} bytes from byte 8 on, the file has {}. Is the download complete?", where,
                   header_bytes, file.size());
  const std::string_view json(reinterpret_cast<const char*>(file.data() + 8), header_bytes);
  if (!json.starts_with('{'))
    throw BadInput("{}: expected the header to start with {{ at byte 8, found {}. Is this a safetensors file?", where,
                   json.empty() ? "nothing" : in_quotes(json.substr(0, 1)));

  safetensors::Header header = safetensors::parse_header(json, where);
  const auto data = file.subspan(8 + header_bytes);
  // The data must be covered without overlaps and holes. Empty tensors lie anywhere between others.
  std::stable_sort(header.entries.begin(), header.entries.end(),
                   [](const auto& a, const auto& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  TensorArchive archive;
  archive.set_where(where);
  std::uint64_t covered = 0;
  std::string previous;
  for (safetensors::Entry& entry : header.entries) {
    const std::string name = in_quotes(entry.name);
    if (entry.begin > entry.end)
      throw BadInput("{}: tensor {}: expected data_offsets in rising order, found [{}, {}]", where, name, entry.begin,
                     entry.end);
    if (entry.end > data.size())
      throw BadInput(
          "{}: tensor {} ends at byte {} of the data, the file has {} bytes of data. Is the download complete?", where,
          name, entry.end, data.size());
    const auto elements = element_count(entry.shape);
    if (!elements || *elements > INT64_MAX / traits(entry.format).block_bytes)
      throw BadInput("{}: tensor {}: the shape {} overflows 2^63 - 1 bytes", where, name, shape_text(entry.shape));
    const std::uint64_t wanted = bytes_of(entry.format, *elements);
    if (entry.end - entry.begin != wanted)
      throw BadInput("{}: tensor {}: {} {} take {} bytes, data_offsets [{}, {}] hold {}", where, name,
                     shape_text(entry.shape), traits(entry.format).name, wanted, entry.begin, entry.end,
                     entry.end - entry.begin);
    if (entry.begin < covered)
      throw BadInput("{}: tensors {} and {} overlap: the one ends at byte {} of the data, the other begins at {}",
                     where, previous, name, covered, entry.begin);
    if (entry.begin > covered)
      throw BadInput("{}: bytes {} to {} of the data belong to no tensor (before {}); expected no holes", where,
                     covered, entry.begin, name);
    covered = entry.end;
    previous = name;
    TensorView view{std::move(entry.name), entry.format, std::move(entry.shape), data.subspan(entry.begin, wanted)};
    archive.add(std::move(view), owner);
  }
  if (covered != data.size())
    throw BadInput(
        "{}: the tensors end at byte {} of the data, the file has {} bytes of data; expected nothing after them", where,
        covered, data.size());
  archive.set_metadata(std::move(header.metadata));
  return archive;
}

TensorArchive open_safetensors(const fs::path& path) {
  if (fs::is_directory(path)) return open_folder(path);
  if (path.extension() == ".json") return open_index(path);
  return open_file(path);
}

}  // namespace torpor
