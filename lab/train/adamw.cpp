#include "lab/train/adamw.h"

#include <torch/torch.h>

#include "core/base/error.h"

namespace torpor::lab {

AdamW::AdamW(NamedTensors parameters, AdamWOptions options) : parameters_(std::move(parameters)), options_(options) {
  if (parameters_.empty()) throw InvalidArgument("[AdamW] expected parameters, got none");
  for (const auto& [name, parameter] : parameters_) {
    if (!parameter.requires_grad()) throw InvalidArgument("[AdamW] parameter \"{}\" needs no gradient", name);
    exp_avg_.push_back(torch::zeros_like(parameter.detach()));
    exp_avg_sq_.push_back(torch::zeros_like(parameter.detach()));
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_gradient;
  const at::Tensor step = torch::full({}, static_cast<double>(++steps_));  // f32: exact for 16 million steps
  for (const bool matrices : {true, false}) {
    std::vector<at::Tensor> weights, gradients, exp_avg, exp_avg_sq;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const at::Tensor& weight = parameters_[i].second;
      if ((weight.dim() >= 2) != matrices || !weight.grad().defined()) continue;
      weights.push_back(weight.detach());
      gradients.push_back(weight.grad());
      exp_avg.push_back(exp_avg_[i]);
      exp_avg_sq.push_back(exp_avg_sq_[i]);
    }
    if (weights.empty()) continue;
    const std::vector<at::Tensor> steps(weights.size(), step);
    at::_fused_adamw_(weights, gradients, exp_avg, exp_avg_sq, {}, steps, learning_rate, options_.beta1, options_.beta2,
                      matrices ? options_.weight_decay : 0, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::zero_grad() {
  for (auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

double AdamW::clip_gradients(double most) {
  const at::NoGradGuard no_gradient;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients, 2)).to(at::kDouble).norm().item<double>();
  if (most > 0 && norm > most) at::_foreach_mul_(gradients, most / norm);
  return norm;
}

NamedTensors AdamW::state() const {
  NamedTensors out;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    out.emplace_back(parameters_[i].first + ".exp_avg", exp_avg_[i]);
    out.emplace_back(parameters_[i].first + ".exp_avg_sq", exp_avg_sq_[i]);
  }
  return out;
}

}  // namespace torpor::lab
