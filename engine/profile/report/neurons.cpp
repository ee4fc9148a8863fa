#include <fmt/format.h>

#include <algorithm>

#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor::profile_report {
namespace {

constexpr std::size_t kListed = 20;

struct Frequencies {
  std::vector<double> edges, share;
};
std::optional<Frequencies> frequencies_of(const Json& layer) {
  const Json& histogram = field(layer, "frequency_histogram");
  Frequencies out{numbers(histogram, "edges"), numbers(histogram, "share")};
  if (out.share.empty() || out.edges.size() != out.share.size() + 1 || !any_known(out.share)) return std::nullopt;
  return out;
}

Chart frequency_chart(const std::string& title, const Frequencies& f) {
  return {
      title,
      "At which share of the tokens a neuron is active (above its layer's threshold). At the left the neurons that "
      "almost never fire, at the right those that almost always do; a skewed picture means that a small part of the "
      "weights serves most tokens.",
      "Histogram of how often neurons are active.",
      Histogram{Axis{"Share of tokens at which the neuron is active", NumberStyle::share},
                Axis{"Share of neurons", NumberStyle::share},
                f.edges,
                {{"", f.share, {}, {}, {2}}}}};
}

void add_frequency_charts(Section& out, const Json& profile) {
  const std::vector<std::string> names = layer_names(profile);
  ChartChoice choice{"Show", {}};
  Frequencies all;
  double neurons_in_all = 0;
  bool alike = true;
  for (std::size_t i = 0; const Json& layer : list(profile, "layers")) {
    const std::string& name = names[i++];
    const std::optional<Frequencies> f = frequencies_of(layer);
    const double neurons = number(layer, "neurons");
    if (!f) continue;
    choice.options.emplace_back("layer " + name,
                                frequency_chart("How often the neurons of layer " + name + " fire", *f));
    if (all.edges.empty()) all = {f->edges, std::vector<double>(f->share.size(), 0.0)};
    alike = alike && all.edges == f->edges && known(neurons);
    if (!alike) continue;
    neurons_in_all += neurons;
    for (std::size_t b = 0; b < f->share.size(); ++b) all.share[b] += known(f->share[b]) ? f->share[b] * neurons : 0;
  }
  if (choice.options.empty()) return;
  if (alike && choice.options.size() > 1 && neurons_in_all > 0) {
    for (double& share : all.share) share /= neurons_in_all;
    choice.options.insert(
        choice.options.begin(),
        {"all layers together", frequency_chart("How often the neurons fire, all layers together", all)});
  }
  out.blocks.push_back(std::move(choice));
}

struct Listed {
  std::string layer;
  double neuron, frequency;
};

std::vector<Listed> listed(const Json& profile, const char* key) {
  const std::vector<std::string> names = layer_names(profile);
  std::vector<Listed> out;
  for (std::size_t i = 0; const Json& layer : list(profile, "layers")) {
    for (const Json& one : list(layer, key)) {
      const Listed entry{names[i], number(one, "neuron"), number(one, "frequency")};
      if (known(entry.neuron) && known(entry.frequency)) out.push_back(entry);
    }
    ++i;
  }
  return out;
}

Table list_table(const std::string& caption, std::vector<Listed> entries) {
  Table table{caption, {{"Layer", true}, {"Neuron", true}, {"Active at", true}}, {}};
  entries.resize(std::min(entries.size(), kListed));
  for (const Listed& one : entries) {
    table.rows.push_back({{one.layer, std::stod(one.layer)},
                          {fmt::format("{:.0f}", one.neuron), one.neuron},
                          number_cell(one.frequency, NumberStyle::share)});
  }
  return table;
}

std::optional<Chart> counts_chart(const Json& profile) {
  const auto share_of_layer = [&](const char* key) {
    return per_layer(profile, [&](const Json& l) {
      const double neurons = number(l, "neurons");
      return neurons > 0 ? number(l, key) / neurons : kUnknown;
    });
  };
  return layer_chart(
      profile, "Dead, dormant and hot neurons in each layer",
      "**Dead**: not active once on this text. **Dormant**: mean activity at most 1/40 of the layer's mean (the "
      "score of ReDo at 0.025). **Hot**: active at half of the tokens or more; these are worth keeping in the "
      "fastest memory.",
      "Shares of dead, dormant and hot neurons over the layers.", Axis{"Share of neurons", NumberStyle::share},
      {{"dead", share_of_layer("dead_neurons"), {}, {}, {7, -1, true, true}},
       {"dormant", share_of_layer("dormant_neurons_redo_0_025"), {}, {}, {3}},
       {"hot", share_of_layer("hot_neurons"), {}, {}, {1}}});
}

}  // namespace

