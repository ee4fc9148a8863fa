#include "lab/activity_reference.h"

#include <torch/torch.h>

#include <vector>

namespace torpor::lab {

ActivityReference activity_reference(const at::Tensor& activations, const at::Tensor& outgoing,
                                     const at::Tensor& thresholds, float epsilon) {
  const torch::NoGradGuard no_grad;
  const auto a32 = activations.to(torch::kCPU, torch::kFloat32);  // [tokens, neurons]
  const auto a = a32.to(torch::kFloat64);
  const auto w = outgoing.to(torch::kCPU, torch::kFloat32).to(torch::kFloat64);  // [neurons, width]
  const auto norms = w.square().sum(1).sqrt().to(torch::kFloat32);               // [neurons]
  const auto magnitudes = a32.abs() * norms;                                     // [tokens, neurons] f32

  ActivityReference result;
  result.zero_fraction = (a == 0).to(torch::kFloat64).mean().item<double>();
  const auto fires = (magnitudes > epsilon).to(torch::kFloat64);
  result.density = fires.mean().item<double>();
  result.frequency = fires.mean(0);
  result.mean_magnitude = a.abs().mean(0);
  result.redo_score = result.mean_magnitude / result.mean_magnitude.mean();

  const auto output_norms = a.matmul(w).norm(2, /*dim=*/1);  // [tokens]
  std::vector<torch::Tensor> cett, sparsity;
  for (const auto& threshold : thresholds.to(torch::kFloat32).unbind()) {
    const auto dropped = magnitudes <= threshold;
    cett.push_back(((a * dropped).matmul(w).norm(2, 1) / output_norms).mean());
    sparsity.push_back(dropped.to(torch::kFloat64).mean());
  }
  result.cett = torch::stack(cett);
  result.sparsity = torch::stack(sparsity);
  return result;
}

}  // namespace torpor::lab
