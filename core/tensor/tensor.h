// Tensors that live in files: a view says what and where, an archive owns the mapping. Nothing is copied.
// Shapes are row-major, outermost dimension first, as in safetensors and PyTorch; GGUF's reversed order is turned round on
// reading, so that a linear layer's weight is [out, in] whatever the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor/number_format.h"

namespace torpor {

/// One tensor. `bytes` stays valid as long as the archive (or buffer) that it came from.
struct TensorView {
  std::string name;
  NumberFormat format = NumberFormat::f32;
  std::vector<std::int64_t> shape;   // may be empty (a scalar)
  std::span<const std::byte> bytes;  // exactly bytes_of(format, elements())

  std::int64_t elements() const;
  /// "[2048, 128]"
  std::string shape_text() const;
};

/// A read-only memory-mapped file. Shared by the archives and weights that point into it.
class MappedFile {
 public:
  /// Throws BadInput (missing, a folder, empty) naming the file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

/// Named tensors of one or several files. Cheap to copy (shares the mappings). Const methods may run at once.
class TensorArchive {
 public:
  TensorArchive() = default;

  /// Takes part of the ownership of whatever the views point into. Throws BadInput for a name that appears twice.
  void add(TensorView tensor, std::shared_ptr<const void> owner);

  /// In file order.
  std::span<const TensorView> tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const;
  /// Throws BadInput("…: expected a tensor \"x\", found none").
  const TensorView& at(std::string_view name) const;

  /// What to call the source in errors: a file or folder.
  const std::string& where() const { return where_; }
  void set_where(std::string where) { where_ = std::move(where); }

  /// Free-form string metadata (safetensors `__metadata__`).
  const std::unordered_map<std::string, std::string>& metadata() const { return metadata_; }
  void set_metadata(std::unordered_map<std::string, std::string> metadata) { metadata_ = std::move(metadata); }

 private:
  std::string where_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::unordered_map<std::string, std::string> metadata_;
};

}  // namespace torpor
