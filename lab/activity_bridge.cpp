#include "lab/activity_bridge.h"

#include <torch/torch.h>

#include <span>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

// Contiguous f32 on the CPU; a copy only where it has to be one.
at::Tensor as_rows(const at::Tensor& tensor, const char* function) {
  if (!tensor.defined()) throw InvalidArgument("[{}] expected a tensor, found an undefined one", function);
  if (!at::isFloatingType(tensor.scalar_type()))
    throw InvalidArgument("[{}] expected a floating type, found {}", function, c10::toString(tensor.scalar_type()));
  if (tensor.layout() != at::kStrided)
    throw InvalidArgument("[{}] expected a dense tensor, found a sparse one", function);
  return tensor.detach().to(at::kCPU, at::kFloat).contiguous();
}

std::span<const float> values_of(const at::Tensor& rows) {
  return {rows.const_data_ptr<float>(), static_cast<std::size_t>(rows.numel())};
}

std::string shape_text(const at::Tensor& tensor) {
  std::string text = "[";
  for (const std::int64_t size : tensor.sizes()) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

ActivityAccumulator make_accumulator(const at::Tensor& outgoing, ActivityOptions options) {
  const at::Tensor rows = as_rows(outgoing, "TensorActivity");
  if (rows.dim() != 2 || rows.size(0) < 1 || rows.size(1) < 1 || rows.size(0) > INT32_MAX || rows.size(1) > INT32_MAX)
    throw InvalidArgument("[TensorActivity] expected outgoing weights [neurons, width], found {}", shape_text(rows));
  options.neurons = static_cast<int>(rows.size(0));
  options.width = static_cast<int>(rows.size(1));
  return ActivityAccumulator(options, values_of(rows));
}

at::Tensor copy_of(const std::vector<double>& values) {
  return torch::tensor(values, torch::dtype(torch::kFloat64));
}

}  // namespace

TensorActivity::TensorActivity(const at::Tensor& outgoing, ActivityOptions options)
    : neurons_(outgoing.defined() && outgoing.dim() > 0 ? outgoing.size(0) : 0),
      accumulator_(make_accumulator(outgoing, options)) {}

void TensorActivity::add(const at::Tensor& activations) {
  const at::Tensor rows = as_rows(activations, "TensorActivity::add");
  if (rows.dim() < 1 || rows.size(-1) != neurons_)
    throw InvalidArgument("[TensorActivity::add] expected activations [..., {}], found {}", neurons_, shape_text(rows));
  accumulator_.add(values_of(rows));
}

ActivityTensors TensorActivity::tensors() const {
  const ActivityStatistics statistics = accumulator_.statistics();
  std::vector<double> edges;
  for (int k = 0; k < MagnitudeGrid::kEdges; ++k) edges.push_back(MagnitudeGrid::edge(k));
  return {copy_of(statistics.mean_magnitude), copy_of(statistics.frequency),
          copy_of(statistics.redo_score),     copy_of(edges),
          copy_of(statistics.cett.cett),      copy_of(statistics.cett.sparsity)};
}

}  // namespace torpor::lab
