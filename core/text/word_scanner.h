// Hand-written scanners for the pre-tokenizer patterns of GPT-2, Llama 3 (also cl100k) and Qwen 2. They cut exactly
// where PCRE2 cuts with the pattern written beside each (tests/core/text/word_scanner.cpp holds them equal on random
// text), an order of magnitude faster. A part that is no UTF-8 matches nothing: it is a piece of its own, and an end
// for what is around it.
#pragma once

#include <array>
#include <string_view>

#include "core/text/unicode.h"

namespace torpor::text {

enum class WordPattern { gpt2, llama3, qwen2 };

inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
/// The same language as Llama 3's: possessive quantifiers change no match here, nor does a single [\r\n] after a greedy
/// \s*.
inline constexpr std::string_view kCl100kPattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace scan {

// What stands at a position: a kind of character, or `stop` for the end of the text and for what is no UTF-8.
enum class Kind : std::uint8_t { other, letter, number, space, stop };
struct Token {
  Kind kind;
  std::uint8_t bytes;
  char32_t code;
};

// Kind of each ASCII character.
inline constexpr std::array<Kind, 128> kAscii = [] {
  std::array<Kind, 128> kinds{};
  for (std::size_t c = 0; c < kinds.size(); ++c) {
    kinds[c] = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? Kind::letter
               : c >= '0' && c <= '9'                           ? Kind::number
               : c == ' ' || (c >= 9 && c <= 13)                ? Kind::space
                                                                : Kind::other;
  }
  return kinds;
}();

Token look_beyond_ascii(const char* at, const char* end);

inline Token look(const char* at, const char* end) {
  if (at == end) return {Kind::stop, 0, 0};
  const auto byte = static_cast<unsigned char>(*at);
  if (byte < 128) return {kAscii[byte], 1, byte};
  return look_beyond_ascii(at, end);
}

template <Kind K>
inline const char* skip(const char* at, const char* end) {
  for (;;) {
    while (at != end && static_cast<unsigned char>(*at) < 128) {
      if (kAscii[static_cast<unsigned char>(*at)] != K) return at;
      ++at;
    }
    if (at == end) return at;
    const Token token = look_beyond_ascii(at, end);
    if (token.kind != K) return at;
    at += token.bytes;
  }
}

const char* end_of_invalid(const char* at, const char* end);
// \s*[\r\n]+ (only where `newlines`) | \s+(?!\S) | \s+
const char* end_of_spaces(const char* at, const char* end, bool newlines);
// (?i:'s|'t|'re|'ve|'m|'ll|'d), or only lower case; `at` is on the apostrophe. Null: no match.
const char* end_of_contraction(const char* at, const char* end, bool any_case);

}  // namespace scan

/// End of the piece that begins at `at` < `end`.
template <WordPattern P>
inline const char* word_end(const char* at, const char* end) {
  using scan::Kind;
  const scan::Token first = scan::look(at, end);
  const char* const second_at = at + first.bytes;
  if (first.kind == Kind::stop) [[unlikely]]
    return scan::end_of_invalid(at, end);
  if (first.code == '\'') [[unlikely]] {
    if (const char* stop = scan::end_of_contraction(at, end, P != WordPattern::gpt2)) return stop;
  }
  if constexpr (P == WordPattern::gpt2) {
    Kind kind = first.kind;
    const char* from = second_at;
    if (first.code == ' ') {
      const scan::Token second = scan::look(second_at, end);
      if (second.kind == Kind::space || second.kind == Kind::stop) return scan::end_of_spaces(at, end, false);
      kind = second.kind;
      from = second_at + second.bytes;
    }
    if (kind == Kind::letter) return scan::skip<Kind::letter>(from, end);
    if (kind == Kind::number) return scan::skip<Kind::number>(from, end);
    if (kind == Kind::other) return scan::skip<Kind::other>(from, end);
    return scan::end_of_spaces(at, end, false);
  } else {
    if (first.kind == Kind::letter) return scan::skip<Kind::letter>(second_at, end);
    if (first.kind == Kind::number) {
      const char* stop = second_at;
      for (int more = P == WordPattern::llama3 ? 2 : 0; more > 0; --more) {
        const scan::Token next = scan::look(stop, end);
        if (next.kind != Kind::number) break;
        stop += next.bytes;
      }
      return stop;
    }
    const scan::Token second = scan::look(second_at, end);
    if (second.kind == Kind::letter && first.code != '\r' && first.code != '\n')
      return scan::skip<Kind::letter>(second_at + second.bytes, end);
    if (first.kind == Kind::other || (first.code == ' ' && second.kind == Kind::other)) {
      const char* stop = scan::skip<Kind::other>(second_at, end);
      while (stop != end && (*stop == '\r' || *stop == '\n')) ++stop;
      return stop;
    }
    return scan::end_of_spaces(at, end, true);
  }
}

}  // namespace torpor::text
