// A 4 GB model is opened and listed in milliseconds and a few MB, because nothing but its header is read. The file is
// sparse: it takes no room on the disk.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "core/base/atomic_file.h"
#include "core/tensor/gguf.h"
#include "core/tensor/llama2c.h"
#include "core/tensor/safetensors.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

constexpr std::int64_t kGigabyte = std::int64_t{1} << 30;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSlower = 20;  // what sanitizers may cost
#else
constexpr double kSlower = 1;
#endif

std::int64_t resident_bytes() {
  std::ifstream status("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  status >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

void write_sparse(const std::filesystem::path& path, const std::string& start, std::int64_t size) {
  write_file_atomically(path, start);
  ASSERT_EQ(::truncate(path.c_str(), size), 0);
}

// Opens by `open`, walks over the list, and holds time and memory.
template <typename Open>
void expect_cheap(const Open& open, std::size_t tensors, std::int64_t data_bytes) {
  double best_seconds = 1e9;
  for (int attempt = 0; attempt < 5; ++attempt) {  // the best of five: other processes share the machine
    const std::int64_t before = resident_bytes();
    const auto start = std::chrono::steady_clock::now();
    const auto opened = open();
    const TensorArchive& archive = opened;
    std::int64_t total = 0;
    for (const TensorView& tensor : archive.tensors()) total += static_cast<std::int64_t>(tensor.bytes.size());
    best_seconds =
        std::min(best_seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    EXPECT_LT(resident_bytes() - before, std::int64_t{8} << 20);
    EXPECT_EQ(archive.tensors().size(), tensors);
    EXPECT_EQ(total, data_bytes);
  }
  EXPECT_LT(best_seconds, 0.020 * kSlower);
  ::testing::Test::RecordProperty("milliseconds", fmt::format("{:.2f}", best_seconds * 1e3));
}

TEST(LargeFile, SafetensorsOf4GBOpensWithoutReadingIt) {
  testing::TemporaryFolder folder;
  constexpr int kTensors = 1000;
  constexpr std::int64_t kEach = std::int64_t{4} << 20;
  std::string header = "{";
  for (std::int64_t i = 0; i < kTensors; ++i)
    header += fmt::format(
        R"({}"model.layers.{}.mlp.down_proj.weight":{{"dtype":"BF16","shape":[1024,2048],"data_offsets":[{},{}]}})",
        i == 0 ? "" : ",", i, i * kEach, (i + 1) * kEach);
  header += "}";
  const std::string start = testing::u64(header.size()) + header;
  write_sparse(folder / "model.safetensors", start, static_cast<std::int64_t>(start.size()) + kTensors * kEach);
  expect_cheap([&] { return open_safetensors(folder.path()); }, kTensors, kTensors * kEach);
}

TEST(LargeFile, GgufOf4GBWithALargeVocabularyOpensWithoutReadingIt) {
  testing::TemporaryFolder folder;
  constexpr int kTensors = 300, kTokens = 150'000;
  constexpr std::int64_t kEach = std::int64_t{14} << 20;
  std::string tokens = testing::u32(8) + testing::u64(kTokens), infos;
  for (int i = 0; i < kTokens; ++i) tokens += testing::gguf_string(fmt::format("token{}", i));
  for (std::uint64_t i = 0; i < kTensors; ++i)
    infos += testing::gguf_tensor(fmt::format("blk.{}.ffn_down.weight", i), {2048, 3584}, 1, i * kEach);
  const std::string start =
      testing::gguf_file(kTensors, 1, testing::gguf_entry("tokenizer.ggml.tokens", 9, tokens) + infos, 0);
  write_sparse(folder / "model.gguf", start, static_cast<std::int64_t>(start.size()) + kTensors * kEach);
  expect_cheap([&] { return GgufFile::open(folder / "model.gguf").tensors(); }, kTensors, kTensors * kEach);
  const auto file = GgufFile::open(folder / "model.gguf");
  const auto strings = file.strings("tokenizer.ggml.tokens");
  ASSERT_EQ(strings.size(), std::size_t{kTokens});
  EXPECT_EQ(strings.back(), "token149999");
}

TEST(LargeFile, Llama2cOf4GBOpensWithoutReadingIt) {
  testing::TemporaryFolder folder;
  // dim 2048, hidden 8192, 16 layers, 16 heads, vocabulary 32000: as much as its header says.
  const std::int64_t dim = 2048, hidden = 8192, layers = 16, vocabulary = 32000, context = 2048;
  const std::int64_t weights = vocabulary * dim + layers * (2 * dim + 4 * dim * dim + 3 * dim * hidden) + dim;
  std::string start;
  for (const std::int64_t field : {dim, hidden, layers, std::int64_t{16}, std::int64_t{16}, vocabulary, context})
    start += testing::raw(static_cast<std::int32_t>(field));
  write_sparse(folder / "model.bin", start, 28 + 4 * (weights + context * (dim / 16)));
  ASSERT_GT(4 * weights, 4 * kGigabyte);
  expect_cheap([&] { return open_llama2c(folder / "model.bin").tensors; }, 2 + 9 * 16, 4 * weights);
}

}  // namespace
}  // namespace torpor
