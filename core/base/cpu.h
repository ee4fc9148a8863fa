// What machine this is, for manifests and for choosing kernels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace torpor {

struct CpuInfo {
  std::string name;                         // as the kernel reports it
  std::vector<std::string> flags;           // instruction sets that matter here: avx2, avx512f, avx512_bf16, …
  int processors = 0;                       // usable by this process
  std::int64_t last_level_cache_bytes = 0;  // 0 if unknown
  std::int64_t memory_bytes = 0;
};

CpuInfo cpu_info();

/// Bytes that the system can give to programs without swapping; 0 if unknown.
std::int64_t available_memory_bytes();

}  // namespace torpor
