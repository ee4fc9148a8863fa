#include "lab/recycle/unit_adam.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "lab/recycle/adam_row.h"

namespace torpor::lab {

UnitAdam::UnitAdam(const NamedTensors& parameters, UnitAdamOptions options) : options_(options) {
  if (parameters.empty()) throw InvalidArgument("[UnitAdam] expected parameters, got none");
  for (const auto& [name, weight] : parameters) {
    if (!weight.requires_grad()) throw InvalidArgument("[UnitAdam] parameter \"{}\" needs no gradient", name);
    if (weight.scalar_type() != at::kFloat || !weight.is_contiguous())
      throw InvalidArgument("[UnitAdam] parameter \"{}\": expected f32 numbers one after another", name);
    for (const Parameter& other : parameters_)
      if (other.name == name) throw InvalidArgument("[UnitAdam] expected names that differ, got \"{}\" twice", name);
    Parameter p{.name = name, .weight = weight};
    p.exp_avg = torch::zeros_like(weight.detach());
    p.exp_avg_sq = torch::zeros_like(weight.detach());
    const std::int64_t rows = weight.dim() > 0 ? weight.size(0) : 1, columns = weight.dim() > 1 ? weight.size(1) : 0;
    p.first_step = torch::zeros({rows + columns + 1}, at::TensorOptions().dtype(at::kLong));
    p.rows_since = p.first_step.narrow(0, 0, rows);
    p.columns_since = p.first_step.narrow(0, rows, columns);
    p.tensor_since = p.first_step.narrow(0, rows + columns, 1);
    parameters_.push_back(std::move(p));
  }
  const double slowest = std::max(options_.beta1, options_.beta2);
  if (!(slowest < 1) || !(options_.beta1 >= 0) || !(options_.beta2 >= 0))
    throw InvalidArgument("[UnitAdam] expected betas from 0 to below 1, got {} and {}", options_.beta1, options_.beta2);
  horizon_ =
      slowest == 0 ? 1 : static_cast<std::int64_t>(std::ceil(std::log(std::ldexp(1.0, -25)) / std::log(slowest)));
}

UnitAdam::Parameter& UnitAdam::find(const std::string& name) {
  const auto at =
      std::find_if(parameters_.begin(), parameters_.end(), [&](const Parameter& p) { return p.name == name; });
  if (at == parameters_.end())
    throw InvalidArgument("[UnitAdam] expected a parameter that it trains, got \"{}\"", name);
  return *at;
}

const UnitAdam::Parameter& UnitAdam::find(const std::string& name) const {
  return const_cast<UnitAdam*>(this)->find(name);
}

namespace {

/// [rows, columns, …] weights' first steps: the later of their row's and column's.
at::Tensor since_of(const at::Tensor& like, const at::Tensor& rows, const at::Tensor& columns) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(std::max<std::int64_t>(1, like.dim())), 1);
  shape[0] = rows.size(0);
  at::Tensor since = rows.view(shape);
  if (columns.size(0) > 0) {
    shape[0] = 1;
    shape[1] = columns.size(0);
    since = at::maximum(since, columns.view(shape));
  }
  return since;
}

}  // namespace

double UnitAdam::step_of(std::int64_t count, double learning_rate) const {
  return learning_rate / (1 - std::pow(options_.beta1, static_cast<double>(count)));
}

double UnitAdam::scale_of(std::int64_t count) const {
  return 1 / std::sqrt(1 - std::pow(options_.beta2, static_cast<double>(count)));
}

double UnitAdam::decay_of(const Parameter& p) const {
  return options_.decoupled && p.weight.dim() < 2 ? 0 : options_.weight_decay;
}

