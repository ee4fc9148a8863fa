// safetensors: the file format of Hugging Face's model weights. A header in JSON (name, type, shape and place of each
// tensor), then the numbers. Source: the format section of the safetensors README; its checks are all made here.
//   u64 little endian: bytes of the header | header | data; offsets count from the start of the data.
// A large model is a folder of several such files ("shards") and an index that says which tensor lies where.
// Not read: the 8-, 6- and 4-bit floating types and complex numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace torpor {

/// Opens a .safetensors file, an index (model.safetensors.index.json) or a folder that holds model.safetensors or such
/// an index. Maps the files and reads only their headers: the cost does not depend on the size of the weights. Metadata
/// of several shards is united (the first shard wins). Throws BadInput for anything that is missing or against the
/// format; the message names file, tensor and offset.
TensorArchive open_safetensors(const std::filesystem::path& path);

/// The same for a file that lies in memory. `owner` keeps `file` alive; `where` names it in errors.
TensorArchive parse_safetensors(std::span<const std::byte> file, const std::shared_ptr<const void>& owner,
                                const std::string& where);

using SafetensorsMetadata = std::map<std::string, std::string>;

/// Writes one file: atomically, streaming from the views, and the same bytes for the same input whatever its order:
/// tensors lie by falling alignment of their type, then by name, as in the reference implementation, so that each
/// number is aligned to its size.
/// Throws InvalidArgument (a quantised format, a name twice or not UTF-8 or "__metadata__"), IoError, Interrupted.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const SafetensorsMetadata& metadata = {});

/// Writes one file piece by piece, for tensors that are made while they are written: never all of them are in memory.
/// They lie in the order given. Atomic: without commit(), nothing remains. One thread at a time.
class SafetensorsWriter {
 public:
  /// tensors: what they will be; their bytes are empty. data_alignment: where the data begins, a multiple of it. Throws
  /// as write_safetensors.
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorView> tensors,
                    const SafetensorsMetadata& metadata = {}, std::size_t data_alignment = 8);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// The next bytes. Throws IoError, Interrupted; InvalidArgument beyond the end.
  void append(std::span<const std::byte> bytes);
  /// Throws InvalidArgument where bytes are missing, IoError.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes model.safetensors, or, where the tensors take more than `max_shard_bytes`, shards
/// model-00001-of-0000N.safetensors and model.safetensors.index.json, into `folder` (made if absent). Tensors keep
/// their order; a tensor larger than the limit has a shard for itself. Files of an earlier model in the folder that
/// would be in the way are removed. Until all data is written and synced the folder's old model stays as it is; then
/// the names change within milliseconds, the index last. A crash in that moment leaves a folder that open_safetensors
/// refuses, never a mixture. Returns the names of the data files written. Errors as above.
std::vector<std::string> write_safetensors_folder(const std::filesystem::path& folder,
                                                  std::span<const TensorView> tensors,
                                                  const SafetensorsMetadata& metadata = {},
                                                  std::int64_t max_shard_bytes = std::int64_t{5'000'000'000});

}  // namespace torpor
