#include <algorithm>

#include "core/base/error.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "lab/study/reshuffle_study.h"

namespace torpor::lab {
namespace {

double last_accuracy(const ReshuffleRun& run) {
  return run.accuracy.back();
}
double last_dormant(const ReshuffleRun& run) {
  return run.dormant.back();
}
double last_dormant_tenth(const ReshuffleRun& run) {
  return run.dormant_tenth.back();
}
double again_share(const ReshuffleRun& run) {
  return run.recycled > 0 ? static_cast<double>(run.again) / static_cast<double>(run.recycled) : 0;
}

template <typename Function>
Spread spread(const std::vector<const ReshuffleRun*>& runs, Function f) {
  std::vector<double> values;
  for (const ReshuffleRun* run : runs) values.push_back(static_cast<double>(f(*run)));
  return spread_of(values);
}

Spread of(const std::vector<ReshuffleRun>& runs, const std::string& arm, double (*f)(const ReshuffleRun&)) {
  return spread(runs_of(runs, arm), f);
}

/// The arms that a reader wants to see first.
constexpr const char* kMain[] = {"fixed", "none", "redo", "redo_moments", "weight_decay", "layer_reset"};

Chart curves(const ReshuffleStudy& study, const std::string& title, const std::string& caption, Axis y,
             const std::vector<double> ReshuffleRun::*values, bool tasks) {
  LineChart chart{{tasks ? "task (labels anew)" : "epoch", NumberStyle::count}, std::move(y), {}, {}};
  for (const ReshuffleArm& arm : reshuffle_arms(study.options)) {
    if (std::find(std::begin(kMain), std::end(kMain), arm.name) == std::end(kMain)) continue;
    const auto runs = runs_of(study.runs, arm.name);
    LineSeries series{arm.title, {}, true, {}};
    for (std::size_t i = 0; i < (runs.front()->*values).size(); ++i) {
      const Spread s = spread(runs, [&](const ReshuffleRun& run) { return (run.*values)[i]; });
      series.points.push_back({static_cast<double>(tasks ? i + 1 : i), s.mean, s.least, s.most});
    }
    chart.series.push_back(std::move(series));
  }
  return {title, caption, title + " of the main arms.", std::move(chart)};
}

Chart heat_map(const std::vector<const ReshuffleRun*>& runs, const ReshuffleArm& arm) {
  HeatMap map{{"epoch"}, {"layer"}, {"dormant", NumberStyle::share, false, 0.0}, {}, {}, {}, {}};
  const std::size_t layers = runs.front()->layers.front().size(), epochs = runs.front()->layers.size();
  const std::size_t step = std::max<std::size_t>(1, epochs / 40);
  for (std::size_t e = 0; e < epochs; e += step) map.columns.push_back(std::to_string(e));
  for (std::size_t l = 0; l < layers; ++l) {
    map.rows.push_back(fmt::format("layer {}", l + 1));
    map.cells.emplace_back();
    for (std::size_t e = 0; e < epochs; e += step)
      map.cells.back().push_back(spread(runs, [&](const ReshuffleRun& run) { return run.layers[e][l]; }).mean);
  }
  return {"Dormant neurons by layer: " + arm.title,
          "Share of each layer's neurons that are never active; the mean of the seeds.",
          "Dormant neurons of each layer over the epochs.", std::move(map)};
}

}  // namespace

namespace {

/// Dormant neurons at the end of task t.
Spread floor_of(const ReshuffleStudy& study, const std::string& arm, std::int64_t t) {
  return spread(runs_of(study.runs, arm), [&](const ReshuffleRun& run) {
    return run.dormant[static_cast<std::size_t>((t + 1) * study.options.epochs_per_task)];
  });
}

std::string what_is_done(const ReshuffleStudy& study) {
  const ReshuffleOptions& o = study.options;
  if (!o.images.empty())
    return fmt::format(
        "{} images of CIFAR-10, whose labels are permuted every {} of {} epochs; convolutions of 32, 64 and 64 maps "
        "and "
        "a dense layer of 128, times {}; SGD 0.01 with momentum 0.9, batch {}; {}.",
        o.samples, o.epochs_per_task, o.epochs, o.scale, o.batch, seeds_text(o.seeds.size()));
  return fmt::format(
      "{} images of {} x {} (noise and bumps) with random labels of {} classes, permuted every {} of {} epochs; {} "
      "layers of {} neurons, Adam 1e-3, batch {}; {}.",
      o.samples, o.side, o.side, o.classes, o.epochs_per_task, o.epochs, o.layers, o.width, o.batch,
      seeds_text(o.seeds.size()));
}

std::int64_t period_of(const ReshuffleStudy& study) {
  for (const ReshuffleArm& arm : reshuffle_arms(study.options))
    if (arm.recycles) return arm.recycle.period;
  return 0;
}

std::vector<Claim> cifar_claims(const ReshuffleStudy& study) {
  std::vector<Claim> claims;
  const std::int64_t tasks = study.options.epochs / study.options.epochs_per_task;
  const Spread fixed = of(study.runs, "fixed", last_dormant), none = of(study.runs, "none", last_dormant),
               redo = of(study.runs, "redo", last_dormant);
  claims.push_back({"where labels stay, fewer than 2 % end dormant", fixed.mean < 0.02, percent(fixed)});
  std::string floors;
  for (std::int64_t t = 0; t < tasks; ++t)
    floors += fmt::format("{}{:.1f} %", t > 0 ? ", " : "", 100 * floor_of(study, "none", t).mean);
  claims.push_back({"where they are reshuffled, more are dormant at the end of the last task than of the first",
                    tasks > 1 && none.mean > floor_of(study, "none", 0).mean, floors});
  claims.push_back({"ReDo ends with 10 % dormant at most, and fewer than with nothing done",
                    redo.mean <= 0.1 && redo.mean < none.mean,
                    fmt::format("{} against {}", percent(redo), percent(none))});
  const Spread fitted = of(study.runs, "redo", last_accuracy), left = of(study.runs, "none", last_accuracy);
  claims.push_back({"ReDo fits more of the last labels than nothing done", fitted.mean > left.mean,
                    fmt::format("{} against {}", percent(fitted), percent(left))});
  return claims;
}

}  // namespace

std::vector<Claim> reshuffle_claims(const ReshuffleStudy& study) {
  if (!study.options.images.empty()) return cifar_claims(study);
  const std::vector<ReshuffleRun>& runs = study.runs;
  std::vector<Claim> claims;
  const auto claim = [&](const std::string& name, bool held, const std::string& detail) {
    claims.push_back({name, held, detail});
  };
  const auto after = [&](std::size_t epoch) {
    return spread(runs_of(runs, "fixed"), [epoch](const ReshuffleRun& run) { return run.dormant[epoch]; });
  };
  const Spread untrained = after(0), first = after(1);
  const Spread fixed = of(runs, "fixed", last_dormant);
  claim("(i) where labels stay, fewer neurons are dormant at the end than after the first epoch",
        fixed.mean < first.mean,
        fmt::format("{} untrained, {} after the first epoch, {} at the end", percent(untrained), percent(first),
                    percent(fixed)));
  const Spread dormant = of(runs, "none", last_dormant), accuracy = of(runs, "none", last_accuracy);
  claim("(ii) where they are reshuffled, 25 % or more end dormant, and the last labels are fitted to 50 % at most",
        dormant.mean >= 0.25 && accuracy.mean <= 0.5,
        fmt::format("{} dormant, accuracy {}", percent(dormant), percent(accuracy)));
  const Spread redo_dormant = of(runs, "redo", last_dormant), redo = of(runs, "redo", last_accuracy);
  claim("(iii) ReDo with unit counts: 10 % dormant at most, accuracy 70 % or more",
        redo_dormant.mean <= 0.1 && redo.mean >= 0.7,
        fmt::format("{} dormant, accuracy {}", percent(redo_dormant), percent(redo)));
  const Spread lowest = of(runs, "lowest", last_accuracy), random = of(runs, "random", last_accuracy),
               highest = of(runs, "highest", last_accuracy);
  claim("(iv) recycling the lowest scores beats random ones, and those the highest",
        lowest.mean > random.mean && random.mean > highest.mean,
        fmt::format("accuracy {}, {}, {}", percent(lowest), percent(random), percent(highest)));
  const Spread moments = of(runs, "redo_moments", last_accuracy);
  claim("(v) resetting moments alone is clearly worse than with unit counts (10 points of accuracy)",
        moments.mean <= redo.mean - 0.1,
        fmt::format("accuracy {} against {}; {} against {} dormant", percent(moments), percent(redo),
                    percent(of(runs, "redo_moments", last_dormant)), percent(redo_dormant)));
  const Spread leaky = of(runs, "leaky", last_accuracy), leaky_dormant = of(runs, "leaky", last_dormant);
  claim("A leaky ReLU loses the accuracy without a dormant neuron: dormancy is a cause, not the only one",
        leaky.mean < redo.mean - 0.1 && leaky_dormant.mean < 0.01,
        fmt::format("accuracy {}, {} dormant", percent(leaky), percent(leaky_dormant)));
  return claims;
}

Json to_json(const ReshuffleStudy& study) {
  Json json = {{"schema", "torpor.study_reshuffle/1"},
               {"command", study.command},
               {"options", to_json(study.options)},
               {"seeds", study.options.seeds}};
  for (const ReshuffleArm& arm : reshuffle_arms(study.options)) {
    const auto runs = runs_of(study.runs, arm.name);
    json["arms"].push_back({{"name", arm.name},
                            {"title", arm.title},
                            {"accuracy", spread(runs, last_accuracy).mean},
                            {"dormant", spread(runs, last_dormant).mean},
                            {"dormant_tenth", spread(runs, last_dormant_tenth).mean},
                            {"recycled", spread(runs, [](const auto& run) { return run.recycled; }).mean},
                            {"again", spread(runs, again_share).mean}});
  }
  for (const ReshuffleRun& run : study.runs) json["runs"].push_back(to_json(run));
  json["must_show"] = to_json(reshuffle_claims(study));
  return json;
}

ReportPage page_of(const ReshuffleStudy& study) {
  const ReshuffleOptions& options = study.options;
  ReportPage page;
  page.kicker = "Torpor · study";
  page.title = "Dormant neurons where labels change";
  page.subtitle = what_is_done(study) + " After Sokar et al. 2023, Fig. 3.";
  const Spread none = of(study.runs, "none", last_accuracy), redo = of(study.runs, "redo", last_accuracy);
  page.headline = fmt::format(
      "With nothing done **{:.0f} %** of the neurons end dormant, and the last labels are learnt to **{:.0f} %**; "
      "recycled "
      "they are **{:.0f} %** and **{:.0f} %**.",
      100 * of(study.runs, "none", last_dormant).mean, 100 * none.mean, 100 * of(study.runs, "redo", last_dormant).mean,
      100 * redo.mean);
  page.sections.push_back({"What happens",
                           {curves(study, "Dormant neurons",
                                   "Share of the neurons that are never active on 256 samples, at the end of each "
                                   "epoch, before any recycling; bands from the least to the most of the seeds.",
                                   {"dormant", NumberStyle::share, false, 0.0}, &ReshuffleRun::dormant, false),
                            curves(study, "Labels fitted",
                                   "Accuracy on the training samples at the end of each task: the ability to learn "
                                   "something new.",
                                   {"accuracy", NumberStyle::share, false, 0.0, 1.0}, &ReshuffleRun::accuracy, true)}});
  Table table{
      "Means of the seeds, in brackets their range. Recycled again: within two periods of the last time, the alarm "
      "for an optimizer that is not reset as it should be.",
      {{"arm"},
       {"accuracy at the end", true},
       {"dormant", true},
       {"a tenth of the mean or less", true},
       {"recycled", true},
       {"of those again", true},
       {"effective rank", true}},
      {}};
  for (const ReshuffleArm& arm : reshuffle_arms(options)) {
    const auto runs = runs_of(study.runs, arm.name);
    const Spread accuracy = spread(runs, last_accuracy), dormant = spread(runs, last_dormant);
    table.rows.push_back(
        {{arm.title},
         {percent(accuracy), accuracy.mean},
         {percent(dormant), dormant.mean},
         number_cell(spread(runs, last_dormant_tenth).mean, NumberStyle::share),
         number_cell(spread(runs, [](const auto& run) { return run.recycled; }).mean, NumberStyle::count),
         number_cell(spread(runs, again_share).mean, NumberStyle::share),
         number_cell(spread(runs, [](const auto& run) { return run.rank; }).mean)});
  }
  page.sections.push_back({"All arms", {std::move(table)}});
  page.sections.push_back({"What must show", {claims_table(reshuffle_claims(study))}});
  ChartChoice choice{"Arm", {}};
  for (const ReshuffleArm& arm : reshuffle_arms(options))
    choice.options.emplace_back(arm.title, heat_map(runs_of(study.runs, arm.name), arm));
  page.sections.push_back({"By layer", {std::move(choice)}});
  page.sections.push_back({"Make it again", {Code{"Command", study.command}}});
  return page;
}

std::string markdown_of(const ReshuffleStudy& study) {
  const ReshuffleOptions& options = study.options;
  std::string out = fmt::format(
      "# Dormant neurons where labels change{}\n\n`{}`\n\n{}\nRecycling every {} steps, tau 0.1, unless said. Means of "
      "the seeds, in brackets their range. Dormant: never active on {} samples,\nmeasured before any recycling. "
      "Recycled "
      "again: within two periods of the last time.\n\n| arm | accuracy of the last labels | dormant | a tenth of the "
      "mean or less | recycled | of those again | effective rank |\n|---|---|---|---|---|---|---|\n",
      options.images.empty() ? "" : ": CIFAR-10", study.command, what_is_done(study), period_of(study), options.logged);
  for (const ReshuffleArm& arm : reshuffle_arms(options)) {
    const auto runs = runs_of(study.runs, arm.name);
    out += fmt::format(
        "| {} | {} | {} | {:.1f} % | {:.0f} | {:.0f} % | {:.0f} |\n", arm.title, percent(spread(runs, last_accuracy)),
        percent(spread(runs, last_dormant)), 100 * spread(runs, last_dormant_tenth).mean,
        spread(runs, [](const auto& run) { return run.recycled; }).mean, 100 * spread(runs, again_share).mean,
        spread(runs, [](const auto& run) { return run.rank; }).mean);
  }
  out += "\n## What must show\n\n" + claims_markdown(reshuffle_claims(study));
  out += "\n## Accuracy at the end of each task\n\n| arm |";
  const std::size_t tasks = study.runs.front().accuracy.size();
  for (std::size_t t = 0; t < tasks; ++t) out += fmt::format(" {} |", t + 1);
  out += "\n|---|";
  for (std::size_t t = 0; t < tasks; ++t) out += "---|";
  out += "\n";
  for (const ReshuffleArm& arm : reshuffle_arms(options)) {
    out += "| " + arm.title + " |";
    for (std::size_t t = 0; t < tasks; ++t)
      out += fmt::format(" {:.2f} |", spread(runs_of(study.runs, arm.name), [&](const ReshuffleRun& run) {
                                        return run.accuracy[t];
                                      }).mean);
    out += "\n";
  }
  double training = 0, recycle = 0, log = 0;
  std::int64_t with = 0;
  for (const ReshuffleRun& run : study.runs) {
    if (run.recycled == 0) continue;
    training += run.seconds;
    recycle += run.recycle_seconds;
    log += run.log_seconds;
    ++with;
  }
  if (with > 0)
    out += fmt::format(
        "\nRecycling every {} steps took {:.1f} % of a run's time, logging every {} steps {:.1f} %; a run took {:.1f} "
        "s.\n",
        period_of(study), 100 * recycle / training, (options.samples + options.batch - 1) / options.batch,
        100 * log / training, training / static_cast<double>(with));
  out += "\n## Dormant at the end of each task\n\n| arm |";
  for (std::size_t t = 0; t < tasks; ++t) out += fmt::format(" {} |", t + 1);
  out += "\n|---|";
  for (std::size_t t = 0; t < tasks; ++t) out += "---|";
  out += "\n";
  for (const ReshuffleArm& arm : reshuffle_arms(options)) {
    out += "| " + arm.title + " |";
    for (std::size_t t = 0; t < tasks; ++t)
      out += fmt::format(" {:.1f} % |", 100 * floor_of(study, arm.name, static_cast<std::int64_t>(t)).mean);
    out += "\n";
  }
  return out;
}

}  // namespace torpor::lab