// The fused step takes one count a tensor and one decay for all. Tensors with units that are younger than that, and
// young enough for the count to matter, are stepped row by row.
void UnitAdam::step(double learning_rate) {
  const at::NoGradGuard no_gradient;
  ++steps_;
  struct Group {
    std::vector<at::Tensor> weights, gradients, exp_avg, exp_avg_sq, steps;
  };
  std::map<double, Group> groups;  // by decay
  for (Parameter& p : parameters_) {
    if (!p.weight.grad().defined()) continue;
    const auto tensor_since = p.tensor_since.item<std::int64_t>();
    if (p.latest > tensor_since && steps_ - p.latest <= horizon_) {
      step_by_units(p, learning_rate);
      continue;
    }
    Group& group = groups[decay_of(p)];
    group.weights.push_back(p.weight.detach());
    group.gradients.push_back(p.weight.grad());
    group.exp_avg.push_back(p.exp_avg);
    group.exp_avg_sq.push_back(p.exp_avg_sq);
    // f32: exact for 16 million steps
    group.steps.push_back(torch::full({}, static_cast<double>(steps_ - tensor_since)));
  }
  const auto fused = [&](const auto& step) {
    for (auto& [decay, group] : groups)
      step(group.weights, group.gradients, group.exp_avg, group.exp_avg_sq, at::TensorList(), group.steps,
           learning_rate, options_.beta1, options_.beta2, decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  };
  if (options_.decoupled)
    fused([](auto&&... arguments) { at::_fused_adamw_(arguments...); });
  else
    fused([](auto&&... arguments) { at::_fused_adam_(arguments...); });
}

void UnitAdam::step_by_units(Parameter& p, double learning_rate) const {
  const auto tensor_since = p.tensor_since.item<std::int64_t>();
  const at::Tensor gradient = p.weight.grad().contiguous();
  const std::int64_t rows = p.rows_since.size(0), width = p.weight.numel() / rows;
  const std::int64_t columns = std::max<std::int64_t>(1, p.columns_since.size(0)), inner = width / columns;
  const std::int64_t* const row_since = p.rows_since.const_data_ptr<std::int64_t>();
  const std::int64_t* const column_since = p.columns_since.const_data_ptr<std::int64_t>();
  std::vector<float> column_step(static_cast<std::size_t>(width)), column_scale(column_step.size());
  // Units come in few ages: those of the times of recycling.
  std::int64_t known = -1;
  float step = 0, scale = 0;
  const auto factors = [&](std::int64_t since) {
    const std::int64_t count = steps_ - std::max(since, tensor_since);
    if (count == known) return;
    known = count;
    step = static_cast<float>(step_of(count, learning_rate));
    scale = static_cast<float>(scale_of(count));
  };
  for (std::int64_t c = 0; c < columns; ++c) {
    factors(p.columns_since.size(0) > 0 ? column_since[c] : 0);
    std::fill_n(column_step.begin() + c * inner, inner, step);
    std::fill_n(column_scale.begin() + c * inner, inner, scale);
  }
  const double decay = decay_of(p);
  const detail::AdamStep adam{.beta1 = static_cast<float>(options_.beta1),
                              .beta2 = static_cast<float>(options_.beta2),
                              .eps = static_cast<float>(options_.eps),
                              .weight_decay = static_cast<float>(options_.decoupled ? 0 : decay),
                              .kept = static_cast<float>(options_.decoupled ? 1 - learning_rate * decay : 1)};
  float* const w = p.weight.mutable_data_ptr<float>();
  float* const m = p.exp_avg.mutable_data_ptr<float>();
  float* const v = p.exp_avg_sq.mutable_data_ptr<float>();
  const float* const g = gradient.const_data_ptr<float>();
  for (std::int64_t r = 0; r < rows; ++r) {
    factors(row_since[r]);
    const std::int64_t at = r * width;
    detail::adam_row(adam, width, step, scale, column_step.data(), column_scale.data(), g + at, w + at, m + at, v + at);
  }
}

void UnitAdam::zero_grad() {
  for (Parameter& p : parameters_) p.weight.mutable_grad().reset();
}

double UnitAdam::clip_gradients(double most) {
  const at::NoGradGuard no_gradient;
  std::vector<at::Tensor> gradients;
  for (const Parameter& p : parameters_)
    if (p.weight.grad().defined()) gradients.push_back(p.weight.grad());
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients, 2)).to(at::kDouble).norm().item<double>();
  if (most > 0 && norm > most) at::_foreach_mul_(gradients, most / norm);
  return norm;
}

namespace {

void check_mask(const std::string& name, const at::Tensor& mask, std::int64_t size, const char* what) {
  if (mask.defined() && (mask.scalar_type() != at::kBool || mask.dim() != 1 || mask.size(0) != size))
    throw InvalidArgument("[UnitAdam] \"{}\": expected a bool mask of {} {}, got {} values", name, size, what,
                          mask.numel());
}

}  // namespace

void UnitAdam::reset_moments(const Part& part) {
  const at::NoGradGuard no_gradient;
  Parameter& p = find(part.name);
  check_mask(part.name, part.rows, p.rows_since.size(0), "rows");
  check_mask(part.name, part.columns, p.columns_since.size(0), "columns");
  for (const at::Tensor& moments : {p.exp_avg, p.exp_avg_sq}) {
    if (part.rows.defined()) moments.index_put_({part.rows}, torch::zeros({}));
    if (part.columns.defined()) moments.transpose(0, 1).index_put_({part.columns}, torch::zeros({}));
  }
}

void UnitAdam::reset_unit_steps(const Part& part) {
  const at::NoGradGuard no_gradient;
  Parameter& p = find(part.name);
  check_mask(part.name, part.rows, p.rows_since.size(0), "rows");
  check_mask(part.name, part.columns, p.columns_since.size(0), "columns");
  if (part.rows.defined()) p.rows_since.masked_fill_(part.rows, steps_);
  if (part.columns.defined()) p.columns_since.masked_fill_(part.columns, steps_);
  const bool any = (part.rows.defined() && part.rows.any().item<bool>()) ||
                   (part.columns.defined() && part.columns.any().item<bool>());
  if (any) p.latest = steps_;
}

void UnitAdam::restart(const std::string& name) {
  const Part all{name, torch::ones({find(name).rows_since.size(0)}, at::kBool), {}};
  reset_moments(all);
  reset_unit_steps(all);
}

void UnitAdam::reset_tensor_step(const std::string& name) {
  find(name).tensor_since.fill_(steps_);
}

at::Tensor UnitAdam::weight_steps(const std::string& name) const {
  const Parameter& p = find(name);
  const at::Tensor since = at::maximum(since_of(p.weight, p.rows_since, p.columns_since), p.tensor_since);
  return (steps_ - since).expand_as(p.weight).contiguous();
}

NamedTensors UnitAdam::state() const {
  NamedTensors out;
  for (const Parameter& p : parameters_) {
    out.emplace_back(p.name + ".exp_avg", p.exp_avg);
    out.emplace_back(p.name + ".exp_avg_sq", p.exp_avg_sq);
    out.emplace_back(p.name + ".first_step", p.first_step);
  }
  return out;
}

void UnitAdam::set_steps(std::int64_t steps) {
  steps_ = steps;
  for (Parameter& p : parameters_) {
    const at::Tensor units = p.first_step.narrow(0, 0, p.first_step.size(0) - 1);
    p.latest = units.max().item<std::int64_t>();
  }
}

}  // namespace torpor::lab
