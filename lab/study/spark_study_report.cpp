#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "lab/study/spark_study.h"

namespace torpor::lab {
namespace {

struct Summary {
  SparkVariant variant;
  std::vector<const SparkRun*> runs;

  template <typename Function>
  Spread spread(Function f) const {
    std::vector<double> values;
    for (const SparkRun* run : runs) values.push_back(f(*run));
    return spread_of(values);
  }
  template <typename Function>
  double mean(Function f) const {
    return spread(f).mean;
  }
  double active() const {
    return mean([](const SparkRun& run) {
      double sum = 0;
      for (const double x : run.activity.back().nonzero) sum += x;
      return sum / static_cast<double>(run.activity.back().nonzero.size());
    });
  }
  double keys() const {
    return mean([](const SparkRun& run) { return run.keys_of_all; });
  }
  double flops() const { return flops_per_token(variant.config, active(), keys()); }
};

double bits_of(const SparkRun& run) {
  return run.training.bits_per_byte;
}

std::vector<Summary> summaries(const SparkStudy& study) {
  std::vector<Summary> out;
  for (SparkVariant& variant : spark_variants(study.options.size)) {
    const std::string name = variant.name;
    out.push_back({std::move(variant), runs_of(study.runs, name)});
  }
  return out;
}

Chart quality_chart(const std::vector<Summary>& all) {
  LineChart chart{{"million FLOPs a token, without the unembedding"}, {"bits a byte, held-out text"}, {}, {}};
  for (const Summary& s : all) {
    const Spread bits = s.spread(bits_of);
    chart.series.push_back(
        {s.variant.title, {{s.flops() / 1e6, bits.mean, bits.least, bits.most, s.variant.name}}, false, {}});
  }
  return {"Quality against cost",
          "Each point is a network of the same number of parameters after the same steps, the mean of its seeds. "
          "FLOPs count what has to be computed with the realised activity.",
          "A scatter of bits a byte against FLOPs a token for the seven networks.", std::move(chart)};
}

Chart curve_chart(const std::vector<Summary>& all, std::int64_t steps) {
  std::vector<std::pair<std::string, std::vector<double>>> lines;
  for (const Summary& s : all) {
    std::vector<double> bits;
    for (std::size_t i = 0; i < s.runs.front()->training.training_bits.size(); ++i)
      bits.push_back(s.mean([&](const SparkRun& run) { return run.training.training_bits[i]; }));
    lines.emplace_back(s.variant.name, std::move(bits));
  }
  return training_chart(lines, steps);
}

Chart activity_chart(const Summary& s) {
  LineChart chart{{"step", NumberStyle::count}, {"activations that are not zero", NumberStyle::share}, {}, {}};
  const std::vector<ActivityAtStep>& first = s.runs.front()->activity;
  for (std::size_t layer = 0; layer < first.front().nonzero.size(); ++layer) {
    LineSeries series{fmt::format("layer {}", layer), {}, true, {}};
    for (std::size_t i = 0; i < first.size(); ++i)
      series.points.push_back({static_cast<double>(first[i].step),
                               s.mean([&](const SparkRun& run) { return run.activity[i].nonzero[layer]; })});
    chart.series.push_back(std::move(series));
  }
  if (s.variant.config.spark.ffn())
    chart.references.push_back({ReferenceLine::Across::y,
                                static_cast<double>(s.variant.config.spark.ffn_active) / s.variant.config.d_ff,
                                "nominal"});
  return {"Active neurons over training: " + s.variant.name, "Measured on held-out windows, the mean of the seeds.",
          "The share of active neurons by layer over training.", std::move(chart)};
}

std::string cost(const Summary& s, const Summary& dense) {
  return fmt::format("{:.2f}x", s.flops() / dense.flops());
}

}  // namespace

Json to_json(const SparkStudy& study) {
  Json json = {{"schema", "torpor.study_spark/1"},
               {"command", study.command},
               {"size", study.options.size},
               {"train", to_json(study.options.train)},
               {"seeds", study.options.seeds}};
  json["train"].erase("seed");
  for (const Summary& s : summaries(study))
    json["variants"].push_back({{"name", s.variant.name},
                                {"title", s.variant.title},
                                {"config", canonical_text(s.variant.config)},
                                {"flops_per_token", s.flops()},
                                {"active", s.active()},
                                {"bits_per_byte", s.mean(bits_of)}});
  for (const SparkRun& run : study.runs) json["runs"].push_back(to_json(run));
  json["must_show"] = to_json(spark_claims(study.runs, study.options.size));
  return json;
}

ReportPage page_of(const SparkStudy& study) {
  const StudyOptions& options = study.options;
  const std::vector<Summary> all = summaries(study);
  const Summary &dense = all.front(),
                &spark = *std::find_if(all.begin(), all.end(), [](const auto&s) { return s.variant.name == "spark"; });
  ReportPage page;
  page.kicker = "Torpor · study";
  page.title = "Spark at a small scale";
  page.subtitle =
      fmt::format("Seven networks of size {}, {} steps, {} each: You et al. 2025, trained anew.", literal(options.size),
                  format_count(static_cast<double>(options.train.steps)), seeds_text(options.seeds.size()));
  page.headline = fmt::format(
      "With **{}** of its neurons and **{:.0f}** keys a query, Spark needs **{}** of its dense twin's FLOPs a token at "
      "**{}** bits a byte ({} against {}).",
      format_share(spark.active()), spark.keys(), format_share(spark.flops() / dense.flops(), 0),
      format_change(spark.mean(bits_of) / dense.mean(bits_of) - 1), format_number(spark.mean(bits_of)),
      format_number(dense.mean(bits_of)));

  Table table{
      "Means of the seeds, in brackets their range. FLOPs a token at the mean position of a full window, without "
      "the unembedding, relative to the dense network.",
      {{"network"},
       {"bits a byte", true},
       {"FLOPs a token", true},
       {"active neurons", true},
       {"keys a query", true},
       {"ms a step", true}},
      {}};
  for (const Summary& s : all)
    table.rows.push_back(
        {{s.variant.title},
         {with_range(s.spread(bits_of), 3), s.mean(bits_of)},
         {cost(s, dense), s.flops()},
         {format_share(s.active()), s.active()},
         s.variant.config.spark.attention() ? number_cell(s.keys()) : Cell{"all"},
         number_cell(1000 * s.mean([](const SparkRun& run) { return run.training.seconds_per_step; }))});
  page.sections.push_back(
      {"Quality and cost", {quality_chart(all), std::move(table), curve_chart(all, options.train.steps)}});
  page.sections.push_back({"What must show", {claims_table(spark_claims(study.runs, options.size))}});
  ChartChoice choice{"Network", {}};
  for (const Summary& s : all)
    if (s.active() < 0.999) choice.options.emplace_back(s.variant.title, activity_chart(s));
  page.sections.push_back({"Activity over training", {std::move(choice)}});
  page.sections.push_back({"Make it again", {Code{"Command", study.command}}});
  return page;
}

std::string markdown_of(const SparkStudy& study) {
  const StudyOptions& options = study.options;
  const std::vector<Summary> all = summaries(study);
  std::string out = fmt::format(
      "# Training Spark at a small scale\n\n`{}`\n\nSeven networks of equal parameters (size {}), {} steps, seeds {}. "
      "Means of the seeds, in brackets their range. FLOPs a token\nat the mean position of a full window without the "
      "unembedding, relative to the dense network.\n\n| network | bits a byte, held out | FLOPs a token | active "
      "neurons | keys a query | ms a step |\n|---|---|---|---|---|---|\n",
      study.command, options.size, options.train.steps, fmt::join(options.seeds, ", "));
  for (const Summary& s : all)
    out += fmt::format("| {} | {} | {} | {} | {} | {:.0f} |\n", s.variant.title, with_range(s.spread(bits_of), 3),
                       cost(s, all.front()), format_share(s.active()),
                       s.variant.config.spark.attention() ? fmt::format("{:.1f}", s.keys()) : "all",
                       1000 * s.mean([](const SparkRun& run) { return run.training.seconds_per_step; }));
  out += "\n## What must show\n\n" + claims_markdown(spark_claims(study.runs, options.size));
  out += "\n## Active neurons, by layer, before and after training\n\n| network | before | after |\n|---|---|---|\n";
  for (const Summary& s : all) {
    const auto layers = [&](bool last) {
      std::vector<std::string> shares;
      const std::size_t count = s.runs.front()->activity.front().nonzero.size();
      for (std::size_t layer = 0; layer < count; ++layer)
        shares.push_back(format_share(s.mean(
            [&](const SparkRun& run) { return (last ? run.activity.back() : run.activity.front()).nonzero[layer]; })));
      return fmt::format("{}", fmt::join(shares, ", "));
    };
    if (s.active() < 0.999) out += fmt::format("| {} | {} | {} |\n", s.variant.title, layers(false), layers(true));
  }
  return out;
}

}  // namespace torpor::lab
