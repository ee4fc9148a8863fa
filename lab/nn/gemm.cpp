#include "lab/nn/gemm.h"

// Of MKL, which LibTorch's library for x86-64 holds and exports; its headers do not come with LibTorch. Column-major.
extern "C" {
// NOLINTBEGIN(readability-identifier-naming)
void sgemm_(const char* op_a, const char* op_b, const int* m, const int* n, const int* k, const float* alpha,
            const float* a, const int* lda, const float* b, const int* ldb, const float* beta, float* c,
            const int* ldc);
void dgemm_(const char* op_a, const char* op_b, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
void cblas_gemm_bf16bf16f32(int layout, int op_a, int op_b, int m, int n, int k, float alpha, const void* a, int lda,
                            const void* b, int ldb, float beta, float* c, int ldc);
// NOLINTEND(readability-identifier-naming)
}

namespace torpor::lab::detail {
namespace {

/// A row-major product is the column-major one of the factors in the other order.
template <typename T, typename Gemm>
void through_fortran(Gemm gemm, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, MatrixView<T> a,
                     MatrixView<T> b, T beta, T* c, std::int64_t stride) {
  const auto letter = [](Op op) { return op == Op::plain ? 'N' : 'T'; };
  const char op_a = letter(a.op), op_b = letter(b.op);
  const int rows = static_cast<int>(m), columns = static_cast<int>(n), inner = static_cast<int>(k);
  const int lda = static_cast<int>(a.stride), ldb = static_cast<int>(b.stride), ldc = static_cast<int>(stride);
  gemm(&op_b, &op_a, &columns, &rows, &inner, &alpha, b.data, &ldb, a.data, &lda, &beta, c, &ldc);
}

}  // namespace

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, MatrixView<float> a, MatrixView<float> b,
          float beta, float* c, std::int64_t stride) {
  through_fortran(sgemm_, m, n, k, alpha, a, b, beta, c, stride);
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, double alpha, MatrixView<double> a, MatrixView<double> b,
          double beta, double* c, std::int64_t stride) {
  through_fortran(dgemm_, m, n, k, alpha, a, b, beta, c, stride);
}

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, MatrixView<c10::BFloat16> a,
          MatrixView<c10::BFloat16> b, float beta, float* c, std::int64_t stride) {
  constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
  const auto number = [](Op op) { return op == Op::plain ? kPlain : kTransposed; };
  cblas_gemm_bf16bf16f32(kRowMajor, number(a.op), number(b.op), static_cast<int>(m), static_cast<int>(n),
                         static_cast<int>(k), alpha, a.data, static_cast<int>(a.stride), b.data,
                         static_cast<int>(b.stride), beta, c, static_cast<int>(stride));
}

}  // namespace torpor::lab::detail
