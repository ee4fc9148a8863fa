// What the launches of the CUDA backend are given: sizes, and memory of the device. Known to C++ and to nvcc.
#pragma once

#include <cstdint>

namespace torpor::cuda {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kNeurons = 16;      // of a block at a time
constexpr int kMostWidth = 8192;  // of an input: it lies in shared memory

/// Rows of bf16 numbers, `stride` numbers apart, a multiple of 8.
struct Rows {
  const std::uint16_t* data;
  std::int64_t stride;
};

/// Sizes of one layer's Spark attention for one query. Tables of a KV head: its positions one after another, keys in a
/// table of the leading `predictor` numbers and one of the others (spark.h).
struct SparkSizes {
  int heads, kv_heads, head_dim, predictor;
  int keys;                            // visible positions
  std::int64_t leading, rest, values;  // numbers from a KV head's table to the next one's
  float scale;
};

/// A feed-forward layer and its memory, all of the device's.
struct FfnBuffers {
  Rows first{};       // scores neurons: [neurons, first_width]; data null: none
  Rows multiplier{};  // [neurons, multiplier_width]; data null: none
  Rows down{};        // [neurons, width]
  int first_width = 0, multiplier_width = 0, neurons = 0, width = 0;
  const float* bias = nullptr;  // of the multiplier, [neurons]
  float* x = nullptr;           // [first_width + multiplier_width or what the multiplier reads]
  float* scores = nullptr;      // [neurons]
  float* values = nullptr;      // [neurons]
  int* active = nullptr;        // [neurons]
  int* count = nullptr;
  float* partial = nullptr;  // [blocks, width]
  float* out = nullptr;      // [width]
  unsigned blocks = 1;
};

/// One layer's cache, and the memory of one query.
struct SparkBuffers {
  SparkSizes sizes{};
  const std::uint16_t* leading = nullptr;  // [kv_heads, context, predictor]
  const std::uint16_t* rest = nullptr;     // [kv_heads, context, head_dim - predictor]
  const std::uint16_t* values = nullptr;   // [kv_heads, context, head_dim]
  int stride = 0;                          // context: from a head's scores to the next one's
  float* q = nullptr;                      // [heads, head_dim]
  float* scores = nullptr;                 // [heads, stride]
  float* kept = nullptr;                   // [heads, stride]
  int* index = nullptr;                    // [heads, stride]
  int* count = nullptr;                    // [heads]
  float* partial = nullptr;                // [heads * parts, head_dim]
  float* out = nullptr;                    // [heads, head_dim]
  unsigned parts = 1;                      // blocks of a head
};

}  // namespace torpor::cuda
