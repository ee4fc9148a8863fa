#include "lab/nn/tensor_views.h"

#include <torch/torch.h>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

NumberFormat format_of(at::ScalarType type) {
  if (type == at::kFloat) return NumberFormat::f32;
  if (type == at::kBFloat16) return NumberFormat::bf16;
  if (type == at::kHalf) return NumberFormat::f16;
  throw InvalidArgument("[view_of] expected f32, bf16 or f16, got {}", c10::toString(type));
}

}  // namespace

TensorView view_of(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.is_contiguous() || !tensor.device().is_cpu())
    throw InvalidArgument("[view_of] expected \"{}\" to be contiguous and on the CPU", name);
  return {.name = name,
          .format = format_of(tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .bytes = {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}};
}

at::Tensor tensor_of(const TensorView& view, const std::string& where) {
  at::Tensor out = torch::empty(view.shape, torch::kFloat);
  to_f32(view.format, view.bytes.data(), {out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel())});
  if (!at::isfinite(out).all().item<bool>())
    throw BadInput("{}: tensor \"{}\": expected finite weights, found NaN or infinity", where, view.name);
  return out;
}

}  // namespace torpor::lab
