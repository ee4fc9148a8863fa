// Loading, BOS and EOS, streaming by hand, and words that must not take forever.
#include "core/text/tokenizer.h"

#include <chrono>
#include <cstring>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/decoder.h"
#include "core/text/formats.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/unicode.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using Ids = std::vector<TokenId>;
namespace fs = std::filesystem;

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr const char* kTiny =
    R"({"added_tokens":[{"id":4,"content":"<s>","special":true},{"id":5,"content":"</s>","special":true}],
  "normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
  "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"Ġ":3},"merges":["a b"]}})";

TEST(Loading, TakesAFolderInTheStatedOrder) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "vocab.json", R"({"a":0,"b":1,"ab":2})");
  write_file_atomically(folder / "merges.txt", "#version: 0.2\r\na b\r\n");
  EXPECT_THAT(load_tokenizer(folder.path())->description(), ::testing::HasSubstr("merges.txt"));
  EXPECT_EQ(load_tokenizer(folder / "merges.txt")->encode("aab"), (Ids{0, 2}));
  fs::copy(testing::golden("text/sentencepiece_bpe.model"), folder / "tokenizer.model");
  EXPECT_THAT(load_tokenizer(folder.path())->description(), ::testing::HasSubstr("SentencePiece"));
  write_file_atomically(folder / "tokenizer.json", kTiny);
  EXPECT_EQ(load_tokenizer(folder.path())->encode("ab b"), (Ids{2, 3, 1}));
}

TEST(Loading, FilesBesideTheTokenizerNameBosAndEos) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.json", kTiny);
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), std::nullopt);
  write_file_atomically(folder / "config.json", R"({"bos_token_id":4,"eos_token_id":[5,4]})");
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), 4);
  EXPECT_EQ(load_tokenizer(folder.path())->eos(), 5);
  EXPECT_EQ(load_tokenizer(folder.path())->encode("a"), (Ids{0}));
  // The tokenizer's own configuration comes first, also where it says that there is none.
  write_file_atomically(folder / "tokenizer_config.json",
                        R"({"bos_token":null,"eos_token":{"content":"<s>"},"add_eos_token":true})");
  EXPECT_EQ(load_tokenizer(folder.path())->bos(), std::nullopt);
  EXPECT_EQ(load_tokenizer(folder.path())->eos(), 4);
  EXPECT_EQ(load_tokenizer(folder.path())->encode("a"), (Ids{0, 4}));
}

TEST(Loading, SentencePieceHeedsTheFlagsBesideIt) {
  testing::TemporaryFolder folder;
  fs::copy(testing::golden("text/sentencepiece_bpe.model"), folder / "tokenizer.model");
  const auto usual = load_tokenizer(folder.path());
  const Ids plain = usual->encode("neurons", {false, false});
  Ids framed = plain;
  framed.insert(framed.begin(), *usual->bos());
  EXPECT_EQ(usual->encode("neurons"), framed);
  write_file_atomically(folder / "tokenizer_config.json", R"({"add_bos_token":false,"add_eos_token":true})");
  framed = plain;
  framed.push_back(*usual->eos());
  EXPECT_EQ(load_tokenizer(folder.path())->encode("neurons"), framed);
}

TEST(SentencePiece, BytesThatAreNoUtf8BecomeByteTokens) {
  const auto tokenizer = load_tokenizer(testing::golden("text/sentencepiece_bpe.model"));
  const Ids ids = tokenizer->encode("\xff\xe2\x96", {false, false});
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(tokenizer->decode(ids), "\xff\xe2\x96");
  EXPECT_EQ(tokenizer->encode("<s>", {false, true}), (Ids{*tokenizer->bos()}));
}

TEST(Tokenizer, RefusesIdsThatAreNone) {
  for (const char* name : {"byte_gpt2.json", "sentencepiece_bpe.model"}) {
    const auto tokenizer = load_tokenizer(testing::golden(std::string("text/") + name));
    for (const TokenId id : {-1, tokenizer->vocab_size()}) {
      EXPECT_THROW(tokenizer->token_bytes(id), InvalidArgument);
      EXPECT_THROW(tokenizer->decode(Ids{id}), InvalidArgument);
      EXPECT_FALSE(tokenizer->is_special(id));
    }
  }
}

TEST(Tokenizer, HolesInTheVocabularyPrintNothing) {
  const auto tokenizer = text::tokenizer_from_json(
      R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
          "model":{"type":"BPE","vocab":{"a":0,"b":7},"merges":[]}})",
      "t", {});
  EXPECT_EQ(tokenizer->vocab_size(), 8);
  EXPECT_EQ(tokenizer->token_bytes(3), "");
  EXPECT_EQ(tokenizer->decode(Ids{0, 3, 7}), "ab");
  EXPECT_EQ(tokenizer->encode("axb"),
            (Ids{0, 7}));  // x is no token and there is no unknown token: as the package, nothing
}

TEST(Streaming, WaitsForTheRestOfACharacter) {
  const auto tokenizer = load_tokenizer(testing::golden("text/byte_gpt2.json"));
  const auto byte = [&](const char* text) { return tokenizer->encode(text, {false, false}).at(0); };
  StreamingDetokenizer streaming(*tokenizer);
  EXPECT_EQ(streaming.push(byte("\xf0")), "");
  EXPECT_EQ(streaming.push(byte("\x9f")), "");
  EXPECT_EQ(streaming.push(byte("\x91")), "");
  EXPECT_EQ(streaming.push(byte("\x8d")), "\U0001f44d");
  EXPECT_EQ(streaming.push(byte("\xe2")), "");
  EXPECT_EQ(streaming.push(byte("a")), "\ufffda");
  EXPECT_EQ(streaming.push(byte("\xe2")), "");
  EXPECT_EQ(streaming.finish(), "\ufffd");
  EXPECT_EQ(streaming.finish(), "");
}

