#include "engine/profile/corpus.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/engine/profile/byte_tokenizer.h"

namespace torpor {
namespace {

using ::testing::AllOf;
using testing::ByteTokenizer;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;
using testing::write_text;

constexpr int kVocab = 256;

/// What windows are, written down: BOS where there is one, then the document's tokens, cut without overlap.
std::vector<std::vector<TokenId>> windows_by_hand(const std::vector<std::string>& documents, const Tokenizer& tokenizer,
                                                  std::size_t window) {
  std::vector<std::vector<TokenId>> windows;
  for (const std::string& document : documents) {
    const auto ids = tokenizer.encode(document, {});
    const std::size_t own = window - (tokenizer.bos() ? 1 : 0);
    for (std::size_t at = 0; at < ids.size(); at += own) {
      std::vector<TokenId> tokens;
      if (tokenizer.bos()) tokens.push_back(*tokenizer.bos());
      for (std::size_t i = at; i < std::min(at + own, ids.size()); ++i) tokens.push_back(ids[i]);
      if (tokens.size() >= 2) windows.push_back(tokens);
    }
  }
  return windows;
}

std::vector<TextWindow> all_windows(const TextCorpus& corpus, const Tokenizer& tokenizer, std::int64_t window) {
  std::vector<TextWindow> windows;
  for_each_window(corpus, tokenizer, kVocab, window, [&](TextWindow w) {
    windows.push_back(std::move(w));
    return true;
  });
  return windows;
}

std::string random_text(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  std::string text;
  while (text.size() < size) {  // words of 1 to 12 letters, some lines, some characters of several bytes
    for (auto n = 1 + random.below(12); n > 0; --n) text += static_cast<char>('a' + random.below(26));
    if (random.below(20) == 0) text += "\u00e9\u4e2d\U0001F600";
    text += random.below(15) == 0 ? '\n' : ' ';
  }
  return text;
}

TEST(Corpus, WindowsAreTheDefinitionForEveryLengthWithAndWithoutBos) {
  const TemporaryFolder folder;
  const std::vector<std::string> documents = {"a", random_text(1000, 1), "bc", random_text(200000, 2)};  // > one piece
  for (std::size_t i = 0; i < documents.size(); ++i) write_text(folder / (std::to_string(i) + ".txt"), documents[i]);
  const TextCorpus corpus = TextCorpus::open(folder.path());
  for (const auto bos : {std::optional<TokenId>(), std::optional<TokenId>(7)})
    for (const std::size_t window : {2, 3, 64, 513}) {
      const ByteTokenizer tokenizer(kVocab, bos);
      const auto wanted = windows_by_hand(documents, tokenizer, window);
      const auto found = all_windows(corpus, tokenizer, static_cast<std::int64_t>(window));
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t w = 0; w < wanted.size(); ++w) {
        ASSERT_EQ(found[w].tokens, wanted[w]) << "window " << w;
        EXPECT_EQ(found[w].predicted(), static_cast<std::int64_t>(wanted[w].size()) - 1);
        EXPECT_EQ(found[w].bytes, found[w].predicted()) << "a byte a token; the first token is given";
      }
    }
}

TEST(Corpus, StopsWhenTheVisitorHasEnough) {
  const TemporaryFolder folder;
  write_text(folder / "a.txt", random_text(10000, 3));
  const ByteTokenizer tokenizer;
  int seen = 0;
  for_each_window(TextCorpus::open(folder / "a.txt"), tokenizer, kVocab, 10, [&](TextWindow) { return ++seen < 3; });
  EXPECT_EQ(seen, 3);
}

TEST(Corpus, TakesTxtFilesOfAFolderSortedAndRecursiveAndNothingElse) {
  const TemporaryFolder folder;
  write_text(folder / "b.txt", "second ");
  write_text(folder / "a/z.txt", "first ");
  write_text(folder / "c/d/e.txt", "third");
  write_text(folder / "empty.txt", "");
  write_text(folder / "notes.md", "not this");
  const TextCorpus corpus = TextCorpus::open(folder.path());
  EXPECT_THAT(std::vector<std::string_view>(corpus.documents().begin(), corpus.documents().end()),
              ::testing::ElementsAre("first ", "second ", "third"));
  EXPECT_EQ(corpus.bytes(), 18);
  write_text(folder / "whole.txt", "first second third");
  EXPECT_EQ(TextCorpus::open(folder / "whole.txt").fingerprint(), corpus.fingerprint());
  write_text(folder / "whole.txt", "first second thirD");
  EXPECT_NE(TextCorpus::open(folder / "whole.txt").fingerprint(), corpus.fingerprint());
}

TEST(Corpus, RefusesInvalidUtf8WithTheOffset) {
  const TemporaryFolder folder;
  const struct {
    const char* bytes;
    std::size_t offset;
  } cases[] = {{"\xff", 0},    {"\x80", 0}, {"\xc0\xaf", 0}, {"\xed\xa0\x80", 0}, {"\xf4\x90\x80\x80", 0},
               {"\xe4\xb8", 0}};
  for (const std::string before : {"", "good text, \u00e9\u4e2d ", "0123456789012345678901234567890123456789"})
    for (const auto& c : cases) {
      write_text(folder / "bad.txt", before + c.bytes);
      const std::string message = message_of<BadInput>([&] { TextCorpus::open(folder / "bad.txt"); });
      EXPECT_THAT(message,
                  AllOf(HasSubstr("bad.txt"), HasSubstr("offset " + std::to_string(before.size() + c.offset) + ".")))
          << before;
    }
}

TEST(Corpus, NamesWhatIsMissingOrEmpty) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<BadInput>([&] { TextCorpus::open(folder / "absent"); }), HasSubstr("found nothing there"));
  EXPECT_THAT(message_of<BadInput>([&] { TextCorpus::open(folder.path()); }), HasSubstr("*.txt"));
  write_text(folder / "empty.txt", "");
  EXPECT_THAT(message_of<BadInput>([&] { TextCorpus::open(folder / "empty.txt"); }), HasSubstr("0 bytes"));
  EXPECT_THAT(message_of<BadInput>([&] { TextCorpus::open(folder.path()); }), HasSubstr("0 bytes"));
}

