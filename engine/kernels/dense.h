// Dense kernels of the forward pass. Two implementations behind each: reference/ (plain loops, the oracle) and simd/
// (Highway, chosen at run time by the machine's instruction set). Nothing here knows a model.
//
// Conventions: activations are f32, row-major, [rows, width]. A weight matrix is [out, in], row-major, any floating or
// quantised NumberFormat, never copied. Outputs do not alias inputs unless said. All functions are thread-safe; those
// that take a ThreadPool split the work over it with a fixed split and give the same bits for every thread count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/thread_pool.h"
#include "core/tensor/number_format.h"

namespace torpor {

/// A linear layer's weight, [out, in], not owned.
struct WeightMatrix {
  NumberFormat format = NumberFormat::f32;
  const std::byte* data = nullptr;
  std::int64_t out = 0;
  std::int64_t in = 0;
  std::int64_t stride = 0;   // bytes from a row to the next, for the kernels of sparse.h; 0: rows lie one after another
  bool interleaved = false;  // quantised, with the blocks of a row side by side (interleaved.h)
  int together = 1;          // interleaved short rows whose blocks lie side by side as those of one row (interleaved.h)

  bool empty() const { return data == nullptr; }
  std::int64_t row_bytes() const;  // of one output row
  std::int64_t row_stride() const { return stride != 0 ? stride : row_bytes(); }
  std::int64_t bytes() const { return empty() ? 0 : out * row_bytes(); }
  const std::byte* row(std::int64_t i) const { return data + i * row_stride(); }  // of together 1
};

/// Row `row` of w as f32: [w.in].
void row_to_f32(const WeightMatrix& w, std::int64_t row, std::span<float> values);

/// How many rows are multiplied (prefill). Few rows (decode) are not concerned.
enum class Products : std::uint8_t {
  exact,    // as f32 numbers, on every processor
  rounded,  // bf16 and quantised weights and what they are multiplied with as bf16, added up in f32, where the
            // processor multiplies bf16 (AVX-512 BF16, AMX): two to four times as fast, each factor off by up to 2^-9
};

/// Whether many rows times weights of this format are rounded on this processor.
bool are_rounded(NumberFormat weights, Products products);

/// y[r, o] = sum_i x[r, i] * w[o, i] + bias[o].  x: [rows, in], y: [rows, out]; bias empty or [out].
/// One or few rows: SIMD dot products that read each weight once (decode). Many rows: oneDNN (prefill); weights that
/// are not f32 are converted block-wise on the way. Accumulates in f32.
void linear(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y,
            ThreadPool& pool, Products products = Products::exact);

/// The same with the weights the other way round, row i for input i: y[r, o] = sum_i x[r, i] * w[i, o] + bias[o].
/// w: out rows (inputs) of `in` values (outputs), so that w.out and w.in change their parts; f32, f16, bf16, q8_0 or
/// q4_0, not interleaved. Few rows: the kernel of sparse.h on all neurons, with its bits; many: oneDNN.
void linear_turned(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y,
                   ThreadPool& pool, Products products = Products::exact);

/// y = x / sqrt(mean(x^2) + eps) * (weight + weight_offset) for each row. In place allowed. (weight_offset 1: Gemma.)
void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y);

/// y = (x - mean) / sqrt(var + eps) * (weight + weight_offset) + bias for each row. In place allowed; bias may be
/// empty. (weight_offset 1: Nemotron's LayerNorm1P.)
void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y);

enum class Activation : std::uint8_t { silu, gelu, gelu_tanh, relu, relu2 };
std::string_view name_of(
    Activation activation);  // Hugging Face's: "silu", "gelu", "gelu_pytorch_tanh", "relu", "relu2"

/// x = f(x), n values.
void activate(Activation activation, float* x, std::int64_t n);
/// gate = f(gate) * up, n values.
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n);

/// x += y, n values.
void add(float* x, const float* y, std::int64_t n);

/// Whether none of the n values is NaN or infinite.
bool all_finite(const float* x, std::int64_t n);

/// x = cap * tanh(x / cap), n values (Gemma 2).
void soft_cap(float* x, std::int64_t n, float cap);

/// x = softmax(x), n values, numerically safe. Values of -inf become 0.
void softmax(float* x, std::int64_t n);

/// log(sum(exp(x))), n values, accumulated in double.
double log_sum_exp(const float* x, std::int64_t n);

/// Attention of `queries` rows of one sequence against its cached keys and values, all heads.
struct AttentionShape {
  int heads = 0, kv_heads = 0, head_dim = 0;  // heads is a multiple of kv_heads
  float scale = 0;                            // multiplies q.k, usually 1/sqrt(head_dim)
  float soft_cap = 0;                         // 0: none
  std::int64_t window = 0;                    // a query sees the last `window` keys, itself included; 0: all
  std::int64_t head_stride = 0;  // floats from the keys (or values) of a KV head to the next head's; 0: head_dim

  std::int64_t head_offset(std::int64_t kv_head) const { return kv_head * (head_stride > 0 ? head_stride : head_dim); }
};

/// q: [queries, heads*head_dim], already rotated; query r is at position first + r.
/// keys, values: f32, [head_dim] at p * kv_stride + head_offset(h) for position p and KV head h: the heads of a
/// position may lie together, or the positions of a head. out: [queries, heads*head_dim]. Causal. Any length; memory
/// per thread is independent of the length of the context up to one score tile.
void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out, ThreadPool& pool);

/// The same with keys and values in q8_0, the positions of a head one after another: row p of head h is the block row
/// p * head_dim + h * head_stride values behind the start. head_dim and head_stride: multiples of 32. The attention of
/// the rounded numbers, which are turned to f32 a tile at a time.
void attention_q8_0(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first,
                    const std::byte* keys, const std::byte* values, float* out, ThreadPool& pool);

/// The instruction set that the kernels use here, as Highway calls it ("AVX3" is AVX-512), or "AVX-512 with VNNI".
std::string_view kernel_instruction_set();

}  // namespace torpor
