#include "core/base/shared_library.h"

#include <dlfcn.h>

#include "core/base/error.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORPOR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TORPOR_SANITIZED 1
#endif
#endif

namespace torpor {
namespace {

#ifdef TORPOR_SANITIZED
constexpr int kOwnNamesFirst = 0;
#else
constexpr int kOwnNamesFirst = RTLD_DEEPBIND;
#endif

}  // namespace

SharedLibrary::SharedLibrary(const char* file, Names names)
    : file_(file),
      handle_(dlopen(file, RTLD_NOW | RTLD_LOCAL | (names == Names::of_the_library ? kOwnNamesFirst : 0))) {
  if (handle_ == nullptr) throw IoError("a library that torpor needs cannot be loaded: {}", dlerror());
}

void* SharedLibrary::address_of(const char* symbol) const {
  void* const address = dlsym(handle_, symbol);
  if (address == nullptr) throw IoError("{} lacks the function {}: it is of another version", file_, symbol);
  return address;
}

}  // namespace torpor
