#include "engine/profile/report/profile_report.h"

#include "core/base/error.h"
#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor {

ReportPage profile_page(const Json& profile, const Json& manifest) {
  using namespace profile_report;
  if (!profile.is_object()) throw BadInput("profile: expected a JSON object, found {}", profile.type_name());
  const std::string schema = text(profile, "schema");
  if (schema != "torpor.profile/1") {
    throw BadInput(
        "profile: expected \"schema\": \"torpor.profile/1\", found \"{}\"; make the profile again with this version",
        schema);
  }
  ReportPage page;
  page.kicker = "Torpor · neuron profile";
  add_headline(page, profile);
  for (Section section :
       {meaning(profile, manifest), price(profile), layer_by_layer(profile), magnitudes(profile), hot_and_dead(profile),
        locality(profile), application(profile, manifest), limits(profile), method(profile), origin(manifest)}) {
    if (!section.blocks.empty()) page.sections.push_back(std::move(section));
  }
  const std::string version = text(manifest, "version"), commit = text(manifest, "commit");
  const std::string finished = text(manifest, "finished");
  page.footer =
      "Made by Torpor " + literal(version) + (commit.empty() ? "" : " (" + literal(commit) + ")") +
      (finished.empty() ? "" : ", " + literal(finished)) +
      ". This file is complete: it loads nothing from the network. Charts are drawn by Chart.js 3.9.1 (MIT licence).";
  return page;
}

std::string render_profile_report(const Json& profile, const Json& manifest) {
  return render_page(profile_page(profile, manifest));
}

}  // namespace torpor
