#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor::profile_report {
namespace {

double sparsity_at(const Json& layer, double cett) {
  for (const Json& level : list(layer, "by_cett")) {
    if (number(level, "cett") == cett) return number(level, "sparsity");
  }
  return kUnknown;
}

std::optional<Chart> division_chart(const Json& profile) {
  const std::vector<std::string> names = layer_names(profile);
  std::vector<double> zeros, small, computed;
  bool any = false;
  for (const Json& layer : list(profile, "layers")) {
    const double sparsity = number(layer, "sparsity"), zero = number(layer, "zero_fraction");
    any = any || known(sparsity) || known(zero);
    const double z = known(zero) ? zero : 0;
    const double s = known(sparsity) ? std::max(sparsity, z) : z;
    zeros.push_back(z);
    small.push_back(s - z);
    computed.push_back(1 - s);
  }
  if (!any) return std::nullopt;
  BarChart bars{Axis{"Layer", NumberStyle::count},
                Axis{"Share of neurons", NumberStyle::share, false, 0, 1},
                names,
                {{"computed", computed, {}, {}, {0}},
                 {"small enough to skip", small, {}, {}, {5}},
                 {"exactly zero", zeros, {}, {}, {7, -1, false, true}}},
                true};
  for (std::size_t i = 0; i < computed.size(); ++i) {
    if (known(computed[i]) && !truth(list(profile, "layers")[i], "skippable", true)) bars.categories[i] += "*";
  }
  const bool starred =
      std::any_of(bars.categories.begin(), bars.categories.end(), [](const auto& c) { return c.ends_with('*'); });
  return Chart{
      "What happens to the neurons of each layer",
      "The neurons of a layer at an average token: computed, skipped because they add too little, and exactly zero "
      "by themselves. The part at the bottom is the work that remains." +
          std::string(starred ? " Layers with a star get no threshold; the table below says why." : ""),
      "Stacked bars, one for each layer from the first to the last.", std::move(bars)};
}

std::optional<Chart> levels_chart(const Json& profile) {
  const std::vector<double> levels = cett_levels(profile);
  std::vector<BarSeries> series;
  series.push_back({"exact zeros",
                    per_layer(profile, [](const Json& l) { return number(l, "zero_fraction"); }),
                    {},
                    {},
                    {7, -1, true, true}});
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double ramp = levels.size() < 2 ? 0.6 : static_cast<double>(i) / static_cast<double>(levels.size() - 1);
    series.push_back({"CETT " + format_number(levels[i]),
                      per_layer(profile, [&](const Json& l) { return sparsity_at(l, levels[i]); }),
                      {},
                      {},
                      {static_cast<int>(i), ramp}});
  }
  return layer_chart(
      profile, "How sparse each layer gets as the allowed error grows",
      "CETT is the relative error that skipping makes in a layer's own output. Higher lines allow more error. "
      "A layer whose lines lie far above its exact zeros has many small neurons that are not zero.",
      "One line for each level of CETT, over the layers.", Axis{"Sparsity", NumberStyle::share, false, 0, 1},
      std::move(series));
}

Table layers_table(const Json& profile) {
  Table table;
  table.caption = "The plan, layer by layer. A heading sorts.";
  table.columns = {{"Layer", true},
                   {"Neurons", true},
                   {"Threshold", true, "A neuron is skipped when the vector it adds is not longer than this"},
                   {"CETT", true, "Relative error of the layer's output at the threshold"},
                   {"Density", true, "Share of neurons computed, mean over tokens"},
                   {"Exact zeros", true, "Share of neurons that are exactly zero, mean over tokens"},
                   {"Dead", true, "Never active on this text"},
                   {"Hot", true, "Active at half of the tokens or more"}};
  bool any_reason = false;
  for (const Json& layer : list(profile, "layers")) {
    any_reason = any_reason || !text(layer, "reason").empty() || !truth(layer, "skippable", true);
  }
  if (any_reason) table.columns.push_back({"If not skipped, why"});
  for (std::size_t i = 0; const Json& layer : list(profile, "layers")) {
    const double index = number(layer, "layer");
    std::string reason = text(layer, "reason");
    if (reason.empty() && !truth(layer, "skippable", true)) reason = "cannot be skipped";
    table.rows.push_back({number_cell(known(index) ? index : static_cast<double>(i), NumberStyle::count),
                          number_cell(number(layer, "neurons"), NumberStyle::count),
                          number_cell(number(layer, "threshold")), number_cell(number(layer, "cett")),
                          number_cell(number(layer, "density"), NumberStyle::share),
                          number_cell(number(layer, "zero_fraction"), NumberStyle::share),
                          number_cell(number(layer, "dead_neurons"), NumberStyle::count),
                          number_cell(number(layer, "hot_neurons"), NumberStyle::count)});
    if (any_reason) table.rows.back().push_back({reason});
    ++i;
  }
  return table;
}

/// The histogram of one layer with edges ascending, whichever way it was stored.
struct Magnitudes {
  std::vector<double> edges;  // log2 of m / max
  std::vector<double> share;
  double zeros = kUnknown;
};
std::optional<Magnitudes> magnitudes_of(const Json& layer) {
  const Json& histogram = field(layer, "magnitude_histogram");
  Magnitudes out{numbers(histogram, "log2_edges"), numbers(histogram, "share"), number(histogram, "exact_zero_share")};
  if (out.share.empty() || out.edges.size() != out.share.size() + 1 || !any_known(out.share)) return std::nullopt;
  if (out.edges.front() > out.edges.back()) {
    std::reverse(out.edges.begin(), out.edges.end());
    std::reverse(out.share.begin(), out.share.end());
  }
  for (std::size_t i = 0; i + 1 < out.edges.size(); ++i) {
    if (!(out.edges[i] < out.edges[i + 1])) return std::nullopt;
  }
  return out;
}

