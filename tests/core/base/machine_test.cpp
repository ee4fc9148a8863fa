#include <algorithm>
#include <fstream>

#include "core/base/build_info.h"
#include "core/base/cpu.h"
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
