#include "engine/kernels/dense.h"

#include "core/base/error.h"
#include "engine/kernels/reference/reference.h"

namespace torpor {

std::int64_t WeightMatrix::row_bytes() const {
  return static_cast<std::int64_t>(bytes_of(format, in));
}

std::string_view name_of(Activation activation) {
  switch (activation) {
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_tanh:
      return "gelu_pytorch_tanh";
    case Activation::relu:
      return "relu";
    case Activation::relu2:
      return "relu2";
  }
  return "unknown";
}

void linear(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y,
            ThreadPool& pool) {
  pool.parallel_for(rows, 1, [&](long begin, long end, int) {
    reference::linear(w, x + begin * w.in, end - begin, bias, y + begin * w.out);
  });
}
void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y) {
  reference::rms_norm(x, rows, weight, weight_offset, eps, y);
}
void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y) {
  reference::layer_norm(x, rows, weight, weight_offset, bias, eps, y);
}
void activate(Activation activation, float* x, std::int64_t n) {
  reference::activate(activation, x, n);
}
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n) {
  reference::activate_gated(activation, gate, up, n);
}
void add(float* x, const float* y, std::int64_t n) {
  reference::add(x, y, n);
}
void soft_cap(float* x, std::int64_t n, float cap) {
  reference::soft_cap(x, n, cap);
}
void softmax(float* x, std::int64_t n) {
  reference::softmax(x, n);
}
double log_sum_exp(const float* x, std::int64_t n) {
  return reference::log_sum_exp(x, n);
}
void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out, ThreadPool& pool) {
  const std::int64_t width = static_cast<std::int64_t>(shape.heads) * shape.head_dim;
  pool.parallel_for(queries, 1, [&](long begin, long end, int) {
    reference::attention(shape, q + begin * width, end - begin, first + begin, keys, values, kv_stride,
                         out + begin * width);
  });
}

}  // namespace torpor
