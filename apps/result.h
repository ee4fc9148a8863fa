// Where a verb's result goes: JSON on standard output, files in a folder, with the manifest that says how they were
// made.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "apps/options.h"
#include "core/base/json.h"
#include "core/report/manifest.h"

namespace torpor::apps {

/// A folder to write results to, which is made, and checked, before any work is done. Files of others that lie there
/// stay as they are. If the verb fails, folders that were made and are still empty go away again.
class ResultFolder {
 public:
  /// Throws IoError (not writable). An empty path: no folder.
  explicit ResultFolder(const std::filesystem::path& folder);
  ~ResultFolder();
  ResultFolder(const ResultFolder&) = delete;
  ResultFolder& operator=(const ResultFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
  std::vector<std::filesystem::path> made_;  // deepest first
};

/// The result of one run of a verb.
class Result {
 public:
  /// An earlier result of the same verb in the folder will be replaced. Throws UsageError where its manifest is of
  /// another verb or program, and IoError.
  Result(const std::string& verb, std::span<const std::string> arguments, const CommonOptions& common);

  /// Empty if nothing is to be written.
  const std::filesystem::path& folder() const { return folder_.path(); }

  void add_input(ManifestInput input) { manifest_.inputs.push_back(std::move(input)); }
  void add_file(const std::string& role, const std::string& name, std::string content);
  void add_json(const std::string& role, const std::string& name, const Json& json);
  /// Stops the clock and adds manifest.json, which names everything added so far and what `later` names.
  Json add_manifest(int threads, const std::vector<ManifestOutput>& later = {});

  /// Writes what was added: first all of it under temporary names, then each gets its own, in the order in which they
  /// were added. So a full disk leaves the old result, and the last file is there only if all are.
  /// Throws IoError, Interrupted.
  void write();

  /// For verbs with one result: prints it if --json was given; with -o writes VERB.json and manifest.json. `others`:
  /// what the verb wrote there itself, for the manifest to name.
  void finish(const Json& json, int threads, const std::vector<ManifestOutput>& others = {});

 private:
  std::string verb_;
  const CommonOptions& common_;
  ResultFolder folder_;
  ManifestClock clock_;
  Manifest manifest_;
  std::vector<std::pair<std::string, std::string>> files_;  // name, content
};

/// JSON as it is printed and written: indented, text that is not UTF-8 replaced, a newline at the end.
std::string json_text(const Json& json);

}  // namespace torpor::apps
