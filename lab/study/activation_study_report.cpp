#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/error.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "lab/study/activation_study.h"

namespace torpor::lab {
namespace {

constexpr std::array<const char*, 4> kNames = {"relu", "relu2", "reglu", "swiglu"};
constexpr std::array<const char*, 4> kTitles = {"ReLU", "ReLU²", "ReGLU", "SwiGLU"};

using Number = std::function<double(const ActivationRun&)>;
/// ReLU, ReLU², ReGLU and SwiGLU: the means of their seeds, or one seed's.
using Four = std::array<double, 4>;

const OperatingPoint& point(const ActivationRun& run, const std::string& name) {
  const auto found = std::find_if(run.points.begin(), run.points.end(),
                                  [&](const OperatingPoint& candidate) { return candidate.name == name; });
  if (found == run.points.end())
    throw InvalidArgument("[activation_study] expected each run to have the point \"{}\"", name);
  return *found;
}

Number at(const std::string& name, double OperatingPoint::*field) {
  return [name, field](const ActivationRun& run) { return point(run, name).*field; };
}

Number at(const std::string& name, double CettLevel::*field) {
  return [name, field](const ActivationRun& run) { return point(run, name).level.*field; };
}

Number at_cett(double cett, double CettLevel::*field) {
  return [cett, field](const ActivationRun& run) {
    for (const CettLevel& level : run.levels)
      if (std::fabs(level.cett - cett) < 1e-9) return level.*field;
    throw InvalidArgument("[activation_study] expected each run to have CETT {}", cett);
  };
}

/// A row of the table of results.
struct Row {
  std::string label;
  Number number;
  bool share = false;  // shown in per cent
};

std::vector<Row> rows() {
  std::vector<Row> out;
  out.push_back({"loss, dense (nats a byte)", [](const auto& run) { return run.loss_nats_per_token; }});
  out.push_back({"bits a byte, dense", [](const auto& run) { return run.training.bits_per_byte; }});
  out.push_back({"exact zeros", [](const auto& run) { return run.exact_zeros; }, true});
  for (const double cett : {0.05, 0.1, 0.2, 0.3, 0.5}) {
    out.push_back({fmt::format("sparsity at CETT {}", cett), at_cett(cett, &CettLevel::sparsity), true});
    out.push_back({"… loss rise", at_cett(cett, &CettLevel::loss_rise)});
  }
  out.push_back({"CETT-PPL-1 % sparsity", [](const auto& run) { return run.budget.sparsity; }, true});
  out.push_back({"… its CETT", [](const auto& run) { return run.budget.cett; }});
  for (const char* name : {"CETT 0.2", "80 % sparsity", "90 % sparsity"}) {
    const auto add = [&, prefix = std::string(name)](const std::string& label, double OperatingPoint::*field,
                                                     bool share = false) {
      out.push_back({prefix + ": " + label, at(prefix, field), share});
    };
    if (std::string(name) != "CETT 0.2") {
      out.push_back({std::string(name) + ", measured", at(name, &CettLevel::sparsity), true});
      out.push_back({std::string(name) + ": loss rise", at(name, &CettLevel::loss_rise)});
    }
    add("predictor AUC", &OperatingPoint::auc);
    add("recall at ½", &OperatingPoint::recall);
    add("predicted sparsity at ½", &OperatingPoint::predicted_sparsity, true);
    add("predicted sparsity at recall 0.95", &OperatingPoint::predicted_sparsity_at_95, true);
    add("predicted sparsity at recall 0.99", &OperatingPoint::predicted_sparsity_at_99, true);
    add("mass recall at recall 0.95", &OperatingPoint::mass_recall_at_95);
    add("reuse R₁", &OperatingPoint::reuse_1);
    add("R₁ by chance", &OperatingPoint::reuse_1_by_chance);
    add("reuse R₅", &OperatingPoint::reuse_5);
    add("co-activation top", &OperatingPoint::top);
    add("co-activation average", &OperatingPoint::average);
    add("co-activation gap", &OperatingPoint::gap);
    add("gap without the hottest 5 %", &OperatingPoint::gap_without_hottest);
  }
  return out;
}

Spread spread(const std::vector<ActivationRun>& runs, std::size_t which, const Number& number) {
  std::vector<double> values;
  for (const ActivationRun* run : runs_of(runs, kNames[which])) values.push_back(number(*run));
  return spread_of(values);
}

std::string text_of(const Spread& s, bool share) {
  return share ? with_range({100 * s.mean, 100 * s.least, 100 * s.most}, 1) : with_range(s, 3);
}

/// Checks `holds` on the means, and counts the seeds for which it holds.
Claim check(const std::vector<ActivationRun>& runs, const std::string& name, const Number& number, bool share,
            const std::function<bool(const Four&)>& holds) {
  Four means{};
  std::vector<std::string> numbers;
  for (std::size_t i = 0; i < means.size(); ++i) {
    const Spread s = spread(runs, i, number);
    means[i] = s.mean;
    numbers.push_back(fmt::format("{} {}", kTitles[i], text_of(s, share)));
  }
  int seeds = 0, held = 0;
  for (const ActivationRun* first : runs_of(runs, kNames[0])) {
    Four one{number(*first)};
    bool whole = true;
    for (std::size_t i = 1; i < one.size(); ++i) {
      const auto others = runs_of(runs, kNames[i]);
      const auto same = std::find_if(others.begin(), others.end(), [&](auto* run) { return run->seed == first->seed; });
      whole = whole && same != others.end();
      if (whole) one[i] = number(**same);
    }
    if (!whole) continue;
    ++seeds;
    held += holds(one) ? 1 : 0;
  }
  return {name, holds(means), fmt::format("{}; {} of {} seeds", fmt::join(numbers, ", "), held, seeds)};
}

bool gated_last(const Four& x) {  // {ReLU, ReLU²} > ReGLU > SwiGLU
  return std::min(x[0], x[1]) > x[2] && x[2] > x[3];
}
bool in_order(const Four& x) {  // ReLU > ReLU² > ReGLU > SwiGLU
  return x[0] > x[1] && x[1] > x[2] && x[2] > x[3];
}

Chart price_chart(const std::vector<ActivationRun>& runs) {
  LineChart chart{{"neurons left out", NumberStyle::share}, {"loss rise, nats a byte"}, {}, {}};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    LineSeries series{kTitles[i], {}, true, {}};
    for (const double cett : {0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5}) {
      const Spread rise = spread(runs, i, at_cett(cett, &CettLevel::loss_rise));
      series.points.push_back(
          {spread(runs, i, at_cett(cett, &CettLevel::sparsity)).mean, rise.mean, rise.least, rise.most});
    }
    chart.series.push_back(std::move(series));
  }
  return {"The price of leaving neurons out",
          "Thresholds in all layers at once, at CETT 0 (exact zeros), 0.05, 0.1, 0.2 … 0.5; the mean of the seeds and "
          "their range. "
          "Lower and further right is better.",
          "Loss rise against the share of neurons left out for the four activations.", std::move(chart)};
}

Chart sparsity_chart(const std::vector<ActivationRun>& runs) {
  BarChart chart{{""}, {"neurons left out", NumberStyle::share, false, 0, 1}, {}, {}, false, {}};
  const std::vector<Row> bars = {{"exact zeros", [](const auto& run) { return run.exact_zeros; }, true},
                                 {"CETT 0.2", at_cett(0.2, &CettLevel::sparsity), true},
                                 {"+1 % perplexity", [](const auto& run) { return run.budget.sparsity; }, true}};
  for (const Row& bar : bars) chart.categories.push_back(bar.label);
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    BarSeries series{kTitles[i], {}, {}, {}, {}};
    for (const Row& bar : bars) {
      const Spread s = spread(runs, i, bar.number);
      series.values.push_back(s.mean);
      series.low.push_back(s.least);
      series.high.push_back(s.most);
    }
    chart.series.push_back(std::move(series));
  }
  return {"How many neurons can be left out",
          "Counting exact zeros ranks ReLU first; thresholds on what a neuron adds to the output do not.",
          "Bars of the share of neurons left out by three rules for the four activations.", std::move(chart)};
}

