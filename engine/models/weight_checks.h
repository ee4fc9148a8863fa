// Are these numbers? One NaN or infinity among the weights spoils every result after it, silently.
#pragma once

#include <cstdint>
#include <optional>

#include "core/tensor/tensor.h"

namespace torpor {

/// Index of the first value of `tensor` that is NaN or infinite (for quantised blocks: whose scale is), if any.
/// `sample`: look only at the ends and at evenly spaced pieces, about 256 KiB of the tensor. Reads bits, converts
/// nothing.
std::optional<std::int64_t> find_non_finite(const TensorView& tensor, bool sample);

}  // namespace torpor
