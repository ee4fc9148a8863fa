// The little that tokenizers need of Unicode: strict UTF-8, and the classes that pre-tokenizer patterns speak of.
// Character data: utf8proc 2.8, Unicode 15 (PCRE2 10.42 knows Unicode 14; the `tokenizers` package is at 15 or beyond).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace torpor::text {

/// One step through a text. Not valid: `bytes` is the length of the longest prefix of some character that is there
/// (at least 1), as Unicode recommends for replacing; `truncated` if only the end of the text made it invalid.
struct Char {
  char32_t code = 0;
  std::uint8_t bytes = 0;
  bool valid = false;
  bool truncated = false;
};

/// The character at `at` < `end`. No overlong forms, no surrogates, at most U+10FFFF. Thread-safe.
Char next_char(const char* at, const char* end);

void append_utf8(std::string& text, char32_t code);

/// Length of the longest prefix of `text` that is well-formed UTF-8.
std::size_t valid_prefix(std::string_view text);

/// Throws BadInput where `text`, which lies at `offset` of `where`, is not UTF-8. `remedy` ends the message.
void check_utf8(std::string_view text, std::string_view where, std::size_t offset = 0, std::string_view remedy = {});

/// `text` with each maximal ill-formed part as U+FFFD.
std::string replace_invalid(std::string_view text);

enum class CharKind : std::uint8_t { other, letter, number, space };

/// \p{L}, \p{N}, White_Space, none of these.
CharKind kind_of(char32_t code);

/// \w of the `tokenizers` package: alphabetic, mark, decimal number, connector punctuation, joiner.
bool is_word_char(char32_t code);

/// The marker that SentencePiece writes for a space, U+2581.
inline constexpr std::string_view kSpaceMarker = "\xE2\x96\x81";

/// `text` with every `from` (not empty) as `to`.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace torpor::text
