// Enough of CUDA's language to run the kernels of kernels.h on a processor: a block at a time, a thread for each of the
// block's. For tests on machines without a GPU; slow. What it cannot show: races between blocks, and the timing.
#pragma once

#include <array>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#define TORPOR_KERNEL inline void
#define TORPOR_DEVICE inline
#define TORPOR_SHARED static

namespace torpor::cuda {

struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};

struct Place {
  unsigned x = 0;
};
inline thread_local Place threadIdx, blockIdx, blockDim, gridDim;

namespace on_host {

/// What the threads of one block share.
struct Block {
  explicit Block(unsigned threads) : barrier(static_cast<std::ptrdiff_t>(threads)), exchanged(threads) {
    for (unsigned w = 0; w * 32 < threads; ++w) warps.push_back(std::make_unique<std::barrier<>>(32));
  }
  std::barrier<> barrier;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<std::uint32_t> exchanged;
};
inline thread_local Block* block = nullptr;

/// The values that the 32 threads of a warp bring, for each of them.
inline std::array<std::uint32_t, 32> exchange(std::uint32_t value) {
  std::barrier<>& warp = *block->warps[threadIdx.x / 32];
  block->exchanged[threadIdx.x] = value;
  warp.arrive_and_wait();
  std::array<std::uint32_t, 32> all;
  for (unsigned i = 0; i < 32; ++i) all[i] = block->exchanged[threadIdx.x / 32 * 32 + i];
  warp.arrive_and_wait();
  return all;
}

/// kernel<<<blocks, threads>>>(arguments...). threads: a multiple of 32.
template <class Kernel, class... Arguments>
void launch(unsigned blocks, unsigned threads, const Kernel& kernel, const Arguments&... arguments) {
  for (unsigned b = 0; b < blocks; ++b) {
    Block shared(threads);
    std::vector<std::jthread> running;
    for (unsigned t = 0; t < threads; ++t)
      running.emplace_back([&, b, t] {
        threadIdx.x = t;
        blockIdx.x = b;
        blockDim.x = threads;
        gridDim.x = blocks;
        block = &shared;
        kernel(arguments...);
        shared.barrier.arrive_and_drop();
      });
  }
}

}  // namespace on_host

inline void __syncthreads() {
  on_host::block->barrier.arrive_and_wait();
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  const auto all = on_host::exchange(std::bit_cast<std::uint32_t>(value));
  return std::bit_cast<float>(all[(threadIdx.x % 32) ^ static_cast<unsigned>(mask)]);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  const auto all = on_host::exchange(predicate ? 1 : 0);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= all[i] << i;
  return bits;
}
inline int __popc(unsigned bits) {
  return std::popcount(bits);
}
inline float __uint_as_float(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

}  // namespace torpor::cuda
