// Tokens that are one byte: <0x0A>.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace torpor::text {

inline std::optional<unsigned char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char digit : token.substr(3, 2)) {
    const int d = digit >= '0' && digit <= '9'   ? digit - '0'
                  : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                  : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                                 : -1;
    if (d < 0) return std::nullopt;
    value = 16 * value + d;
  }
  return static_cast<unsigned char>(value);
}

}  // namespace torpor::text
