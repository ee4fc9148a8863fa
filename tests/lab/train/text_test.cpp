#include "lab/train/text.h"

#include <torch/torch.h>

#include <fstream>
#include <numeric>
#include <set>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "lab/train/vocabulary.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using testing::TemporaryFolder;

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(ByteWindows, AreTheStreamOfAllFilesCutIntoWindowsThatShareAByte) {
  const TemporaryFolder folder;
  const std::string a = "first file, \xC3\xA9", b = "x", c = "the third one is longer than a window of eight";
  write(folder / "a.txt", a);
  write(folder / "b.txt", b);
  write(folder / "c.txt", c);
  const std::string stream = a + b + c;
  const ByteWindows windows(TextCorpus::open(folder.path()), 8);
  ASSERT_EQ(windows.size(), static_cast<std::int64_t>(stream.size() - 1) / 8);
  std::vector<std::int64_t> all(static_cast<std::size_t>(windows.size()));
  std::iota(all.begin(), all.end(), 0);
  const at::Tensor rows = windows.at(all);
  ASSERT_EQ(rows.sizes(), (std::vector<std::int64_t>{windows.size(), 9}));
  for (std::int64_t w = 0; w < windows.size(); ++w)
    for (std::int64_t i = 0; i < 9; ++i)
      EXPECT_EQ(rows[w][i].item<std::int64_t>(),
                static_cast<unsigned char>(stream[static_cast<std::size_t>(w * 8 + i)]));
  const std::int64_t outside[] = {windows.size()};
  EXPECT_THROW(windows.at(outside), InvalidArgument);
}

TEST(ByteWindows, ATextShorterThanAWindowIsNamedWithItsSize) {
  const TemporaryFolder folder;
  write(folder / "a.txt", "12345678");
  EXPECT_NO_THROW(ByteWindows(TextCorpus::open(folder / "a.txt"), 7));
  try {
    ByteWindows(TextCorpus::open(folder / "a.txt"), 8);
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("at least 9 bytes"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("found 8"));
  }
}

TEST(TokenWindows, AreTheTokensOfAllFilesEachWindowAfterBos) {
  const TemporaryFolder folder;
  const TextCorpus novel = TextCorpus::open(testing::golden("apps/text.txt"));
  write(folder / "tokenizer.model", train_sentencepiece(novel, 400));
  const auto tokenizer = load_tokenizer(folder / "tokenizer.model");
  ASSERT_EQ(tokenizer->vocab_size(), 400);
  write(folder / "a.txt", "The first of two texts.");
  write(folder / "b.txt", "And the second, a little longer than it.\nThe end, \xE2\x82\xAC.");
  std::vector<TokenId> stream;
  std::vector<std::int64_t> bytes;
  for (const char* name : {"a.txt", "b.txt"})
    for (const TokenId id : tokenizer->encode(read_file(folder / name), {.add_special = false})) {
      stream.push_back(id);
      bytes.push_back(static_cast<std::int64_t>(tokenizer->token_bytes(id).size()));
    }
  std::int64_t told = 0;
  const TokenWindows windows(TextCorpus::open(folder.path()), *tokenizer, "print", 7,
                             [&](std::int64_t tokens) { told = tokens; });
  EXPECT_EQ(told, static_cast<std::int64_t>(stream.size()));
  ASSERT_EQ(windows.size(), static_cast<std::int64_t>(stream.size() / 7));
  ASSERT_GT(windows.size(), 4);
  for (std::int64_t w = 0; w < windows.size(); ++w) {
    const std::int64_t one[] = {w};
    const at::Tensor row = windows.at(one);
    ASSERT_EQ(row.sizes(), (std::vector<std::int64_t>{1, 8}));
    EXPECT_EQ(row[0][0].item<std::int64_t>(), *tokenizer->bos());
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < 7; ++i) {
      EXPECT_EQ(row[0][i + 1].item<std::int64_t>(), stream[static_cast<std::size_t>(w * 7 + i)]);
      sum += bytes[static_cast<std::size_t>(w * 7 + i)];
    }
    EXPECT_EQ(windows.bytes_in(one), sum);
  }
  const std::int64_t outside[] = {windows.size()};
  EXPECT_THROW(windows.at(outside), InvalidArgument);
  EXPECT_THROW(windows.bytes_in(outside), InvalidArgument);
  const TokenWindows other(TextCorpus::open(folder.path()), *tokenizer, "another print", 7);
  EXPECT_NE(other.fingerprint(), windows.fingerprint());
  EXPECT_THROW(TokenWindows(TextCorpus::open(folder / "a.txt"), *tokenizer, "print", 700), BadInput);
}

