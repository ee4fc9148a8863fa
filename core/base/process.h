// Other programs, run to their end.
#pragma once

#include <string>
#include <vector>

namespace torpor {

struct ProcessOutput {
  int exit_code = 0;   // 128 + n where signal n ended it, as in a shell
  std::string output;  // standard output
  std::string error;   // standard error
};

/// Runs arguments[0] (a path, or a name that PATH finds) with the others, without a shell, and waits. Standard input is
/// empty. Throws IoError where it cannot be started, InvalidArgument for no arguments. Thread-safe.
ProcessOutput run_process(const std::vector<std::string>& arguments);

}  // namespace torpor