Section hot_and_dead(const Json& profile) {
  Section out{"Hot and dead neurons", {}};
  add_frequency_charts(out, profile);
  if (auto chart = counts_chart(profile)) out.blocks.push_back(std::move(*chart));
  std::vector<Listed> hot = listed(profile, "hottest"), dead = listed(profile, "deadest");
  std::stable_sort(hot.begin(), hot.end(), [](const Listed& a, const Listed& b) { return a.frequency > b.frequency; });
  std::stable_sort(dead.begin(), dead.end(),
                   [](const Listed& a, const Listed& b) { return a.frequency < b.frequency; });
  double dead_in_all = 0;
  for (const Json& layer : list(profile, "layers")) {
    const double n = number(layer, "dead_neurons");
    dead_in_all += known(n) ? n : 0;
  }
  SideBySide tables;
  if (!hot.empty()) tables.tables.push_back(list_table("Most often active, of all layers", std::move(hot)));
  if (!dead.empty()) {
    tables.tables.push_back(list_table(
        "Least often active" +
            (dead_in_all > 0 ? " (" + format_count(dead_in_all) + " never were)" : std::string(", of all layers")),
        std::move(dead)));
  }
  if (!tables.tables.empty()) out.blocks.push_back(std::move(tables));
  return out;
}

Section locality(const Json& profile) {
  Section out{"From token to token, from neuron to neuron", {}};
  const auto reuse = [&](const char* key) {
    return per_layer(profile, [&](const Json& l) { return number(field(l, "reuse"), key); });
  };
  const auto together = [&](const char* key) {
    return per_layer(profile, [&](const Json& l) { return number(field(l, "coactivation"), key); });
  };
  auto first = layer_chart(profile, "Neurons that were active just before",
                           "Of the neurons active at a token, the share that was active at the token before (or at one "
                           "of the two or five tokens "
                           "before). Dashed: what would be seen by chance if every neuron fired as often as it does, "
                           "but at random tokens. The "
                           "distance between a line and its dashed partner is real memory from token to token: weights "
                           "that a cache can keep.",
                           "Reuse within one, two and five tokens and by chance, over the layers.",
                           Axis{"Share of active neurons", NumberStyle::share, false, 0, 1},
                           {{"1 token before", reuse("r1"), {}, {}, {0}},
                            {"1 token, by chance", reuse("r1_chance"), {}, {}, {0, -1, true}},
                            {"2 tokens before", reuse("r2"), {}, {}, {2}},
                            {"2 tokens, by chance", reuse("r2_chance"), {}, {}, {2, -1, true}},
                            {"5 tokens before", reuse("r5"), {}, {}, {1}},
                            {"5 tokens, by chance", reuse("r5_chance"), {}, {}, {1, -1, true}}});
  if (first) out.blocks.push_back(std::move(*first));
  auto second =
      layer_chart(profile, "Neurons that fire together",
                  "For each neuron, how much more often its closest partner fires with it than an average neuron does; "
                  "the mean of this "
                  "gap over the neurons. A large gap says that neurons have partners worth storing next to them. The "
                  "hottest neurons are "
                  "everyone's partner, so the gap is also shown without them, and beside what chance alone gives.",
                  "Co-activation gap, without the hottest neurons, and by chance, over the layers.",
                  Axis{"Gap of co-activation", NumberStyle::share},
                  {{"gap", together("gap"), {}, {}, {0}},
                   {"gap without the hottest 5 %", together("gap_without_hottest"), {}, {}, {2}},
                   {"gap by chance", together("chance_gap"), {}, {}, {7, -1, true, true}}});
  if (second) out.blocks.push_back(std::move(*second));
  if (!out.blocks.empty()) {
    out.blocks.insert(
        out.blocks.begin(),
        Paragraph{"Sparsity saves the more the better the active neurons can be foreseen and fetched. Two kinds of "
                  "regularity help: neurons that stay active from one token to the next, and neurons that fire in "
                  "company. Both grow with density by themselves, hence the comparison with chance."});
  }
  return out;
}

}  // namespace torpor::profile_report
