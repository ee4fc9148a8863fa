// What each idea of the sparse kernels is worth: one feed-forward layer whose active neurons are known, from plain
// loops to the fused kernel, beside the dense layer and plain reading.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/thread_pool.h"
#include "core/tensor/number_format.h"

namespace torpor {

struct KernelBenchOptions {
  std::int64_t width = 2048, neurons = 16384;
  double density = 0.08;  // drawn anew for every layer and round
  std::int64_t bytes =
      0;  // of the weights of all layers; 0: eight times the last-level cache, at most a third of memory
  int rounds = 5;
  std::uint64_t seed = 0;
};

struct KernelStep {
  std::string name;
  NumberFormat weights = NumberFormat::bf16;
  double bytes = 0;               // of weights read for a layer
  std::vector<double> seconds;    // a layer; a round each
  std::vector<double> bandwidth;  // of plain reading, the larger of before and after
};

/// The steps take turns. progress(rounds done). Throws InvalidArgument, IoError (out of memory).
std::vector<KernelStep> bench_kernels(NumberFormat weights, const KernelBenchOptions& options, ThreadPool& pool,
                                      const std::function<void(int)>& progress = {});

Json to_json(const std::vector<KernelStep>& steps);

}  // namespace torpor
