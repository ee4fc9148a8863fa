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
  const std::size_t spare = bytes >= kLargePage ? kLargePage : 0;  // so that a boundary of large pages lies inside
  const std::size_t length = bytes + spare;
  void* const memory =
      length < bytes ? MAP_FAILED : ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw IoError("out of memory: {} bytes for {}", bytes, purpose);
  auto* start = static_cast<std::byte*>(memory);
  if (spare > 0) {
    start += (kLargePage - reinterpret_cast<std::uintptr_t>(start) % kLargePage) % kLargePage;
#ifdef MADV_HUGEPAGE
    static_cast<void>(::madvise(start, bytes, MADV_HUGEPAGE));  // a wish: without them it is slower, not wrong
#endif
  }
  return {start, [memory, length](std::byte*) { ::munmap(memory, length); }};
}

}  // namespace torpor
