#include "core/base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>

#include "core/base/error.h"

namespace torpor {
namespace fs = std::filesystem;
namespace {

// Without an exception of its own where a folder on the way may not be entered; opening says so in the right words.
bool is_folder(const fs::path& path) {
  std::error_code code;
  return fs::is_directory(path, code);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  if (is_folder(path_)) throw IoError("{}: expected a file name to write to, found a folder", path_.string());
  const fs::path folder = folder_of(path_);
  std::error_code code;
  fs::create_directories(folder, code);
  if (code) throw IoError("{}: cannot create the folder: {}", folder.string(), code.message());
  std::string name = (folder / ("." + path_.filename().string() + ".XXXXXX")).string();
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) throw IoError("{}: cannot write into this folder: {}", folder.string(), std::strerror(errno));
  temporary_ = name;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, 0666 & ~mask);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::fail(const char* action) const {
  const int reason = errno;
  throw IoError(
      "{}: cannot {}: {}{}", path_.string(), action, std::strerror(reason),
      reason == ENOSPC ? ". Free some space or choose another folder with -o; the old file is untouched" : "");
}

void AtomicFile::append(std::string_view bytes) {
  TORPOR_ASSERT(descriptor_ >= 0, "append after commit");
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  TORPOR_ASSERT(descriptor_ >= 0, "commit twice");
  if (::fsync(descriptor_) != 0) fail("sync to disk");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename into place");
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(folder_of(path_));
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool done = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);  // some file systems cannot
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!done) throw IoError("{}: this folder cannot be synced to disk: {}", folder.string(), std::strerror(reason));
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.append(content);
  file.commit();
}

std::string read_file(const fs::path& path, std::size_t limit) {
  if (is_folder(path)) throw BadInput("{}: expected a file, found a folder", path.string());
  std::ifstream in(path, std::ios::binary);
  if (!in) throw BadInput("{}: cannot be read: {}", path.string(), std::strerror(errno));
  std::string content;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer) || in.gcount() > 0) {
    content.append(buffer, static_cast<std::size_t>(in.gcount()));
    if (content.size() > limit)
      throw BadInput("{}: expected at most {} bytes, found more. Is this the right file?", path.string(), limit);
  }
  if (in.bad()) throw BadInput("{}: reading failed: {}", path.string(), std::strerror(errno));
  return content;
}

void make_writable_folder(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code || !is_folder(folder))
    throw IoError("{}: cannot create this folder{}{}. Choose another with -o", folder.string(), code ? ": " : "",
                  code ? code.message() : "");
  std::string probe = (folder / ".torpor-XXXXXX").string();
  const int descriptor = ::mkostemp(probe.data(), O_CLOEXEC);
  if (descriptor < 0)
    throw IoError("{}: cannot write into this folder: {}. Choose another with -o", folder.string(),
                  std::strerror(errno));
  ::close(descriptor);
  ::unlink(probe.c_str());
}

}  // namespace torpor
