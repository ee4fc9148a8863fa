#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/tensor/tensor.h"

namespace torpor {

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const std::string where = path.string();
  // O_NONBLOCK: opening a named pipe must not wait for its writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw BadInput("{}: expected a readable file: {}", where, std::strerror(errno));
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } closer{descriptor};

  struct stat info {};
  if (::fstat(descriptor, &info) != 0) throw IoError("{}: cannot be examined: {}", where, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) throw BadInput("{}: expected a file, found a folder", where);
  if (!S_ISREG(info.st_mode)) throw BadInput("{}: expected a regular file, found a pipe, socket or device", where);
  if (info.st_size <= 0) throw BadInput("{}: expected data, found an empty file. Is the download complete?", where);
  if (static_cast<std::uintmax_t>(info.st_size) > std::numeric_limits<std::size_t>::max())
    throw BadInput("{}: {} bytes are more than this machine can address", where, info.st_size);

  std::shared_ptr<MappedFile> file(new MappedFile);
  const auto size = static_cast<std::size_t>(info.st_size);
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (start == MAP_FAILED) throw IoError("{}: cannot be mapped into memory: {}", where, std::strerror(errno));
  file->path_ = path;
  file->bytes_ = {static_cast<const std::byte*>(start), size};
  return file;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::advise(std::span<const std::byte> part, int advice) const {
  if (part.empty()) return;
  const auto address = [](const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); };
  if (address(part.data()) < address(bytes_.data()) || part.size() > bytes_.size() ||
      address(part.data()) - address(bytes_.data()) > bytes_.size() - part.size())
    throw InvalidArgument("[MappedFile] expected bytes of {}", path_.string());
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t before = address(part.data()) % page;
  // Only advice: where the system refuses it, pages come when they are touched and go when it wants.
  static_cast<void>(::madvise(const_cast<std::byte*>(part.data() - before), part.size() + before, advice));
}

void MappedFile::prefetch(std::span<const std::byte> part) const {
  advise(part, MADV_WILLNEED);
}

void MappedFile::release(std::span<const std::byte> part) const {
  advise(part, MADV_DONTNEED);  // the mapping is shared and never written: nothing can be lost
}

}  // namespace torpor
