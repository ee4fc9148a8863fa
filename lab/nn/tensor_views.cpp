#include "lab/nn/tensor_views.h"

#include <torch/torch.h>

#include <cstring>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

NumberFormat format_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return NumberFormat::f32;
    case at::kBFloat16:
      return NumberFormat::bf16;
    case at::kHalf:
      return NumberFormat::f16;
    case at::kDouble:
      return NumberFormat::f64;
    case at::kLong:
      return NumberFormat::i64;
    case at::kInt:
      return NumberFormat::i32;
    case at::kBool:
      return NumberFormat::boolean;
    case at::kByte:
      return NumberFormat::u8;
    default:
      throw InvalidArgument("[view_of] expected numbers that files hold, got {}", c10::toString(type));
  }
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

void copy_bits(const TensorView& from, const at::Tensor& to, const std::string& where) {
  if (from.format != format_of(to.scalar_type()) || from.shape != to.sizes().vec())
    throw BadInput(
        "{}: tensor \"{}\": expected the size and type of this run's, found others: was it written with the same "
        "options?",
        where, from.name);
  std::memcpy(to.mutable_data_ptr(), from.bytes.data(), from.bytes.size());
}

void check_finite(const at::Tensor& tensor, const std::string& name, const std::string& where) {
  if (!at::isfinite(tensor).all().item<bool>())
    throw BadInput("{}: tensor \"{}\": expected finite weights, found NaN or infinity", where, name);
}

at::Tensor tensor_of(const TensorView& view, const std::string& where) {
  at::Tensor out = torch::empty(view.shape, torch::kFloat);
  to_f32(view.format, view.bytes.data(), {out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel())});
  check_finite(out, view.name, where);
  return out;
}

}  // namespace torpor::lab
