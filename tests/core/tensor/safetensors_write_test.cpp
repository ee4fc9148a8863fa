// Writing safetensors. Oracles: the bytes that the PyPI package writes, and what the reader gives back.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/safetensors.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

TEST(SafetensorsWriter, WritesTheSameBytesAsThePackage) {
  const fs::path golden = testing::golden("tensor/all_dtypes.safetensors");
  const auto archive = open_safetensors(golden);
  std::vector<TensorView> tensors(archive.tensors().begin(), archive.tensors().end());
  testing::TemporaryFolder folder;
  write_safetensors(folder / "same.safetensors", tensors, {{"format", "pt"}});
  EXPECT_EQ(read_file(folder / "same.safetensors"), read_file(golden));
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(folder / "reversed.safetensors", tensors, {{"format", "pt"}});
  EXPECT_EQ(read_file(folder / "reversed.safetensors"), read_file(golden)) << "depends on the order of the input";
}

constexpr NumberFormat kPlain[] = {NumberFormat::f64,    NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16,
                                   NumberFormat::i64,    NumberFormat::i32, NumberFormat::i16, NumberFormat::i8,
                                   NumberFormat::u64,    NumberFormat::u32, NumberFormat::u16, NumberFormat::u8,
                                   NumberFormat::boolean};

struct Model {
  std::vector<std::string> contents;
  std::vector<TensorView> tensors;
  SafetensorsMetadata metadata;
};

Model random_model() {
  Model model;
  const int count = *rc::gen::inRange(0, 12);
  model.contents.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    TensorView tensor;
    // ASCII with everything that JSON escapes, made unique by a number.
    tensor.name = *rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)) + std::to_string(i);
    tensor.format = kPlain[*rc::gen::inRange<std::size_t>(0, std::size(kPlain))];
    tensor.shape = *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 5));
    if (tensor.shape.size() > 4) tensor.shape.resize(4);
    const std::size_t bytes = bytes_of(tensor.format, tensor.elements());
    model.contents.push_back(*rc::gen::container<std::string>(bytes, rc::gen::arbitrary<char>()));
    tensor.bytes = testing::as_bytes(model.contents.back());
    model.tensors.push_back(tensor);
  }
  model.metadata =
      *rc::gen::container<SafetensorsMetadata>(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)),
                                               rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)));
  return model;
}

void expect_same(const Model& model, const TensorArchive& archive) {
  RC_ASSERT(archive.tensors().size() == model.tensors.size());
  for (const TensorView& tensor : model.tensors) {
    const TensorView& found = archive.at(tensor.name);
    RC_ASSERT(found.format == tensor.format);
    RC_ASSERT(found.shape == tensor.shape);
    RC_ASSERT(std::ranges::equal(found.bytes, tensor.bytes));
  }
  RC_ASSERT(std::map(archive.metadata().begin(), archive.metadata().end()) == model.metadata);
}

RC_GTEST_PROP(SafetensorsWriter, WhatIsWrittenIsReadBack, ()) {
  const Model model = random_model();
  testing::TemporaryFolder folder;
  write_safetensors(folder / "m.safetensors", model.tensors, model.metadata);
  const auto archive = open_safetensors(folder / "m.safetensors");
  expect_same(model, archive);
  for (const TensorView& tensor : archive.tensors())
    RC_ASSERT(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) %
                  static_cast<std::size_t>(traits(tensor.format).block_bytes) ==
              0U);
}

RC_GTEST_PROP(SafetensorsWriter, ShardsAreReadBackAndKeepTheLimit, ()) {
  const Model model = random_model();
  const auto limit = *rc::gen::inRange<std::int64_t>(1, 400);
  testing::TemporaryFolder folder;
  const auto names = write_safetensors_folder(folder.path(), model.tensors, model.metadata, limit);
  expect_same(model, open_safetensors(folder.path()));
  for (const std::string& name : names) {
    const auto shard = open_safetensors(folder / name);
    std::size_t bytes = 0;
    for (const TensorView& tensor : shard.tensors()) bytes += tensor.bytes.size();
    // A larger tensor may share its shard only with empty ones.
    RC_ASSERT(bytes <= static_cast<std::size_t>(limit) ||
              std::ranges::count_if(shard.tensors(), [](const auto& t) { return !t.bytes.empty(); }) == 1);
  }
  if (names.size() > 1) {
    const Json index = read_json(folder / "model.safetensors.index.json");
    std::size_t total = 0;
    for (const TensorView& tensor : model.tensors) total += tensor.bytes.size();
    RC_ASSERT(index["metadata"]["total_size"].get<std::size_t>() == total);
  }
}

