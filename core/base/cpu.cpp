#include "core/base/cpu.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "core/base/thread_pool.h"

namespace torpor {
namespace {

constexpr std::array<std::string_view, 17> kFlagsThatMatter = {
    "sse4_2",      "avx",         "avx2",     "fma",      "f16c",     "avx512f",  "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd",    "sve"};

std::string value_of(const std::string& line) {
  const auto colon = line.find(':');
  return colon == std::string::npos || colon + 2 > line.size() ? "" : line.substr(colon + 2);
}

}  // namespace

CpuInfo cpu_info() {
  CpuInfo info;
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (info.name.empty() && line.starts_with("model name")) info.name = value_of(line);
    if (info.flags.empty() && (line.starts_with("flags") || line.starts_with("Features"))) {
      std::istringstream words(value_of(line));
      for (std::string word; words >> word;)
        if (std::find(kFlagsThatMatter.begin(), kFlagsThatMatter.end(), word) != kFlagsThatMatter.end())
          info.flags.push_back(word);
    }
  }
  info.processors = available_processors();
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  info.last_level_cache_bytes = cache > 0 ? cache : 0;
  info.memory_bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  return info;
}

std::int64_t available_memory_bytes() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoll(line.c_str() + 13, nullptr, 10) * 1024;
  return 0;
}

}  // namespace torpor
