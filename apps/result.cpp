#include "apps/result.h"

#include <unistd.h>

#include "apps/terminal.h"
#include "core/base/atomic_file.h"

namespace torpor::apps {
namespace fs = std::filesystem;

ResultFolder::ResultFolder(const fs::path& folder) : folder_(folder) {
  if (folder_.empty()) return;
  std::error_code code;
  for (fs::path at = fs::absolute(folder_).lexically_normal(); !at.empty() && !fs::exists(at, code); at = at.parent_path())
    if (at.has_filename()) made_.push_back(at);
  make_writable_folder(folder_);
}

ResultFolder::~ResultFolder() {
  for (const fs::path& at : made_) ::rmdir(at.c_str());  // succeeds on empty folders only
}

Result::Result(const std::string& verb, std::span<const std::string> arguments, const CommonOptions& common)
    : verb_(verb), common_(common), folder_(common.output) {
  manifest_.command = {"torpor", verb};
  manifest_.command.insert(manifest_.command.end(), arguments.begin(), arguments.end());
  manifest_.seed = common.seed;
}

void Result::finish(const Json& json, int threads) {
  if (!folder().empty()) {
    clock_.finish(manifest_);
    manifest_.threads = threads;
    manifest_.outputs.push_back({"result", verb_ + ".json"});
    write_json(folder() / (verb_ + ".json"), json);
    write_json(folder() / "manifest.json", manifest_json(manifest_));
  }
  if (common_.json) print_json(json);
}

void print_json(const Json& json) { print(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); }

}  // namespace torpor::apps
