#include <algorithm>

#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor::profile_report {
namespace {

struct CurvePoint {
  std::string rule;
  double sparsity, ratio;
  Interval ratio_ci;
  bool chosen;
};

std::vector<CurvePoint> curve_points(const Json& profile) {
  std::vector<CurvePoint> out;
  for (const Json& point : list(profile, "curve")) {
    CurvePoint p{text(point, "rule"), number(point, "sparsity"), number(point, "perplexity_ratio"),
                 interval(point, "perplexity_ratio_ci95"), truth(point, "chosen")};
    if (known(p.sparsity) && known(p.ratio) && p.ratio > 0) out.push_back(std::move(p));
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const CurvePoint& a, const CurvePoint& b) { return a.sparsity < b.sparsity; });
  return out;
}

/// One series a rule, Torpor's own first, others in order of appearance. as_change: y = ratio - 1.
std::vector<LineSeries> series_of(const std::vector<CurvePoint>& points, bool as_change) {
  std::vector<std::string> rules = {"cett"};
  for (const CurvePoint& p : points) {
    if (std::find(rules.begin(), rules.end(), p.rule) == rules.end()) rules.push_back(p.rule);
  }
  const double shift = as_change ? 1 : 0;
  std::vector<LineSeries> out;
  for (std::size_t r = 0; r < rules.size(); ++r) {
    LineSeries series{rule_in_words(rules[r]), {}, true, SeriesStyle{static_cast<int>(r)}};
    for (const CurvePoint& p : points) {
      if (p.rule != rules[r]) continue;
      series.points.push_back({p.sparsity, p.ratio - shift, p.ratio_ci.low - shift, p.ratio_ci.high - shift,
                               p.chosen ? "chosen: " + format_share(p.sparsity) : ""});
    }
    series.joined = series.points.size() > 1;
    if (!series.points.empty()) out.push_back(std::move(series));
  }
  return out;
}

}  // namespace

Section price(const Json& profile) {
  Section out{"The price of skipping", {}};
  const std::vector<CurvePoint> points = curve_points(profile);
  if (points.empty()) return out;
  const double allowed = budget(profile);
  double lowest = 1, highest = 1, chosen_change = kUnknown;
  for (const CurvePoint& p : points) {
    lowest = std::min({lowest, p.ratio, p.ratio_ci.is_known() ? p.ratio_ci.low : p.ratio});
    highest = std::max({highest, p.ratio, p.ratio_ci.is_known() ? p.ratio_ci.high : p.ratio});
    if (p.chosen) chosen_change = p.ratio - 1;
  }
  // The decision is made at changes of about the budget; the ends of the curves are many times that.
  const double of_interest =
      std::max({known(allowed) ? allowed : 0.01, known(chosen_change) ? chosen_change : 0.0, 1e-4});
  const double window = 4 * of_interest;
  const bool beyond = highest - 1 > 1.5 * window;

  out.blocks.push_back(
      Paragraph{"Each point is one complete run of the model over the held-out text with neurons switched off. Further "
                "right, more "
                "neurons are skipped; further up, the predictions are worse. The best rule is the one whose curve "
                "stays low longest."});

  const Axis x{"Sparsity: share of neurons skipped", NumberStyle::share};
  Chart near{"Perplexity against sparsity" + std::string(beyond ? ", around the budget" : ""), "", "",
             LineChart{x, Axis{"Change of perplexity", NumberStyle::share}, series_of(points, true)}};
  near.caption =
      "How much perplexity changes when a share of the neurons is skipped. The shaded bands are 95 % confidence "
      "intervals";
  LineChart& lines = std::get<LineChart>(near.kind);
  if (known(allowed)) {
    lines.references.push_back({ReferenceLine::Across::y, allowed, "budget " + budget_in_words(allowed)});
    near.caption += "; the dashed line is the budget, and the marked point is the threshold that was chosen";
  }
  near.caption += beyond ? ". Curves that leave the picture at the top go on in the next chart." : ".";
  if (beyond) {
    lines.y.max = window;
    lines.y.min = std::max(lowest - 1, -window / 2) - 0.05 * window;
  }
  near.alt = known(chosen_change)
                 ? "At the chosen threshold perplexity changes by " + format_change(chosen_change) + "."
                 : "One curve for each rule of selection.";
  out.blocks.push_back(std::move(near));

  if (beyond) {
    Chart whole{
        "Perplexity against sparsity, all that was measured",
        "The same runs, with the ratio of masked to dense perplexity on a logarithmic axis: 1 is the dense model, 2 "
        "is twice as perplexed. Every rule has a cliff; what differs is where.",
        "All rules of selection, up to a ratio of " + format_number(highest, 3) + ".",
        LineChart{x, Axis{"Perplexity, masked / dense", NumberStyle::plain, true}, series_of(points, false)}};
    if (known(allowed)) {
      std::get<LineChart>(whole.kind)
          .references.push_back({ReferenceLine::Across::y, 1 + allowed, "budget " + budget_in_words(allowed)});
    }
    out.blocks.push_back(std::move(whole));
  }
  out.blocks.push_back(Bullets{{
      "**CETT (Torpor)**: in every layer the same error is allowed; each layer gets the threshold that makes it.",
      "**Exact zeros only**: what the activation function itself switches off.",
      "**The k largest of each token**, **one cut for all layers** (FAT) and **one sparsity for all layers** (CATS) "
      "are "
      "the usual alternatives, run on the same tokens for comparison.",
  }});
  return out;
}

}  // namespace torpor::profile_report
