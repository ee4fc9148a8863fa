#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

#include "apps/verb.h"
#include "core/base/error.h"

namespace torpor::apps {
namespace fs = std::filesystem;
namespace {

constexpr std::array<std::string_view, 8> kLabVerbs = {"train",     "study",   "predictor", "rl",
                                                       "continual", "explain", "unnorm",    "lens"};
constexpr const char* kLabProgram = "torpor-lab";

bool can_run(const fs::path& path) {
  std::error_code code;
  return fs::is_regular_file(path, code) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

bool is_lab_verb(const std::string& verb) {
  return std::find(kLabVerbs.begin(), kLabVerbs.end(), verb) != kLabVerbs.end();
}

std::string find_lab_program() {
  std::error_code code;
  const fs::path self = fs::read_symlink("/proc/self/exe", code);
  if (!code && can_run(self.parent_path() / kLabProgram)) return self.parent_path() / kLabProgram;
  const char* path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "";
  while (!folders.empty()) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    const fs::path candidate = fs::path(folders.substr(0, end)) / kLabProgram;
    if (end > 0 && can_run(candidate)) return candidate;
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return {};
}

void hand_over_to_lab(const std::string& verb, std::span<const std::string> arguments) {
  const std::string program = find_lab_program();
  if (program.empty())
    throw IoError(
        "`torpor {}` is work for the program torpor-lab, which is neither beside torpor nor in PATH. `make` in the "
        "source "
        "folder builds both programs",
        verb);
  std::vector<char*> words = {const_cast<char*>(program.c_str()), const_cast<char*>(verb.c_str())};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  ::execv(program.c_str(), words.data());
  throw IoError("{}: cannot be started: {}", program, std::strerror(errno));
}

}  // namespace torpor::apps
