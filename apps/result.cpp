#include "apps/result.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "apps/terminal.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"

namespace torpor::apps {
namespace fs = std::filesystem;

ResultFolder::ResultFolder(const fs::path& folder) : folder_(folder) {
  if (folder_.empty()) return;
  std::error_code code;
  for (fs::path at = fs::absolute(folder_).lexically_normal(); !at.empty() && !fs::exists(at, code);
       at = at.parent_path())
    if (at.has_filename()) made_.push_back(at);
  make_writable_folder(folder_);
}

ResultFolder::~ResultFolder() {
  for (const fs::path& at : made_) ::rmdir(at.c_str());  // succeeds on empty folders only
}

namespace {

/// A folder for the results of this verb: one that holds something else's manifest is left alone, since what it says
/// would no longer be true of the files that stay.
const fs::path& checked_folder(const fs::path& folder, const std::string& verb) {
  std::error_code code;
  if (folder.empty() || !fs::exists(folder / "manifest.json", code)) return folder;
  std::string found = "a manifest.json that is not of torpor";
  try {
    const Json manifest = read_json(folder / "manifest.json");
    if (manifest.value("schema", "").starts_with("torpor.manifest/")) {
      const std::string of = manifest.at("command").at(1).get<std::string>();
      if (of == verb) return folder;
      found = fmt::format("a result of `torpor {}`", of);
    }
  } catch (const Error&) {  // not readable, not JSON: not ours
  } catch (const Json::exception&) {
  }
  throw UsageError("{}: expected a new folder or an earlier result of `torpor {}`, found {}. Choose another with -o",
                   folder.string(), verb, found);
}

}  // namespace

Result::Result(const std::string& verb, std::span<const std::string> arguments, const CommonOptions& common)
    : verb_(verb), common_(common), folder_(checked_folder(common.output, verb)) {
  manifest_.command = {"torpor", verb};
  manifest_.command.insert(manifest_.command.end(), arguments.begin(), arguments.end());
  manifest_.seed = common.seed;
}

void Result::add_file(const std::string& role, const std::string& name, std::string content) {
  manifest_.outputs.push_back({role, name});
  files_.emplace_back(name, std::move(content));
}

void Result::add_json(const std::string& role, const std::string& name, const Json& json) {
  add_file(role, name, json_text(json));
}

Json Result::add_manifest(int threads, const std::vector<ManifestOutput>& later) {
  clock_.finish(manifest_);
  manifest_.threads = threads;
  manifest_.outputs.insert(manifest_.outputs.end(), later.begin(), later.end());
  Json json = manifest_json(manifest_);
  files_.emplace_back("manifest.json", json_text(json));
  return json;
}

void Result::write() {
  check_interrupt();
  std::vector<std::unique_ptr<AtomicFile>> written;
  for (const auto& [name, content] : files_) {
    written.push_back(std::make_unique<AtomicFile>(folder() / name));
    written.back()->append(content);
  }
  for (const auto& file : written) file->commit();
}

void Result::finish(const Json& json, int threads, const std::vector<ManifestOutput>& others) {
  if (!folder().empty()) {
    std::vector<ManifestOutput> later = others;
    later.push_back({"result", verb_ + ".json"});
    add_manifest(threads, later);
    files_.emplace_back(verb_ + ".json", json_text(json));
    write();
  }
  if (common_.json) print(json_text(json));
}

std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace torpor::apps
