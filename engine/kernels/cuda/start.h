// What device.cpp asks of launches.cu. Each starts kernels on the stream and returns at once.
#pragma once

#include <cuda_runtime.h>

#include "engine/kernels/cuda/buffers.h"

namespace torpor::cuda {

cudaError_t start_sparse_ffn(cudaStream_t stream, const FfnBuffers& buffers, const float* x);
cudaError_t start_spark_ffn(cudaStream_t stream, const FfnBuffers& buffers, int activation, float z);
cudaError_t start_spark_attention(cudaStream_t stream, const SparkBuffers& buffers, float z);

}  // namespace torpor::cuda
