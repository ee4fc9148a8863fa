// Between LibTorch's tensors and the views that files are made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "core/tensor/tensor.h"

namespace torpor::lab {

/// A view of a contiguous tensor on the CPU, which must outlive it. Throws InvalidArgument for another, or a type that
/// files do not hold.
TensorView view_of(const std::string& name, const at::Tensor& tensor);

/// The numbers of a view as f32, [its shape]. `where` names its file. Throws BadInput for NaN and infinity.
at::Tensor tensor_of(const TensorView& view, const std::string& where);

/// Throws BadInput, naming tensor and file, for NaN and infinity.
void check_finite(const at::Tensor& tensor, const std::string& name, const std::string& where);

/// Copies the view's numbers, bit for bit. Throws BadInput, naming `where`, for another type or shape than the
/// tensor's.
void copy_bits(const TensorView& from, const at::Tensor& to, const std::string& where);

}  // namespace torpor::lab
