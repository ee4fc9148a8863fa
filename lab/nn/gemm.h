// Matrix products on memory that is already there: C = alpha op(A) op(B) + beta C, row-major. LibTorch's own products
// come with a tensor, a look-up and an allocation each, which is more than the work itself for the small ones inside an
// operator. They are the products that LibTorch uses (MKL's), bf16 with sums in f32. Internal to lab/nn. Thread-safe.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace torpor::lab::detail {

enum class Op : std::uint8_t { plain, transposed };

template <typename T>
struct MatrixView {
  const T* data;
  std::int64_t stride;  // between rows as they lie in memory
  Op op = Op::plain;
};

/// C: [m, n], op(A): [m, k], op(B): [k, n].
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, MatrixView<float> a, MatrixView<float> b,
          float beta, float* c, std::int64_t stride);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, double alpha, MatrixView<double> a, MatrixView<double> b,
          double beta, double* c, std::int64_t stride);
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, MatrixView<c10::BFloat16> a,
          MatrixView<c10::BFloat16> b, float beta, float* c, std::int64_t stride);

}  // namespace torpor::lab::detail
