// The public face: arguments are checked here, before any work; the work is done in simd/ and many_rows.cpp.
#include "engine/kernels/dense.h"

#include <bit>

#include "core/base/error.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/many_rows.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/sparse.h"

namespace torpor {
namespace {

void check_count(const char* function, std::int64_t n, const void* data) {
  if (n < 0) throw InvalidArgument("[{}] expected at least 0 values, got {}", function, n);
  if (n > 0 && data == nullptr) throw InvalidArgument("[{}] expected {} values, got a null pointer", function, n);
}

void check_norm(const char* function, const float* x, std::int64_t rows, std::span<const float> weight,
                std::span<const float> bias, float eps, const float* y) {
  if (weight.empty()) throw InvalidArgument("[{}] expected a weight, got none", function);
  if (!bias.empty() && bias.size() != weight.size())
    throw InvalidArgument("[{}] expected {} biases as there are weights, got {}", function, weight.size(), bias.size());
  if (!(eps >= 0)) throw InvalidArgument("[{}] expected eps >= 0, got {}", function, eps);
  check_count(function, rows, x);
  check_count(function, rows, y);
}

}  // namespace

std::int64_t WeightMatrix::row_bytes() const {
  return static_cast<std::int64_t>(bytes_of(format, in));
}

void row_to_f32(const WeightMatrix& w, std::int64_t row, std::span<float> values) {
  if (!w.interleaved) return to_f32(w.format, w.row(row), values);
  thread_local std::vector<std::byte> plain;  // kept, so that a token of decoding allocates nothing
  const std::int64_t bytes = w.row_bytes(), first = row / w.together * w.together;
  plain.resize(static_cast<std::size_t>(w.together * bytes));
  plain_row(w.format, w.together * w.in, w.row(first), plain.data());
  to_f32(w.format, plain.data() + (row - first) * bytes, values);
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
  throw InvalidArgument("[name_of] expected an Activation, got the value {}", static_cast<int>(activation));
}

void linear(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y,
            ThreadPool& pool, Products products) {
  if (w.out < 0 || w.in < 1)
    throw InvalidArgument("[linear] expected a weight of [out, in], got [{}, {}]", w.out, w.in);
  const NumberFormatTraits& format = traits(w.format);
  if (!format.floating && !format.quantised)
    throw InvalidArgument("[linear] expected floating or quantised weights, got {}", format.name);
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != w.out)
    throw InvalidArgument("[linear] expected {} biases, got {}", w.out, bias.size());
  static_cast<void>(bytes_of(w.format, w.in));  // throws if `in` is no multiple of the block
  if (w.stride != 0 && w.stride != w.row_bytes())
    throw InvalidArgument("[linear] expected rows one after another, got {} bytes a row, {} apart", w.row_bytes(),
                          w.stride);
  if (w.together != 1 && w.together != rows_together(w.format, w.out, w.in))
    throw InvalidArgument("[linear] expected 1 or {} rows of {} values together, got {}",
                          rows_together(w.format, w.out, w.in), w.in, w.together);
  check_count("linear", rows, x);
  if (rows == 0 || w.out == 0) return;
  check_count("linear", rows, y);
  check_count("linear", w.out, w.data);
  const float* shift = bias.empty() ? nullptr : bias.data();
  if (rows >= many_rows_from(w, products))
    linear_many_rows(w, x, rows, shift, y, pool, products);
  else
    simd::linear_few_rows(w, x, rows, shift, y, pool);
}

void linear_turned(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y,
                   ThreadPool& pool, Products products) {
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != w.in)
    throw InvalidArgument("[linear_turned] expected {} biases, got {}", w.in, bias.size());
  if (w.interleaved) throw InvalidArgument("[linear_turned] expected rows that are not interleaved");
  check_count("linear_turned", rows, x);
  if (rows == 0) return;
  if (rows >= many_turned_rows_from(w)) {
    static_cast<void>(bytes_of(w.format, w.in));
    return linear_turned_many_rows(w, x, rows, bias.empty() ? nullptr : bias.data(), y, pool, products);
  }
  // Kept for the calling thread, so that a token of decoding allocates nothing.
  thread_local SparseScratch scratch;
  thread_local std::vector<std::int32_t> all;
  thread_local std::vector<float> values;
  for (auto i = static_cast<std::int32_t>(all.size()); i < w.out; ++i) all.push_back(i);
  values.assign(x, x + rows * w.out);
  sparse_ffn({.multiplier = {}, .multiplier_bias = {}, .down = w},
             std::span(all).first(static_cast<std::size_t>(w.out)), values.data(), nullptr, rows, y, scratch, pool);
  if (bias.empty()) return;
  for (std::int64_t r = 0; r < rows; ++r) simd::add(y + r * w.in, bias.data(), w.in);
}

