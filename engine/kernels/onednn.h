// oneDNN's matrix product, opened when it is first used. Linked the ordinary way it would cost every start of a program
// 6 ms (33,000 relocations in 40 MB); and LibTorch exports the names of its own, newer oneDNN, which lacks the
// function, so that in a program with both the wrong one would be called. Internal.
#pragma once

#include <oneapi/dnnl/dnnl.h>

#include <cstdint>

namespace torpor {

struct OneDnn {
  decltype(&dnnl_sgemm) sgemm = nullptr;
  /// As sgemm, A and B in bf16, products and sums in f32. oneDNN exports it but has no declaration of it.
  dnnl_status_t (*gemm_bf16)(char transa, char transb, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k, float alpha,
                             const std::uint16_t* a, dnnl_dim_t lda, const std::uint16_t* b, dnnl_dim_t ldb, float beta,
                             float* c, dnnl_dim_t ldc) = nullptr;
  bool bf16_tiles = false;  // the processor multiplies tiles of bf16 (AMX), and oneDNN will use that
  // Of the OpenMP run-time library that this oneDNN uses, which need not be the only one in the program.
  void (*set_num_threads)(int) = nullptr;
  int (*max_threads)() = nullptr;
};

/// Throws IoError where the library cannot be opened or is of another version. Thread-safe.
const OneDnn& onednn();

}  // namespace torpor
