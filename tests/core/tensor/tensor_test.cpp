#include "core/tensor/tensor.h"

#include <sys/stat.h>

#include "core/base/atomic_file.h"
#include "core/tensor/in_quotes.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;
using testing::refusal;

TEST(MappedFile, HoldsTheBytesOfTheFile) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "f", "hello");
  auto file = MappedFile::open(folder / "f");
  EXPECT_EQ(std::memcmp(file->bytes().data(), "hello", 5), 0);
  EXPECT_EQ(file->bytes().size(), 5U);
  EXPECT_EQ(file->path(), folder / "f");
  // Replacing the file by rename leaves the mapping as it was.
  write_file_atomically(folder / "f", "other");
  EXPECT_EQ(std::memcmp(file->bytes().data(), "hello", 5), 0);
  EXPECT_NO_THROW(file->prefetch(file->bytes().subspan(1, 3)));
  EXPECT_THROW(file->prefetch(testing::as_bytes("elsewhere")), InvalidArgument);
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "empty", "");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  const struct {
    std::filesystem::path path;
    const char* expected;
  } cases[] = {{folder / "none", "No such file"},
               {folder.path(), "found a folder"},
               {folder / "empty", "found an empty file"},
               {folder / "pipe", "found a pipe"},
               {"/dev/null", "found a pipe, socket or device"}};
  for (const auto& [path, expected] : cases) {
    const std::string message = refusal([&] { MappedFile::open(path); });
    EXPECT_THAT(message, HasSubstr(expected));
    EXPECT_THAT(message, ::testing::StartsWith(path.string() + ": "));
  }
}

TEST(TensorArchive, FindsByNameAndNamesWhatIsAbsent) {
  const auto storage = std::make_shared<std::string>(8, 'x');
  TensorArchive archive;
  archive.set_where("here");
  archive.add({"a", NumberFormat::u8, {8}, testing::as_bytes(*storage)}, storage);
  archive.add({"b", NumberFormat::f32, {2, 1}, testing::as_bytes(*storage)}, storage);
  EXPECT_EQ(archive.find("a")->elements(), 8);
  EXPECT_EQ(archive.at("b").shape_text(), "[2, 1]");
  EXPECT_EQ(archive.find("c"), nullptr);
  EXPECT_THAT(refusal([&] { archive.at("c"); }),
              HasSubstr(R"(here: expected a tensor "c", found none of this name among 2)"));
  EXPECT_THAT(refusal([&] {
                archive.add({"a", NumberFormat::u8, {8}, testing::as_bytes(*storage)}, storage);
              }),
              HasSubstr(R"(here: the tensor "a" appears twice)"));
  EXPECT_THROW(archive.add({"d", NumberFormat::u8, {9}, testing::as_bytes(*storage)}, storage), InvalidArgument);
  EXPECT_THROW(archive.add({"e", NumberFormat::u8, {-8}, testing::as_bytes(*storage)}, storage), InvalidArgument);
  EXPECT_EQ(archive.tensors().size(), 2U);
  EXPECT_EQ(storage.use_count(), 2) << "one owner is held once";
}

TEST(TensorArchive, KeepsItsOwnersAlive) {
  auto storage = std::make_shared<std::string>(4, 'x');
  const std::weak_ptr<std::string> watch = storage;
  TensorArchive copy;
  {
    TensorArchive archive;
    archive.add({"a", NumberFormat::u8, {4}, testing::as_bytes(*storage)}, storage);
    storage.reset();
    copy = archive;
  }
  EXPECT_FALSE(watch.expired());
  copy = {};
  EXPECT_TRUE(watch.expired());
}

TEST(ElementCount, RefusesNegativeDimensionsAndOverflow) {
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(element_count(Shape{}), 1);
  EXPECT_EQ(element_count(Shape{3, 4}), 12);
  EXPECT_EQ(element_count(Shape{3, 0, 4}), 0);
  EXPECT_EQ(element_count(Shape{INT64_MAX}), INT64_MAX);
  EXPECT_EQ(element_count(Shape{INT64_MAX, 2}), std::nullopt);
  EXPECT_EQ(element_count(Shape{std::int64_t{1} << 32, std::int64_t{1} << 32, 0}), std::nullopt);
  EXPECT_EQ(element_count(Shape{-1}), std::nullopt);
  EXPECT_EQ(element_count(Shape{0, -1}), std::nullopt);
}

TEST(Utf8, IsRecognisedAsUnicodeDefinesIt) {
  for (const char* good : {"", "ascii", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "ключ", "日本"})
    EXPECT_TRUE(is_utf8(good)) << in_quotes(good);
  for (const char* bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xEF\xBF",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "a\xC3", "\xE2\x28\xA1"})
    EXPECT_FALSE(is_utf8(bad)) << in_quotes(bad);
}

TEST(InQuotes, MakesOneSafeLine) {
  EXPECT_EQ(in_quotes("h.0.weight"), R"("h.0.weight")");
  EXPECT_EQ(in_quotes("ключ"), "\"ключ\"");
  EXPECT_EQ(in_quotes("a\n\"\\\x1b\x7f\xFF"), R"("a\x0a\x22\x5c\x1b\x7f\xff")");
  EXPECT_LT(in_quotes(std::string(1000, 'x')).size(), 120U);
}

}  // namespace
}  // namespace torpor
