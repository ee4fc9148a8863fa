#include "core/text/word_scanner.h"

namespace torpor::text::scan {

static_assert(static_cast<int>(Kind::other) == static_cast<int>(CharKind::other));
static_assert(static_cast<int>(Kind::letter) == static_cast<int>(CharKind::letter));
static_assert(static_cast<int>(Kind::number) == static_cast<int>(CharKind::number));
static_assert(static_cast<int>(Kind::space) == static_cast<int>(CharKind::space));

Token look_beyond_ascii(const char* at, const char* end) {
  const Char c = next_char(at, end);
  if (!c.valid) return {Kind::stop, 0, 0};
  return {static_cast<Kind>(kind_of(c.code)), c.bytes, c.code};
}

const char* end_of_invalid(const char* at, const char* end) {
  while (at != end) {
    const Char c = next_char(at, end);
    if (c.valid) break;
    at += c.bytes;
  }
  return at;
}

const char* end_of_spaces(const char* at, const char* end, bool newlines) {
  const char* last = at;          // where the last space of the run begins
  const char* newline = nullptr;  // behind the last newline of the run
  const char* stop = at;
  for (Token token = look(stop, end); token.kind == Kind::space; token = look(stop, end)) {
    last = stop;
    stop += token.bytes;
    if (token.code == '\r' || token.code == '\n') newline = stop;
  }
  if (newlines && newline != nullptr) return newline;
  // \s+(?!\S) gives the last space to the word behind it; a single space has nothing to give and matches \s+.
  if (look(stop, end).kind == Kind::stop) return stop;
  return last == at ? stop : last;
}

const char* end_of_contraction(const char* at, const char* end, bool any_case) {
  const auto letter = [&](int i) -> int {
    if (end - at <= i) return 0;
    const int c = static_cast<unsigned char>(at[i]);
    return any_case && c >= 'A' && c <= 'Z' ? c + 32 : c;
  };
  const int one = letter(1);
  if (one == 's' || one == 't' || one == 'm' || one == 'd') return at + 2;
  const int two = letter(2);
  if ((one == 'r' && two == 'e') || (one == 'v' && two == 'e') || (one == 'l' && two == 'l')) return at + 3;
  if (any_case && one == 0xC5 && two == 0xBF) return at + 3;  // U+017F, the long s, is an s regardless of case
  return nullptr;
}

}  // namespace torpor::text::scan
