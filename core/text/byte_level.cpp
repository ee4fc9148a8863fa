#include "core/text/byte_level.h"

#include <array>

#include "core/text/unicode.h"

namespace torpor::text {
namespace {

struct Tables {
  std::array<std::string, 256> characters;
  std::array<short, 0x180> bytes;  // code point -> byte, or -1

  Tables() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const char32_t code = printable ? byte : next++;
      append_utf8(characters[byte], code);
      bytes[code] = static_cast<short>(byte);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

const std::string& byte_character(unsigned char byte) {
  return tables().characters[byte];
}

std::optional<std::string> bytes_of_characters(std::string_view token) {
  const Tables& table = tables();
  std::string bytes;
  const char* at = token.data();
  const char* const end = at + token.size();
  while (at < end) {
    const Char c = next_char(at, end);
    if (!c.valid || c.code >= table.bytes.size() || table.bytes[c.code] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(table.bytes[c.code]));
    at += c.bytes;
  }
  return bytes;
}

}  // namespace torpor::text