/// The first n bins go into the one after them.
void merge_first(Magnitudes& m, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) m.share[n] += known(m.share[i]) ? m.share[i] : 0;
  m.share.erase(m.share.begin(), m.share.begin() + static_cast<std::ptrdiff_t>(n));
  m.edges.erase(m.edges.begin(), m.edges.begin() + static_cast<std::ptrdiff_t>(n));
}

void add_magnitude_charts(Section& out, const Json& profile) {
  const std::vector<std::string> names = layer_names(profile);
  const Axis x{"Neuron's contribution, log2 of the largest of its token (0 = the largest, −10 = a thousandth)",
               NumberStyle::plain};
  // Octaves at the far left that are empty in every layer say nothing: their rest goes into the first one shown.
  std::size_t empty_octaves = std::string::npos;
  for (const Json& layer : list(profile, "layers")) {
    const std::optional<Magnitudes> m = magnitudes_of(layer);
    if (!m) continue;
    std::size_t n = 0;
    while (n + 8 < m->share.size() && !(m->share[n] >= 5e-4)) ++n;
    empty_octaves = std::min(empty_octaves, n);
  }
  HeatMap map{x, Axis{"Layer"}, Axis{"share of neurons", NumberStyle::share}, {}, {}, {}, {}};
  ChartChoice choice{"Layer", {}};
  bool alike = true;
  for (std::size_t i = 0; const Json& layer : list(profile, "layers")) {
    const std::string& name = names[i++];
    std::optional<Magnitudes> m = magnitudes_of(layer);
    if (!m) continue;
    merge_first(*m, empty_octaves);
    if (map.column_edges.empty()) map.column_edges = m->edges;
    alike = alike && map.column_edges == m->edges;
    map.rows.push_back(name);
    map.cells.push_back(m->share);
    Chart one{
        "Contributions of the neurons of layer " + name,
        "Where the neurons of this layer lie at an average token, each bar a factor of two. "
        "What decides the output is at the right; the bar at the far left holds everything that is smaller still.",
        "Histogram on a logarithmic axis.",
        Histogram{x, Axis{"Share of neurons", NumberStyle::share}, m->edges, {{"", m->share, {}, {}, {0}}}}};
    if (known(m->zeros)) {
      one.caption += " A further " + format_share(m->zeros) + " are exactly zero and have no place on this axis.";
    }
    choice.options.emplace_back(name, std::move(one));
  }
  if (choice.options.empty()) return;
  if (alike && map.rows.size() > 1) {
    out.blocks.push_back(
        Chart{"Contributions of the neurons, all layers",
              "One row for each layer, one column for each factor of two; the darker a cell, the more of the layer's "
              "neurons lie there (in dark mode: the brighter). A layer whose colour lies far to the left wastes "
              "most of its work. The first column holds everything that is smaller still; exact zeros are left out.",
              "Heat map of layers against the size of contributions.", std::move(map)});
  }
  out.blocks.push_back(std::move(choice));
}

}  // namespace

std::vector<double> cett_levels(const Json& profile) {
  std::vector<double> levels;
  for (const Json& layer : list(profile, "layers")) {
    for (const Json& level : list(layer, "by_cett")) {
      const double cett = number(level, "cett");
      if (known(cett) && std::find(levels.begin(), levels.end(), cett) == levels.end()) levels.push_back(cett);
    }
  }
  std::sort(levels.begin(), levels.end());
  return levels;
}

Section layer_by_layer(const Json& profile) {
  Section out{"Layer by layer", {}};
  if (list(profile, "layers").empty()) return out;
  if (auto chart = division_chart(profile)) out.blocks.push_back(std::move(*chart));
  if (auto chart = levels_chart(profile)) out.blocks.push_back(std::move(*chart));
  out.blocks.push_back(layers_table(profile));
  return out;
}

Section magnitudes(const Json& profile) {
  Section out{"How small is small", {}};
  add_magnitude_charts(out, profile);
  struct Level {
    const char* key;
    const char* name;
  };
  static constexpr Level kLevels[] = {
      {"top_5", "top 5 % of neurons"}, {"top_10", "top 10 %"}, {"top_20", "top 20 %"}, {"top_50", "top 50 %"}};
  std::vector<BarSeries> series;
  for (std::size_t i = 0; i < std::size(kLevels); ++i) {
    series.push_back({kLevels[i].name,
                      per_layer(profile, [&](const Json& l) { return number(field(l, "mass_share"), kLevels[i].key); }),
                      {},
                      {},
                      {static_cast<int>(i), 1 - static_cast<double>(i) / 3}});
  }
  if (auto chart =
          layer_chart(profile, "How much of the output the largest neurons hold",
                      "Of all that the neurons of a layer add at a token (the sum of squared lengths), the share that "
                      "comes from the "
                      "few largest. Near 100 % for the top 5 %: a handful of neurons decides, the others are a tail.",
                      "Shares for the largest 5, 10, 20 and 50 per cent of neurons, over the layers.",
                      Axis{"Share of the squared length", NumberStyle::share, false, 0, 1}, std::move(series))) {
    out.blocks.push_back(std::move(*chart));
  }
  if (!out.blocks.empty()) {
    out.blocks.insert(
        out.blocks.begin(),
        Paragraph{"A threshold pays where contributions have a **long tail**: a few neurons that matter and "
                  "very many that hardly do. These charts show how long the tail is."});
  }
  return out;
}

}  // namespace torpor::profile_report
