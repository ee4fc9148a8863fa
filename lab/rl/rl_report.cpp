#include "lab/rl/rl_report.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/report/html.h"
#include "core/report/numbers.h"

namespace torpor::lab {

double interquartile_mean(std::vector<double> values) {
  if (values.empty()) throw InvalidArgument("[rl] expected values for an interquartile mean, got none");
  std::sort(values.begin(), values.end());
  // Values at the cuts count in part.
  const double n = static_cast<double>(values.size()), low = n / 4, high = n - low;
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double from = std::max(low, static_cast<double>(i)), to = std::min(high, static_cast<double>(i) + 1);
    sum += std::max(0.0, to - from) * values[i];
  }
  return sum / (high - low);
}

Interval interquartile_mean_interval(const std::vector<double>& values, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> means;
  std::vector<double> drawn(values.size());
  for (int i = 0; i < 2000; ++i) {
    for (double& v : drawn) v = values[random.below(values.size())];
    means.push_back(interquartile_mean(drawn));
  }
  std::sort(means.begin(), means.end());
  return {interquartile_mean(values), means[50], means[1949]};
}

namespace {

constexpr std::size_t kEpisodes = 100;  // of a mean return

LineSeries returns(const RlRun& run, const std::string& name) {
  LineSeries series{name, {}, true, {}};
  const std::size_t step = std::max<std::size_t>(1, run.episodes.size() / 200);
  double sum = 0;
  for (std::size_t i = 0; i < run.episodes.size(); ++i) {
    sum += run.episodes[i].reward;
    if (i >= kEpisodes) sum -= run.episodes[i - kEpisodes].reward;
    if (i % step == step - 1 || i + 1 == run.episodes.size())
      series.points.push_back(
          {static_cast<double>(run.episodes[i].step), sum / static_cast<double>(std::min(i + 1, kEpisodes))});
  }
  return series;
}

template <typename Value>
LineSeries logged(const RlRun& run, const std::string& name, Value value) {
  LineSeries series{name, {}, true, {}};
  for (const DormancyLog& log : run.log) series.points.push_back({static_cast<double>(log.update), value(log)});
  return series;
}

/// Between the points of a line, whose x ascend.
double value_at(const LineSeries& line, double x) {
  const auto after = std::lower_bound(line.points.begin(), line.points.end(), x,
                                      [](const Point& point, double at) { return point.x < at; });
  if (after == line.points.begin()) return line.points.front().y;
  if (after == line.points.end()) return line.points.back().y;
  const Point &from = *(after - 1), &to = *after;
  return from.y + (to.y - from.y) * (x - from.x) / (to.x - from.x);
}

/// The interquartile mean of the seeds' lines, with its interval, where all of them have values.
LineSeries together(const std::vector<LineSeries>& lines) {
  constexpr int kPlaces = 100;
  LineSeries all{"interquartile mean", {}, true, {}};
  double first = 0, last = std::numeric_limits<double>::infinity();
  for (const LineSeries& line : lines) {
    if (line.points.empty()) return all;
    first = std::max(first, line.points.front().x);
    last = std::min(last, line.points.back().x);
  }
  for (int i = 0; i <= kPlaces && last > first; ++i) {
    const double x = first + (last - first) * i / kPlaces;
    std::vector<double> values;
    for (const LineSeries& line : lines) values.push_back(value_at(line, x));
    const Interval interval = interquartile_mean_interval(values, 1);
    all.points.push_back({x, interval.value, interval.low, interval.high});
  }
  return all;
}

Chart heat_map(const RlRun& run) {
  HeatMap map{{"update"}, {"layer"}, {"dormant", NumberStyle::share, false, 0.0}, run.layer_names, {}, {}, {}};
  const std::size_t step = std::max<std::size_t>(1, run.log.size() / 40);
  map.cells.resize(run.layer_names.size());
  for (std::size_t i = 0; i < run.log.size(); i += step) {
    map.columns.push_back(format_count(static_cast<double>(run.log[i].update)));
    for (std::size_t l = 0; l < map.cells.size(); ++l) map.cells[l].push_back(run.log[i].layers[l]);
  }
  return {"Dormant neurons by layer", "Share of each layer's neurons that are never active on the probe.",
          "Dormant neurons of each layer over the updates.", std::move(map)};
}

}  // namespace

