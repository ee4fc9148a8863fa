// Reading GGUF's bytes front to back, every length checked before it is believed. Internal to core/tensor.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/tensor/gguf.h"

namespace torpor::gguf {

inline constexpr int kDeepestArray = 4;  // real files nest none; bounds the recursion

/// Bytes of one value of a fixed size; 0 for strings and arrays.
constexpr std::uint64_t fixed_size(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    default:
      return 0;
  }
}

/// A position in a file. `what` in the messages says which part was being read.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, const std::string& where) : file_(file), where_(where) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return file_.size() - position_; }
  void set_context(std::string context) { context_ = std::move(context); }

  template <typename T>
  T read() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }

  std::span<const std::byte> bytes(std::uint64_t count) {
    if (count > left())
      throw BadInput("{}: {} at byte {} needs {} bytes, the file has {} left. Is the download complete?", where_,
                     context_, position_, count, left());
    const auto part = file_.subspan(position_, count);
    position_ += count;
    return part;
  }

  std::string_view string() {
    const auto text = bytes(read<std::uint64_t>());
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  /// Walks over one value and checks it.
  GgufValue value(int depth = 0) { return value_of(type(), depth); }
  GgufValue value_of(GgufType type, int depth = 0);

 private:
  GgufType type();
  void check_booleans(std::span<const std::byte> values) const;

  std::span<const std::byte> file_;
  const std::string& where_;
  std::string context_ = "the header";
  std::uint64_t position_ = 0;
};

}  // namespace torpor::gguf
