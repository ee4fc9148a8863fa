#include "engine/kernels/onednn.h"

#include "core/base/shared_library.h"

namespace torpor {
namespace {

OneDnn open_library() {
  const SharedLibrary library(TORPOR_ONEDNN_FILE, SharedLibrary::Names::of_the_library);
  const auto set = [&]<typename Function>(Function*& function, const char* symbol) {
    function = library.find<Function>(symbol);
  };
  OneDnn functions;
  set(functions.sgemm, "dnnl_sgemm");
  set(functions.set_num_threads, "omp_set_num_threads");  // of what it is linked to
  set(functions.max_threads, "omp_get_max_threads");
  return functions;
}

}  // namespace

const OneDnn& onednn() {
  static const OneDnn functions = open_library();
  return functions;
}

}  // namespace torpor
