// oneDNN's matrix products, opened when they are first used. Linked the ordinary way the library would cost every start
// of a program 6 ms (33,000 relocations in 40 MB); and LibTorch exports the names of its own, newer oneDNN, which lacks
// some functions, so that in a program with both the wrong ones would be called. Internal.
#pragma once

#include <oneapi/dnnl/dnnl.h>

#include <cstdint>
#include <memory>

namespace torpor {

struct OneDnn {
  decltype(&dnnl_sgemm) sgemm = nullptr;
  // Of the OpenMP run-time library that this oneDNN uses, which need not be the only one in the program.
  void (*set_num_threads)(int) = nullptr;
  int (*max_threads)() = nullptr;

  decltype(&dnnl_engine_create) engine_create = nullptr;
  decltype(&dnnl_stream_create) stream_create = nullptr;
  decltype(&dnnl_stream_destroy) stream_destroy = nullptr;
  decltype(&dnnl_memory_desc_init_by_strides) memory_desc_init_by_strides = nullptr;
  decltype(&dnnl_memory_create) memory_create = nullptr;
  decltype(&dnnl_memory_destroy) memory_destroy = nullptr;
  decltype(&dnnl_matmul_desc_init) matmul_desc_init = nullptr;
  decltype(&dnnl_primitive_desc_create) primitive_desc_create = nullptr;
  decltype(&dnnl_primitive_desc_destroy) primitive_desc_destroy = nullptr;
  decltype(&dnnl_primitive_create) primitive_create = nullptr;
  decltype(&dnnl_primitive_destroy) primitive_destroy = nullptr;
  decltype(&dnnl_primitive_execute) primitive_execute = nullptr;
};

/// Throws IoError where the library cannot be opened or is of another version. Thread-safe.
const OneDnn& onednn();

/// The arguments of y = x w, row-major: x [rows, in] and w [in, out] in bf16, y [rows, out] in f32.
struct Bf16Product {
  std::int64_t rows, in, out;
  const std::uint16_t* x;
  const std::uint16_t* w;
  std::int64_t w_stride;  // from a row of w to the next; turned: w is [out, in]
  bool turned;
  float* y;
  std::int64_t y_stride;
};

/// Sums in f32, on the calling thread if that is what OpenMP is told. Throws IoError where oneDNN refuses. Thread-safe.
void multiply(const Bf16Product& product);

}  // namespace torpor
