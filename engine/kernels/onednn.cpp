#include "engine/kernels/onednn.h"

#include <dlfcn.h>

#include "core/base/error.h"

// Sanitizers refuse libraries that look up their own names first.
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

OneDnn open_library() {
  void* const library = dlopen(TORPOR_ONEDNN_FILE, RTLD_NOW | RTLD_LOCAL | kOwnNamesFirst);
  if (library == nullptr) throw IoError("a library that torpor needs cannot be loaded: {}", dlerror());
  const auto find = [library](const char* symbol) {
    void* const address = dlsym(library, symbol);  // also in what the library itself is linked to
    if (address == nullptr)
      throw IoError("{} lacks the function {}: it is of another version", TORPOR_ONEDNN_FILE, symbol);
    return address;
  };
  OneDnn functions;
  functions.sgemm = reinterpret_cast<decltype(functions.sgemm)>(find("dnnl_sgemm"));
  functions.set_num_threads = reinterpret_cast<decltype(functions.set_num_threads)>(find("omp_set_num_threads"));
  functions.max_threads = reinterpret_cast<decltype(functions.max_threads)>(find("omp_get_max_threads"));
  return functions;
}

}  // namespace

const OneDnn& onednn() {
  static const OneDnn functions = open_library();
  return functions;
}

}  // namespace torpor
