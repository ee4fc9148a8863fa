#include "core/tensor/tensor.h"

#include <fmt/ranges.h>

#include "core/base/error.h"
#include "core/tensor/in_quotes.h"

namespace torpor {

std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape) {
  // A zero anywhere makes the product zero, yet the other dimensions must fit by themselves: [2^40, 2^40, 0] is
  // refused, so that no consumer overflows on a part of a shape.
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    if (dimension == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, dimension, &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : product;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::int64_t TensorView::elements() const {
  const auto count = element_count(shape);
  if (!count)
    throw InvalidArgument("[elements] tensor {}: the shape {} has no element count", in_quotes(name), shape_text());
  return *count;
}

std::vector<float> to_f32(const TensorView& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  to_f32(tensor.format, tensor.bytes.data(), values);
  return values;
}

void TensorArchive::add(TensorView tensor, std::shared_ptr<const void> owner) {
  const std::size_t wanted = bytes_of(tensor.format, tensor.elements());
  if (tensor.bytes.size() != wanted)
    throw InvalidArgument("[add] tensor {}: {} {} take {} bytes, got {}", in_quotes(tensor.name), tensor.shape_text(),
                          traits(tensor.format).name, wanted, tensor.bytes.size());
  if (!index_.emplace(tensor.name, tensors_.size()).second)
    throw BadInput("{}: the tensor {} appears twice; expected every name once", where_, in_quotes(tensor.name));
  tensors_.push_back(std::move(tensor));
  if (owner != nullptr && (owners_.empty() || owners_.back() != owner)) owners_.push_back(std::move(owner));
}

const TensorView* TensorArchive::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorView& TensorArchive::at(std::string_view name) const {
  const TensorView* tensor = find(name);
  if (tensor == nullptr)
    throw BadInput(
        "{}: expected a tensor {}, found none of this name among {}. Is this the model that the config names?", where_,
        in_quotes(name), tensors_.size());
  return *tensor;
}

}  // namespace torpor
