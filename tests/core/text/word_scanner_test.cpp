// The hand-written scanners against PCRE2 running the patterns themselves.
#include "core/text/word_scanner.h"

#include <gtest/gtest.h>

#include <random>

#include "core/text/pre_tokenizer.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

namespace torpor::text {
namespace {

using Pieces = std::vector<std::string>;

template <WordPattern P>
Pieces scanned(std::string_view text) {
  Pieces pieces;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const stop = word_end<P>(at, end);
    if (stop <= at || stop > end) {
      ADD_FAILURE() << "no progress";
      break;
    }
    pieces.emplace_back(at, stop);
    at = stop;
  }
  return pieces;
}

Pieces by_scanner(WordPattern pattern, std::string_view text) {
  switch (pattern) {
    case WordPattern::gpt2:
      return scanned<WordPattern::gpt2>(text);
    case WordPattern::llama3:
      return scanned<WordPattern::llama3>(text);
    case WordPattern::qwen2:
      return scanned<WordPattern::qwen2>(text);
  }
  return {};
}

// Through PCRE2: runs that are no UTF-8 stand for themselves, in the others the matches and what lies between.
Pieces by_regex(const Regex& regex, std::string_view text) {
  Pieces pieces;
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, valid_prefix(text));
    std::size_t last = 0;
    regex.for_each_match(valid, [&](std::size_t begin, std::size_t end) {
      if (begin > last) pieces.emplace_back(valid.substr(last, begin - last));
      if (end > begin) pieces.emplace_back(valid.substr(begin, end - begin));
      last = end;
    });
    if (last < valid.size()) pieces.emplace_back(valid.substr(last));
    text.remove_prefix(valid.size());
    std::size_t invalid = 0;
    while (invalid < text.size()) {
      const Char c = next_char(text.data() + invalid, text.data() + text.size());
      if (c.valid) break;
      invalid += c.bytes;
    }
    if (invalid > 0) pieces.emplace_back(text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
  return pieces;
}

// Characters that Unicode 15 has and PCRE2's Unicode 14 has not are classified differently by right.
bool too_new_for_pcre2(char32_t code) {
  static const Regex unassigned(R"(\p{Cn})", "test");
  std::string text;
  append_utf8(text, code);
  bool found = false;
  unassigned.for_each_match(text, [&](std::size_t, std::size_t) { found = true; });
  return found && kind_of(code) != CharKind::other;
}

// Text in which the patterns' cases are frequent: apostrophes with their letters, spaces of all kinds, newlines,
// digits, characters of every category, some invalid bytes.
std::string random_text(std::mt19937& random, bool invalid_too) {
  static const std::vector<std::string> parts = {"'",
                                                 "'s",
                                                 "'S",
                                                 "'t",
                                                 "'re",
                                                 "'RE",
                                                 "'vE",
                                                 "'ll",
                                                 "'lL",
                                                 "'d",
                                                 "'m",
                                                 "'\u017f",
                                                 "\u017f",
                                                 "s",
                                                 "r",
                                                 "e",
                                                 "l",
                                                 "v",
                                                 "ab",
                                                 "Z",
                                                 " ",
                                                 " ",
                                                 "  ",
                                                 "\t",
                                                 "\n",
                                                 "\r",
                                                 "\r\n",
                                                 "\u00a0",
                                                 "\u2003",
                                                 "\u3000",
                                                 "\x0b",
                                                 "\u0085",
                                                 "\u2028",
                                                 "\u180e",
                                                 "1",
                                                 "23",
                                                 "456",
                                                 "\u00bd",
                                                 "\u0663",
                                                 "\u2167",
                                                 ".",
                                                 "!?",
                                                 "_",
                                                 "\u4e2d\u6587",
                                                 "\u0301",
                                                 "\u00e9",
                                                 "\U0001f44d",
                                                 "\u200d",
                                                 "\U000e0001",
                                                 "\x1c",
                                                 std::string(1, '\0'),
                                                 "\u01c5",
                                                 "\u02b0",
                                                 "\u00aa"};
  std::string text;
  const int count = static_cast<int>(random() % 24);
  for (int i = 0; i < count; ++i) {
    if (invalid_too && random() % 8 == 0)
      text.push_back(static_cast<char>(0x80 + random() % 128));
    else if (random() % 8 == 0)
      append_utf8(text, [&] {
        const auto code = static_cast<char32_t>(random() % 0x110000);
        return (code >= 0xD800 && code < 0xE000) || too_new_for_pcre2(code) ? U'x' : code;
      }());
    else
      text += parts[random() % parts.size()];
  }
  return text;
}

struct Pair {
  WordPattern scanner;
  std::string_view pattern;
};

class WordScanner : public ::testing::TestWithParam<Pair> {};

TEST_P(WordScanner, CutsWherePcre2Does) {
  const Regex regex(std::string(GetParam().pattern), "test");
  std::mt19937 random(7);
  for (int i = 0; i < 60000; ++i) {
    const std::string text = random_text(random, i % 4 == 0);
    ASSERT_EQ(by_scanner(GetParam().scanner, text), by_regex(regex, text)) << ::testing::PrintToString(text);
  }
}

TEST_P(WordScanner, ClassifiesEveryCharacterAsPcre2Does) {
  const Regex regex(std::string(GetParam().pattern), "test");
  for (char32_t code = 0; code < 0x110000; code += code < 0x3000 || (code >= 0x1F000 && code < 0x1F200) ? 1 : 7) {
    if ((code >= 0xD800 && code < 0xE000) || too_new_for_pcre2(code)) continue;
    std::string text = "a";
    append_utf8(text, code);
    text += "1";
    append_utf8(text, code);
    text += " .";
    append_utf8(text, code);
    append_utf8(text, code);
    ASSERT_EQ(by_scanner(GetParam().scanner, text), by_regex(regex, text)) << std::hex << static_cast<unsigned>(code);
  }
}

INSTANTIATE_TEST_SUITE_P(Text, WordScanner,
                         ::testing::Values(Pair{WordPattern::gpt2, kGpt2Pattern},
                                           Pair{WordPattern::llama3, kLlama3Pattern},
                                           Pair{WordPattern::llama3, kCl100kPattern},
                                           Pair{WordPattern::qwen2, kQwen2Pattern}));

TEST(Regex, SpaceIsWhiteSpaceAsInTheOtherEngines) {
  const Regex spaces(R"([\s]+)", "test");
  std::vector<std::size_t> ends;
  spaces.for_each_match("\u180e \u180e", [&](std::size_t begin, std::size_t end) {
    ends.insert(ends.end(), {begin, end});
  });
  EXPECT_EQ(ends, (std::vector<std::size_t>{3, 4}));
  EXPECT_EQ(
      pattern_for_pcre2(R"(\s\\s[^\s\p{L}]\S[]\s])"),
      R"([\x{9}-\x{d}\x{85}\p{Z}]\\s[^\x{9}-\x{d}\x{85}\p{Z}\p{L}][^\x{9}-\x{d}\x{85}\p{Z}][]\x{9}-\x{d}\x{85}\p{Z}])");
}

TEST(Regex, RunsLongTextsInLinearTime) {
  const Regex regex(std::string(kGpt2Pattern), "test");
  const std::string text = std::string(300000, ' ') + std::string(300000, 'a') + std::string(300000, '\n');
  std::size_t count = 0;
  regex.for_each_match(text, [&](std::size_t, std::size_t) { ++count; });
  EXPECT_EQ(count, 3u);
}

}  // namespace
}  // namespace torpor::text
