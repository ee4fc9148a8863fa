// The page about a profile is made from a file that anyone may have edited: what is missing or odd is left out, the
// page never fails for it.
#include "engine/profile/report/profile_report.h"

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

Json sample() {
  return read_json(testing::golden("report/profile_sample.json"));
}
const Json kManifest = {{"schema", "torpor.manifest/1"}, {"version", "9.9.9"}, {"commit", "abc"}};

/// Every place in a document, in order.
std::vector<Json::json_pointer> places(const Json& json) {
  std::vector<Json::json_pointer> out;
  const Json flat = json.flatten();
  for (const auto& [pointer, value] : flat.items()) out.emplace_back(pointer);
  return out;
}

TEST(ProfileReport, ShowsTheNumbersOfTheProfile) {
  const Json profile = sample();
  const std::string page = render_profile_report(profile, kManifest);
  EXPECT_THAT(page, HasSubstr("sample-relu-7b"));
  EXPECT_THAT(page, HasSubstr("9.9.9"));
  for (const char* section :
       {"What this says", "The price of skipping", "Layer by layer", "How small is small", "Hot and dead neurons",
        "From token to token", "What this does not say", "How it was measured"})
    EXPECT_THAT(page, HasSubstr(section));
}

TEST(ProfileReport, AnyValueMayBeMissingNullOrOfAnotherType) {
  const Json profile = sample();
  const auto all = places(profile);
  Random random(1);
  const Json odd[] = {nullptr, "text", -1e308, true, Json::array(), Json::object()};
  for (int i = 0; i < 60; ++i) {
    Json broken = profile;
    for (int k = 0; k < 20; ++k) {
      const auto& place = all[random.below(all.size())];
      if (place.to_string() == "/schema") continue;
      try {
        broken.at(place) = odd[random.below(std::size(odd))];
      } catch (const Json::exception&) {
        continue;  // an earlier change took it away
      }
    }
    EXPECT_NO_THROW(render_profile_report(broken, kManifest));
  }
  for (const auto& [key, value] : profile.items()) {
    if (key == "schema") continue;
    Json less = profile;
    less.erase(key);
    EXPECT_NO_THROW(render_profile_report(less, Json())) << key;
  }
}

TEST(ProfileReport, RefusesOtherDocumentsSayingWhich) {
  EXPECT_THROW(render_profile_report(Json::array(), kManifest), BadInput);
  try {
    render_profile_report({{"schema", "torpor.profile/2"}}, kManifest);
    FAIL() << "took it";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("torpor.profile/2"));
  }
}

TEST(ProfileReport, StaysSmallForALargeModel) {
  Json profile = sample();
  Json layers = Json::array();
  for (int l = 0; l < 96; ++l) {
    Json layer = profile.at("layers").at(static_cast<std::size_t>(l) % profile.at("layers").size());
    layer["layer"] = l;
    layers.push_back(layer);
  }
  profile["layers"] = layers;
  EXPECT_LT(render_profile_report(profile, kManifest).size(), 5u << 20);
}

}  // namespace
}  // namespace torpor
