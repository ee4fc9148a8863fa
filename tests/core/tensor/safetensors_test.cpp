// Reading safetensors: a file that the PyPI package wrote, and folders with shards.
#include "core/tensor/safetensors.h"

#include <fstream>

#include "core/base/atomic_file.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::refusal;

template <typename T>
std::vector<T> numbers(const TensorView& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

TEST(Safetensors, ReadsEveryTypeThatThePackageWrites) {
  const auto archive = open_safetensors(testing::golden("tensor/all_dtypes.safetensors"));
  EXPECT_EQ(archive.tensors().size(), 16U);
  EXPECT_THAT(archive.metadata(), ElementsAre(::testing::Pair("format", "pt")));
  const auto check = [&](const char* name, NumberFormat format, const auto& expected) {
    using T = typename std::decay_t<decltype(expected)>::value_type;
    const TensorView& tensor = archive.at(name);
    EXPECT_EQ(tensor.format, format) << name;
    EXPECT_EQ(numbers<T>(tensor), expected) << name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % sizeof(T), 0U) << name;
  };
  check("bool", NumberFormat::boolean, std::vector<std::uint8_t>{1, 0, 1});
  check("u8", NumberFormat::u8, std::vector<std::uint8_t>{0, 1, 255});
  check("i8", NumberFormat::i8, std::vector<std::int8_t>{-128, 0, 127});
  check("i16", NumberFormat::i16, std::vector<std::int16_t>{-32768, 5, 32767});
  check("u16", NumberFormat::u16, std::vector<std::uint16_t>{0, 5, 65535});
  check("i32", NumberFormat::i32, std::vector<std::int32_t>{INT32_MIN, 7, INT32_MAX});
  check("u32", NumberFormat::u32, std::vector<std::uint32_t>{0, 7, UINT32_MAX});
  check("i64", NumberFormat::i64, std::vector<std::int64_t>{INT64_MIN, INT64_MAX});
  check("u64", NumberFormat::u64, std::vector<std::uint64_t>{0, UINT64_MAX});
  check("f64", NumberFormat::f64, std::vector<double>{0.1, -1e300});
  check("scalar", NumberFormat::f32, std::vector<float>{42});
  EXPECT_THAT(to_f32(archive.at("f16")), ElementsAre(1.5F, -2.F, 65504.F, 1.F / 16777216));
  EXPECT_THAT(to_f32(archive.at("bf16")), ElementsAre(1.5F, -2.F, ::testing::FloatNear(3e38F, 1e36F)));
  EXPECT_THAT(to_f32(archive.at("ключ \"quoted\" \\ \n tab\t")), ElementsAre(1.F));
  EXPECT_THAT(archive.at("f32").shape, ElementsAre(3, 4));
  EXPECT_EQ(to_f32(archive.at("f32"))[11], 1.75F);
  EXPECT_THAT(archive.at("scalar").shape, ElementsAre());
  EXPECT_THAT(archive.at("empty").shape, ElementsAre(0, 5));
  EXPECT_TRUE(archive.at("empty").bytes.empty());
}

TEST(Safetensors, OpensARealModel) {
  TORPOR_DATA_OR_SKIP(folder, "lm/tinystories656K");
  const auto archive = open_safetensors(folder);
  std::int64_t parameters = 0;
  for (const TensorView& tensor : archive.tensors()) parameters += tensor.elements();
  EXPECT_EQ(parameters, 656'000);
}

TEST(Safetensors, ATensorOutlivesItsArchiveOnlyThroughACopy) {
  TensorArchive copy;
  {
    const auto archive = open_safetensors(testing::golden("tensor/all_dtypes.safetensors"));
    copy = archive;
  }
  EXPECT_EQ(numbers<float>(copy.at("scalar")).front(), 42.F);
}

// A folder with an index and two shards, each of one f32 tensor.
class Sharded : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& content) { write_file_atomically(folder_ / name, content); }
  static std::string shard(const std::string& tensor) {
    return testing::safetensors_file(R"({"__metadata__":{"from":")" + tensor + R"("},")" + tensor +
                                         R"(":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                                     8);
  }
  void SetUp() override {
    write("model-1.safetensors", shard("a"));
    write("model-2.safetensors", shard("b"));
    write_index(R"({"a":"model-1.safetensors","b":"model-2.safetensors"})");
  }
  void write_index(const std::string& map) {
    write("model.safetensors.index.json",
          R"({"metadata":{"total_size":16,"x":[{"y":null}]},"weight_map":)" + map + "}");
  }
  std::string message() {
    return refusal([&] { open_safetensors(folder_.path()); });
  }

  testing::TemporaryFolder folder_;
};

