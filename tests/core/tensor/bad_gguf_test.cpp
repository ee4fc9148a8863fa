// Damaged and hostile GGUF files: each is refused with one line that says what and where.
#include <cstdint>

#include "core/base/atomic_file.h"
#include "core/base/random.h"
#include "core/tensor/gguf.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::gguf_entry;
using testing::gguf_file;
using testing::gguf_string;
using testing::gguf_tensor;
using testing::u32;
using testing::u64;

struct BadCase {
  const char* name;
  std::string file;
  const char* expected;  // part of the message
};

class BadGguf : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadGguf, IsRefusedWithOneLineThatSaysWhy) {
  const auto bytes = testing::as_bytes(GetParam().file);
  const std::string message = testing::refusal([&] { GgufFile::parse(bytes, nullptr, "model.gguf"); });
  EXPECT_THAT(message, ::testing::StartsWith("model.gguf: "));
  EXPECT_THAT(message, ::testing::HasSubstr(GetParam().expected));
}

std::string head(std::uint32_t version, std::uint64_t tensors, std::uint64_t entries) {
  return "GGUF" + u32(version) + u64(tensors) + u64(entries);
}
std::string entry(std::uint32_t type, const std::string& value) {
  return gguf_file(0, 1, gguf_entry("k", type, value), 0);
}
std::string tensor(const std::vector<std::uint64_t>& dimensions, std::uint32_t type, std::uint64_t offset,
                   std::size_t data_bytes = 64) {
  return gguf_file(1, 0, gguf_tensor("w", dimensions, type, offset), data_bytes);
}
std::string nested(int levels) {
  std::string value = u32(4) + u64(0);
  for (int i = 1; i < levels; ++i) value = u32(9) + u64(1) + value;
  return value;
}
std::string alignment(std::uint32_t type, const std::string& value) {
  return gguf_file(0, 1, gguf_entry("general.alignment", type, value), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadGguf,
    ::testing::Values(
        BadCase{"Short", "GGU", "starts with the letters GGUF, found \"GGU\""},
        BadCase{"Magic", "GGML" + std::string(100, '\0'), "found \"GGML\""},
        BadCase{"OnlyMagic", "GGUF", "needs 4 bytes, the file has 0 left"},
        BadCase{"CutInCounts", head(3, 0, 0).substr(0, 20), "needs 8 bytes, the file has 4 left"},
        BadCase{"Version0", head(0, 0, 0), "expected GGUF version 2 or 3, found 0"},
        BadCase{"Version1", head(1, 0, 0), "found 1; convert the model again"},
        BadCase{"Version4", head(4, 0, 0), "found 4"},
        BadCase{"BigEndian", head(0x03000000, 0, 0), "found a big-endian one"},
        BadCase{"ManyTensors", head(3, UINT64_MAX, 0), "18446744073709551615 tensors do not fit a file of 24 bytes"},
        BadCase{"ManyValues", head(3, 0, UINT64_MAX), "18446744073709551615 metadata values"},
        BadCase{"KeyTooLong", head(3, 0, 1) + u64(100) + std::string(20, 'x'),
                "the key of metadata value 0 at byte 32 needs 100 bytes"},
        BadCase{"KeyLengthHuge", head(3, 0, 1) + u64(UINT64_MAX) + std::string(20, 'x'),
                "needs 18446744073709551615 bytes"},
        BadCase{"KeyEmpty", head(3, 0, 1) + gguf_entry("", 4, u32(0)),
                "a metadata key in UTF-8 at byte 24, found \"\""},
        BadCase{"KeyNotUtf8", head(3, 0, 1) + gguf_entry("\xFF", 4, u32(0)), R"(found "\xff")"},
        BadCase{"KeyTwice", head(3, 0, 2) + gguf_entry("k", 4, u32(0)) + gguf_entry("k", 4, u32(0)),
                R"(key "k" appears twice (again at byte 41))"},
        BadCase{"UnknownType", entry(13, u32(0)),
                R"(the value of "k": expected a value type from 0 to 12 at byte 33, found 13)"},
        BadCase{"ValueCut", head(3, 0, 1) + gguf_entry("k", 10, "1234"), "needs 8 bytes, the file has 4 left"},
        BadCase{"BadBoolean", entry(7, "\2"), "expected booleans of 0 or 1"},
        BadCase{"BadBooleanInArray", entry(9, u32(7) + u64(3) + std::string("\0\1\2", 3)),
                "expected booleans of 0 or 1"},
        BadCase{"StringTooLong", entry(8, u64(1000) + "x"), "needs 1000 bytes"},
        BadCase{"ArrayOfUnknown", entry(9, u32(77) + u64(1)), "found 77"},
        BadCase{"ArrayTooLong", entry(9, u32(4) + u64(1000)),
                "an array of 1000 u32 at byte 49 is longer than the file"},
        BadCase{"ArrayOverflows", entry(9, u32(10) + u64(0x2000000000000001)), "an array of 2305843009213693953 u64"},
        BadCase{"ManyStrings", entry(9, u32(8) + u64(std::uint64_t{1} << 60)),
                "an array of 1152921504606846976 strings"},
        BadCase{"StringInArrayTooLong", entry(9, u32(8) + u64(1) + u64(1000)), "needs 1000 bytes"},
        BadCase{"ManyArrays", entry(9, u32(9) + u64(std::uint64_t{1} << 60)), "arrays at byte"},
        BadCase{"NestedTooDeep", entry(9, nested(5)), "nested at most 4 deep"},
        BadCase{"AlignmentZero", alignment(4, u32(0)),
                "general.alignment to be a u32 and a power of two up to 1048576, found 0 (u32)"},
        BadCase{"AlignmentOdd", alignment(4, u32(48)), "found 48"},
        BadCase{"AlignmentHuge", alignment(4, u32(0x80000000)), "found 2147483648"},
        BadCase{"AlignmentOfAnotherType", alignment(10, u64(32)), "found 32 (u64)"},
        BadCase{"AlignmentIsText", alignment(8, gguf_string("32")), R"(found "32")"},
        BadCase{"NameTooLong", head(3, 1, 0) + u64(1000) + std::string(40, 'x'),
                "the name of a tensor at byte 32 needs 1000 bytes"},
        BadCase{"NameEmpty", gguf_file(1, 0, gguf_tensor("", {4}, 0, 0), 64),
                "the name of a tensor in UTF-8 at byte 24"},
        BadCase{"NameNotUtf8", gguf_file(1, 0, gguf_tensor("\xC3(", {4}, 0, 0), 64), R"(found "\xc3(")"},
        BadCase{"NameTwice", gguf_file(2, 0, gguf_tensor("w", {4}, 0, 0) + gguf_tensor("w", {4}, 0, 32), 64),
                R"(the tensor "w" appears twice)"},
        BadCase{"FiveDimensions", tensor({1, 1, 1, 1, 1}, 0, 0), "at most 4 dimensions, found 5"},
        BadCase{"ManyDimensions", gguf_file(1, 0, gguf_string("w") + u32(UINT32_MAX), 64), "found 4294967295"},
        BadCase{"DimensionBeyondInt64", tensor({std::uint64_t{1} << 63}, 0, 0), "expected dimensions below 2^63"},
        BadCase{"ProductOverflows", tensor({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0, 0), "overflows 2^63"},
        BadCase{"OverflowHiddenByZero", tensor({std::uint64_t{1} << 40, std::uint64_t{1} << 40, 0}, 0, 0),
                "overflows 2^63"},
        BadCase{"BytesOverflow", tensor({std::uint64_t{1} << 62}, 0, 0), "overflows 2^63"},
        BadCase{
            "Q5K", tensor({256}, 13, 0),
            R"(tensor "w": Q5_K is not supported; supported: F32, F16, Q4_0, Q8_0, Q4_K, Q6_K, I8, I16, I32, I64, F64, BF16)"},
        BadCase{"IQ2XXS", tensor({256}, 16, 0), "IQ2_XXS is not supported"},
        BadCase{"MXFP4", tensor({32}, 39, 0), "MXFP4 is not supported"},
        BadCase{"RemovedType", tensor({32}, 4, 0), "the ggml type 4 is unknown"},
        BadCase{"UnknownTensorType", tensor({32}, 1000, 0), "the ggml type 1000 is unknown"},
        BadCase{"RowIsNoMultiple", tensor({33}, 8, 0), "rows of a multiple of 32 values for q8_0, found 33"},
        BadCase{"RowIsNoMultipleThoughTheTensorIs", tensor({16, 2}, 2, 0),
                "rows of a multiple of 32 values for q4_0, found 16"},
        BadCase{"Unaligned", tensor({4}, 0, 16), "multiple of the alignment 32, found 16"},
        BadCase{"EndBeyondFile", tensor({17}, 0, 0),
                R"(tensor "w" takes 68 bytes from byte 0 of the data on, the file has 64)"},
        BadCase{"StartBeyondFile", tensor({4}, 0, 96), "from byte 96 of the data on"},
        BadCase{"OffsetHuge", tensor({4}, 0, UINT64_MAX - 31), "from byte 18446744073709551584 of the data on"},
        BadCase{"NoData", tensor({4}, 0, 0, 0), "the file has 0 bytes of data"},
        BadCase{"Overlap", gguf_file(2, 0, gguf_tensor("a", {9}, 0, 0) + gguf_tensor("b", {4}, 0, 32), 64),
                R"(tensors "a" and "b" overlap: the one ends at byte 36)"},
        BadCase{"SamePlace", gguf_file(2, 0, gguf_tensor("a", {4}, 0, 0) + gguf_tensor("b", {4}, 0, 0), 64),
                "overlap"}),
    [](const auto& test) { return test.param.name; });

TEST(GgufMutations, GiveAnErrorOrValidViewsNeverAnythingElse) {
  const std::string golden = read_file(testing::golden("tensor/quantised.gguf"));
  Random random(2);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string file = golden;
    for (std::uint64_t n = 1 + random.below(3); n > 0; --n)
      file[random.below(1600)] = static_cast<char>(random.bits());  // in the header
    if (round % 5 == 0) file.resize(random.below(file.size()));
    // A heap copy of the exact size, so that the address sanitizer sees reads past the end.
    const std::vector<std::byte> exact(testing::as_bytes(file).begin(), testing::as_bytes(file).end());
    testing::refusal([&] {
      const auto parsed = GgufFile::parse(exact, nullptr, "mutated");
      for (const TensorView& view : parsed.tensors().tensors()) {
        ASSERT_EQ(view.bytes.size(), bytes_of(view.format, view.elements()));
        ASSERT_GE(view.bytes.data(), exact.data());
        ASSERT_LE(view.bytes.data() + view.bytes.size(), exact.data() + exact.size());
      }
      ++accepted;
    });
  }
  EXPECT_GT(accepted, 100);
  EXPECT_LT(accepted, 3900);
}

}  // namespace
}  // namespace torpor
