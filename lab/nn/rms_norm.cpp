#include "lab/nn/rms_norm.h"

#include <torch/torch.h>

#include <vector>

#include "core/base/error.h"
#include "lab/nn/norm_rows.h"
#include "lab/nn/stored_rows.h"

namespace torpor::lab {
namespace {

class RmsNormFunction : public torch::autograd::Function<RmsNormFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_in,
                            const at::Tensor& weight_in, double offset, double eps) {
    const at::Tensor x = x_in.contiguous(), weight = weight_in.contiguous();
    const std::int64_t n = x.size(-1), rows = x.numel() / n;
    at::Tensor y = at::empty(x.sizes(), weight.options());
    const at::Tensor scales = at::empty({rows}, weight.options());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "rms_norm", [&] {
      using Row = detail::RowType<scalar_t>;
      const auto* const from = x.const_data_ptr<scalar_t>();
      const auto* const w = weight.const_data_ptr<Row>();
      auto *const to = y.mutable_data_ptr<Row>(), *const r = scales.mutable_data_ptr<Row>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        std::vector<Row> buffer;
        for (std::int64_t i = begin; i < end; ++i)
          r[i] = detail::normalise_row(detail::row_of(from + i * n, n, buffer), w, static_cast<Row>(offset), n, eps,
                                       to + i * n);
      });
    });
    context->save_for_backward({x, weight, scales});
    context->saved_data["offset"] = offset;
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    if (at::GradMode::is_enabled())
      throw InvalidArgument("[rms_norm] expected a first derivative, a second one was asked for");
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scales = saved[2];
    const double offset = context->saved_data["offset"].toDouble();
    const at::Tensor g = gradients[0].contiguous(), dx = at::empty_like(x);
    const std::int64_t n = x.size(-1), rows = x.numel() / n;
    const at::Tensor parts = at::zeros({at::get_num_threads(), n}, weight.options());  // of the weight's gradient
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "rms_norm_backward", [&] {
      using Row = detail::RowType<scalar_t>;
      const auto* const from = x.const_data_ptr<scalar_t>();
      const auto *const w = weight.const_data_ptr<Row>(), *const above = g.const_data_ptr<Row>(),
                        *const r = scales.const_data_ptr<Row>();
      auto* const to = dx.mutable_data_ptr<scalar_t>();
      auto* const all_parts = parts.mutable_data_ptr<Row>();
      at::parallel_for(0, rows, detail::kRowsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
        std::vector<Row> buffer, out;
        Row* const part = all_parts + at::get_thread_num() * n;
        for (std::int64_t i = begin; i < end; ++i) {
          const Row* const row = detail::row_of(from + i * n, n, buffer);
          detail::write_row(to + i * n, n, out, [&](Row* d) {
            detail::normalise_row_gradient(row, w, static_cast<Row>(offset), above + i * n, r[i], n, d, part);
          });
        }
      });
    });
    return {dx, parts.sum(0), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps) {
  const bool wide = x.defined() && x.scalar_type() == at::kDouble;
  if (!x.defined() || !weight.defined() || !x.is_floating_point() || x.dim() < 1 || x.numel() == 0 ||
      weight.dim() != 1 || weight.size(0) != x.size(-1) || weight.scalar_type() != (wide ? at::kDouble : at::kFloat))
    throw InvalidArgument("[rms_norm] expected x [..., n] of floating point and weight [n] in f32 (f64 where x is)");
  return RmsNormFunction::apply(x, weight, offset, eps);
}

}  // namespace torpor::lab
