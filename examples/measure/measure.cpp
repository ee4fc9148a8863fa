// Which neurons of a layer of your own are inactive? Feed core/activity with activations from wherever you have them;
// here a made-up ReLU layer whose first quarter of neurons never fires. Prints a table and checks it.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "core/activity/accumulator.h"
#include "core/base/error.h"
#include "core/base/random.h"

namespace {

constexpr int kNeurons = 256, kWidth = 64, kTokens = 2000;

// [kTokens, kNeurons]: normal noise minus a bias that grows with the neuron's index, through ReLU.
std::vector<float> activations(torpor::Random& random) {
  std::vector<float> a(static_cast<std::size_t>(kTokens) * kNeurons);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const std::size_t neuron = i % kNeurons;
    const double bias = neuron < kNeurons / 4 ? 100 : 2.0 * static_cast<double>(neuron) / kNeurons;
    a[i] = static_cast<float>(std::max(0.0, random.normal() - bias));
  }
  return a;
}

void measure() {
  torpor::Random random(1);
  std::vector<float> outgoing(static_cast<std::size_t>(kNeurons) *
                              kWidth);  // [kNeurons, kWidth], row i belongs to neuron i
  for (float& w : outgoing) w = static_cast<float>(random.normal());

  torpor::ActivityOptions options;
  options.neurons = kNeurons;
  options.width = kWidth;
  torpor::ActivityAccumulator accumulator(options, outgoing);
  accumulator.add(activations(random));
  const torpor::ActivityStatistics statistics = accumulator.statistics();

  std::printf("tokens               %8lld\n", static_cast<long long>(statistics.tokens));
  std::printf("exact zeros          %8.4f  (95 %%: %.4f to %.4f)\n", statistics.zero_fraction.mean,
              statistics.zero_fraction.low, statistics.zero_fraction.high);
  std::printf("dead neurons         %8lld of %d\n", static_cast<long long>(statistics.dead_neurons()), kNeurons);
  for (const double target : {0.05, 0.1, 0.2}) {
    const torpor::CettThreshold threshold = statistics.cett.threshold_for(target);
    std::printf("inactive, CETT %.2f   %8.4f  (|a| |w| <= %.4g)\n", target, threshold.sparsity, threshold.epsilon);
  }
  if (statistics.dead_neurons() != kNeurons / 4)
    throw torpor::Error(
        1, "expected a quarter of the neurons to be dead; the installed library does not measure what it should");
}

}  // namespace

int main() {
  try {
    measure();
    return 0;
  } catch (const torpor::Error& error) {
    std::fprintf(stderr, "measure: %s\n", error.what());
    return error.exit_code();
  }
}
