// The one file that nvcc compiles: kernels and their launches. What else there is to do is C++ (device.cpp).
#include "engine/kernels/cuda/launches.h"

#include "engine/kernels/cuda/start.h"

namespace torpor::cuda {
namespace {

struct OnStream {
  cudaStream_t stream;

  template <class... Parameters, class... Arguments>
  void operator()(unsigned blocks, void (*kernel)(Parameters...), const Arguments&... arguments) const {
    kernel<<<blocks, kThreads, 0, stream>>>(static_cast<Parameters>(arguments)...);
  }
};

}  // namespace

cudaError_t start_sparse_ffn(cudaStream_t stream, const FfnBuffers& buffers, const float* x) {
  launch_sparse_ffn(OnStream{stream}, buffers, x);
  return cudaGetLastError();
}

cudaError_t start_spark_ffn(cudaStream_t stream, const FfnBuffers& buffers, int activation, float z) {
  launch_spark_ffn(OnStream{stream}, buffers, activation, z);
  return cudaGetLastError();
}

cudaError_t start_spark_attention(cudaStream_t stream, const SparkBuffers& buffers, float z) {
  launch_spark_attention(OnStream{stream}, buffers, z);
  return cudaGetLastError();
}

}  // namespace torpor::cuda