void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y) {
  check_norm("rms_norm", x, rows, weight, {}, eps, y);
  simd::rms_norm(x, rows, weight, weight_offset, eps, y);
}

void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y) {
  check_norm("layer_norm", x, rows, weight, bias, eps, y);
  simd::layer_norm(x, rows, weight, weight_offset, bias, eps, y);
}

void activate(Activation activation, float* x, std::int64_t n) {
  check_count("activate", n, x);
  simd::activate(activation, x, n);
}

void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n) {
  check_count("activate_gated", n, gate);
  check_count("activate_gated", n, up);
  if (n > 0) simd::activate_gated(activation, gate, up, n);
}

void add(float* x, const float* y, std::int64_t n) {
  check_count("add", n, x);
  check_count("add", n, y);
  if (n > 0) simd::add(x, y, n);
}

bool all_finite(const float* x, std::int64_t n) {
  check_count("all_finite", n, x);
  std::uint32_t found = 0;
  for (std::int64_t i = 0; i < n; ++i)
    found |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(x[i]) & 0x7F800000U) == 0x7F800000U);
  return found == 0;
}

void soft_cap(float* x, std::int64_t n, float cap) {
  check_count("soft_cap", n, x);
  if (!(cap > 0)) throw InvalidArgument("[soft_cap] expected cap > 0, got {}", cap);
  simd::soft_cap(x, n, cap);
}

void softmax(float* x, std::int64_t n) {
  check_count("softmax", n, x);
  simd::softmax(x, n);
}

double log_sum_exp(const float* x, std::int64_t n) {
  check_count("log_sum_exp", n, x);
  return simd::log_sum_exp(x, n);
}

namespace {

void check_attention(const AttentionShape& shape, std::int64_t first) {
  if (shape.heads < 1 || shape.kv_heads < 1 || shape.head_dim < 1 || shape.heads % shape.kv_heads != 0)
    throw InvalidArgument("[attention] expected heads a multiple of kv_heads and a head_dim, got {}, {}, {}",
                          shape.heads, shape.kv_heads, shape.head_dim);
  if (first < 0) throw InvalidArgument("[attention] expected a first position of at least 0, got {}", first);
  if (shape.window < 0) throw InvalidArgument("[attention] expected a window of at least 0, got {}", shape.window);
  if (!(shape.soft_cap >= 0)) throw InvalidArgument("[attention] expected soft_cap >= 0, got {}", shape.soft_cap);
}

}  // namespace

void attention_q8_0(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first,
                    const std::byte* keys, const std::byte* values, float* out, ThreadPool& pool) {
  check_attention(shape, first);
  if (shape.head_dim % 32 != 0 || shape.head_stride % 32 != 0 || shape.head_stride < shape.head_dim)
    throw InvalidArgument(
        "[attention_q8_0] expected a head_dim and a head_stride that are multiples of 32, the second no smaller, got "
        "{} and {}",
        shape.head_dim, shape.head_stride);
  check_count("attention_q8_0", queries, q);
  if (queries == 0) return;
  if (keys == nullptr || values == nullptr || out == nullptr)
    throw InvalidArgument("[attention_q8_0] expected keys, values and room for results, got none");
  simd::attention_q8_0(shape, q, queries, first, keys, values, out, pool);
}

void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out, ThreadPool& pool) {
  check_attention(shape, first);
  const bool apart = shape.head_stride > 0;  // each head's positions lie together
  const std::int64_t least = apart ? shape.head_dim : std::int64_t{shape.kv_heads} * shape.head_dim;
  if (kv_stride < least || shape.head_stride < 0)
    throw InvalidArgument("[attention] expected kv_stride >= {} and head_stride >= 0, got {} and {}", least, kv_stride,
                          shape.head_stride);
  check_count("attention", queries, q);
  if (queries == 0) return;
  check_count("attention", queries, keys);
  check_count("attention", queries, values);
  check_count("attention", queries, out);
  simd::attention(shape, q, queries, first, keys, values, kv_stride, out, pool);
}

std::string_view kernel_instruction_set() {
  return simd::target_name();
}

}  // namespace torpor