Chart curves(const ActivationStudy& study) {
  std::vector<std::pair<std::string, std::vector<double>>> lines;
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    std::vector<double> bits;
    for (std::size_t part = 0; part < runs_of(study.runs, kNames[i]).front()->training.training_bits.size(); ++part)
      bits.push_back(
          spread(study.runs, i, [part](const ActivationRun& run) { return run.training.training_bits.at(part); }).mean);
    lines.emplace_back(kTitles[i], std::move(bits));
  }
  return training_chart(lines, study.options.train.steps);
}

}  // namespace

std::vector<Claim> activation_claims(const std::vector<ActivationRun>& runs) {
  std::vector<Claim> out;
  const auto add = [&](const std::string& name, const Number& number, bool share,
                       const std::function<bool(const Four&)>& holds) {
    out.push_back(check(runs, name, number, share, holds));
  };
  add("Sparsity at CETT 0.2: ReLU² > ReGLU > ReLU > SwiGLU, ReLU² 2 points or more above ReLU, all 2 above SwiGLU",
      at_cett(0.2, &CettLevel::sparsity), true,
      [](const Four& x) { return x[1] > x[2] && x[2] > x[0] && x[1] >= x[0] + 0.02 && x[0] >= x[3] + 0.02; });
  add(
      "Sparsity at +1 % perplexity: ReLU² 2 points or more above ReLU, SwiGLU last by 8 or more",
      [](const auto& run) { return run.budget.sparsity; }, true,
      [](const Four& x) {
        return x[1] >= x[0] + 0.02 && std::min({x[0], x[1], x[2]}) >= x[3] + 0.08;
      });
  add(
      "Exact zeros rank otherwise: ReLU > ReLU² > ReGLU > SwiGLU = 0", [](const auto& run) { return run.exact_zeros; },
      true, [](const Four& x) { return in_order(x) && x[3] < 1e-3; });
  add(
      "Dense loss: ReLU worst by more than 0.05, the others within 0.03 of each other",
      [](const auto& run) { return run.loss_nats_per_token; }, false,
      [](const Four& x) {
        const auto [least, most] = std::minmax({x[1], x[2], x[3]});
        return x[0] > most + 0.05 && most - least <= 0.03;
      });
  for (const char* name : {"80 % sparsity", "90 % sparsity"}) {
    add(fmt::format("At {}: the predictor's AUC ranks ReLU and ReLU² above ReGLU above SwiGLU", name),
        at(name, &OperatingPoint::auc), false, gated_last);
    add(fmt::format("At {}: so does predicted sparsity at recall 0.95", name),
        at(name, &OperatingPoint::predicted_sparsity_at_95), true, gated_last);
    add(fmt::format("At {}: by mass recall at recall 0.95, ReLU² is above ReLU", name),
        at(name, &OperatingPoint::mass_recall_at_95), false, [](const Four& x) { return x[1] > x[0]; });
    add(fmt::format("At {}: reuse R₁ ranks ReLU > ReLU² > ReGLU > SwiGLU", name), at(name, &OperatingPoint::reuse_1),
        false, in_order);
    add(fmt::format("At {}: so does the co-activation gap", name), at(name, &OperatingPoint::gap), false, in_order);
  }
  add("At CETT 0.2 raw R₁ ranks SwiGLU first, as it is densest", at("CETT 0.2", &OperatingPoint::reuse_1), false,
      [](const Four& x) {
        return x[3] > std::max({x[0], x[1], x[2]});
      });
  add("At 90 % sparsity ReLU² loses at least 4 times less than ReLU, and less than SwiGLU",
      at("90 % sparsity", &CettLevel::loss_rise), false, [](const Four& x) { return 4 * x[1] <= x[0] && x[1] < x[3]; });
  return out;
}

