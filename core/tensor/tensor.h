// Tensors that live in files: a view says what and where, an archive owns the mapping. Nothing is copied.
// Shapes are row-major, outermost dimension first, as in safetensors and PyTorch; GGUF's reversed order is turned round
// on reading, so that a linear layer's weight is [out, in] whatever the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor/number_format.h"

namespace torpor {

/// Numbers in a tensor of this shape (1 for a scalar); nothing for negative dimensions or a product beyond 2^63 - 1.
std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);

/// "[2048, 128]"
std::string shape_text(std::span<const std::int64_t> shape);

/// One tensor. `bytes` stays valid as long as the archive (or buffer) that it came from.
struct TensorView {
  std::string name;
  NumberFormat format = NumberFormat::f32;
  std::vector<std::int64_t> shape;   // may be empty (a scalar)
  std::span<const std::byte> bytes;  // exactly bytes_of(format, elements()); no alignment promised

  /// Throws InvalidArgument for a shape without an element count (never the case for tensors of an archive).
  std::int64_t elements() const;
  std::string shape_text() const { return torpor::shape_text(shape); }
};

/// A tensor's numbers as f32 (a copy). Formats and errors of to_f32 (number_format.h).
std::vector<float> to_f32(const TensorView& tensor);

/// A read-only memory-mapped file. Shared by the archives and weights that point into it. Pages are read when they are
/// first touched. Nobody may shorten the file meanwhile: touching what is gone ends the process (SIGBUS); replacing it
/// by rename, as all of Torpor's writers do, is safe.
class MappedFile {
 public:
  /// Throws BadInput (missing, a folder, not a regular file, empty, unreadable) naming the file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

  /// Asks the system to start reading these bytes (inside bytes()) in the background, before they are needed.
  /// Thread-safe.
  void prefetch(std::span<const std::byte> part) const;
  /// Tells the system that these bytes are not needed for now: they stop counting as this process's memory and are read
  /// again when they are touched. Thread-safe.
  void release(std::span<const std::byte> part) const;

 private:
  void advise(std::span<const std::byte> part, int advice) const;

  MappedFile() = default;
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

/// Named tensors of one or several files. A copy shares the mappings. Const methods may run at once; adding invalidates
/// what `tensors`, `find` and `at` returned.
class TensorArchive {
 public:
  TensorArchive() = default;

  /// Takes part of the ownership of whatever the view points into. Throws BadInput for a name that appears twice,
  /// InvalidArgument for bytes that are not as many as format and shape need.
  void add(TensorView tensor, std::shared_ptr<const void> owner);

  /// In file order (by offset); shards one after another.
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
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;  // look-ups by string_view
  };
  std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>> index_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::unordered_map<std::string, std::string> metadata_;
};

}  // namespace torpor
