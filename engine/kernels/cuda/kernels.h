// The kernels of the CUDA backend: decoding with bf16 weights and cache (sparse.h, spark.h). Compiled by nvcc for the
// device, and by any compiler for on_host.h, where the same code is tested without one.
//
// Reading weights is what limits them, so every row is read in pieces of 16 bytes by neighbouring threads, and enough
// rows are under way at once. Sums have one fixed order for a launch shape: results do not change from run to run.
// Blocks are of kThreads threads. Rows are 16-byte aligned and of a multiple of 8 values.
#pragma once

#include <cstdint>

#include "engine/kernels/cuda/buffers.h"

#ifdef __CUDACC__
#define TORPOR_KERNEL __global__ void
#define TORPOR_DEVICE __device__ inline
#define TORPOR_SHARED __shared__
#define TORPOR_WHERE on_device
#else
#define TORPOR_WHERE on_processor
#include "engine/kernels/cuda/on_host.h"
#endif

namespace torpor::cuda {
inline namespace TORPOR_WHERE {  // the two are different functions: a program may have both

TORPOR_DEVICE float low_of(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
TORPOR_DEVICE float high_of(std::uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000U);
}

TORPOR_DEVICE float warp_sum(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(~0U, v, mask);
  return v;
}

/// x . row for `width` values, by the 32 threads of a warp; every thread has the sum.
TORPOR_DEVICE float warp_dot(const std::uint16_t* row, const float* x, int width) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0;
  for (int i = lane * 8; i < width; i += 256) {
    const uint4 piece = *reinterpret_cast<const uint4*>(row + i);
    sum += low_of(piece.x) * x[i] + high_of(piece.x) * x[i + 1];
    sum += low_of(piece.y) * x[i + 2] + high_of(piece.y) * x[i + 3];
    sum += low_of(piece.z) * x[i + 4] + high_of(piece.z) * x[i + 5];
    sum += low_of(piece.w) * x[i + 6] + high_of(piece.w) * x[i + 7];
  }
  return warp_sum(sum);
}

TORPOR_DEVICE void copy_in(const float* from, int count, float* to) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) to[i] = from[i];
  __syncthreads();
}

/// The activation functions that leave zeros, by Activation's number: relu 3, relu2 4; gelu_tanh 2, silu 0.
TORPOR_DEVICE float activated(int activation, float x) {
  if (activation == 3) return x > 0 ? x : 0;
  if (activation == 4) return x > 0 ? x * x : 0;
  if (activation == 2) {
    const float u = 0.7978845608F * (x + 0.044715F * x * x * x);
    return 0.5F * x * (1 + tanhf(u));
  }
  return x / (1 + expf(-x));
}

/// y[o] = scale * x . w[o] (+ bias[o] where there is one). A warp for a row, grid-strided.
TORPOR_KERNEL dense_rows(Rows w, int rows, int width, const float* x, const float* bias, float scale, float* y) {
  TORPOR_SHARED float input[kMostWidth];
  copy_in(x, width, input);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int o = static_cast<int>(blockIdx.x) * kWarps + warp; o < rows; o += static_cast<int>(gridDim.x) * kWarps) {
    const float sum = warp_dot(w.data + o * w.stride, input, width) * scale;
    if (lane == 0) y[o] = sum + (bias != nullptr ? bias[o] : 0);
  }
}

/// The sum of what the threads of a block bring, for all of them; scratch: [kWarps].
TORPOR_DEVICE double block_sum(double v, double* scratch) {
  // In two halves: a double is no more exact than that through the 32-bit exchange of a warp, and enough here.
  const auto high = static_cast<float>(v);
  const auto low = static_cast<float>(v - static_cast<double>(high));
  const double sum = static_cast<double>(warp_sum(high)) + static_cast<double>(warp_sum(low));
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = sum;
  __syncthreads();
  double all = 0;
  for (int w = 0; w < kWarps; ++w) all += scratch[w];
  return all;
}