TEST(Streaming, DropsTheFirstSpaceOnlyAndBeginsAnewAfterFinish) {
  const auto tokenizer = load_tokenizer(testing::golden("text/llama_normalizer.json"));
  const Ids ids = tokenizer->encode("the the");
  StreamingDetokenizer streaming(*tokenizer);
  for (int round = 0; round < 2; ++round) {
    std::string text;
    for (const TokenId id : ids) text += streaming.push(id);
    text += streaming.finish();
    EXPECT_EQ(text, "the the");
  }
}

TEST(Speed, AMillionEqualLettersAreNotQuadratic) {
  for (const char* name : {"byte_gpt2.json", "byte_llama3.json", "llama_normalizer.json", "metaspace_split.json"}) {
    const auto tokenizer = load_tokenizer(testing::golden(std::string("text/") + name));
    for (const char letter : {'a', ' ', '\n', '!', '7'}) {
      const std::string text(1000000, letter);
      // Below 0.3 s here; a quadratic way takes minutes.
      EXPECT_LT(seconds_of([&] { tokenizer->encode(text); }), 10.0) << name << ' ' << int{letter};
    }
  }
}

TEST(ByteLevel, EveryByteHasItsCharacter) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto back = text::bytes_of_characters(text::byte_character(static_cast<unsigned char>(byte)));
    EXPECT_EQ(back, std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(text::byte_character(' '), "\u0120");
  EXPECT_EQ(text::byte_character('!'), "!");
  EXPECT_EQ(text::bytes_of_characters("a b"), std::nullopt);
  EXPECT_EQ(text::bytes_of_characters("\xff"), std::nullopt);
}

TEST(Unicode, StepsAndReplacesAsTheStandardRecommends) {
  // Unicode 15, table 3-8 and neighbours: each maximal part once.
  EXPECT_EQ(text::replace_invalid("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd");
  EXPECT_EQ(text::replace_invalid("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA");
  EXPECT_EQ(text::replace_invalid("\xED\xA0\x80\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB");
  EXPECT_EQ(text::valid_prefix("\u00e9\u4e2d\U0010ffff\xf4\x90"), 9u);
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    text::append_utf8(text, code);
    const text::Char c = text::next_char(text.data(), text.data() + text.size());
    ASSERT_TRUE(c.valid && c.code == code && c.bytes == text.size()) << static_cast<unsigned>(code);
  }
}

TEST(Normalizer, TakesEachStepAndLeavesInvalidBytes) {
  using namespace text;
  const auto apply = [](NormalizerStep step, std::string_view text) {
    std::vector<NormalizerStep> steps;
    steps.push_back(std::move(step));
    return Normalizer(std::move(steps)).apply(text);
  };
  EXPECT_EQ(apply(UnicodeForm{UnicodeForm::Form::nfc},
                  "e\u0301\xff"
                  "e\u0301"),
            "\u00e9\xff\u00e9");
  EXPECT_EQ(apply(UnicodeForm{UnicodeForm::Form::nfd}, "\u00e9\uac01"), "e\u0301\u1100\u1161\u11a8");
  EXPECT_EQ(apply(UnicodeForm{UnicodeForm::Form::nfkc}, "\ufb01\u00bd"), "fi1\u20442");
  EXPECT_EQ(apply(UnicodeForm{UnicodeForm::Form::nfkd}, "\ufb01\u00e9"), "fie\u0301");
  EXPECT_EQ(apply(LowerCase{}, "\u0130\u00c4\u03a3\xff"), "i\u0307\u00e4\u03c3\xff");
  EXPECT_EQ(apply(StripSpaces{true, true}, "\u3000 a b\n\u2003"), "a b");
  EXPECT_EQ(apply(StripSpaces{true, false}, " a "), "a ");
  EXPECT_EQ(apply(PrependText{"_"}, ""), "");
  EXPECT_EQ(apply(ReplaceMatches{Regex("a+", "t"), "<>"},
                  "aab\xff"
                  "a"),
            "<>b\xff<>");
}

TEST(PreTokenizer, SplitsAsTheBehaviorsAreDefined) {
  using namespace text;
  const auto split = [](SplitBehavior behavior, bool invert) {
    std::vector<PreTokenizerStep> steps;
    steps.push_back(StringSplit{"-", behavior, invert});
    std::deque<std::string> store;
    std::string joined;
    for (const auto piece : PreTokenizer(std::move(steps)).split("the-final--countdown", true, store))
      joined.append(piece).append("|");
    return joined;
  };
  // The examples of the tokenizers package's documentation.
  EXPECT_EQ(split(SplitBehavior::removed, false), "the|final|countdown|");
  EXPECT_EQ(split(SplitBehavior::isolated, false), "the|-|final|-|-|countdown|");
  EXPECT_EQ(split(SplitBehavior::merged_with_previous, false), "the-|final-|-|countdown|");
  EXPECT_EQ(split(SplitBehavior::merged_with_next, false), "the|-final|-|-countdown|");
  EXPECT_EQ(split(SplitBehavior::contiguous, false), "the|-|final|--|countdown|");
  EXPECT_EQ(split(SplitBehavior::removed, true), "-|-|-|");
}

}  // namespace
}  // namespace torpor
