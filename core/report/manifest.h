// manifest.json: what made a result. Every result folder has one, and every report ends with it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace torpor {

struct ManifestInput {
  std::string role;         // "model", "text", "plan"
  std::string path;         // as given on the command line
  std::int64_t bytes = -1;  // -1: unknown (standard input that was not counted)
  std::string fingerprint;
};

struct ManifestOutput {
  std::string role;  // "plan", "profile", "report"
  std::string path;
};

struct Manifest {
  std::vector<std::string> command;  // argv
  std::optional<std::uint64_t> seed;
  int threads = 0;
  std::vector<ManifestInput> inputs;
  std::vector<ManifestOutput> outputs;
  std::chrono::system_clock::time_point started;
  std::chrono::system_clock::time_point finished;
  double seconds = 0;  // by a clock that does not jump
};

/// Starts the clocks of a manifest; `finish` stops them.
class ManifestClock {
 public:
  ManifestClock() : started_(std::chrono::system_clock::now()), steady_(std::chrono::steady_clock::now()) {}
  void finish(Manifest& manifest) const;

 private:
  std::chrono::system_clock::time_point started_;
  std::chrono::steady_clock::time_point steady_;
};

/// Schema "torpor.manifest/1": schema, program, version, commit, build, command, command_line (quoted for a POSIX
/// shell), seed, threads, cpu, libraries, inputs, outputs, started, finished (UTC, ISO 8601), seconds. The build and
/// the machine are those of this process.
Json manifest_json(const Manifest& manifest);

/// "2026-03-01T12:00:00Z".
std::string utc_time(std::chrono::system_clock::time_point time);

/// `value` to `path` as indented JSON, whole or not at all; text that is not UTF-8 is replaced, NaN and infinity become
/// null. Throws IoError.
void write_json(const std::filesystem::path& path, const Json& value);

}  // namespace torpor
