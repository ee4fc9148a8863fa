#include "lab/train/text.h"

#include <torch/torch.h>

#include <fstream>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/text/tokenizer.h"
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
