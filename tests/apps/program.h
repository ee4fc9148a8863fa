// Running the program `torpor` as a user does: arguments in, exit code and both streams out.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace torpor::testing {

struct Outcome {
  int exit_code = -1;  // 128 + signal if a signal ended it; -1 after the time limit
  std::string out, err;
  double seconds = 0;
  std::int64_t peak_kilobytes = 0;  // of memory
  std::int64_t page_faults = 0;     // pages that it touched: work at the start that no other process disturbs
};

struct Surroundings {
  std::filesystem::path program;                   // empty: the torpor of this build
  std::filesystem::path folder;                    // to run in; empty: a temporary one that is removed
  std::map<std::string, std::string> environment;  // set or replaced
  std::string input;                               // standard input
  std::filesystem::path out_to;                    // standard output goes to this file instead ("/dev/full")
  std::int64_t file_size_limit = -1;               // RLIMIT_FSIZE in bytes
  bool close_out_early = false;                    // standard output is a pipe whose reader is gone
  /// Once this returns true, SIGINT is sent.
  std::function<bool()> interrupt_when;
  std::chrono::seconds time_limit{120};
};

Outcome torpor(const std::vector<std::string>& arguments, const Surroundings& surroundings = {});

/// Expects one line on standard error with all these words, this exit code, nothing on standard output, and no
/// `results`.
void expect_refused(const Outcome& outcome, int exit_code, const std::vector<std::string>& words,
                    const std::filesystem::path& results);

/// Names of what a folder holds, hidden files too, sorted; empty if there is no such folder.
std::vector<std::string> names_in(const std::filesystem::path& folder);

/// Lines of a text without their ends.
std::vector<std::string> lines_of(const std::string& text);

}  // namespace torpor::testing
