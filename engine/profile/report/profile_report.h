// The page about a profile: report.html. Made from profile.json alone (schema "torpor.profile/1"), so that a page can
// be made again from a result folder. Written for a reader who has never seen Torpor.
#pragma once

#include <string>

#include "core/base/json.h"
#include "core/report/page.h"

namespace torpor {

/// profile: what `torpor profile` measured. manifest: manifest.json (core/report/manifest.h). Whatever is absent, null
/// or of another type is left out or shown as an en dash; the page never fails for it. Throws BadInput where `profile`
/// is not an object or names another schema. Thread-safe.
ReportPage profile_page(const Json& profile, const Json& manifest);

/// The same as one self-contained HTML file.
std::string render_profile_report(const Json& profile, const Json& manifest);

}  // namespace torpor
