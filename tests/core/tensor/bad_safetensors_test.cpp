// Damaged and hostile safetensors files: each is refused with one line that says what and where.
#include <rapidcheck.h>

#include "core/base/atomic_file.h"
#include "core/base/random.h"
#include "core/tensor/safetensors.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

TensorArchive parse(const std::string& file) {
  return parse_safetensors(testing::as_bytes(file), nullptr, "model.safetensors");
}

struct BadCase {
  const char* name;
  std::string file;
  const char* expected;  // part of the message
};

class BadSafetensors : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadSafetensors, IsRefusedWithOneLineThatSaysWhy) {
  const std::string message = testing::refusal([&] { parse(GetParam().file); });
  EXPECT_THAT(message, ::testing::StartsWith("model.safetensors: "));
  EXPECT_THAT(message, HasSubstr(GetParam().expected));
}

std::string one(const std::string& fields, std::size_t data_bytes = 8) {
  return testing::safetensors_file(R"({"a":{)" + fields + "}}", data_bytes);
}
std::string typed(const std::string& dtype, const std::string& shape, const std::string& offsets,
                  std::size_t data_bytes = 8) {
  return one(R"("dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets, data_bytes);
}
std::string entry(const std::string& name, int begin, int end) {
  return fmt::format(R"("{}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}})", name, end - begin, begin, end);
}
std::string several(const std::string& entries, std::size_t data_bytes) {
  return testing::safetensors_file("{" + entries + "}", data_bytes);
}
std::string deep(int levels) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += "[";
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadSafetensors,
    ::testing::Values(
        BadCase{"Short", "1234567", "at least 8 bytes, found 7"},
        BadCase{"HeaderBeyondFile", testing::u64(100) + "{}", "takes 100 bytes from byte 8 on, the file has 10"},
        BadCase{"HeaderLengthOneTooLarge", testing::u64(3) + "{}", "takes 3 bytes"},
        BadCase{"HeaderOver100MB", testing::u64(100'000'001) + "{}",
                "at most 100000000 bytes, found a length of 100000001"},
        BadCase{"HeaderHuge", testing::u64(UINT64_MAX) + "{}", "found a length of 18446744073709551615"},
        BadCase{"IsGguf", "GGUF" + std::string(100, '\1'), "looks like a GGUF file"},
        BadCase{"IsZip", "PK\x03\x04" + std::string(100, '\1'), "PyTorch or zip"},
        BadCase{"IsLfsPointer", "version https://git-lfs.github.com/spec/v1", "Git LFS pointer"},
        BadCase{"EmptyHeader", testing::u64(0), "expected the header to start with { at byte 8, found nothing"},
        BadCase{"SpaceBeforeBrace", testing::safetensors_file(" {}", 0), "start with {"},
        BadCase{"NotAnObject", testing::safetensors_file("[]", 0), "start with {"},
        BadCase{"NotJson", testing::safetensors_file("{nonsense", 0), "expected JSON, found an error at byte"},
        BadCase{"TwoDocuments", testing::safetensors_file("{}{}", 0), "expected JSON"},
        BadCase{"ZeroPadding", testing::safetensors_file(std::string("{}\0\0", 4), 0), "expected JSON"},
        BadCase{"NotUtf8", testing::safetensors_file("{\"\xFF\":{}}", 0), "expected JSON"},
        BadCase{"Deep", testing::safetensors_file("{\"a\":" + deep(100000), 0),
                R"(object that describes the tensor "a")"},
        BadCase{"TensorIsNumber", testing::safetensors_file(R"({"a":1})", 0), R"(describes the tensor "a", found 1)"},
        BadCase{"TensorIsNull", testing::safetensors_file(R"({"a":null})", 0), "found null"},
        BadCase{"NoDtype", one(R"("shape":[8],"data_offsets":[0,8])"),
                R"(tensor "a": expected dtype, shape and data_offsets, found no dtype)"},
        BadCase{"NoShape", one(R"("dtype":"U8","data_offsets":[0,8])"), "found no shape"},
        BadCase{"NoOffsets", one(R"("dtype":"U8","shape":[8])"), "found no data_offsets"},
        BadCase{"UnknownField", one(R"("dtype":"U8","shape":[8],"data_offsets":[0,8],"order":1)"),
                R"(found a field "order")"},
        BadCase{"DtypeTwice", one(R"("dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8])"), "appears twice"},
        BadCase{"ShapeTwice", one(R"("dtype":"U8","shape":[8],"shape":[8],"data_offsets":[0,8])"), "appears twice"},
        BadCase{"OffsetsTwice", one(R"("dtype":"U8","shape":[8],"data_offsets":[0,8],"data_offsets":[0,8])"),
                "appears twice"},
        BadCase{"Float8", typed("F8_E4M3", "[8]", "[0,8]"),
                R"(dtype "F8_E4M3" is not supported; supported: BOOL, U8, I8)"},
        BadCase{"UnknownDtype", typed("f32", "[2]", "[0,8]"), R"(dtype "f32" is not supported)"},
        BadCase{"DtypeIsNumber", one(R"("dtype":4,"shape":[8],"data_offsets":[0,8])"), "found 4"},
        BadCase{"NegativeDimension", typed("U8", "[-8]", "[0,8]"),
                R"(dimensions from 0 to 2^63 - 1 in the shape of the tensor "a", found -8)"},
        BadCase{"FractionalDimension", typed("U8", "[8.5]", "[0,8]"), "found 8.5"},
        BadCase{"HugeDimension", typed("U8", "[9223372036854775808]", "[0,8]"), "found 9223372036854775808"},
        BadCase{"DimensionBeyondUint64", typed("U8", "[99999999999999999999]", "[0,8]"), "dimensions from 0"},
        BadCase{"DimensionIsText", typed("U8", R"(["8"])", "[0,8]"), R"(found "8")"},
        BadCase{"ShapeIsNumber", typed("U8", "8", "[0,8]"), "as an array, found 8"},
        BadCase{"NestedShape", typed("U8", "[[8]]", "[0,8]"), "found an array"},
        BadCase{"ProductOverflows", typed("U8", "[4294967296,4294967296]", "[0,8]"), "overflows 2^63"},
        BadCase{"OverflowHiddenByZero", typed("U8", "[4294967296,4294967296,0]", "[0,0]", 0), "overflows 2^63"},
        BadCase{"BytesOverflow", typed("F64", "[2305843009213693952]", "[0,8]"), "overflows 2^63"},
        BadCase{"OneOffset", typed("U8", "[8]", "[8]"), "as two integers of at least 0, found 1 numbers"},
        BadCase{"NoOffset", typed("U8", "[8]", "[]"), "found 0 numbers"},
        BadCase{"ThreeOffsets", typed("U8", "[8]", "[0,8,9]"), "found 9"},
        BadCase{"NegativeOffset", typed("U8", "[8]", "[-8,0]"), "found -8"},
        BadCase{"OffsetsReversed", typed("U8", "[8]", "[8,0]"), "in rising order, found [8, 0]"},
        BadCase{"EndBeyondFile", typed("U8", "[9]", "[0,9]"),
                R"(tensor "a" ends at byte 9 of the data, the file has 8)"},
        BadCase{"EndHuge", typed("U8", "[8]", "[0,18446744073709551615]"), "ends at byte 18446744073709551615"},
        BadCase{"OffsetBeyondUint64", typed("U8", "[8]", "[0,18446744073709551616]"), "two integers"},
        BadCase{"TooManyBytes", typed("F32", "[1]", "[0,8]"), "[1] f32 take 4 bytes, data_offsets [0, 8] hold 8"},
        BadCase{"TooFewBytes", typed("F32", "[3]", "[0,8]"), "take 12 bytes, data_offsets [0, 8] hold 8"},
        BadCase{"Overlap", several(entry("a", 0, 5) + "," + entry("b", 4, 8), 8), R"(tensors "a" and "b" overlap)"},
        BadCase{"SamePlace", several(entry("a", 0, 8) + "," + entry("b", 0, 8), 8), "overlap"},
        BadCase{"HoleAtStart", several(entry("a", 1, 8), 8), "bytes 0 to 1 of the data belong to no tensor"},
        BadCase{"HoleBetween", several(entry("b", 6, 8) + "," + entry("a", 0, 5), 8),
                "bytes 5 to 6 of the data belong to no tensor"},
        BadCase{"HoleAtEnd", several(entry("a", 0, 7), 8), "end at byte 7 of the data, the file has 8"},
        BadCase{"DataWithoutTensors", several("", 1), "expected nothing after them"},
        BadCase{"NameTwice", several(entry("a", 0, 4) + "," + entry("a", 4, 8), 8), R"(the tensor "a" appears twice)"},
        BadCase{"MetadataIsText", several(R"("__metadata__":"x",)" + entry("a", 0, 8), 8),
                "__metadata__ to be an object"},
        BadCase{"MetadataValueIsNumber", several(R"("__metadata__":{"k":1},)" + entry("a", 0, 8), 8),
                R"(a string at "k" of __metadata__, found 1)"},
        BadCase{"MetadataNested", several(R"("__metadata__":{"k":{}},)" + entry("a", 0, 8), 8), "found an object"},
        BadCase{"MetadataTwice", several(R"("__metadata__":{},"__metadata__":{},)" + entry("a", 0, 8), 8),
                "appears twice"},
        BadCase{"ControlCharactersInName", several(R"("a\n\u001b[31m":1)", 0), R"(tensor "a\x0a\x1b[31m")"},
        BadCase{"SixtyFiveDimensions",
                typed("U8",
                      "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                      "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
                      "[0,1]", 1),
                "at most 64 dimensions"}),
    [](const auto& test) { return test.param.name; });

TEST(SafetensorsAcceptance, TakesWhatTheFormatAllows) {
  EXPECT_TRUE(parse(testing::safetensors_file("{}", 0)).tensors().empty());
  EXPECT_TRUE(parse(testing::safetensors_file("{}  \n ", 0)).tensors().empty());
  // Any order of tensors and fields; empty tensors anywhere.
  const auto archive =
      parse(several(entry("b", 4, 8) + "," + entry("e", 4, 4) + "," + entry("z", 8, 8) + "," + entry("a", 0, 4), 8));
  EXPECT_EQ(archive.tensors().size(), 4U);
  EXPECT_EQ(archive.tensors()[0].name, "a");
  EXPECT_EQ(parse(one(R"("data_offsets":[0,8],"shape":[],"dtype":"F64")")).at("a").elements(), 1);
}

TEST(SafetensorsMutations, GiveAnErrorOrValidViewsNeverAnythingElse) {
  const std::string golden = read_file(testing::golden("tensor/all_dtypes.safetensors"));
  Random random(1);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string file = golden;
    for (std::uint64_t n = 1 + random.below(3); n > 0; --n)
      file[random.below(file.size())] = static_cast<char>(random.bits());
    if (round % 5 == 0) file.resize(random.below(file.size()));
    // A heap copy of the exact size, so that the address sanitizer sees reads past the end.
    const std::vector<std::byte> exact(testing::as_bytes(file).begin(), testing::as_bytes(file).end());
    testing::refusal([&] {
      const auto archive = parse_safetensors(exact, nullptr, "mutated");
      for (const TensorView& tensor : archive.tensors()) {
        ASSERT_EQ(tensor.bytes.size(), bytes_of(tensor.format, tensor.elements()));
        ASSERT_GE(tensor.bytes.data(), exact.data());
        ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), exact.data() + exact.size());
      }
      ++accepted;
    });
  }
  EXPECT_GT(accepted, 100) << "most mutations hit the numbers and are harmless";
  EXPECT_LT(accepted, 3900);
}

}  // namespace
}  // namespace torpor
