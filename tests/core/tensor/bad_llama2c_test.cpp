#include "core/tensor/llama2c.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

struct BadCase {
  const char* name;
  std::vector<std::int32_t> header;
  std::size_t data_bytes;
  const char* expected;  // part of the message
};

class BadLlama2c : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadLlama2c, IsRefusedWithOneLineThatSaysWhy) {
  std::string file;
  for (const std::int32_t field : GetParam().header) file += testing::raw(field);
  file += std::string(GetParam().data_bytes, '\0');
  const std::string message = testing::refusal([&] { parse_llama2c(testing::as_bytes(file), nullptr, "model.bin"); });
  EXPECT_THAT(message, ::testing::StartsWith("model.bin: "));
  EXPECT_THAT(message, ::testing::HasSubstr(GetParam().expected));
}

constexpr std::int32_t kMax = INT32_MAX;
INSTANTIATE_TEST_SUITE_P(
    Cases, BadLlama2c,
    ::testing::Values(
        BadCase{"Short", {4, 3, 2}, 0, "header of 28 bytes, found a file of 12"},
        BadCase{"ZeroDim", {0, 3, 2, 2, 1, 5, 6}, 880, "expected dim from 1"},
        BadCase{"NegativeHidden", {4, -3, 2, 2, 1, 5, 6}, 880, "expected hidden_dim from 1"},
        BadCase{"ManyLayers", {4, 3, kMax, 2, 1, 5, 6}, 880, "expected n_layers from 1 to 4096 at byte 8"},
        BadCase{"ZeroVocabulary", {4, 3, 2, 2, 1, 0, 6}, 880, "expected vocab_size"},
        BadCase{"SmallestVocabulary", {4, 3, 2, 2, 1, INT32_MIN, 6}, 880, "expected vocab_size"},
        BadCase{"ZeroContext", {4, 3, 2, 2, 1, 5, 0}, 880, "expected seq_len"},
        BadCase{"HeadsDoNotDivide", {4, 3, 2, 3, 1, 5, 6}, 880, "multiple of n_heads, found 4 and 3"},
        BadCase{"KvHeadsDoNotDivide", {8, 3, 2, 4, 3, 5, 6}, 880, "multiple of n_kv_heads, found 4 and 3"},
        BadCase{"OddHeadSize", {6, 3, 2, 2, 1, 5, 6}, 880, "even head size"},
        BadCase{"OneByteShort", {4, 3, 2, 2, 1, 5, 6}, 879, "take 908 bytes, the file has 907"},
        BadCase{"OneByteLong", {4, 3, 2, 2, 1, 5, 6}, 881, "take 908 bytes, the file has 909"},
        BadCase{"ClassifierMissing", {4, 3, 2, 2, 1, -5, 6}, 880, "(not tied)"},
        BadCase{"Overflow", {100000000, 100000000, 4096, 2, 1, 100000000, 6}, 880, "more than 2^63"},
        BadCase{"Version1", {0x616B3432, 1, 2, 2, 1, 5, 6}, 880, "found version 1"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace torpor
