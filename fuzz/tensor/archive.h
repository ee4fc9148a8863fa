// What must hold of every archive that a parser lets through.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "core/base/error.h"
#include "core/tensor/tensor.h"

namespace torpor::fuzz {

/// Every view lies in the file, has the bytes that its shape needs and is found by its name; together they do not
/// exceed the file.
inline void check(const TensorArchive& archive, std::span<const std::byte> file) {
  constexpr std::int64_t kMostConverted = 4096;
  std::uint64_t total = 0;
  for (const TensorView& tensor : archive.tensors()) {
    if (tensor.bytes.size() != bytes_of(tensor.format, tensor.elements())) std::abort();
    if (archive.find(tensor.name) != &tensor) std::abort();
    if (!tensor.bytes.empty() &&
        (tensor.bytes.data() < file.data() || tensor.bytes.data() + tensor.bytes.size() > file.data() + file.size()))
      std::abort();
    total += tensor.bytes.size();
    const NumberFormatTraits& t = traits(tensor.format);
    if ((t.floating || t.quantised) && tensor.elements() <= kMostConverted) static_cast<void>(to_f32(tensor));
  }
  if (total > file.size()) std::abort();  // only possible if some overlap
}

}  // namespace torpor::fuzz
