// Writing GGUF (gguf.h): metadata and tensors, version 3, little endian, alignment 32.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"

namespace torpor {

/// Collects what a file will hold and writes it at once. Keys and names are not looked at: what llama.cpp expects of an
/// architecture is the caller's matter. One thread at a time.
class GgufWriter {
 public:
  void add(std::string_view key, std::uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, std::span<const std::string> values);
  void add(std::string_view key, std::span<const float> values);
  void add(std::string_view key, std::span<const std::int32_t> values);
  void add(std::string_view key, const std::vector<bool>& values);

  /// Its bytes must live until write(). Shape: outermost first, as everywhere here. Throws InvalidArgument for a format
  /// that GGUF has no number for, bytes that are not as many as format and shape need, and a name that was there
  /// before.
  void add_tensor(TensorView tensor);

  std::int64_t data_bytes() const { return static_cast<std::int64_t>(data_bytes_); }

  /// Atomic, streaming; progress(bytes of tensors written). Throws IoError, Interrupted.
  void write(const std::filesystem::path& path, const std::function<void(std::int64_t)>& progress = {}) const;

 private:
  void begin(std::string_view key, std::uint32_t type);

  std::string metadata_, infos_;
  std::uint64_t keys_ = 0, data_bytes_ = 0;
  std::vector<TensorView> tensors_;
};

}  // namespace torpor
