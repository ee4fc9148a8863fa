// Vocabularies in GGUF, made byte by byte: what is right is read, what is wrong is named.
#include <cstring>
#include <functional>

#include "core/base/error.h"
#include "core/tensor/gguf.h"
#include "core/text/formats.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
std::string counted(std::string_view text) {
  return raw<std::uint64_t>(text.size()) + std::string(text);
}

// Metadata of a GGUF file, in order.
struct Metadata {
  std::vector<std::pair<std::string, std::string>> entries;  // key -> type and value

  void text(const std::string& key, const std::string& value) { set(key, raw<std::uint32_t>(8) + counted(value)); }
  void u32(const std::string& key, std::uint32_t value) { set(key, raw<std::uint32_t>(4) + raw(value)); }
  void flag(const std::string& key, bool value) {
    set(key, raw<std::uint32_t>(7) + std::string(1, value ? '\1' : '\0'));
  }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    std::string bytes = raw<std::uint32_t>(9) + raw<std::uint32_t>(8) + raw<std::uint64_t>(values.size());
    for (const auto& value : values) bytes += counted(value);
    set(key, bytes);
  }
  template <typename T>
  void numbers(const std::string& key, std::uint32_t type, const std::vector<T>& values) {
    std::string bytes = raw<std::uint32_t>(9) + raw(type) + raw<std::uint64_t>(values.size());
    for (const T value : values) bytes += raw(value);
    set(key, bytes);
  }
  void set(const std::string& key, const std::string& bytes) {
    for (auto& entry : entries)
      if (entry.first == key) {
        entry.second = bytes;
        return;
      }
    entries.emplace_back(key, bytes);
  }
  void drop(const std::string& key) {
    std::erase_if(entries, [&](const auto& entry) { return entry.first == key; });
  }
  std::unique_ptr<const Tokenizer> load() const {
    auto file = std::make_shared<std::string>("GGUF" + raw<std::uint32_t>(3) + raw<std::uint64_t>(0) +
                                              raw<std::uint64_t>(entries.size()));
    for (const auto& [key, bytes] : entries) *file += counted(key) + bytes;
    return text::tokenizer_from_gguf(GgufFile::parse(std::as_bytes(std::span(*file)), file, "t.gguf"));
  }
};

Metadata bpe(const std::string& pre) {
  Metadata m;
  m.text("tokenizer.ggml.model", "gpt2");
  m.text("tokenizer.ggml.pre", pre);
  m.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "\u0120", "abc", "<|end|>", "<extra>", "c"});
  m.numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 1, 1, 3, 4, 1});
  m.texts("tokenizer.ggml.merges", {"a b"});
  m.u32("tokenizer.ggml.bos_token_id", 5);
  m.u32("tokenizer.ggml.eos_token_id", 5);
  return m;
}

Metadata spm() {
  Metadata m;
  m.text("tokenizer.ggml.model", "llama");
  m.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "\u2581a", "aa", "b c"});
  m.numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 6, 1, 1, 1, 1, 4});
  m.numbers<float>("tokenizer.ggml.scores", 6, {0, 0, 0, 0, -5, -6, -2, -1, 0});
  m.u32("tokenizer.ggml.bos_token_id", 1);
  m.u32("tokenizer.ggml.eos_token_id", 2);
  return m;
}

TEST(GgufBpe, PatternDecidesIgnoringMergesAndBos) {
  EXPECT_EQ(bpe("gpt-2").load()->encode("abc ab"), (Ids{2, 7, 3, 2}));
  EXPECT_EQ(bpe("llama-bpe").load()->encode("abc"), (Ids{5, 4}));
  Metadata m = bpe("llama-bpe");
  m.flag("tokenizer.ggml.add_bos_token", false);
  m.flag("tokenizer.ggml.add_eos_token", true);
  EXPECT_EQ(m.load()->encode("ab"), (Ids{2, 5}));
}

TEST(GgufBpe, FindsUserDefinedTokensAlwaysAndControlTokensWhenAsked) {
  const auto tokenizer = bpe("gpt-2").load();
  EXPECT_EQ(tokenizer->encode("a<extra>b"), (Ids{0, 6, 1}));
  EXPECT_EQ(tokenizer->encode("a<|end|>", {false, true}), (Ids{0, 5}));
  EXPECT_EQ(tokenizer->encode("a<|end|>"), (Ids{0}));  // no byte tokens for the rest here
  EXPECT_EQ(tokenizer->decode(Ids{0, 6, 5, 1}), "a<extra>b");
}

