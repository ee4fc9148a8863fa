// Highway, loaded when it is first used. Linked the ordinary way it would cost every start of the program a millisecond
// (its initialiser measures a timer), `torpor --version` included. The functions below stand in for the ones that the
// library calls, so that the linker, told --as-needed, drops it; the first call opens the real one. A function that is
// missing here costs nothing but the gain: the library is then linked as before.
#include <hwy/aligned_allocator.h>
#include <hwy/targets.h>

#include "core/base/shared_library.h"

namespace {

const torpor::SharedLibrary& highway() {
  static const torpor::SharedLibrary library(TORPOR_HIGHWAY_FILE);
  return library;
}

}  // namespace

namespace hwy {

ChosenTarget& GetChosenTarget() {
  static auto* const real = highway().find<ChosenTarget&()>("_ZN3hwy15GetChosenTargetEv");
  return real();
}

int64_t SupportedTargets() {
  static auto* const real = highway().find<int64_t()>("_ZN3hwy16SupportedTargetsEv");
  return real();
}

void* AllocateAlignedBytes(size_t payload_size, AllocPtr alloc_ptr, void* opaque_ptr) {
  static auto* const real =
      highway().find<decltype(AllocateAlignedBytes)>("_ZN3hwy20AllocateAlignedBytesEmPFPvS0_mES0_");
  return real(payload_size, alloc_ptr, opaque_ptr);
}

void FreeAlignedBytes(const void* aligned_pointer, FreePtr free_ptr, void* opaque_ptr) {
  static auto* const real = highway().find<decltype(FreeAlignedBytes)>("_ZN3hwy16FreeAlignedBytesEPKvPFvPvS2_ES2_");
  real(aligned_pointer, free_ptr, opaque_ptr);
}

}  // namespace hwy
