#include "core/report/html.h"

#include <cstdint>

namespace torpor {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Decoded {
  std::uint32_t code = 0;
  std::size_t length = 0;  // 0: not UTF-8 at this byte
};

/// One character, by table 3-7 of the Unicode standard (no overlong forms, no surrogates, at most U+10FFFF).
Decoded decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) return {};
  std::uint32_t code = first & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {};
    code = (code << 6) | (byte(at + i) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  if (overlong || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return {};
  return {code, length};
}

/// Characters that a page must not show as they are: C0 and C1 controls and the marks that reorder what follows.
bool unprintable(std::uint32_t code) {
  return (code < 0x20 && code != '\t' && code != '\n') || (code >= 0x7F && code < 0xA0) ||
         (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

bool is_markup(char c) {
  return c == '*' || c == '`' || c == '_' || c == '\\';
}

/// Prose between two marks.
std::size_t find_mark(std::string_view text, std::size_t from, std::string_view mark) {
  for (std::size_t i = from; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && is_markup(text[i + 1])) {
      ++i;
    } else if (text.substr(i, mark.size()) == mark) {
      return i;
    }
  }
  return std::string_view::npos;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t i = 0; i < text.size();) {
    const Decoded c = decode(text, i);
    if (c.length == 0 || unprintable(c.code)) {
      out += kReplacement;
      i += c.length == 0 ? 1 : c.length;
      continue;
    }
    switch (c.code) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += text.substr(i, c.length);
    }
    i += c.length;
  }
  return out;
}

std::string prose_to_html(std::string_view text) {
  struct Mark {
    std::string_view open, close, element;
  };
  static constexpr Mark kMarks[] = {{"**", "**", "strong"}, {"*", "*", "em"}, {"`", "`", "code"}, {"_{", "}", "sub"}};
  std::string out;
  std::string plain;  // not escaped yet; characters are escaped whole, so that no UTF-8 sequence is cut
  const auto flush = [&] {
    out += escape_html(plain);
    plain.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\\' && i + 1 < text.size() && is_markup(text[i + 1])) {
      plain += text[i + 1];
      i += 2;
      continue;
    }
    bool found = false;
    for (const Mark& mark : kMarks) {
      if (text.substr(i, mark.open.size()) != mark.open) continue;
      const std::size_t begin = i + mark.open.size();
      const std::size_t end = find_mark(text, begin, mark.close);
      if (end == std::string_view::npos || end == begin) continue;
      flush();
      const std::string name(mark.element);
      out += "<" + name + ">" + prose_to_html(text.substr(begin, end - begin)) + "</" + name + ">";
      i = end + mark.close.size();
      found = true;
      break;
    }
    if (!found) plain += text[i++];
  }
  flush();
  return out;
}

std::string literal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (is_markup(c)) out += '\\';
    out += c;
  }
  return out;
}

std::string json_for_script(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + 64);
  for (std::size_t i = 0; i < text.size(); ++i) {
    // These can only stand inside of JSON strings, where an escape means the same.
    switch (text[i]) {
      case '<':
        out += "\\u003c";
        continue;
      case '>':
        out += "\\u003e";
        continue;
      case '&':
        out += "\\u0026";
        continue;
      default:
        break;
    }
    if (text.compare(i, 3, "\xE2\x80\xA8") == 0 || text.compare(i, 3, "\xE2\x80\xA9") == 0) {
      out += text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029";
      i += 2;
      continue;
    }
    out += text[i];
  }
  return out;
}

std::string shell_word(std::string_view word) {
  constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (!word.empty() && word.find_first_not_of(kSafe) == std::string_view::npos) return std::string(word);
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace torpor
