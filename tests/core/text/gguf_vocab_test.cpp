// Vocabularies inside GGUF, and llama2.c's, on real files: what llama.cpp and run.c make of text.
#include <cstring>
#include <sstream>

#include "core/base/atomic_file.h"
#include "core/text/tokenizer.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using Ids = std::vector<TokenId>;

struct Case {
  std::string text;
  Ids ids;
};

// llama.cpp's test files: texts between separator lines, and a line of ids for each.
std::vector<Case> cases_of(const std::filesystem::path& gguf) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string input = read_file(gguf.string() + ".inp");
  std::istringstream output(read_file(gguf.string() + ".out"));
  std::vector<Case> cases;
  for (std::size_t at = 0; at <= input.size();) {  // behind the last separator there is one more, empty
    const std::size_t end = std::min(input.find(separator, at), input.size());
    Case one{input.substr(at, end - at), {}};
    at = end + separator.size();
    std::string line;
    std::getline(output, line);
    std::istringstream words(line);
    for (TokenId id = 0; words >> id;) one.ids.push_back(id);
    cases.push_back(std::move(one));
  }
  return cases;
}

class GgufVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(GgufVocabulary, AgreesWithLlamaCppOnItsOwnTestStrings) {
  TORPOR_DATA_OR_SKIP(path, std::string("tokenizers/gguf/ggml-vocab-") + GetParam() + ".gguf");
  const auto tokenizer = load_tokenizer(path);
  const auto cases = cases_of(path);
  EXPECT_EQ(cases.size(), 47u);
  for (const Case& one : cases)
    EXPECT_EQ(tokenizer->encode(one.text, {false, false}), one.ids) << '"' << one.text << '"';
}

TEST_P(GgufVocabulary, DecodesWhatItEncoded) {
  TORPOR_DATA_OR_SKIP(path, std::string("tokenizers/gguf/ggml-vocab-") + GetParam() + ".gguf");
  const auto tokenizer = load_tokenizer(path);
  for (const Case& one : cases_of(path)) EXPECT_EQ(tokenizer->decode(tokenizer->encode(one.text)), one.text);
}

INSTANTIATE_TEST_SUITE_P(Text, GgufVocabulary, ::testing::Values("gpt-2", "llama-spm", "phi-3"), [](const auto& param) {
  std::string name = param.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
});

TEST(Gpt2Files, AgreeWithTheGgufCasesToo) {
  TORPOR_DATA_OR_SKIP(folder, "tokenizers/gpt2");
  TORPOR_DATA_OR_SKIP(path, "tokenizers/gguf/ggml-vocab-gpt-2.gguf");
  const auto tokenizer = load_tokenizer(folder);
  for (const Case& one : cases_of(path)) EXPECT_EQ(tokenizer->encode(one.text), one.ids) << '"' << one.text << '"';
  EXPECT_EQ(tokenizer->eos(), 50256);
  EXPECT_EQ(tokenizer->encode("a<|endoftext|>", {true, true}), (Ids{64, 50256}));
}

TEST(LlamaSpm, FramesWithBosAndParsesControlTokensOnlyWhenAsked) {
  TORPOR_DATA_OR_SKIP(path, "tokenizers/gguf/ggml-vocab-llama-spm.gguf");
  const auto tokenizer = load_tokenizer(path);
  EXPECT_EQ(tokenizer->encode("Hello"), (Ids{1, 15043}));
  EXPECT_EQ(tokenizer->encode("</s>", {false, true}), (Ids{2}));
  const Ids spelled = tokenizer->encode("</s>", {false, false});
  EXPECT_GT(spelled.size(), 1u);
  EXPECT_EQ(tokenizer->decode(spelled), "</s>");
}

TEST(Phi3, SpecialTokensTakeTheSpaceBehindThem) {
  TORPOR_DATA_OR_SKIP(path, "tokenizers/gguf/ggml-vocab-phi-3.gguf");
  const auto tokenizer = load_tokenizer(path);
  const Ids hello = tokenizer->encode("Hello", {false, false});
  Ids expected{32010};  // <|user|>
  expected.insert(expected.end(), hello.begin(), hello.end());
  EXPECT_EQ(tokenizer->encode("<|user|>\n  Hello", {false, true}), expected);
}

// run.c's encode(), written from its description: repeatedly merge the best-scoring neighbours of the whole text.
TEST(Llama2c, AgreesWithTheNaiveLoopOfRunC) {
  TORPOR_DATA_OR_SKIP(path, "lm/stories260K/tok512.bin");
  const auto tokenizer = load_tokenizer(path);
  ASSERT_EQ(tokenizer->vocab_size(), 512);
  const std::string file = read_file(path);
  std::vector<std::pair<std::string, float>> vocabulary;
  for (std::size_t at = 4; at < file.size();) {
    float score = 0;
    std::int32_t length = 0;
    std::memcpy(&score, file.data() + at, 4);
    std::memcpy(&length, file.data() + at + 4, 4);
    vocabulary.emplace_back(file.substr(at + 8, static_cast<std::size_t>(length)), score);
    at += 8 + static_cast<std::size_t>(length);
  }
  const auto lookup = [&](const std::string& text) {
    for (std::size_t i = 0; i < vocabulary.size(); ++i)
      if (vocabulary[i].first == text) return static_cast<int>(i);
    return -1;
  };
  for (const std::string text : {"", " ", "Once upon a time, there was a little girl named Lily.", "  two  spaces ",
                                 "caf\xC3\xA9 \xF0\x9F\x91\x8D", "a\nb\n\n", "aaaaaaaaaaaaaaaa",
                                 "She said, \"Hi!\" They ran and ran and the there then"}) {
    Ids ids{1};
    if (!text.empty()) {
      ids.push_back(lookup(" "));
      for (std::size_t at = 0; at < text.size();) {
        std::size_t length = 1;
        while (at + length < text.size() && (static_cast<unsigned char>(text[at + length]) & 0xC0) == 0x80) ++length;
        if (const int id = lookup(text.substr(at, length)); id >= 0)
          ids.push_back(id);
        else
          for (std::size_t i = 0; i < length; ++i) ids.push_back(3 + static_cast<unsigned char>(text[at + i]));
        at += length;
      }
      for (;;) {
        float best = -1e10f;
        int best_id = -1;
        std::size_t best_at = 0;
        for (std::size_t i = 1; i + 1 < ids.size(); ++i) {
          const int id = lookup(vocabulary[static_cast<std::size_t>(ids[i])].first +
                                vocabulary[static_cast<std::size_t>(ids[i + 1])].first);
          if (id < 0 || vocabulary[static_cast<std::size_t>(id)].second <= best) continue;
          best = vocabulary[static_cast<std::size_t>(id)].second;
          best_id = id;
          best_at = i;
        }
        if (best_id < 0) break;
        ids[best_at] = best_id;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
      }
    }
    EXPECT_EQ(tokenizer->encode(text), ids) << text;
    EXPECT_EQ(tokenizer->decode(ids), text);
  }
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_EQ(tokenizer->token_bytes(13), "\n");
}

}  // namespace
}  // namespace torpor