class WriterFolder : public ::testing::Test {
 protected:
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  static TensorView bytes(const std::string& name, const std::string& content) {
    return {name, NumberFormat::u8, {static_cast<std::int64_t>(content.size())}, testing::as_bytes(content)};
  }

  testing::TemporaryFolder folder_;
  const std::string content_ = "12345678";
};

TEST_F(WriterFolder, CutsBetweenTensorsInTheirOrder) {
  const std::vector<TensorView> tensors = {bytes("c", content_), bytes("a", content_), bytes("b", content_)};
  EXPECT_THAT(write_safetensors_folder(folder_.path(), tensors, {}, 16),
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  EXPECT_THAT(files(), ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                   "model.safetensors.index.json"));
  const Json index = read_json(folder_ / "model.safetensors.index.json");
  EXPECT_EQ(index["weight_map"]["c"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["a"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["b"], "model-00002-of-00002.safetensors");
}

TEST_F(WriterFolder, ANewModelLeavesNothingOfTheOldOne) {
  write_file_atomically(folder_ / "config.json", "{}");
  const std::vector<TensorView> three = {bytes("a", content_), bytes("b", content_), bytes("c", content_)};
  write_safetensors_folder(folder_.path(), three, {}, 8);
  EXPECT_EQ(files().size(), 5U);
  write_safetensors_folder(folder_.path(), std::span(three).first(2), {}, 8);
  EXPECT_THAT(files(), ElementsAre("config.json", "model-00001-of-00002.safetensors",
                                   "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
  EXPECT_EQ(open_safetensors(folder_.path()).tensors().size(), 2U);
  write_safetensors_folder(folder_.path(), three, {}, 1000);
  EXPECT_THAT(files(), ElementsAre("config.json", "model.safetensors"));
  write_safetensors_folder(folder_.path(), three, {}, 8);
  EXPECT_EQ(files().size(), 5U);
  EXPECT_EQ(open_safetensors(folder_.path()).tensors().size(), 3U);
}

TEST_F(WriterFolder, RefusesBeforeTouchingAnything) {
  const std::vector<TensorView> good = {bytes("a", content_)};
  write_safetensors(folder_ / "m.safetensors", good);
  const std::string before = read_file(folder_ / "m.safetensors");
  TensorView quantised{"q", NumberFormat::q8_0, {32}, {}}, short_bytes = bytes("s", content_);
  short_bytes.shape = {9};
  const std::vector<std::vector<TensorView>> bad = {
      {good[0], good[0]}, {quantised}, {short_bytes}, {bytes("__metadata__", content_)}, {bytes("\xFF", content_)}};
  for (const auto& tensors : bad) {
    EXPECT_THROW(write_safetensors(folder_ / "m.safetensors", tensors), InvalidArgument);
    EXPECT_THROW(write_safetensors_folder(folder_.path(), tensors), InvalidArgument);
  }
  EXPECT_THROW(write_safetensors(folder_ / "m.safetensors", good, {{"k", "\xC0\x80"}}), InvalidArgument);
  EXPECT_THROW(write_safetensors_folder(folder_.path(), good, {}, 0), InvalidArgument);
  EXPECT_THAT(files(), ElementsAre("m.safetensors"));
  EXPECT_EQ(read_file(folder_ / "m.safetensors"), before);
}

TEST_F(WriterFolder, APlaceThatCannotBeWrittenIsAnIoErrorAndLeavesNothing) {
  // A folder that cannot be: a file stands in its way.
  write_file_atomically(folder_ / "file", "x");
  const std::vector<TensorView> good = {bytes("a", content_)};
  EXPECT_THROW(write_safetensors(folder_ / "file" / "m.safetensors", good), IoError);
  EXPECT_THROW(write_safetensors_folder(folder_ / "file", good), IoError);
  EXPECT_THAT(files(), ElementsAre("file"));
}

}  // namespace
}  // namespace torpor
