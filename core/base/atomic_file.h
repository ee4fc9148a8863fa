// Files that are either the old one or the new one, never half of either: written under a temporary name in the same
// folder, synced, renamed.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace torpor {

/// Writes `content` to `path` whole or not at all. Creates missing parent folders.
/// Throws IoError naming the path and the system's reason (disk full, no permission); the old file is then untouched
/// and the temporary one removed. Thread-safe for different paths.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// The same for content that does not fit a string: append in pieces, then commit. Without commit, nothing remains.
/// Move-only; one thread at a time.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(AtomicFile&&) = delete;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Throws IoError.
  void append(std::string_view bytes);
  /// Syncs, renames and syncs the folder. Throws IoError. At most once.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// After it, names made and removed in the folder outlast a crash of the system. Throws IoError.
void sync_folder(const std::filesystem::path& folder);

/// The whole file as a string. Throws BadInput (missing, a folder, unreadable, longer than `limit` bytes).
std::string read_file(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 31);

/// Creates a folder to write results to and checks that it can be written. Throws IoError naming it.
void make_writable_folder(const std::filesystem::path& folder);

}  // namespace torpor