ReportPage page_of(const RlResult& result) {
  ReportPage page;
  page.kicker = "Torpor · rl";
  page.title = result.environment;
  const bool recycles = result.options.at("recycle").is_object();
  const auto steps = result.options.at("steps").get<double>();
  std::string agent = result.options.at("agent").get<std::string>();
  std::transform(agent.begin(), agent.end(), agent.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  page.subtitle = fmt::format("{}{}, {} steps, {} seed{}.", agent,
                              result.options.at("continual_backprop").is_object() ? " with continual backprop"
                              : !recycles                                         ? ""
                              : result.options["recycle"]["prune"] == true        ? " with pruning"
                                                                                  : " with ReDo",
                              format_count(steps), result.runs.size(), result.runs.size() == 1 ? "" : "s");
  std::vector<double> lasts;
  double dormant = 0, logs = 0, recycled = 0, again = 0, seconds = 0, updates = 0;
  for (const RlRun& run : result.runs) {
    if (!run.episodes.empty()) lasts.push_back(run.last_return(kEpisodes));
    if (!run.log.empty()) {
      dormant += run.log.back().dormant;
      ++logs;
    }
    for (const DormancyLog& log : run.log) {
      recycled += static_cast<double>(log.recycled);
      again += static_cast<double>(log.again);
    }
    seconds += run.seconds;
    updates += static_cast<double>(run.updates);
  }
  page.headline = lasts.empty()
                      ? std::string("No episode ended.")
                      : fmt::format("Return of the last {} episodes **{}**; **{}** of the neurons dormant at the end.",
                                    kEpisodes, format_number(interquartile_mean(lasts)),
                                    logs > 0 ? format_share(dormant / logs) : std::string("unknown"));
  page.tiles.push_back({"steps a second", format_count(steps * static_cast<double>(result.runs.size()) / seconds)});
  page.tiles.push_back({"updates", format_count(updates)});
  if (recycles) {
    page.tiles.push_back({"neurons recycled", format_count(recycled)});
    page.tiles.push_back({"of those again", recycled > 0 ? format_share(again / recycled) : "–",
                          "within two periods: many come back where the optimizer is not reset as it should be, or the "
                          "period is too short to learn in"});
  }
  const auto chart = [&](const std::string& title, const std::string& caption, Axis x, Axis y, auto make) {
    LineChart lines{std::move(x), std::move(y), {}, {}};
    for (const RlRun& run : result.runs) lines.series.push_back(make(run, fmt::format("seed {}", run.seed)));
    if (result.runs.size() == 1) return Chart{title, caption, title + ".", std::move(lines)};
    LineSeries all = together(lines.series);
    for (LineSeries& line : lines.series) line.style.quiet = true;
    all.style.slot = 0;
    lines.series.insert(lines.series.begin(), std::move(all));
    return Chart{
        title, caption + " The interquartile mean of the seeds with its 95 % interval (bootstrap); each seed in grey.",
        title + " of the seeds together and of each.", std::move(lines)};
  };
  page.sections.push_back(
      {"Learning",
       {chart("Return", fmt::format("The mean of the last {} episodes.", kEpisodes), {"step", NumberStyle::count},
              {"return"}, [](const RlRun& run, const std::string& name) { return returns(run, name); })}});
  const auto by_update = [&](const std::string& title, const std::string& caption, const Axis& y, auto value) {
    return chart(title, caption, {"update", NumberStyle::count}, y,
                 [value](const RlRun& run, const std::string& name) { return logged(run, name, value); });
  };
  std::vector<Block> blocks = {
      by_update("Dormant neurons", "Never active on the probe, before any recycling.",
                {"dormant", NumberStyle::share, false, 0.0}, [](const DormancyLog& l) { return l.dormant; }),
      by_update("Nearly dormant neurons", "A tenth of their layer's mean activity or less.",
                {"dormant", NumberStyle::share, false, 0.0}, [](const DormancyLog& l) { return l.dormant_tenth; })};
  ChartChoice choice{"Seed", {}};
  for (std::size_t i = 0; i < result.runs.size(); ++i)
    if (!result.runs[i].log.empty())
      choice.options.emplace_back(fmt::format("{}", result.runs[i].seed), heat_map(result.runs[i]));
  if (!choice.options.empty()) blocks.emplace_back(std::move(choice));
  blocks.emplace_back(by_update("Overlap", "Of the last layer's dormant neurons with those of the log before.",
                                {"overlap", NumberStyle::share, false, 0.0, 1.0},
                                [](const DormancyLog& l) { return l.overlap; }));
  blocks.emplace_back(by_update("Effective rank", "Of the last hidden layer on the probe.", {"rank"},
                                [](const DormancyLog& l) { return static_cast<double>(l.rank); }));
  if (recycles)
    blocks.emplace_back(by_update("Recycled neurons", "Since the log before.", {"neurons", NumberStyle::count},
                                  [](const DormancyLog& l) { return static_cast<double>(l.recycled); }));
  blocks.emplace_back(by_update("Value", "What the network expects at best, the mean over the probe.", {"value"},
                                [](const DormancyLog& l) { return l.value; }));
  blocks.emplace_back(
      by_update("Loss", "The mean since the log before.", {"loss"}, [](const DormancyLog& l) { return l.loss; }));
  page.sections.push_back({"Neurons", std::move(blocks)});
  page.sections.push_back({"Make it again", {Code{"Command", result.command}}});
  return page;
}

}  // namespace torpor::lab