TEST(GgufSpm, MergesByScoreAndFallsBackToBytesOrUnknown) {
  const auto tokenizer = spm().load();
  EXPECT_EQ(tokenizer->encode("aa a"), (Ids{1, 4, 7, 6}));
  EXPECT_EQ(tokenizer->encode("A", {false, false}), (Ids{4, 3}));
  EXPECT_EQ(tokenizer->encode("?", {false, false}), (Ids{4, 0}));
  EXPECT_EQ(tokenizer->encode("b c", {false, false}), (Ids{8}));  // user-defined: as it is written, no space in front
  EXPECT_EQ(tokenizer->decode(Ids{1, 4, 7, 6, 3, 2}), "aa aA");
  Metadata m = spm();
  m.flag("tokenizer.ggml.add_space_prefix", false);
  EXPECT_EQ(m.load()->encode("a a"), (Ids{1, 5, 6}));
  EXPECT_EQ(m.load()->decode(Ids{6, 6}), " a a");
}

struct BadGguf {
  const char* name;
  std::function<void(Metadata&)> change;
  const char* expected;
  bool is_spm = false;
};

class BadGgufVocabulary : public ::testing::TestWithParam<BadGguf> {};

TEST_P(BadGgufVocabulary, IsRefusedWithTheKey) {
  Metadata m = GetParam().is_spm ? spm() : bpe("gpt-2");
  ASSERT_NO_THROW(m.load());
  GetParam().change(m);
  try {
    m.load();
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(HasSubstr("t.gguf"), HasSubstr(GetParam().expected)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Text, BadGgufVocabulary,
    ::testing::Values(
        BadGguf{"model", [](Metadata& m) { m.text("tokenizer.ggml.model", "bert"); }, "tokenizer.ggml.model"},
        BadGguf{"no_model", [](Metadata& m) { m.drop("tokenizer.ggml.model"); }, "tokenizer.ggml.model"},
        BadGguf{"pre", [](Metadata& m) { m.text("tokenizer.ggml.pre", "default"); }, "\"default\""},
        BadGguf{"no_pre", [](Metadata& m) { m.drop("tokenizer.ggml.pre"); }, "tokenizer.ggml.pre"},
        BadGguf{"no_tokens", [](Metadata& m) { m.texts("tokenizer.ggml.tokens", {}); }, "found none"},
        BadGguf{"tokens_type", [](Metadata& m) { m.u32("tokenizer.ggml.tokens", 1); }, "tokenizer.ggml.tokens"},
        BadGguf{"same_token",
                [](Metadata& m) {
                  m.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "a", "abc", "x", "y", "c"});
                },
                "each token once"},
        BadGguf{"types_count", [](Metadata& m) { m.numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {1}); },
                "expected 8 elements"},
        BadGguf{"type",
                [](Metadata& m) {
                  m.numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 1, 1, 3, 4, 9});
                },
                "found 9 for token 7"},
        BadGguf{"merge", [](Metadata& m) { m.texts("tokenizer.ggml.merges", {"ab"}); }, "merges[0]"},
        BadGguf{"empty_merge", [](Metadata& m) { m.texts("tokenizer.ggml.merges", {""}); }, "merges[0]"},
        BadGguf{"merge_of_none", [](Metadata& m) { m.texts("tokenizer.ggml.merges", {"a x"}); },
                "\"x\" is not in the vocabulary"},
        BadGguf{"bos", [](Metadata& m) { m.u32("tokenizer.ggml.bos_token_id", 8); }, "bos_token_id"},
        BadGguf{"bos_absent",
                [](Metadata& m) {
                  m.flag("tokenizer.ggml.add_bos_token", true);
                  m.u32("tokenizer.ggml.bos_token_id", 0xFFFFFFFF);
                },
                "bos_token_id"},
        BadGguf{"scores_count", [](Metadata& m) { m.numbers<float>("tokenizer.ggml.scores", 6, {0}); },
                "expected 9 elements", true},
        BadGguf{"no_scores", [](Metadata& m) { m.drop("tokenizer.ggml.scores"); }, "tokenizer.ggml.scores", true},
        BadGguf{"nan_score",
                [](Metadata& m) {
                  m.numbers<float>("tokenizer.ggml.scores", 6, {0, 0, 0, 0, -5, __builtin_nanf(""), 0, 0, 0});
                },
                "NaN", true},
        BadGguf{"byte_token",
                [](Metadata& m) {
                  m.numbers<std::int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 6, 6, 1, 1, 1, 4});
                },
                "byte token 4", true}),
    [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace torpor
