// Small files built byte by byte for the tests of core/tensor, independent of the code under test.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/base/error.h"

namespace torpor::testing {

/// The bytes of a number, little endian.
template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
inline std::string u32(std::uint32_t value) {
  return raw(value);
}
inline std::string u64(std::uint64_t value) {
  return raw(value);
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// A safetensors file with this header and `data_bytes` bytes of data.
inline std::string safetensors_file(const std::string& header, std::size_t data_bytes) {
  return u64(header.size()) + header + std::string(data_bytes, '\1');
}

/// GGUF's strings.
inline std::string gguf_string(std::string_view text) {
  return u64(text.size()) + std::string(text);
}
/// One metadata entry; `value` as in the file.
inline std::string gguf_entry(std::string_view key, std::uint32_t type, const std::string& value) {
  return gguf_string(key) + u32(type) + value;
}
inline std::string gguf_tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                               std::uint64_t offset) {
  std::string text = gguf_string(name) + u32(static_cast<std::uint32_t>(dimensions.size()));
  for (const std::uint64_t dimension : dimensions) text += u64(dimension);
  return text + u32(type) + u64(offset);
}
inline std::string gguf_file(std::uint64_t tensors, std::uint64_t entries, const std::string& body,
                             std::size_t data_bytes, std::uint32_t version = 3, std::size_t alignment = 32) {
  std::string file = "GGUF" + u32(version) + u64(tensors) + u64(entries) + body;
  file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
  return file + std::string(data_bytes, '\1');
}

/// What `action` throws, as text: "" if it throws nothing. Anything but BadInput fails the test.
template <typename Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const BadInput& error) {
    EXPECT_EQ(error.exit_code(), 3);
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos)
        << "more than one line: " << error.what();
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "expected BadInput, got: " << error.what();
  }
  return "";
}

}  // namespace torpor::testing