/// How many of the block's threads before this one say yes, and how many in all; counts: [kWarps].
TORPOR_DEVICE int rank_of(bool yes, int* counts, int& all) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned mine = __ballot_sync(~0U, yes);
  __syncthreads();
  if (lane == 0) counts[warp] = __popc(mine);
  __syncthreads();
  int before = __popc(mine & ((1U << lane) - 1));
  all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += counts[w];
    all += counts[w];
  }
  return before;
}

/// Statistical top-k by one block for each of gridDim.x rows of n scores, `stride` apart (Spark Transformer, section
/// 3): index = where scores are above mean + z deviation, ascending; kept = what they are above it, at index's places;
/// *count: how many. z: the normal quantile of 1 - k/n, -inf: all, unshifted. at_least_one: where none is above, the
/// first largest, as 0.
TORPOR_KERNEL statistical_top_k(const float* scores, int n, int stride, float z, bool at_least_one, int* index,
                                float* kept, int* count) {
  TORPOR_SHARED double sums[kWarps];
  TORPOR_SHARED int counts[kWarps];
  TORPOR_SHARED float largest[kThreads];
  TORPOR_SHARED int places[kThreads];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * stride;
  scores += row;
  index += row;
  kept += row;
  const int thread = static_cast<int>(threadIdx.x);
  const bool all_kept = !(z > -1e30F);
  double theta = 0;
  if (!all_kept) {
    double sum = 0;
    for (int i = thread; i < n; i += kThreads) sum += static_cast<double>(scores[i]);
    const double mean = block_sum(sum, sums) / n;
    double squares = 0;
    for (int i = thread; i < n; i += kThreads) {
      const double away = static_cast<double>(scores[i]) - mean;
      squares += away * away;
    }
    squares = block_sum(squares, sums);
    theta = mean + static_cast<double>(z) * sqrt(squares / (n > 1 ? n - 1 : 1));
  }
  int written = 0;
  float top = -INFINITY;
  int top_at = 0;
  for (int from = 0; from < n; from += kThreads) {
    const int i = from + thread;
    const float score = i < n ? scores[i] : -INFINITY;
    if (i < n && score > top) {
      top = score;
      top_at = i;
    }
    const bool yes = i < n && (all_kept || static_cast<double>(score) > theta);
    int found = 0;
    const int at = written + rank_of(yes, counts, found);
    if (yes) {
      index[at] = i;
      kept[at] = static_cast<float>(static_cast<double>(score) - theta);
    }
    written += found;
  }
  if (written == 0 && at_least_one) {
    largest[thread] = top;
    places[thread] = top_at;
    __syncthreads();
    if (thread == 0) {
      int best = 0;
      for (int t = 1; t < kThreads; ++t)
        if (largest[t] > largest[best] || (largest[t] == largest[best] && places[t] < places[best])) best = t;
      index[0] = places[best];
      kept[0] = 0;
    }
  }
  if (thread == 0) count[blockIdx.x] = written;
}

/// values = f(values) for *count of them.
TORPOR_KERNEL activate_listed(int activation, const int* count, float* values) {
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < *count;
       i += static_cast<int>(gridDim.x) * kThreads)
    values[i] = activated(activation, values[i]);
}

