#include <algorithm>
#include <fstream>

#include "core/base/build_info.h"
#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/large_memory.h"
#include "core/base/thread_pool.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(CpuInfo, AgreesWithWhatTheSystemSays) {
  const CpuInfo info = cpu_info();
  EXPECT_EQ(info.processors, available_processors());
  std::ifstream memory("/proc/meminfo");
  std::string word;
  std::int64_t kilobytes = 0;
  memory >> word >> kilobytes;
  EXPECT_NEAR(static_cast<double>(info.memory_bytes), 1024.0 * static_cast<double>(kilobytes), 1e6);
#if defined(__x86_64__)
  EXPECT_NE(info.name, "");
  const bool listed = std::find(info.flags.begin(), info.flags.end(), "avx2") != info.flags.end();
  EXPECT_EQ(listed, __builtin_cpu_supports("avx2") != 0);
#endif
}

TEST(LargeMemory, IsZeroAlignedAndWritableToItsEnd) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, std::size_t{5} << 20}) {
    const auto memory = allocate_large(bytes, "a test");
    const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
    EXPECT_EQ(address % (bytes >= (std::size_t{2} << 20) ? std::size_t{2} << 20 : 64), 0U);
    for (std::size_t i = 0; i < bytes; i += 997) {
      ASSERT_EQ(memory.get()[i], std::byte{0});
      memory.get()[i] = std::byte{7};
    }
    if (bytes > 0) memory.get()[bytes - 1] = std::byte{7};
  }
}

TEST(LargeMemory, SaysWhatItWasForWhereThereIsNone) {
  EXPECT_THAT([] { allocate_large(~std::size_t{0} - (std::size_t{1} << 20), "the weights"); },
              ::testing::ThrowsMessage<IoError>(::testing::HasSubstr("the weights")));
}

TEST(BuildInfo, NamesVersionCompilerAndLibraries) {
  const BuildInfo& info = build_info();
  EXPECT_THAT(info.version, ::testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_NE(info.compiler, "");
  EXPECT_NE(info.build_type, "");
  ASSERT_FALSE(info.libraries.empty());
  for (const auto& [name, version] : info.libraries)
    EXPECT_THAT(version, ::testing::MatchesRegex("[0-9]+\\.[0-9.]+")) << name << " has no version";
}

}  // namespace
}  // namespace torpor
