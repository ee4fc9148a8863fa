// Reading GGUF: files that the PyPI package gguf wrote, hand-made ones, and real vocabularies.
#include "core/tensor/gguf.h"

#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::refusal;

GgufFile golden() {
  return GgufFile::open(testing::golden("tensor/quantised.gguf"));
}

TEST(Gguf, ReadsEveryTypeOfMetadata) {
  const auto file = golden();
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.alignment(), 64U);
  EXPECT_EQ(file.string("general.architecture"), "test");
  EXPECT_EQ(file.integer("v.u8", 0, 255), 200);
  EXPECT_EQ(file.integer("v.i8", -128, 127), -100);
  EXPECT_EQ(file.integer("v.u16", 0, 65535), 60000);
  EXPECT_EQ(file.integer("v.i16", -32768, 32767), -30000);
  EXPECT_EQ(file.integer("v.u32", 0, UINT32_MAX), 4'000'000'000);
  EXPECT_EQ(file.integer("v.i32", INT32_MIN, 0), -2'000'000'000);
  EXPECT_EQ(file.integer("v.i64", INT64_MIN, 0), INT64_MIN);
  EXPECT_EQ(file.number("v.f32"), 1.5);
  EXPECT_EQ(file.number("v.f64"), 0.1);
  EXPECT_EQ(file.number("v.i8"), -100);
  EXPECT_TRUE(file.boolean("v.bool"));
  EXPECT_EQ(file.string("v.string"), "grüße\n");
  EXPECT_THAT(file.strings("v.strings"), ElementsAre("a", "", "ключ"));
  EXPECT_THAT(file.integers("v.ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(file.numbers("v.floats"), ElementsAre(0.5F, -0.25F));
  EXPECT_THAT(file.numbers("v.ints"), ElementsAre(1.F, -2.F, 3.F));
  EXPECT_THAT(file.booleans("v.bools"), ElementsAre(true, false));
  const auto nested = file.arrays("v.nested");
  ASSERT_EQ(nested.size(), 2U);
  EXPECT_EQ(nested[0].type_text(), "array of 2 i32s");
  EXPECT_EQ(nested[1].count, 3U);
  EXPECT_EQ(std::memcmp(nested[1].bytes.data(), "\3\0\0\0\4\0\0\0\5\0\0\0", 12), 0);
}

TEST(Gguf, TurnsShapesRound) {
  const auto file = golden();
  EXPECT_THAT(file.tensors().at("f16").shape, ElementsAre(1, 2, 3));  // as NumPy had it when it was written
  EXPECT_THAT(to_f32(file.tensors().at("f16")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(file.tensors().at("q4_k").format, NumberFormat::q4_k);
  EXPECT_THAT(file.tensors().at("q4_k").shape, ElementsAre(3, 256));
  EXPECT_EQ(file.tensors().at("i32").format, NumberFormat::i32);
}

TEST(Gguf, SaysWhichKeyIsOfAnotherKind) {
  const auto file = golden();
  const struct {
    std::string message;
    const char* expected;
  } cases[] = {
      {refusal([&] { file.integer("v.none", 0, 9); }),
       R"(expected an integer from 0 to 9 at "v.none", found no such key)"},
      {refusal([&] { file.integer("v.u8", 0, 9); }), R"(expected an integer from 0 to 9 at "v.u8", found 200 (u8))"},
      {refusal([&] { file.integer("v.f32", 0, 9); }), "found 1.5 (f32)"},
      {refusal([&] { file.integer("v.bool", 0, 9); }), "found true"},
      {refusal([&] { file.integer("v.u64", 0, INT64_MAX); }), "found 18446744073709551615 (u64)"},
      {refusal([&] { file.number("v.string"); }), R"(expected a finite number at "v.string", found "grüße\x0a")"},
      {refusal([&] { file.boolean("v.u8"); }), "expected true or false"},
      {refusal([&] { file.string("v.u8"); }), "expected a string"},
      {refusal([&] { file.strings("v.ints"); }), "expected an array of strings at \"v.ints\", found array of 3 i32s"},
      {refusal([&] { file.strings("v.u8"); }), "expected an array of strings"},
      {refusal([&] { file.integers("v.floats"); }), "found array of 2 f32s"},
      {refusal([&] { file.numbers("v.strings"); }), "found array of 3 strings"},
      {refusal([&] { file.booleans("v.ints"); }), "expected an array of booleans"},
      {refusal([&] { file.arrays("v.ints"); }), "expected an array of arrays"},
  };
  for (const auto& [message, expected] : cases) EXPECT_THAT(message, HasSubstr(expected));
  EXPECT_EQ(file.integer_or("v.none", 7, 0, 9), 7);
  EXPECT_EQ(file.number_or("v.none", 7.5), 7.5);
  EXPECT_EQ(file.string_or("v.none", "x"), "x");
  EXPECT_TRUE(file.boolean_or("v.none", true));
  EXPECT_EQ(file.string_or("v.string", "x"), "grüße\n");
}

TEST(Gguf, Version2IsTheSame) {
  const std::string body = testing::gguf_entry("k", 4, testing::u32(7)) + testing::gguf_tensor("w", {2, 3}, 0, 0);
  const std::string bytes = testing::gguf_file(1, 1, body, 24, 2);
  const auto file = GgufFile::parse(testing::as_bytes(bytes), nullptr, "two");
  EXPECT_EQ(file.version(), 2U);
  EXPECT_EQ(file.integer("k", 0, 9), 7);
  EXPECT_THAT(file.tensors().at("w").shape, ElementsAre(3, 2));
}

TEST(Gguf, EmptyArraysFitAnyElementType) {
  const std::string body = testing::gguf_entry("k", 9, testing::u32(5) + testing::u64(0));
  const auto bytes = testing::gguf_file(0, 1, body, 0);
  const auto file = GgufFile::parse(testing::as_bytes(bytes), nullptr, "empty");
  EXPECT_TRUE(file.strings("k").empty());
  EXPECT_TRUE(file.numbers("k").empty());
  EXPECT_TRUE(file.arrays("k").empty());
}

TEST(Gguf, AFileWithoutTensorsMayEndAfterItsMetadata) {
  std::string bytes = "GGUF" + testing::u32(3) + testing::u64(0) + testing::u64(1) + testing::gguf_entry("k", 0, "\5");
  EXPECT_EQ(GgufFile::parse(testing::as_bytes(bytes), nullptr, "vocabulary").integer("k", 0, 9), 5);
}

TEST(Gguf, TextStaysInTheFile) {
  const auto file = golden();
  const GgufValue* value = file.find("v.strings");
  const auto strings = file.strings("v.strings");
  const auto* start = reinterpret_cast<const char*>(value->bytes.data());
  EXPECT_EQ(strings[0].data(), start + 8);
}

TEST(Gguf, OpensRealVocabularies) {
  TORPOR_DATA_OR_SKIP(gpt2, "tokenizers/gguf/ggml-vocab-gpt-2.gguf");
  const auto file = GgufFile::open(gpt2);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 50257U);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens")[0], "!");
  EXPECT_EQ(file.strings("tokenizer.ggml.merges").size(), 50000U);
  EXPECT_TRUE(file.tensors().tensors().empty());
  TORPOR_DATA_OR_SKIP(llama, "tokenizers/gguf/ggml-vocab-llama-spm.gguf");
  const auto spm = GgufFile::open(llama);
  EXPECT_EQ(spm.strings("tokenizer.ggml.tokens").size(), 32000U);
  EXPECT_EQ(spm.numbers("tokenizer.ggml.scores").size(), 32000U);
}

}  // namespace
}  // namespace torpor
