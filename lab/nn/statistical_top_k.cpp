#include "lab/nn/statistical_top_k.h"

#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"

namespace torpor::lab {
namespace {

constexpr std::int64_t kRowsWorthAThread = 16;

/// core/activity's for f32, the type that networks train in; otherwise two passes in f64.
template <typename T>
ScoreMoments moments_of(const T* x, std::int64_t n) {
  if constexpr (std::is_same_v<T, float>) {
    return score_moments({x, static_cast<std::size_t>(n)});
  } else {
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
    const double mean = sum / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i)
      squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
    return {mean, n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0};
  }
}

class StatisticalTopKFunction : public torch::autograd::Function<StatisticalTopKFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input, std::int64_t k,
                            bool soft) {
    const at::Tensor x = input.contiguous();
    const std::int64_t n = x.size(-1), rows = x.numel() / n;
    const double quantile = normal_quantile(1 - static_cast<double>(k) / static_cast<double>(n));
    at::Tensor y = at::empty_like(x);
    at::Tensor moments = at::empty({rows, 2}, x.options().dtype(at::kDouble));
    auto* const of_row = moments.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "statistical_top_k", [&] {
      const auto* const from = x.const_data_ptr<scalar_t>();
      auto* const to = y.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, rows, kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const scalar_t* const row = from + r * n;
          const ScoreMoments m = moments_of(row, n);
          const double theta = m.mean + m.deviation * quantile, shift = soft ? theta : 0;
          for (std::int64_t i = 0; i < n; ++i) {
            const auto value = static_cast<double>(row[i]);
            to[r * n + i] = static_cast<scalar_t>(value > theta ? value - shift : 0);
          }
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
      at::parallel_for(0, rows, kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
          const scalar_t* const row = scores + r * n;
          const scalar_t* const above = upstream + r * n;
          const double mean = of_row[2 * r], deviation = of_row[2 * r + 1], theta = mean + deviation * quantile;
          double constant = 0, slope = 0;
          if (soft) {
            double sum = 0;
            for (std::int64_t i = 0; i < n; ++i)
              if (static_cast<double>(row[i]) > theta) sum += static_cast<double>(above[i]);
            constant = sum / static_cast<double>(n);
            if (deviation > 0) slope = sum * quantile / (static_cast<double>(n - 1) * deviation);
          }
          for (std::int64_t i = 0; i < n; ++i) {
            const auto value = static_cast<double>(row[i]);
            const double through = value > theta ? static_cast<double>(above[i]) : 0;
            to[r * n + i] = static_cast<scalar_t>(through - constant - slope * (value - mean));
          }
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

KeptScores statistical_keep(const at::Tensor& scores, const at::Tensor& visible, std::int64_t k) {
  check_scores("statistical_keep", scores);
  if (k < 1) throw InvalidArgument("[statistical_keep] expected k >= 1, got {}", k);
  if (!visible.defined() || visible.scalar_type() != at::kBool)
    throw InvalidArgument("[statistical_keep] expected a mask of booleans");
  const at::NoGradGuard no_gradient;
  const std::int64_t n = scores.size(-1), rows = n == 0 ? 0 : scores.numel() / n;
  const at::Tensor x = scores.detach().to(at::kFloat).contiguous();
  const at::Tensor seen = visible.expand(scores.sizes()).contiguous();
  KeptScores out{at::zeros(scores.sizes(), seen.options()), 0};
  const auto* const values = x.const_data_ptr<float>();
  const auto* const mask = seen.const_data_ptr<bool>();
  auto* const keep = out.keep.mutable_data_ptr<bool>();
  std::atomic<std::int64_t> empty{0};
  at::parallel_for(0, rows, kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(n));
    std::vector<std::int64_t> place(static_cast<std::size_t>(n));
    for (std::int64_t r = begin; r < end; ++r) {
      std::size_t count = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        if (!mask[r * n + i]) continue;
        row[count] = values[r * n + i];
        place[count++] = i;
      }
      if (count == 0) continue;
      const double theta = statistical_threshold({row.data(), count}, k);  // -inf for count <= k
      bool any = false;
      for (std::size_t i = 0; i < count; ++i) {
        if (!(static_cast<double>(row[i]) > theta)) continue;
        keep[r * n + place[i]] = any = true;
      }
      if (any) continue;
      const auto largest = std::max_element(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(count));
      keep[r * n + place[static_cast<std::size_t>(largest - row.begin())]] = true;
      empty.fetch_add(1, std::memory_order_relaxed);
    }
  });
  out.empty_rows = empty.load();
  return out;
}

}  // namespace torpor::lab
