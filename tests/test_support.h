// What tests share: where things are, and skipping with a reason.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace torpor::testing {

/// Files committed under tests/golden/.
inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TORPOR_SOURCE_DIR) / "tests" / "golden" / name;
}

/// A file of the data folder (docs/data.md), or an empty path where TORPOR_DATA is not set or lacks it.
inline std::filesystem::path data_file(const std::string& name) {
  const char* root = std::getenv("TORPOR_DATA");
  if (root == nullptr || *root == '\0') return {};
  const auto path = std::filesystem::path(root) / name;
  return std::filesystem::exists(path) ? path : std::filesystem::path{};
}

/// A folder of its own for one test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "torpor-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code code;
    std::filesystem::remove_all(path_, code);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace torpor::testing

/// Assigns the path of a data file to `variable`, or skips the test naming what is absent.
#define TORPOR_DATA_OR_SKIP(variable, name)                                  \
  const std::filesystem::path variable = ::torpor::testing::data_file(name); \
  if (variable.empty()) GTEST_SKIP() << "needs " << (name) << " below $TORPOR_DATA, which is not set or lacks it"
