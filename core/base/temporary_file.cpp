#include "core/base/temporary_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/base/error.h"

namespace torpor {

TemporaryFile::TemporaryFile(std::string_view prefix) {
  std::string name = (std::filesystem::temp_directory_path() / (std::string(prefix) + "-XXXXXX")).string();
  const int descriptor = ::mkstemp(name.data());
  path_ = name;
  if (descriptor < 0) fail();
  file_ = ::fdopen(descriptor, "wb");
  if (file_ != nullptr) return;
  ::close(descriptor);
  ::unlink(name.c_str());
  fail();
}

TemporaryFile::~TemporaryFile() {
  static_cast<void>(std::fclose(file_));
  ::unlink(path_.c_str());
}

void TemporaryFile::append(std::span<const std::byte> bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail();
}

void TemporaryFile::flush() {
  if (std::fflush(file_) != 0) fail();
}

void TemporaryFile::fail() const {
  throw IoError("{}: a temporary file cannot be written: {}. Is there room? TMPDIR names another folder for it",
                path_.string(), std::strerror(errno));
}

}  // namespace torpor
