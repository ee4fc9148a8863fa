#include "core/base/large_memory.h"

#include <sys/mman.h>

#include <cstdint>

#include "core/base/error.h"

namespace torpor {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;

}  // namespace

std::shared_ptr<std::byte> allocate_large(std::size_t bytes, const std::string& purpose) {
  if (bytes == 0) bytes = 1;
  // Whole large pages, the last one too, and one to spare, so that a boundary of them lies inside. (Without the last
  // one a matrix of 5.6 MB had 1.6 MB in small pages and was read at 24 GB/s in place of 29.)
  const bool large = bytes >= kLargePage;
  const std::size_t pages = large ? (bytes + kLargePage - 1) / kLargePage * kLargePage : bytes;
  const std::size_t length = large ? pages + kLargePage : bytes;
  void* const memory =
      length < bytes ? MAP_FAILED : ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw IoError("out of memory: {} bytes for {}", bytes, purpose);
  auto* start = static_cast<std::byte*>(memory);
  if (large) {
    start += (kLargePage - reinterpret_cast<std::uintptr_t>(start) % kLargePage) % kLargePage;
#ifdef MADV_HUGEPAGE
    static_cast<void>(::madvise(start, pages, MADV_HUGEPAGE));  // a wish: without them it is slower, not wrong
#endif
  }
  return {start, [memory, length](std::byte*) { ::munmap(memory, length); }};
}

}  // namespace torpor
