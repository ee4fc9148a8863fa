// Reading a profile that may lack anything: absent, null and of the wrong type are all "unknown".
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/page.h"

namespace torpor::profile_report {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
inline bool known(double value) {
  return std::isfinite(value);
}

/// object[key], or null where there is no such object or key.
const Json& field(const Json& object, const char* key);
/// A finite number, or NaN.
double number(const Json& object, const char* key);
std::string text(const Json& object, const char* key);
/// false where unknown, unless said otherwise.
bool truth(const Json& object, const char* key, bool fallback = false);
/// An array's elements; empty where it is none.
const Json& list(const Json& object, const char* key);
/// Numbers of an array, NaN for what is none.
std::vector<double> numbers(const Json& object, const char* key);

struct Interval {
  double low = kUnknown, high = kUnknown;
  bool is_known() const { return known(low) && known(high); }
};
Interval interval(const Json& object, const char* key);

/// "86.3 % (86.1 % to 86.5 %)"-like: the interval part, empty where unknown.
std::string share_interval(const Interval& i);
std::string change_interval(const Interval& ratio);  // of a ratio, as relative change

/// One value per layer, NaN where unknown.
template <typename Get>
std::vector<double> per_layer(const Json& profile, const Get& get) {
  std::vector<double> out;
  for (const Json& layer : list(profile, "layers")) out.push_back(get(layer));
  return out;
}
bool any_known(const std::vector<double>& values);

/// "0", "1" … : the numbers of the layers.
std::vector<std::string> layer_names(const Json& profile);

/// A chart over the layers: grouped bars for a few layers, lines for many. Series without any value are left out.
/// nullopt where nothing is left.
std::optional<Chart> layer_chart(const Json& profile, std::string title, std::string caption, std::string alt,
                                 const Axis& y, std::vector<BarSeries> series);

/// "+1 %": a budget, without decimals that say nothing.
std::string budget_in_words(double budget);

/// The rule of a curve or a layer in words.
std::string rule_in_words(const std::string& rule);

}  // namespace torpor::profile_report
