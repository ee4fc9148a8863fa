// Ids and texts as the packages that the formats come from give them (tests/golden/text/make_text_goldens.py).
#include <fstream>
#include <sstream>

#include "core/base/atomic_file.h"
#include "core/text/large_json.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using Ids = std::vector<TokenId>;

Json golden_json(const std::string& name) {
  const auto path = testing::golden("text/" + name);
  return text::parse_large_json(read_file(path), path.string());
}

Ids plain(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {false, false});
}
Ids framed_parsed(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {true, true});
}

class CommittedTokenizer : public ::testing::TestWithParam<std::string> {};

TEST_P(CommittedTokenizer, AgreesWithThePackageItComesFrom) {
  const Json cases = golden_json("cases.json");
  const Json goldens = golden_json("goldens.json").at(GetParam());
  const auto tokenizer = load_tokenizer(testing::golden("text/" + GetParam()));
  ASSERT_EQ(goldens.size(), cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto text = cases[i].get<std::string>();
    const Json& row = goldens[i];
    SCOPED_TRACE(cases[i].dump());
    if (row.size() == 2) {  // SentencePiece: ids, text
      EXPECT_EQ(plain(*tokenizer, text), row[0].get<Ids>());
      EXPECT_EQ(tokenizer->decode(row[0].get<Ids>()), row[1].get<std::string>());
      continue;
    }
    EXPECT_EQ(framed_parsed(*tokenizer, text), row[0].get<Ids>());
    EXPECT_EQ(plain(*tokenizer, text), row[1].get<Ids>());
    EXPECT_EQ(text::replace_invalid(tokenizer->decode(row[1].get<Ids>())), row[2].get<std::string>());
    EXPECT_EQ(text::replace_invalid(tokenizer->decode(row[0].get<Ids>())), row[3].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Text, CommittedTokenizer,
                         ::testing::Values("byte_gpt2.json", "byte_llama3.json", "byte_mixed.json",
                                           "llama_normalizer.json", "llama_metaspace.json", "metaspace_split.json",
                                           "sentencepiece_unigram.model", "sentencepiece_bpe.model"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name)
                             if (c == '.') c = '_';
                           return name;
                         });

class DataTokenizer : public ::testing::TestWithParam<std::string> {};

TEST_P(DataTokenizer, AgreesWithThePackageItComesFrom) {
  TORPOR_DATA_OR_SKIP(path, GetParam());
  const Json cases = golden_json("cases.json");
  const Json goldens = golden_json("data_goldens.json").at(GetParam());
  const auto tokenizer = load_tokenizer(path);
  ASSERT_EQ(goldens.size(), cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto text = cases[i].get<std::string>();
    const Json& row = goldens[i];
    SCOPED_TRACE(cases[i].dump());
    EXPECT_EQ(plain(*tokenizer, text), row.back().get<Ids>());
    if (row.size() == 2) {
      EXPECT_EQ(framed_parsed(*tokenizer, text), row[0].get<Ids>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Text, DataTokenizer,
                         ::testing::Values("lm/tinystories656K/tokenizer.json", "tokenizers/gpt2/vocab.json",
                                           "tokenizers/llama2/tokenizer.model"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name)
                             if (c == '.' || c == '/') c = '_';
                           return name;
                         });

}  // namespace
}  // namespace torpor
