// The kernels of decoding on an NVIDIA GPU, in bf16: what sparse.h and spark.h compute, with weights and cache on the
// device. Built where CMake finds nvcc; elsewhere the same functions say that there is no GPU.
//
// One object at a time may be used by one thread; objects are independent.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/kernels/spark.h"
#include "engine/kernels/sparse.h"

namespace torpor::cuda {

/// Why nothing can run on a GPU here ("this build has no CUDA", "no CUDA-capable device is detected"), or nothing if it
/// can.
std::string why_not_available();
/// "NVIDIA H100 80GB HBM3, compute capability 9.0"; empty where there is none.
std::string device_name();

/// The weights of a feed-forward layer on the device.
class FfnLayer {
 public:
  /// rows: multiplier (may be empty) and down, bf16; gate must be empty. first: of a Spark layer the rows that score
  /// the neurons, bf16, or empty. Widths are multiples of 8 and at most 8192. Throws InvalidArgument, IoError (no
  /// device, out of its memory).
  explicit FfnLayer(const NeuronRows& rows, const WeightMatrix& first = {});
  ~FfnLayer();
  FfnLayer(const FfnLayer&) = delete;
  FfnLayer& operator=(const FfnLayer&) = delete;

  /// As torpor::sparse_ffn for one token; all arrays are the host's.
  void sparse_ffn(std::span<const std::int32_t> active, float* values, const float* x, float* out);

  /// A whole Spark layer (You et al. 2025, eq. 4 to 6): scores of the leading values of x, the statistical threshold
  /// for about k neurons, f, the multiplier with the other values, down. x: [first.in + multiplier.in]; out: [down.in].
  /// Returns how many neurons were active. Throws InvalidArgument where there is no `first`.
  std::int64_t spark_ffn(Activation activation, std::int64_t k, const float* x, float* out);

  /// Seconds of the kernels of the last call, on the device, without copies.
  double seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The cache of one layer and sequence on the device, and Spark's attention over it.
class SparkCache {
 public:
  /// shape: heads, head_dim (at most 256) and a predictor above 0, both multiples of 8; no window; its strides are not
  /// looked at. Throws as FfnLayer.
  SparkCache(const SparkAttentionShape& shape, std::int64_t context);
  ~SparkCache();
  SparkCache(const SparkCache&) = delete;
  SparkCache& operator=(const SparkCache&) = delete;

  /// key, value: [kv_heads, head_dim], rounded to bf16.
  void put(std::int64_t position, const float* key, const float* value);
  /// As torpor::spark_attention for one query at `position`: q, out: [heads, head_dim].
  SparkAttentionCounts attend(const float* q, std::int64_t position, float* out);
  double seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torpor::cuda