/// What is left of a feed-forward layer for the *count listed neurons: values[k] becomes a = values[k] (multiplier . x
/// + bias), and partial[block] = sum of a down[active[k]] over the block's neurons. multiplier.data null: values are a.
/// Blocks take kNeurons neurons in turn: their products first, then their additions, a column to eight of a thread.
/// partial: [gridDim.x, width].
TORPOR_KERNEL sparse_neurons(Rows multiplier, int multiplier_width, const float* bias, Rows down, int width,
                             const int* active, const int* count, float* values, const float* x, float* partial) {
  TORPOR_SHARED float input[kMostWidth];
  TORPOR_SHARED float a[kNeurons];
  TORPOR_SHARED int listed[kNeurons];
  constexpr int kColumns = kMostWidth / 8 / kThreads;  // pieces of eight columns of a thread, at most
  if (multiplier.data != nullptr) copy_in(x, multiplier_width, input);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float sum[kColumns][8];
  for (int c = 0; c < kColumns; ++c)
    for (int j = 0; j < 8; ++j) sum[c][j] = 0;
  const int all = *count, step = static_cast<int>(gridDim.x) * kNeurons;
  for (int from = static_cast<int>(blockIdx.x) * kNeurons; from < all; from += step) {
    const int some = all - from < kNeurons ? all - from : kNeurons;
    for (int k = warp; k < some; k += kWarps) {
      const int neuron = active[from + k];
      float value = values[from + k];
      if (multiplier.data != nullptr && value != 0) {
        value *= warp_dot(multiplier.data + neuron * multiplier.stride, input, multiplier_width) +
                 (bias != nullptr ? bias[neuron] : 0);
        if (lane == 0) values[from + k] = value;
      }
      if (lane == 0) {
        a[k] = value;
        listed[k] = neuron;
      }
    }
    __syncthreads();
    for (int c = 0; c < kColumns; ++c) {
      const int column = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
      if (column >= width) break;
      for (int k = 0; k < some; ++k) {
        const uint4 piece = *reinterpret_cast<const uint4*>(down.data + listed[k] * down.stride + column);
        const float weight = a[k];
        sum[c][0] += weight * low_of(piece.x);
        sum[c][1] += weight * high_of(piece.x);
        sum[c][2] += weight * low_of(piece.y);
        sum[c][3] += weight * high_of(piece.y);
        sum[c][4] += weight * low_of(piece.z);
        sum[c][5] += weight * high_of(piece.z);
        sum[c][6] += weight * low_of(piece.w);
        sum[c][7] += weight * high_of(piece.w);
      }
    }
    __syncthreads();
  }
  for (int c = 0; c < kColumns; ++c) {
    const int column = (c * kThreads + static_cast<int>(threadIdx.x)) * 8;
    if (column >= width) break;
    for (int j = 0; j < 8; ++j) partial[static_cast<std::int64_t>(blockIdx.x) * width + column + j] = sum[c][j];
  }
}

/// out[j] = the sum of `parts` rows of partial, in order.
TORPOR_KERNEL add_partial(const float* partial, int parts, int width, float* out) {
  for (int j = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); j < width;
       j += static_cast<int>(gridDim.x) * kThreads) {
    float sum = 0;
    for (int p = 0; p < parts; ++p) sum += partial[static_cast<std::int64_t>(p) * width + j];
    out[j] = sum;
  }
}

/// scores[head][j] = scale q[0 … predictor) . leading key j. Blocks take heads in turn: blockIdx.x % heads.
TORPOR_KERNEL spark_scores(SparkSizes s, const std::uint16_t* leading, const float* q, int stride, float* scores) {
  TORPOR_SHARED float query[kMostWidth];
  const int head = static_cast<int>(blockIdx.x) % s.heads, part = static_cast<int>(blockIdx.x) / s.heads,
            parts = static_cast<int>(gridDim.x) / s.heads;
  copy_in(q + head * s.head_dim, s.predictor, query);
  const std::uint16_t* table = leading + head / (s.heads / s.kv_heads) * s.leading;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int j = part * kWarps + warp; j < s.keys; j += parts * kWarps) {
    const float score = warp_dot(table + static_cast<std::int64_t>(j) * s.predictor, query, s.predictor) * s.scale;
    if (lane == 0) scores[static_cast<std::int64_t>(head) * stride + j] = score;
  }
}