TEST(Corpus, ATokenOutsideTheVocabularyNamesTheTokenizer) {
  const TemporaryFolder folder;
  write_text(folder / "a.txt", "abc~");
  const TextCorpus corpus = TextCorpus::open(folder / "a.txt");
  const ByteTokenizer tokenizer;
  const auto keep = [](const TextWindow&) { return true; };
  EXPECT_NO_THROW(for_each_window(corpus, tokenizer, '~' + 1, 4, keep));
  EXPECT_THAT(message_of<BadInput>([&] { for_each_window(corpus, tokenizer, '~', 4, keep); }),
              AllOf(HasSubstr("token 126"), HasSubstr("126 entries"), HasSubstr("--tokenizer")));
}

TEST(SampleWindows, OfASmallTextAreEveryWindowOrAnEvenChoice) {
  const TemporaryFolder folder;
  const std::string text = random_text(1005, 4);
  write_text(folder / "a.txt", text);
  const TextCorpus corpus = TextCorpus::open(folder / "a.txt");
  const ByteTokenizer tokenizer;
  auto wanted = windows_by_hand({text}, tokenizer, 10);
  if (wanted.back().size() < 10) wanted.pop_back();
  const auto all = sample_windows(corpus, tokenizer, kVocab, 10, 1000);
  ASSERT_EQ(all.size(), wanted.size());
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].tokens, wanted[i]);
  const auto few = sample_windows(corpus, tokenizer, kVocab, 10, 7);
  ASSERT_EQ(few.size(), 7U);
  for (std::size_t i = 0; i < few.size(); ++i) EXPECT_EQ(few[i].tokens, wanted[i * wanted.size() / 7]);
}

TEST(SampleWindows, OfALargeTextAreFullAndSpreadOverItAndNeverOverlap) {
  // Every four bytes name their place, so that a window tells where it comes from.
  std::string text;
  for (int i = 0; i < 60000; ++i) {
    for (int digit = 2; digit >= 0; --digit)
      text += static_cast<char>('A' + (i >> (5 * digit)) % 32 % 26 + (i >> (5 * digit)) % 32 / 26 * 32);
    text += ' ';
  }
  const TemporaryFolder folder;
  write_text(folder / "1.txt", text.substr(0, 100000));
  write_text(folder / "2.txt", text.substr(100000));
  const TextCorpus corpus = TextCorpus::open(folder.path());
  const ByteTokenizer tokenizer(kVocab, 1);
  for (const int count : {2, 10, 100}) {
    const auto windows = sample_windows(corpus, tokenizer, kVocab, 64, count);
    ASSERT_EQ(windows.size(), static_cast<std::size_t>(count));
    std::size_t end = 0;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      ASSERT_EQ(windows[i].tokens.size(), 64U);
      EXPECT_EQ(windows[i].tokens[0], 1);
      const std::string found = tokenizer.decode(std::span(windows[i].tokens).subspan(1));
      const std::size_t at = text.find(found, end);
      ASSERT_NE(at, std::string::npos) << "overlaps the window before, or is not of the text: " << found;
      end = at + found.size();
      const std::size_t place = i * text.size() / static_cast<std::size_t>(count);
      EXPECT_GE(at + 1, place);
      EXPECT_LE(at, place + 256);
    }
  }
}

TEST(SampleWindows, RefusesATextThatDoesNotFillTwoWindows) {
  const TemporaryFolder folder;
  const ByteTokenizer tokenizer;
  write_text(folder / "a.txt", std::string(19, 'a'));
  const auto sample = [&] { return sample_windows(TextCorpus::open(folder / "a.txt"), tokenizer, kVocab, 10, 4); };
  EXPECT_THAT(message_of<BadInput>(sample), AllOf(HasSubstr("two windows of 10 tokens"), HasSubstr("found 19")));
  write_text(folder / "a.txt", std::string(20, 'a'));
  EXPECT_EQ(sample().size(), 2U);
}

}  // namespace
}  // namespace torpor
