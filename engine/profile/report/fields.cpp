#include "engine/profile/report/fields.h"

#include <fmt/format.h>

namespace torpor::profile_report {
namespace {

const Json kNull;
const Json kEmpty = Json::array();
constexpr std::size_t kMostLayersAsBars = 8;

double as_number(const Json& value) {
  if (!value.is_number()) return kUnknown;
  const double out = value.get<double>();
  return std::isfinite(out) ? out : kUnknown;
}

}  // namespace

const Json& field(const Json& object, const char* key) {
  if (!object.is_object()) return kNull;
  const auto at = object.find(key);
  return at == object.end() ? kNull : *at;
}

double number(const Json& object, const char* key) {
  return as_number(field(object, key));
}

std::string text(const Json& object, const char* key) {
  const Json& value = field(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool truth(const Json& object, const char* key, bool fallback) {
  const Json& value = field(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

const Json& list(const Json& object, const char* key) {
  const Json& value = field(object, key);
  return value.is_array() ? value : kEmpty;
}

std::vector<double> numbers(const Json& object, const char* key) {
  std::vector<double> out;
  for (const Json& value : list(object, key)) out.push_back(as_number(value));
  return out;
}

Interval interval(const Json& object, const char* key) {
  const std::vector<double> values = numbers(object, key);
  return values.size() == 2 && values[0] <= values[1] ? Interval{values[0], values[1]} : Interval{};
}

std::string share_interval(const Interval& i) {
  if (!i.is_known()) return {};
  return "95 % interval " + format_share(i.low) + " to " + format_share(i.high);
}

std::string change_interval(const Interval& ratio) {
  if (!ratio.is_known()) return {};
  return "95 % interval " + format_change(ratio.low - 1) + " to " + format_change(ratio.high - 1);
}

bool any_known(const std::vector<double>& values) {
  for (const double value : values) {
    if (known(value)) return true;
  }
  return false;
}

std::vector<std::string> layer_names(const Json& profile) {
  std::vector<std::string> names;
  for (const Json& layer : list(profile, "layers")) {
    const double index = number(layer, "layer");
    names.push_back(known(index) ? fmt::format("{:.0f}", index) : fmt::format("{}", names.size()));
  }
  return names;
}

std::optional<Chart> layer_chart(const Json& profile, std::string title, std::string caption, std::string alt,
                                 const Axis& y, std::vector<BarSeries> series) {
  std::erase_if(series, [](const BarSeries& s) { return !any_known(s.values); });
  if (series.empty()) return std::nullopt;
  const Axis x{"Layer", NumberStyle::count};
  Chart chart{std::move(title), std::move(caption), std::move(alt), BarChart{}};
  const std::vector<std::string> names = layer_names(profile);
  if (names.size() <= kMostLayersAsBars) {
    chart.kind = BarChart{x, y, names, std::move(series)};
    return chart;
  }
  LineChart lines{x, y, {}};
  lines.y.min.reset();  // lines, unlike bars, need not start at zero
  for (std::size_t s = 0; s < series.size(); ++s) {
    LineSeries line{series[s].name, {}, true, series[s].style};
    if (line.style.slot < 0) line.style.slot = static_cast<int>(s);
    for (std::size_t i = 0; i < names.size(); ++i) {
      Point point{std::stod(names[i]), series[s].values[i]};
      if (!series[s].low.empty()) point.low = series[s].low[i], point.high = series[s].high[i];
      line.points.push_back(std::move(point));
    }
    lines.series.push_back(std::move(line));
  }
  chart.kind = std::move(lines);
  return chart;
}

std::string budget_in_words(double budget) {
  return "+" + format_number(budget * 100, 3) + "\u00a0%";
}

std::string rule_in_words(const std::string& rule) {
  if (rule == "cett") return "CETT (Torpor)";
  if (rule == "output_threshold") return "threshold on magnitude";
  if (rule == "exact_zeros") return "exact zeros only";
  if (rule == "top_k") return "the k largest of each token";
  if (rule == "fat") return "one cut on |a| for all layers (FAT)";
  if (rule == "cats") return "one sparsity for all layers (CATS)";
  return rule;
}

}  // namespace torpor::profile_report
