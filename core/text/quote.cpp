#include "core/text/quote.h"

#include <fmt/format.h>

#include "core/text/unicode.h"

namespace torpor::text {

std::string quote(std::string_view text) {
  std::string result = "\"";
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    if (result.size() > 60) {
      result += "...";
      break;
    }
    const Char c = next_char(at, end);
    if (c.valid && c.code >= 32 && c.code != 127 && c.code != '"' && c.code != '\\' &&
        (c.code < 0x80 || c.code >= 0xA0))
      result.append(at, c.bytes);
    else
      for (int i = 0; i < c.bytes; ++i) result += fmt::format("\\x{:02x}", static_cast<unsigned char>(at[i]));
    at += c.bytes;
  }
  return result + '"';
}

}  // namespace torpor::text
