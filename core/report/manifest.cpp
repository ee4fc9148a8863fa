#include "core/report/manifest.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "core/base/atomic_file.h"
#include "core/base/build_info.h"
#include "core/base/cpu.h"
#include "core/report/html.h"

namespace torpor {

void ManifestClock::finish(Manifest& manifest) const {
  manifest.started = started_;
  manifest.finished = std::chrono::system_clock::now();
  manifest.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - steady_).count();
}

std::string utc_time(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", parts);
}

Json manifest_json(const Manifest& manifest) {
  const BuildInfo& build = build_info();
  const CpuInfo cpu = cpu_info();
  std::string line;
  for (const std::string& word : manifest.command) line += (line.empty() ? "" : " ") + shell_word(word);

  Json libraries = Json::object();
  for (const auto& [name, version] : build.libraries) libraries[name] = version;
  Json inputs = Json::array();
  for (const ManifestInput& input : manifest.inputs) {
    inputs.push_back({{"role", input.role},
                      {"path", input.path},
                      {"bytes", input.bytes < 0 ? Json(nullptr) : Json(input.bytes)},
                      {"fingerprint", input.fingerprint}});
  }
  Json outputs = Json::array();
  for (const ManifestOutput& output : manifest.outputs)
    outputs.push_back({{"role", output.role}, {"path", output.path}});

  Json out;
  out["schema"] = "torpor.manifest/1";
  out["program"] = "torpor";
  out["version"] = build.version;
  out["commit"] = build.commit;
  out["build"] = {{"compiler", build.compiler}, {"build_type", build.build_type}, {"sanitizers", build.sanitizers}};
  out["command"] = manifest.command;
  out["command_line"] = line;
  out["seed"] = manifest.seed ? Json(*manifest.seed) : Json(nullptr);
  out["threads"] = manifest.threads;
  out["cpu"] = {{"name", cpu.name},
                {"flags", cpu.flags},
                {"processors", cpu.processors},
                {"last_level_cache_bytes", cpu.last_level_cache_bytes},
                {"memory_bytes", cpu.memory_bytes}};
  out["libraries"] = std::move(libraries);
  out["inputs"] = std::move(inputs);
  out["outputs"] = std::move(outputs);
  out["started"] = utc_time(manifest.started);
  out["finished"] = utc_time(manifest.finished);
  out["seconds"] = manifest.seconds;
  return out;
}

void write_json(const std::filesystem::path& path, const Json& value) {
  // nlohmann-json writes NaN and infinity as null.
  write_file_atomically(path, value.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace torpor
