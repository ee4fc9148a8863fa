// oneDNN's matrix product, opened when it is first used. Linked the ordinary way it would cost every start of a program
// 6 ms (33,000 relocations in 40 MB); and LibTorch exports the names of its own, newer oneDNN, which lacks the
// function, so that in a program with both the wrong one would be called. Internal.
#pragma once

#include <oneapi/dnnl/dnnl.h>

namespace torpor {

struct OneDnn {
  decltype(&dnnl_sgemm) sgemm = nullptr;
  // Of the OpenMP run-time library that this oneDNN uses, which need not be the only one in the program.
  void (*set_num_threads)(int) = nullptr;
  int (*max_threads)() = nullptr;
};

/// Throws IoError where the library cannot be opened or is of another version. Thread-safe.
const OneDnn& onednn();

}  // namespace torpor