TEST_F(Sharded, OpensAsFolderAndAsIndex) {
  for (const auto& path : {folder_.path(), folder_ / "model.safetensors.index.json"}) {
    const auto archive = open_safetensors(path);
    ASSERT_EQ(archive.tensors().size(), 2U);
    EXPECT_EQ(archive.tensors()[0].name, "a");
    EXPECT_EQ(archive.tensors()[1].name, "b");
    EXPECT_EQ(archive.metadata().at("from"), "a");
  }
}

TEST_F(Sharded, AWholeModelGoesBeforeAnIndex) {
  write("model.safetensors", shard("whole"));
  EXPECT_NE(open_safetensors(folder_.path()).find("whole"), nullptr);
}

TEST_F(Sharded, TensorsThatTheIndexForgotAreRead) {
  write("model-2.safetensors", testing::safetensors_file(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                                         R"("extra":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})",
                                                         9));
  EXPECT_NE(open_safetensors(folder_.path()).find("extra"), nullptr);
}

TEST_F(Sharded, ABadIndexIsRefused) {
  const struct {
    const char* map;
    const char* expected;
  } cases[] = {
      {R"({"a":"model-1.safetensors","b":"model-3.safetensors","c":"model-4.safetensors"})",
       R"(2 of 3 shards are missing: "model-3.safetensors", "model-4.safetensors")"},
      {R"({"a":"model-2.safetensors","b":"model-1.safetensors"})",
       R"("a" is listed in "model-2.safetensors", found in)"},
      {R"({"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-2.safetensors"})",
       R"("c" is listed in "model-2.safetensors", which does not hold it)"},
      {R"({"a":"../model-1.safetensors"})", R"(tensor "a": expected the name of a file in the same folder)"},
      {R"({"a":"/etc/passwd"})", "expected the name of a file in the same folder"},
      {R"({"a":".."})", "expected the name of a file in the same folder"},
      {R"({"a":"x\\y"})", "expected the name of a file in the same folder"},
      {R"({"a":"model-1.safetensors\u0000"})", "expected the name of a file in the same folder"},
      {R"({"a":""})", "expected the name of a file in the same folder"},
      {R"({"a":"model-1.safetensors","a":"model-1.safetensors"})", R"("a" appears twice in weight_map)"},
      {R"({"a":7})", R"(expected a file name for the tensor "a" in weight_map, found a number)"},
      {R"({"a":{}})", R"(expected a file name for the tensor "a" in weight_map, found an object)"},
      {R"({"a":["model-1.safetensors"]})", R"(found an array)"},
      {R"({})", "expected at least one tensor in weight_map"},
      {R"([])", "expected weight_map to be an object, found an array"},
      {R"({"a")", "expected JSON, found an error at byte"},
      {R"({},"weight_map":{})", R"(the key "weight_map" appears twice)"},
  };
  for (const auto& [map, expected] : cases) {
    write_index(map);
    EXPECT_THAT(message(), HasSubstr(expected)) << map;
    EXPECT_THAT(message(), HasSubstr("model.safetensors.index.json: ")) << map;
  }
  write("model.safetensors.index.json", R"({"metadata":{}})");
  EXPECT_THAT(message(), HasSubstr(R"(expected an object "weight_map", found none)"));
  write("model.safetensors.index.json", "[]");
  EXPECT_THAT(message(), HasSubstr("expected a JSON object, found an array"));
}

TEST_F(Sharded, ABadShardIsNamed) {
  write("model-2.safetensors", shard("b").substr(0, 20));
  EXPECT_THAT(message(), HasSubstr("model-2.safetensors: the header takes"));
  write("model-2.safetensors", "");
  EXPECT_THAT(message(), HasSubstr("model-2.safetensors: expected data, found an empty file"));
}

TEST_F(Sharded, ATensorInTwoShardsIsRefused) {
  write("model-2.safetensors", testing::safetensors_file(R"({"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                                         R"("x":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})",
                                                         9));
  write("model-1.safetensors", testing::safetensors_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                                         R"("x":{"dtype":"U8","shape":[],"data_offsets":[8,9]}})",
                                                         9));
  EXPECT_THAT(message(), HasSubstr(R"(the tensor "x" appears twice)"));
}

TEST(Safetensors, SaysWhatAFolderLacks) {
  testing::TemporaryFolder folder;
  EXPECT_THAT(
      refusal([&] { open_safetensors(folder.path()); }),
      HasSubstr("expected model.safetensors or model.safetensors.index.json in this folder, found no model files"));
  write_file_atomically(folder / "pytorch_model.bin", "x");
  EXPECT_THAT(refusal([&] { open_safetensors(folder.path()); }), HasSubstr(R"(found "pytorch_model.bin")"));
  EXPECT_THAT(refusal([&] { open_safetensors(folder / "nowhere"); }), HasSubstr("No such file"));
}

}  // namespace
}  // namespace torpor
