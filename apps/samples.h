// The small model and text that come with Torpor, for `torpor profile` on a fresh machine.
#pragma once

#include <filesystem>
#include <string>

namespace torpor::apps {

struct Samples {
  std::filesystem::path model, text;  // empty: none
  std::string looked_in;              // for people
};

/// Looks for models/ beside the build folder and in the installation's share/torpor/. The model is the first folder in
/// it (by name) with a config.json; the text the first .txt file in that folder or beside it.
Samples find_samples();

}  // namespace torpor::apps
