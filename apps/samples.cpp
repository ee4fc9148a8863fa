#include "apps/samples.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace torpor::apps {
namespace fs = std::filesystem;
namespace {

/// The first entry of a folder, by name, that `wanted` accepts.
fs::path first_in(const fs::path& folder, const std::function<bool(const fs::path&)>& wanted) {
  std::vector<fs::path> found;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code))
    if (wanted(entry.path())) found.push_back(entry.path());
  return found.empty() ? fs::path() : *std::min_element(found.begin(), found.end());
}

}  // namespace

Samples find_samples() {
  std::error_code code;
  const fs::path program = fs::read_symlink("/proc/self/exe", code);
  const fs::path prefix = program.parent_path().parent_path();  // build/bin/torpor or /usr/local/bin/torpor
  Samples samples;
  for (const fs::path& folder : {prefix.parent_path() / "models", prefix / "share" / "torpor" / "models"}) {
    samples.looked_in += (samples.looked_in.empty() ? "looked in " : " and ") + folder.string();
    const auto is_model = [](const fs::path& path) { return fs::exists(path / "config.json"); };
    const auto is_text = [](const fs::path& path) { return path.extension() == ".txt"; };
    const fs::path model = first_in(folder, is_model);
    if (model.empty()) continue;
    samples.model = model;
    samples.text = first_in(model, is_text);
    if (samples.text.empty()) samples.text = first_in(folder, is_text);
    break;
  }
  return samples;
}

}  // namespace torpor::apps
