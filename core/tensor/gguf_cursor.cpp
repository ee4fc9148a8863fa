#include "core/tensor/gguf_cursor.h"

namespace torpor::gguf {

GgufType Cursor::type() {
  const std::uint64_t at = position_;
  const auto number = read<std::uint32_t>();
  if (number > static_cast<std::uint32_t>(GgufType::f64))
    throw BadInput("{}: {}: expected a value type from 0 to 12 at byte {}, found {}", where_, context_, at, number);
  return static_cast<GgufType>(number);
}

void Cursor::check_booleans(std::span<const std::byte> values) const {
  for (const std::byte value : values)
    if (value > std::byte{1})
      throw BadInput("{}: {}: expected booleans of 0 or 1 before byte {}, found {}", where_, context_, position_,
                     static_cast<int>(value));
}

GgufValue Cursor::value_of(GgufType type, int depth) {
  GgufValue value;
  value.type = type;
  if (const std::uint64_t size = fixed_size(type); size != 0) {
    value.bytes = bytes(size);
    if (type == GgufType::boolean) check_booleans(value.bytes);
    return value;
  }
  if (type == GgufType::string) {
    const std::uint64_t start = position_;
    const std::uint64_t length = string().size();
    value.bytes = file_.subspan(start, sizeof(std::uint64_t) + length);
    return value;
  }
  if (depth == kDeepestArray)
    throw BadInput("{}: {}: expected arrays nested at most {} deep, found more at byte {}", where_, context_,
                   kDeepestArray, position_);
  value.element = this->type();
  value.count = read<std::uint64_t>();
  const std::uint64_t start = position_;
  if (const std::uint64_t size = fixed_size(value.element); size != 0) {
    if (value.count > left() / size)
      throw BadInput(
          "{}: {}: an array of {} {} at byte {} is longer than the file ({} bytes left). Is the download complete?",
          where_, context_, value.count, name_of(value.element), start, left());
    value.bytes = bytes(value.count * size);
    if (value.element == GgufType::boolean) check_booleans(value.bytes);
    return value;
  }
  // Strings and arrays take at least 8 and 12 bytes each.
  const std::uint64_t least = value.element == GgufType::string ? 8 : 12;
  if (value.count > left() / least)
    throw BadInput(
        "{}: {}: an array of {} {}s at byte {} is longer than the file ({} bytes left). Is the download complete?",
        where_, context_, value.count, name_of(value.element), start, left());
  for (std::uint64_t i = 0; i < value.count; ++i) {
    if (value.element == GgufType::string)
      string();
    else
      value_of(GgufType::array, depth + 1);
  }
  value.bytes = file_.subspan(start, position_ - start);
  return value;
}

}  // namespace torpor::gguf
