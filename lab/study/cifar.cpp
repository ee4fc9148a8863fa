#include "lab/study/cifar.h"

#include <torch/torch.h>

#include <algorithm>
#include <string>

#include "core/base/atomic_file.h"
#include "core/base/error.h"

namespace torpor::lab {

LabelledImages read_cifar10(const std::filesystem::path& path, std::int64_t n) {
  constexpr std::int64_t kPixels = 3 * 32 * 32, kRecord = 1 + kPixels;
  const std::string bytes = read_file(path);
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size == 0 || size % kRecord != 0)
    throw BadInput(
        "{}: expected CIFAR-10's binary form, records of {} bytes, found {} bytes, no multiple of that. A file that is "
        "compressed must be unpacked first (xz -d, tar -x)",
        path.string(), kRecord, size);
  if (size / kRecord < n) throw BadInput("{}: expected at least {} images, found {}", path.string(), n, size / kRecord);
  LabelledImages out{torch::empty({n, 3, 32, 32}), torch::empty({n}, at::kLong)};
  float* pixel = out.images.mutable_data_ptr<float>();
  auto* const label = out.labels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) {
    const char* const record = bytes.data() + i * kRecord;
    label[i] = static_cast<unsigned char>(record[0]);
    if (label[i] > 9)
      throw BadInput("{}: image {}: expected a label from 0 to 9, found {}", path.string(), i, label[i]);
    pixel = std::transform(record + 1, record + kRecord, pixel,
                           [](char value) { return static_cast<float>(static_cast<unsigned char>(value)); });
  }
  const at::Tensor mean = out.images.mean({0, 2, 3}, /*keepdim=*/true);
  const at::Tensor deviation = out.images.std({0, 2, 3}, /*unbiased=*/false, /*keepdim=*/true);
  out.images.sub_(mean).div_(deviation.clamp_min(1));
  return out;
}

}  // namespace torpor::lab