Json to_json(const ActivationStudy& study) {
  Json json = {{"schema", "torpor.study_activations/1"},
               {"command", study.command},
               {"size", study.options.size},
               {"train", to_json(study.options.train)},
               {"seeds", study.options.seeds}};
  json["train"].erase("seed");
  for (const ActivationVariant& variant : activation_variants(study.options.size))
    json["variants"].push_back(
        {{"name", variant.name}, {"title", variant.title}, {"config", canonical_text(variant.config)}});
  for (const ActivationRun& run : study.runs) json["runs"].push_back(to_json(run));
  json["must_show"] = to_json(activation_claims(study.runs));
  return json;
}

ReportPage page_of(const ActivationStudy& study) {
  const std::vector<ActivationRun>& runs = study.runs;
  ReportPage page;
  page.kicker = "Torpor · study";
  page.title = "Four activation functions";
  page.subtitle = fmt::format(
      "Networks of size {}, equal parameters and data, {} steps, {} each: Zhang et al. 2024 at a small scale.",
      literal(study.options.size), format_count(static_cast<double>(study.options.train.steps)),
      seeds_text(study.options.seeds.size()));
  const auto budget = [&](std::size_t i) {
    return format_share(spread(runs, i, [](const auto& run) { return run.budget.sparsity; }).mean);
  };
  page.headline =
      fmt::format("At +1 % perplexity ReLU² leaves out **{}** of its neurons, ReGLU {}, ReLU {} and SwiGLU {}.",
                  budget(1), budget(2), budget(0), budget(3));
  Table table{
      "Means of the seeds, in brackets their range; shares in per cent; masks and predictors: means over the "
      "layers, on held-out text.",
      {{"measure"}, {"ReLU", true}, {"ReLU²", true}, {"ReGLU", true}, {"SwiGLU", true}},
      {}};
  for (const Row& row : rows()) {
    std::vector<Cell> cells = {{row.label}};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      const Spread s = spread(runs, i, row.number);
      cells.push_back({text_of(s, row.share), s.mean});
    }
    table.rows.push_back(std::move(cells));
  }
  page.sections.push_back({"Sparsity and its price", {sparsity_chart(runs), price_chart(runs)}});
  page.sections.push_back({"What must show", {claims_table(activation_claims(runs))}});
  page.sections.push_back({"All numbers", {std::move(table), curves(study)}});
  page.sections.push_back({"Make it again", {Code{"Command", study.command}}});
  return page;
}

std::string markdown_of(const ActivationStudy& study) {
  std::string out = fmt::format(
      "# Four activation functions\n\n`{}`\n\nNetworks of equal parameters (size {}) trained from scratch, {} steps, "
      "seeds {}. Means of the seeds, in brackets their range; shares in per cent. Thresholds are chosen on\n32,768 "
      "tokens of the held-out text, everything else is measured on other windows of it; masks and predictors are means "
      "over the layers. The predictor is a two-layer network as wide as the model.\n\n| measure | ReLU | ReLU² | ReGLU "
      "| SwiGLU |\n|---|---|---|---|---|\n",
      study.command, study.options.size, study.options.train.steps, fmt::join(study.options.seeds, ", "));
  for (const Row& row : rows()) {
    out += fmt::format("| {} |", row.label);
    for (std::size_t i = 0; i < kNames.size(); ++i)
      out += fmt::format(" {} |", text_of(spread(study.runs, i, row.number), row.share));
    out += "\n";
  }
  return out + "\n## What must show\n\n" + claims_markdown(activation_claims(study.runs));
}

}  // namespace torpor::lab
