// A file for what does not fit in memory and is not wanted afterwards.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

namespace torpor {

/// A new file in the system's folder for temporary files (TMPDIR), removed with the object: what was mapped of it stays
/// readable. One thread at a time.
class TemporaryFile {
 public:
  /// Its name starts with `prefix`. Throws IoError.
  explicit TemporaryFile(std::string_view prefix);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Throws IoError naming the file and the system's reason.
  void append(std::span<const std::byte> bytes);
  /// What was appended is in the file after this. Throws IoError.
  void flush();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
};

}  // namespace torpor
