#include "lab/selfcheck.h"

#include <torch/torch.h>

#include <algorithm>
#include <functional>

#include "lab/activity_bridge.h"
#include "lab/activity_reference.h"

namespace torpor::lab {
namespace {

double deviation(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs() / expected.abs().clamp_min(1.0)).max().item<double>();
}
double deviation(double found, double expected) {
  return std::abs(found - expected) / std::max(1.0, std::abs(expected));
}

}  // namespace

std::vector<SelfcheckCase> selfcheck(std::uint64_t seed) {
  struct Layer {
    const char* name;
    torch::ScalarType type;
    std::int64_t tokens, neurons, width;
    std::function<torch::Tensor(const torch::Tensor&)> activation;
  };
  const std::vector<Layer> layers = {
      {"relu, f32", torch::kFloat32, 300, 172, 64, [](const torch::Tensor& x) { return torch::relu(x - 0.5); }},
      {"relu2, bf16", torch::kBFloat16, 128, 1024, 96,
       [](const torch::Tensor& x) { return torch::relu(x - 1).square(); }},
      {"gelu, f16", torch::kFloat16, 200, 257, 33, [](const torch::Tensor& x) { return torch::gelu(x); }},
      {"silu, f64", torch::kFloat64, 64, 100, 31, [](const torch::Tensor& x) { return torch::silu(x); }},
  };
  constexpr float kEpsilon = 0.25F;
  std::vector<SelfcheckCase> cases;
  torch::manual_seed(seed);
  for (const Layer& layer : layers) {
    const auto x = torch::randn({layer.tokens, layer.neurons}, torch::kFloat64);
    const auto a = layer.activation(x).to(layer.type);
    const auto w = (torch::randn({layer.neurons, layer.width}, torch::kFloat64) / 8).to(layer.type);

    ActivityOptions options;
    options.epsilon = kEpsilon;
    options.cett_stride = 1;
    TensorActivity activity(w, options);
    for (const auto& piece : a.split(37)) activity.add(piece);
    const ActivityTensors found = activity.tensors();
    const ActivityStatistics statistics = activity.statistics();
    const ActivityReference expected = activity_reference(a, w, found.epsilon, kEpsilon);

    SelfcheckCase result;
    result.name = layer.name;
    result.tokens = layer.tokens;
    result.neurons = layer.neurons;
    result.density = statistics.density.mean;
    result.allowed = 1e-5;  // the accumulator adds outputs in f32
    result.deviation = std::max(
        {deviation(statistics.zero_fraction.mean, expected.zero_fraction),
         deviation(statistics.density.mean, expected.density), deviation(found.mean_magnitude, expected.mean_magnitude),
         deviation(found.frequency, expected.frequency), deviation(found.redo_score, expected.redo_score),
         deviation(found.cett, expected.cett), deviation(found.sparsity, expected.sparsity)});
    cases.push_back(result);
  }
  return cases;
}

}  // namespace torpor::lab
