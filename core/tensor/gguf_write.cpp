#include "core/tensor/gguf_write.h"

#include <algorithm>
#include <array>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/tensor/gguf.h"
#include "core/tensor/gguf_types.h"
#include "core/tensor/in_quotes.h"

namespace torpor {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::size_t kPiece = std::size_t{16} << 20;  // bytes between two looks for Ctrl-C

template <typename T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& to, std::string_view text) {
  put(to, std::uint64_t{text.size()});
  to += text;
}

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::uint32_t number_of(const TensorView& tensor) {
  for (const gguf::TensorType& type : gguf::kTensorTypes)
    if (type.format == tensor.format) return type.number;
  throw InvalidArgument("[GgufWriter::add_tensor] tensor {}: GGUF has no {}", in_quotes(tensor.name),
                        traits(tensor.format).name);
}

}  // namespace

void GgufWriter::begin(std::string_view key, std::uint32_t type) {
  put_text(metadata_, key);
  put(metadata_, type);
  ++keys_;
}

void GgufWriter::add(std::string_view key, std::uint32_t value) {
  begin(key, static_cast<std::uint32_t>(GgufType::u32));
  put(metadata_, value);
}

void GgufWriter::add(std::string_view key, float value) {
  begin(key, static_cast<std::uint32_t>(GgufType::f32));
  put(metadata_, value);
}

void GgufWriter::add(std::string_view key, std::string_view value) {
  begin(key, static_cast<std::uint32_t>(GgufType::string));
  put_text(metadata_, value);
}

void GgufWriter::add(std::string_view key, std::span<const std::string> values) {
  begin(key, static_cast<std::uint32_t>(GgufType::array));
  put(metadata_, static_cast<std::uint32_t>(GgufType::string));
  put(metadata_, std::uint64_t{values.size()});
  for (const std::string& value : values) put_text(metadata_, value);
}

void GgufWriter::add(std::string_view key, std::span<const float> values) {
  begin(key, static_cast<std::uint32_t>(GgufType::array));
  put(metadata_, static_cast<std::uint32_t>(GgufType::f32));
  put(metadata_, std::uint64_t{values.size()});
  for (const float value : values) put(metadata_, value);
}

void GgufWriter::add(std::string_view key, std::span<const std::int32_t> values) {
  begin(key, static_cast<std::uint32_t>(GgufType::array));
  put(metadata_, static_cast<std::uint32_t>(GgufType::i32));
  put(metadata_, std::uint64_t{values.size()});
  for (const std::int32_t value : values) put(metadata_, value);
}

void GgufWriter::add(std::string_view key, const std::vector<bool>& values) {
  begin(key, static_cast<std::uint32_t>(GgufType::array));
  put(metadata_, static_cast<std::uint32_t>(GgufType::boolean));
  put(metadata_, std::uint64_t{values.size()});
  for (const bool value : values) put(metadata_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufWriter::add_tensor(TensorView tensor) {
  const std::uint32_t number = number_of(tensor);
  if (tensor.bytes.size() != bytes_of(tensor.format, tensor.elements()))
    throw InvalidArgument("[GgufWriter::add_tensor] tensor {}: {} {} take {} bytes, got {}", in_quotes(tensor.name),
                          tensor.shape_text(), traits(tensor.format).name, bytes_of(tensor.format, tensor.elements()),
                          tensor.bytes.size());
  if (std::any_of(tensors_.begin(), tensors_.end(), [&](const TensorView& t) { return t.name == tensor.name; }))
    throw InvalidArgument("[GgufWriter::add_tensor] the tensor {} appears twice", in_quotes(tensor.name));
  put_text(infos_, tensor.name);
  put(infos_, static_cast<std::uint32_t>(tensor.shape.size()));
  for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size)
    put(infos_, static_cast<std::uint64_t>(*size));
  put(infos_, number);
  put(infos_, data_bytes_);
  data_bytes_ += aligned(tensor.bytes.size());
  tensors_.push_back(std::move(tensor));
}

void GgufWriter::write(const std::filesystem::path& path, const std::function<void(std::int64_t)>& progress) const {
  AtomicFile file(path);
  std::string head = "GGUF";
  put(head, std::uint32_t{3});
  put(head, std::uint64_t{tensors_.size()});
  put(head, keys_);
  head += metadata_ + infos_;
  head.resize(aligned(head.size()));
  file.append(head);
  constexpr std::array<char, kAlignment> kZeros{};
  std::int64_t written = 0;
  for (const TensorView& tensor : tensors_) {
    const std::string_view bytes(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
      check_interrupt();
      file.append(bytes.substr(at, kPiece));
      written += static_cast<std::int64_t>(std::min(kPiece, bytes.size() - at));
      if (progress) progress(written);
    }
    file.append({kZeros.data(), aligned(bytes.size()) - bytes.size()});
  }
  file.commit();
}

}  // namespace torpor
