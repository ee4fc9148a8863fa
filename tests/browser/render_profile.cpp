// render_profile PROFILE.json OUT.html: the page of a profile that nobody measured, for the browser tests.
#include <fmt/format.h>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "engine/profile/report/profile_report.h"

int main(int count, char** arguments) {
  if (count != 3) return 2;
  try {
    const torpor::Json manifest = {{"schema", "torpor.manifest/1"}, {"version", "test"}};
    torpor::write_file_atomically(arguments[2],
                                  torpor::render_profile_report(torpor::read_json(arguments[1]), manifest));
  } catch (const std::exception& error) {
    fmt::print(stderr, "render_profile: {}\n", error.what());
    return 1;
  }
  return 0;
}
