// CIFAR-10 (Krizhevsky 2009) in its binary form.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

namespace torpor::lab {

struct LabelledImages {
  at::Tensor images;  // [n, 3, 32, 32], f32; of each colour the mean is 0 and the deviation 1
  at::Tensor labels;  // [n] int64, 0 to 9
};

/// The first n records of a file of them (data_batch_1.bin): a byte for the label, then 1024 each of red, green and
/// blue, by rows. Throws IoError; BadInput for a file of another size, with fewer images, or with another label.
LabelledImages read_cifar10(const std::filesystem::path& path, std::int64_t n);

}  // namespace torpor::lab