/// kept[head] = softmax of itself, count[head] of them (1 where it is 0). A block for each head.
TORPOR_KERNEL softmax_kept(const int* count, int stride, float* kept) {
  TORPOR_SHARED double sums[kWarps];
  TORPOR_SHARED float tops[kThreads];
  const int thread = static_cast<int>(threadIdx.x), n = count[blockIdx.x] > 0 ? count[blockIdx.x] : 1;
  float* const row = kept + static_cast<std::int64_t>(blockIdx.x) * stride;
  float top = -INFINITY;
  for (int i = thread; i < n; i += kThreads) top = row[i] > top ? row[i] : top;
  tops[thread] = top;
  __syncthreads();
  for (int t = 0; t < kThreads; ++t) top = tops[t] > top ? tops[t] : top;
  double sum = 0;
  for (int i = thread; i < n; i += kThreads) {
    row[i] = expf(row[i] - top);
    sum += static_cast<double>(row[i]);
  }
  const auto inverse = static_cast<float>(1 / block_sum(sum, sums));
  for (int i = thread; i < n; i += kThreads) row[i] *= inverse;
}

/// partial[block] = sum over the block's part of a head's kept keys of weight softplus(scale q[predictor …) . rest of
/// the key) times its value. Blocks take heads in turn as spark_scores does. partial: [gridDim.x, head_dim]: block b
/// has part b / heads of head b % heads.
TORPOR_KERNEL spark_values(SparkSizes s, const std::uint16_t* rest, const std::uint16_t* values, const float* q,
                           const int* index, const int* count, const float* weights, int stride, float* partial) {
  TORPOR_SHARED float query[kMostWidth];
  TORPOR_SHARED float a[kNeurons];
  TORPOR_SHARED int listed[kNeurons];
  const int head = static_cast<int>(blockIdx.x) % s.heads, part = static_cast<int>(blockIdx.x) / s.heads,
            parts = static_cast<int>(gridDim.x) / s.heads, kv_head = head / (s.heads / s.kv_heads);
  const int others = s.head_dim - s.predictor;
  copy_in(q + head * s.head_dim + s.predictor, others, query);
  const std::uint16_t* const keys = rest + kv_head * s.rest;
  const std::uint16_t* const table = values + kv_head * s.values;
  const std::int64_t row = static_cast<std::int64_t>(head) * stride;
  const int n = count[head] > 0 ? count[head] : 1;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0;  // of column threadIdx.x
  for (int from = part * kNeurons; from < n; from += parts * kNeurons) {
    const int some = n - from < kNeurons ? n - from : kNeurons;
    for (int k = warp; k < some; k += kWarps) {
      const int key = index[row + from + k];
      const float score = warp_dot(keys + static_cast<std::int64_t>(key) * others, query, others) * s.scale;
      if (lane == 0) {
        const float softplus = (score > 0 ? score : 0) + log1pf(expf(score > 0 ? -score : score));
        a[k] = weights[row + from + k] * softplus;
        listed[k] = key;
      }
    }
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < s.head_dim)
      for (int k = 0; k < some; ++k) {
        const std::uint32_t bits = table[static_cast<std::int64_t>(listed[k]) * s.head_dim + threadIdx.x];
        sum += a[k] * low_of(bits);
      }
    __syncthreads();
  }
  if (static_cast<int>(threadIdx.x) < s.head_dim)
    partial[static_cast<std::int64_t>(blockIdx.x) * s.head_dim + threadIdx.x] = sum;
}

/// out[head] = the sum of its parts' partial sums, in order. A block for each head.
TORPOR_KERNEL spark_output(const float* partial, int heads, int parts, int head_dim, float* out) {
  const int head = static_cast<int>(blockIdx.x);
  if (static_cast<int>(threadIdx.x) >= head_dim) return;
  float sum = 0;
  for (int p = 0; p < parts; ++p)
    sum += partial[(static_cast<std::int64_t>(p) * heads + head) * head_dim + threadIdx.x];
  out[static_cast<std::int64_t>(head) * head_dim + threadIdx.x] = sum;
}

}  // namespace TORPOR_WHERE
}  // namespace torpor::cuda