TEST(TokenWindows, WithoutBosAWindowStartsWithTheLastTokenOfTheOneBefore) {
  const TemporaryFolder folder;
  write(folder / "tokenizer.json", byte_tokenizer_json());
  const std::string text = "Bytes through a tokenizer are the bytes themselves.";
  write(folder / "a.txt", text);
  const TokenWindows tokens(TextCorpus::open(folder / "a.txt"), *load_tokenizer(folder / "tokenizer.json"), "", 10);
  const ByteWindows expected(TextCorpus::open(folder / "a.txt"), 10);
  ASSERT_EQ(tokens.size(), 5);
  ASSERT_EQ(expected.size(), 5);
  const std::int64_t all[] = {0, 1, 2, 3, 4};
  EXPECT_TRUE(tokens.at(all).equal(expected.at(all)));
  EXPECT_EQ(tokens.bytes_in(all), 50);
  EXPECT_EQ(expected.bytes_in(all), 50);
}

TEST(SentencePiece, TheSameTextGivesTheSameVocabularyAndTooLargeAOneIsRefused) {
  const TemporaryFolder folder;
  const TextCorpus novel = TextCorpus::open(testing::golden("apps/text.txt"));
  const std::string model = train_sentencepiece(novel, 500);
  EXPECT_EQ(model, train_sentencepiece(novel, 500));
  write(folder / "tokenizer.model", model);
  const auto tokenizer = load_tokenizer(folder / "tokenizer.model");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_FALSE(tokenizer->eos().has_value());
  const std::string text = " The  end:\n\n 1234 \xE2\x82\xAC\xF0\x9F\x98\x80";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << "nothing is normalised away";
  EXPECT_LT(tokenizer->encode(novel.documents()[0]).size(), novel.documents()[0].size() * 2 / 3);
  write(folder / "short.txt", "too little for so many pieces");
  try {
    train_sentencepiece(TextCorpus::open(folder / "short.txt"), 5000);
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("5000 pieces"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("short.txt"));
  }
}

TEST(SentencePiece, LongLinesAndShortDocumentsAreLearntFromToo) {
  const TemporaryFolder folder;
  std::string long_line;
  for (int i = 0; i < 2000; ++i) long_line += "\xC3\xA9tude ";
  write(folder / "a.txt", long_line);
  write(folder / "b.txt", "zebra zebra zebra zebra zebra zebra");
  write(folder / "tokenizer.model", train_sentencepiece(TextCorpus::open(folder.path()), 280));
  const auto tokenizer = load_tokenizer(folder / "tokenizer.model");
  EXPECT_LE(tokenizer->encode("zebra", {.add_special = false}).size(), 2U);
  EXPECT_LE(tokenizer->encode("\xC3\xA9tude", {.add_special = false}).size(), 2U);
}

TEST(WindowOrder, EveryWindowOnceAPassInAnotherOrderEachTimeFromTheSeedAlone) {
  WindowOrder order(50, 7), again(50, 7), other(50, 8);
  std::vector<std::int64_t> first, second;
  for (int i = 0; i < 50; ++i) first.push_back(order(i));
  for (int i = 50; i < 100; ++i) second.push_back(order(i));
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 50U);
  EXPECT_EQ(std::set(second.begin(), second.end()).size(), 50U);
  EXPECT_NE(first, second);
  EXPECT_EQ(again(73), second[23]) << "any place can be asked for, as after a resume";
  std::vector<std::int64_t> of_other;
  for (int i = 0; i < 50; ++i) of_other.push_back(other(i));
  EXPECT_NE(first, of_other);
}

TEST(ByteTokenizer, GivesEachByteItsOwnNumber) {
  const TemporaryFolder folder;
  write(folder / "tokenizer.json", byte_tokenizer_json());
  const auto tokenizer = load_tokenizer(folder.path());
  const std::string text = "A line,\n two  spaces, \t\xC3\xA9\xE2\x82\xAC \xF0\x9F\x98\x80 \x01\x7F";
  const auto ids = tokenizer->encode(text);
  ASSERT_EQ(ids.size(), text.size());
  for (std::size_t i = 0; i < text.size(); ++i) EXPECT_EQ(ids[i], static_cast<unsigned char>(text[i])) << i;
}

}  // namespace
}  // namespace torpor::lab
