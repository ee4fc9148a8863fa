// Writing GGUF: what is written is read again, by this library's reader, which is tested against the package gguf.
#include "core/tensor/gguf_write.h"

#include <cstring>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/tensor/gguf.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryFolder;

TEST(GgufWriter, WhatIsWrittenIsReadAgain) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf";
  Random random(1);
  std::vector<std::vector<std::byte>> data;
  struct Tensor {
    const char* name;
    NumberFormat format;
    std::vector<std::int64_t> shape;
  };
  const Tensor tensors[] = {{"odd", NumberFormat::f32, {3}},       {"half", NumberFormat::f16, {2, 5}},
                            {"brain", NumberFormat::bf16, {7, 3}}, {"eight", NumberFormat::q8_0, {3, 64}},
                            {"four", NumberFormat::q4_0, {5, 32}}, {"k", NumberFormat::q4_k, {1, 256}},
                            {"six", NumberFormat::q6_k, {2, 256}}, {"deep", NumberFormat::f32, {2, 3, 4}}};
  GgufWriter writer;
  writer.add("general.architecture", "test");
  writer.add("a.number", 4'000'000'000U);
  writer.add("a.float", 0.1F);
  writer.add("names", std::vector<std::string>{"a", "", "ключ"});
  writer.add("floats", std::vector<float>{0.5F, -0.25F});
  writer.add("ints", std::vector<std::int32_t>{1, -2});
  for (const Tensor& t : tensors) {
    std::int64_t elements = 1;
    for (const std::int64_t size : t.shape) elements *= size;
    auto& bytes = data.emplace_back(bytes_of(t.format, elements));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    writer.add_tensor({t.name, t.format, t.shape, bytes});
  }
  std::int64_t reported = 0;
  writer.write(path, [&](std::int64_t bytes) { reported = bytes; });
  const GgufFile file = GgufFile::open(path);
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.alignment(), 32U);
  EXPECT_EQ(file.string("general.architecture"), "test");
  EXPECT_EQ(file.integer("a.number", 0, UINT32_MAX), 4'000'000'000);
  EXPECT_EQ(file.number("a.float"), static_cast<double>(0.1F));
  EXPECT_THAT(file.strings("names"), ElementsAre("a", "", "ключ"));
  EXPECT_THAT(file.numbers("floats"), ElementsAre(0.5F, -0.25F));
  EXPECT_THAT(file.integers("ints"), ElementsAre(1, -2));
  ASSERT_EQ(file.tensors().tensors().size(), std::size(tensors));
  std::int64_t all = 0;
  for (std::size_t i = 0; i < std::size(tensors); ++i) {
    const TensorView& read = file.tensors().at(tensors[i].name);
    EXPECT_EQ(read.format, tensors[i].format);
    EXPECT_EQ(read.shape, tensors[i].shape);
    ASSERT_EQ(read.bytes.size(), data[i].size());
    EXPECT_EQ(std::memcmp(read.bytes.data(), data[i].data(), data[i].size()), 0) << tensors[i].name;
    all += std::ssize(data[i]);
  }
  EXPECT_EQ(reported, all);
  EXPECT_EQ(std::filesystem::file_size(path) % 32, 0U);
}

TEST(GgufWriter, RefusesWhatCannotBeWritten) {
  GgufWriter writer;
  const std::vector<float> values(4);
  const auto bytes = std::as_bytes(std::span(values));
  EXPECT_THROW(writer.add_tensor({"t", NumberFormat::f32, {5}, bytes}), InvalidArgument);
  EXPECT_THROW(writer.add_tensor({"t", NumberFormat::u8, {16}, bytes}), InvalidArgument);
  writer.add_tensor({"t", NumberFormat::f32, {4}, bytes});
  EXPECT_THROW(writer.add_tensor({"t", NumberFormat::f32, {4}, bytes}), InvalidArgument);
  EXPECT_THROW(writer.write("/dev/null/m.gguf"), IoError);
}

}  // namespace
}  // namespace torpor
