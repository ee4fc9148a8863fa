#include "lab/nn/spark_activations.h"

#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "lab/nn/score_rows.h"
#include "lab/nn/stored_rows.h"

namespace torpor::lab {
namespace {

/// The kept neurons of one row: where, f(x - theta) and its derivative.
template <typename T>
struct KeptNeurons {
  void choose(Activation activation, const T* scores, std::int64_t n, const ScoreMoments& moments, double quantile) {
    const auto room = static_cast<std::size_t>(n + detail::kRowPadding);
    places.resize(room);
    values.resize(room);
    slopes.resize(room);
    const double theta = moments.mean + moments.deviation * quantile;
    size = detail::places_above(scores, n, theta, places.data());
    for (std::int64_t i = 0; i < size; ++i)
      values[static_cast<std::size_t>(i)] =
          static_cast<T>(static_cast<double>(scores[places[static_cast<std::size_t>(i)]]) - theta);
    detail::activate_in_place(activation, values.data(), slopes.data(), size);
  }

  std::vector<std::int32_t> places;
  std::vector<T> values, slopes;
  std::int64_t size = 0;
};

class SparkActivationsFunction : public torch::autograd::Function<SparkActivationsFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& scores_in,
                            const at::Tensor& ups_in, Activation activation, std::int64_t k) {
    const at::Tensor scores = scores_in.contiguous(), ups = ups_in.contiguous();
    const std::int64_t n = scores.size(-1), rows = scores.numel() / n;
    const double quantile = detail::threshold_quantile(n, k);
    at::Tensor out = at::zeros_like(scores);
    const at::Tensor moments = at::empty({rows, 2}, scores.options().dtype(at::kDouble));
    auto* const of_rows = moments.mutable_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, scores.scalar_type(), "spark_activations", [&] {
      const auto* const all = scores.const_data_ptr<scalar_t>();
      const auto* const up = ups.const_data_ptr<scalar_t>();
      auto* const to = out.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        using Row = detail::RowType<scalar_t>;
        std::vector<Row> buffer;
        KeptNeurons<Row> kept;
        for (std::int64_t r = begin; r < end; ++r) {
          const Row* const row = detail::row_of(all + r * n, n, buffer);
          const ScoreMoments m = detail::moments_of(row, n);
          of_rows[2 * r] = m.mean;
          of_rows[2 * r + 1] = m.deviation;
          kept.choose(activation, row, n, m, quantile);
          for (std::int64_t i = 0; i < kept.size; ++i) {
            const std::int64_t j = r * n + kept.places[static_cast<std::size_t>(i)];
            to[j] = static_cast<scalar_t>(kept.values[static_cast<std::size_t>(i)] * static_cast<Row>(up[j]));
          }
        }
      });
    });
    context->save_for_backward({scores, ups, moments});
    context->saved_data["activation"] = static_cast<std::int64_t>(activation);
    context->saved_data["quantile"] = quantile;
    return out;
  }

  // For kept j: dup_j = g_j f(z_j) and dz_j = g_j up_j f'(z_j), z = x - theta; then the gradient of the threshold as in
  // statistical_top_k: dx_j = dz_j - G (1 / n + Q (x_j - mean) / ((n - 1) std)) with G = sum dz.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    if (at::GradMode::is_enabled())
      throw InvalidArgument("[spark_activations] expected a first derivative, a second one was asked for");
    const auto saved = context->get_saved_variables();
    const at::Tensor &scores = saved[0], &ups = saved[1];
    const auto activation = static_cast<Activation>(context->saved_data["activation"].toInt());
    const double quantile = context->saved_data["quantile"].toDouble();
    const at::Tensor g = gradients[0].contiguous();
    const std::int64_t n = scores.size(-1), rows = scores.numel() / n;
    const at::Tensor dscores = at::empty_like(scores), dups = at::zeros_like(ups);
    const auto* const of_rows = saved[2].const_data_ptr<double>();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, scores.scalar_type(), "spark_activations_backward", [&] {
      const auto* const all = scores.const_data_ptr<scalar_t>();
      const auto* const up = ups.const_data_ptr<scalar_t>();
      const auto* const above = g.const_data_ptr<scalar_t>();
      auto* const to_scores = dscores.mutable_data_ptr<scalar_t>();
      auto* const to_ups = dups.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        using Row = detail::RowType<scalar_t>;
        std::vector<Row> buffer, out;
        KeptNeurons<Row> kept;
        for (std::int64_t r = begin; r < end; ++r) {
          const Row* const row = detail::row_of(all + r * n, n, buffer);
          const ScoreMoments m{of_rows[2 * r], of_rows[2 * r + 1]};
          kept.choose(activation, row, n, m, quantile);
          double sum = 0;
          for (std::int64_t i = 0; i < kept.size; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const std::int64_t j = r * n + kept.places[at];
            const auto gradient = static_cast<Row>(above[j]);
            to_ups[j] = static_cast<scalar_t>(gradient * kept.values[at]);
            kept.values[at] = gradient * static_cast<Row>(up[j]) * kept.slopes[at];  // dz from here on
            sum += static_cast<double>(kept.values[at]);
          }
          const double slope = m.deviation > 0 ? sum * quantile / (static_cast<double>(n - 1) * m.deviation) : 0;
          detail::write_row(to_scores + r * n, n, out, [&](Row* gradient) {
            detail::line(row, n, m.mean, -sum / static_cast<double>(n), -slope, gradient);
            for (std::int64_t i = 0; i < kept.size; ++i)
              gradient[kept.places[static_cast<std::size_t>(i)]] += kept.values[static_cast<std::size_t>(i)];
          });
        }
      });
    });
    return {dscores, dups, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor spark_activations(Activation activation, const at::Tensor& scores, const at::Tensor& ups, std::int64_t k) {
  if (!scores.defined() || scores.dim() < 1 || !at::isFloatingType(scores.scalar_type()) || !scores.device().is_cpu())
    throw InvalidArgument("[spark_activations] expected scores [..., n] of a floating type on the CPU");
  if (!ups.defined() || ups.sizes() != scores.sizes() || ups.scalar_type() != scores.scalar_type())
    throw InvalidArgument("[spark_activations] expected the ups to be of the scores' shape and type");
  if (k < 1 || k >= scores.size(-1))
    throw InvalidArgument("[spark_activations] expected 1 <= k < n, got k={}, n={}", k, scores.size(-1));
  return SparkActivationsFunction::apply(scores, ups, activation, k);
}

}  // namespace torpor::lab
