#include "lab/nn/statistical_top_k.h"

#include <torch/torch.h>

#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "lab/nn/score_rows.h"
#include "lab/nn/stored_rows.h"

namespace torpor::lab {
namespace {

class StatisticalTopKFunction : public torch::autograd::Function<StatisticalTopKFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, std::int64_t k,
                            bool soft) {
    const at::Tensor x = input.contiguous();
    const std::int64_t n = x.size(-1), rows = x.numel() / n;
    const double quantile = detail::threshold_quantile(n, k);
    at::Tensor y = at::empty_like(x);
    at::Tensor moments = at::empty({rows, 2}, x.options().dtype(at::kDouble));
    auto* const of_row = moments.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "statistical_top_k", [&] {
      const auto* const from = x.const_data_ptr<scalar_t>();
      auto* const to = y.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        std::vector<detail::RowType<scalar_t>> in, out;
        for (std::int64_t r = begin; r < end; ++r) {
          const auto* const row = detail::row_of(from + r * n, n, in);
          const ScoreMoments m = detail::moments_of(row, n);
          const double theta = m.mean + m.deviation * quantile;
          detail::write_row(to + r * n, n, out,
                            [&](auto* result) { detail::shrink(row, n, theta, soft ? 0 : theta, result); });
          of_row[2 * r] = m.mean;
          of_row[2 * r + 1] = m.deviation;
        }
      });
    });
    context->save_for_backward({x, moments});
    context->saved_data["quantile"] = quantile;
    context->saved_data["soft"] = soft;
    return y;
  }

  // With m_i = 1 where x_i > theta, g the gradient of y and G = sum m_i g_i:
  //   dL/dx_j = m_j g_j - G (1 / n + Q (x_j - mean) / ((n - 1) std))          (soft; hard: the first term alone)
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    if (at::GradMode::is_enabled())
      throw InvalidArgument("[statistical_top_k] expected a first derivative, a second one was asked for");
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const double quantile = context->saved_data["quantile"].toDouble();
    const bool soft = context->saved_data["soft"].toBool();
    const at::Tensor g = gradients[0].contiguous();
    const std::int64_t n = x.size(-1), rows = x.numel() / n;
    at::Tensor result = at::empty_like(x);
    const auto* const of_row = saved[1].const_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "statistical_top_k_backward", [&] {
      const auto* const scores = x.const_data_ptr<scalar_t>();
      const auto* const upstream = g.const_data_ptr<scalar_t>();
      auto* const to = result.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        std::vector<detail::RowType<scalar_t>> in, in_gradient, out;
        for (std::int64_t r = begin; r < end; ++r) {
          const auto* const row = detail::row_of(scores + r * n, n, in);
          const auto* const above = detail::row_of(upstream + r * n, n, in_gradient);
          const double mean = of_row[2 * r], deviation = of_row[2 * r + 1], theta = mean + deviation * quantile;
          const double sum = soft ? detail::sum_above(row, above, n, theta) : 0;
          const double slope = deviation > 0 ? sum * quantile / (static_cast<double>(n - 1) * deviation) : 0;
          detail::write_row(to + r * n, n, out, [&](auto* gradient) {
            detail::shrink_gradient(row, above, n, theta, mean, sum / static_cast<double>(n), slope, gradient);
          });
        }
      });
    });
    return {result, at::Tensor(), at::Tensor()};
  }
};

void check_scores(const char* function, const at::Tensor& x) {
  if (!x.defined() || x.dim() < 1 || !at::isFloatingType(x.scalar_type()) || !x.device().is_cpu() ||
      x.layout() != at::kStrided)
    throw InvalidArgument("[{}] expected scores [..., n] of a floating type on the CPU", function);
}

}  // namespace

at::Tensor statistical_top_k(const at::Tensor& x, std::int64_t k, Shrink shrink) {
  check_scores("statistical_top_k", x);
  if (k < 1 || k >= x.size(-1))
    throw InvalidArgument("[statistical_top_k] expected 1 <= k < n, got k={}, n={}", k, x.size(-1));
  return StatisticalTopKFunction::apply(x, k, shrink == Shrink::soft);
}

}  // namespace torpor::lab
