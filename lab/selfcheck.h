// `torpor-lab selfcheck`: is this installation's LibTorch usable, and do both halves of Torpor mean the same by
// "inactive"?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace torpor::lab {

struct SelfcheckCase {
  std::string name;  // "relu, bf16, 1024 neurons"
  std::int64_t tokens = 0, neurons = 0;
  double density = 0;
  double deviation = 0;  // largest over all statistics, relative to 1 or to the value, whichever is larger
  double allowed = 0;
  bool holds() const { return deviation <= allowed; }
};

/// Runs layers of several activations, types and sizes through both implementations.
std::vector<SelfcheckCase> selfcheck(std::uint64_t seed);

}  // namespace torpor::lab
