// A text larger than anything that could be read into memory by accident: a sparse file of zero bytes (valid UTF-8).
#include <algorithm>
#include <fstream>
#include <sstream>

#include "engine/profile/corpus.h"
#include "tests/engine/profile/byte_tokenizer.h"

namespace torpor {
namespace {

constexpr std::int64_t kTextBytes = (std::int64_t{2} << 30) + 4096;  // more than an int can count

/// A line of /proc/self/status, in bytes.
std::int64_t memory(const std::string& line_name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (std::istringstream in(line); line.rfind(line_name, 0) == 0) {
      std::string name;
      std::int64_t kilobytes = 0;
      in >> name >> kilobytes;
      return kilobytes * 1024;
    }
  return 0;
}

TEST(LargeText, IsSampledInConstantMemoryReadingOnlyWhatIsReturned) {
  const testing::TemporaryFolder folder;
  testing::write_text(folder / "large.txt", "");
  std::filesystem::resize_file(folder / "large.txt", static_cast<std::uintmax_t>(kTextBytes));
  const std::int64_t before = memory("VmRSS:");
  ASSERT_GT(before, 0);
  const std::int64_t peak_before = memory("VmHWM:");
  const TextCorpus corpus = TextCorpus::open(folder / "large.txt");
  EXPECT_LT(memory("VmHWM:") - peak_before, 32 << 20);  // checked and fingerprinted, never there as a whole
  EXPECT_EQ(corpus.bytes(), kTextBytes);
  const testing::ByteTokenizer tokenizer;
  const auto windows = sample_windows(corpus, tokenizer, 256, 128, 100);
  EXPECT_EQ(windows.size(), 100U);
  EXPECT_LE(tokenizer.encoded_bytes, 100 * 128 * 16);

  std::int64_t seen = 0, most = 0;
  for_each_window(corpus, tokenizer, 256, 128, [&](const TextWindow&) {
    if (++seen % 1000 == 0) most = std::max(most, memory("VmRSS:"));
    return seen < 300000;  // 38 MB of it
  });
  EXPECT_LT(most - before, 16 << 20);  // mapped pages of the text count too
}

}  // namespace
}  // namespace torpor
