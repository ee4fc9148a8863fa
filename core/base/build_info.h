// Which Torpor this is.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace torpor {

struct BuildInfo {
  std::string version;   // "0.1.0"
  std::string commit;    // git describe at configure time, empty outside a checkout
  std::string compiler;  // "GNU 12.2.0"
  std::string build_type;
  std::string sanitizers;                                      // empty in normal builds
  std::vector<std::pair<std::string, std::string>> libraries;  // name, version found at configure time
};

const BuildInfo& build_info();

}  // namespace torpor
