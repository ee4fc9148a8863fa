#include <fmt/format.h>

#include <algorithm>

#include "core/report/html.h"
#include "core/report/numbers.h"
#include "lab/study/agent_study.h"

namespace torpor::lab {
namespace {

using Curve = std::vector<double> AgentArmRun::*;

Spread at(const AgentStudy& study, const std::string& arm, Curve curve, std::size_t index) {
  std::vector<double> values;
  for (const AgentArmRun* run : runs_of(study.runs, arm)) values.push_back((run->*curve)[index]);
  return spread_of(values);
}
Spread first(const AgentStudy& study, const std::string& arm, Curve curve) {
  return at(study, arm, curve, 0);
}
Spread last(const AgentStudy& study, const std::string& arm, Curve curve) {
  return at(study, arm, curve, (runs_of(study.runs, arm).front()->*curve).size() - 1);
}

std::string number(const Spread& s) {
  return fmt::format("{:.3g} ({:.3g} to {:.3g})", s.mean, s.least, s.most);
}

double recycled(const AgentStudy& study, const std::string& arm) {
  double sum = 0;
  const auto runs = runs_of(study.runs, arm);
  for (const AgentArmRun* run : runs) sum += static_cast<double>(run->recycled);
  return sum / static_cast<double>(runs.size());
}

Chart chart(const AgentStudy& study, const std::string& title, const std::string& caption, Axis y, Curve curve,
            bool from_the_start) {
  LineChart lines{{"update", NumberStyle::count}, std::move(y), {}, {}};
  for (const AgentArm& arm : agent_arms(study.options.kind)) {
    LineSeries series{arm.title, {}, true, {}};
    const std::size_t points = (runs_of(study.runs, arm.name).front()->*curve).size();
    const double every =
        static_cast<double>(study.options.updates) / static_cast<double>(from_the_start ? points - 1 : points);
    for (std::size_t i = 0; i < points; ++i) {
      const Spread s = at(study, arm.name, curve, i);
      series.points.push_back({every * static_cast<double>(from_the_start ? i : i + 1), s.mean, s.least, s.most});
    }
    lines.series.push_back(std::move(series));
  }
  return {title, caption, title + " of each arm.", std::move(lines)};
}

std::string title_of(const AgentStudy& study) {
  return study.options.kind == AgentStudyKind::offline ? "Dormant neurons without new experience"
                                                       : "An aged network against a fresh one";
}

std::string what_is_done(const AgentStudy& study) {
  const AgentStudyOptions& o = study.options;
  const auto count = [](std::int64_t n) { return format_count(static_cast<double>(n)); };
  if (o.kind == AgentStudyKind::offline)
    return fmt::format(
        "A DQN plays {} for {} steps; from what it saw, which no longer changes, a fresh network learns for {} "
        "updates: "
        "by targets of its own (TD), by those of a random network and by a random number for each transition, which "
        "stay, and by its own with ReDo (tau 0.1, every "
        "1000 updates). {}. After Sokar et al. 2023, Fig. 4.",
        o.environment, count(o.steps), count(o.updates), seeds_text(o.seeds.size()));
  if (o.aged_by == AgedBy::labels)
    return fmt::format(
        "The outputs of a random network for 2000 images are to be learnt, by mean squared error, {} updates, by a "
        "fresh "
        "network and by one that learnt random labels for {} epochs, new ones each 20; the aged one as it is, with its "
        "dormant neurons recycled once (tau 0.1) and every 200 updates. {}. After Sokar et al. 2023, Fig. 8.",
        count(o.updates), o.aged_epochs, seeds_text(o.seeds.size()));
  return fmt::format(
      "A DQN plays {} for {} steps. Its values of what it saw are to be learnt, by mean squared error, {} updates, by "
      "a "
      "fresh network and by that of another DQN that has made {} updates in {} steps; the aged one as it is, with its "
      "dormant neurons recycled once (tau 0.1) and every 1000 updates. {}. After Sokar et al. 2023, Fig. 8.",
      o.environment, count(o.steps), count(o.updates), count(o.aged_steps * o.aged_updates), count(o.aged_steps),
      seeds_text(o.seeds.size()));
}

}  // namespace

std::vector<Claim> agent_claims(const AgentStudy& study) {
  std::vector<Claim> claims;
  const Curve dormant = &AgentArmRun::dormant, loss = &AgentArmRun::loss;
  if (study.options.kind == AgentStudyKind::offline) {
    const Spread begin = first(study, "td", dormant), td = last(study, "td", dormant),
                 fixed = last(study, "fixed", dormant), stored = last(study, "stored", dormant),
                 redo = last(study, "redo", dormant);
    claims.push_back({"without new experience neurons still fall dormant", td.mean > begin.mean,
                      fmt::format("{} before, {} after", percent(begin), percent(td))});
    claims.push_back({"targets that stay, random numbers, leave fewer dormant than targets that move",
                      stored.mean < td.mean, fmt::format("{} against {}", percent(stored), percent(td))});
    claims.push_back({"targets that stay, a random network's, leave fewer dormant than targets that move",
                      fixed.mean < td.mean, fmt::format("{} against {}", percent(fixed), percent(td))});
    claims.push_back({"ReDo keeps them at 10 % or less, and below doing nothing",
                      redo.mean <= 0.1 && redo.mean < td.mean,
                      fmt::format("{} against {}", percent(redo), percent(td))});
    return claims;
  }
  const Spread aged_before = first(study, "aged", dormant), fresh_before = first(study, "fresh", dormant),
               aged = last(study, "aged", dormant), fresh = last(study, "fresh", dormant);
  claims.push_back({"the aged network begins with more dormant neurons, and ends with more",
                    aged_before.mean > fresh_before.mean && aged.mean > fresh.mean,
                    fmt::format("{} and {} at the beginning, {} and {} at the end", percent(aged_before),
                                percent(fresh_before), percent(aged), percent(fresh))});
  const Spread aged_loss = last(study, "aged", loss), fresh_loss = last(study, "fresh", loss),
               once = last(study, "aged_once", loss), redo = last(study, "aged_redo", loss);
  const Spread ratio =
      paired(study.runs, "aged", "fresh", [&](const auto& x, const auto& y) { return x.loss.back() / y.loss.back(); });
  claims.push_back({"it ends with a larger loss than the fresh one", ratio.mean > 1,
                    fmt::format("{} against {}: {} times", number(aged_loss), number(fresh_loss), number(ratio))});
  claims.push_back({"its dormant neurons recycled once, it learns better", once.mean < aged_loss.mean,
                    fmt::format("{} against {}; again and again {}", number(once), number(aged_loss), number(redo))});
  return claims;
}

Json to_json(const AgentStudy& study) {
  Json json = {{"schema", "torpor.study_agent/1"},
               {"command", study.command},
               {"options", to_json(study.options)},
               {"seeds", study.options.seeds}};
  for (const AgentArm& arm : agent_arms(study.options.kind))
    json["arms"].push_back({{"name", arm.name},
                            {"title", arm.title},
                            {"loss", last(study, arm.name, &AgentArmRun::loss).mean},
                            {"dormant", last(study, arm.name, &AgentArmRun::dormant).mean},
                            {"dormant_tenth", last(study, arm.name, &AgentArmRun::dormant_tenth).mean},
                            {"recycled", recycled(study, arm.name)}});
  for (const AgentArmRun& run : study.runs) json["runs"].push_back(to_json(run));
  json["must_show"] = to_json(agent_claims(study));
  return json;
}

ReportPage page_of(const AgentStudy& study) {
  ReportPage page;
  page.kicker = "Torpor · study";
  page.title = title_of(study);
  page.subtitle = what_is_done(study);
  const auto end = [&](const char* arm) { return 100 * last(study, arm, &AgentArmRun::dormant).mean; };
  page.headline = study.options.kind == AgentStudyKind::offline
                      ? fmt::format(
                            "By targets that move **{:.0f} %** of the neurons end dormant, by targets that stay "
                            "**{:.0f} %**, with ReDo **{:.0f} %**.",
                            end("td"), end("stored"), end("redo"))
                      : fmt::format(
                            "**{:.0f} %** of the aged network's neurons end dormant, **{:.0f} %** of the fresh "
                            "one's; its loss ends at **{:.2g}** and at **{:.2g}**.",
                            end("aged"), end("fresh"), last(study, "aged", &AgentArmRun::loss).mean,
                            last(study, "fresh", &AgentArmRun::loss).mean);
  const std::string bands = " The means of the seeds; bands from the least to the most of them.";
  page.sections.push_back(
      {"What happens",
       {chart(study, "Dormant neurons",
              "Share of the neurons that are never active on the probe, before any recycling." + bands,
              {"dormant", NumberStyle::share, false, 0.0}, &AgentArmRun::dormant, true),
        chart(study, "Nearly dormant neurons",
              "Share of the neurons with a tenth of their layer's mean or less." + bands,
              {"dormant", NumberStyle::share, false, 0.0}, &AgentArmRun::dormant_tenth, true),
        chart(study, "Loss", "Means between logs." + bands, {"loss", NumberStyle::plain, true}, &AgentArmRun::loss,
              false)}});
  Table table{
      "At the end. Means of the seeds, in brackets their range.",
      {{"arm"}, {"loss", true}, {"never active", true}, {"a tenth of the mean or less", true}, {"recycled", true}},
      {}};
  for (const AgentArm& arm : agent_arms(study.options.kind)) {
    const Spread loss = last(study, arm.name, &AgentArmRun::loss), none = last(study, arm.name, &AgentArmRun::dormant),
                 tenth = last(study, arm.name, &AgentArmRun::dormant_tenth);
    table.rows.push_back({{arm.title},
                          {number(loss), loss.mean},
                          {percent(none), none.mean},
                          {percent(tenth), tenth.mean},
                          number_cell(recycled(study, arm.name), NumberStyle::count)});
  }
  page.sections.push_back({"All arms", {std::move(table)}});
  page.sections.push_back({"What must show", {claims_table(agent_claims(study))}});
  page.sections.push_back({"Make it again", {Code{"Command", study.command}}});
  return page;
}

std::string markdown_of(const AgentStudy& study) {
  std::string out = fmt::format(
      "# {}\n\n`{}`\n\n{}\nMeans of the seeds, in brackets their range; dormant neurons before any recycling.\n\n| arm "
      "| "
      "loss at the end | never active | a tenth of the mean or less | recycled |\n|---|---|---|---|---|\n",
      title_of(study), study.command, what_is_done(study));
  for (const AgentArm& arm : agent_arms(study.options.kind))
    out += fmt::format("| {} | {} | {} | {} | {:.0f} |\n", arm.title, number(last(study, arm.name, &AgentArmRun::loss)),
                       percent(last(study, arm.name, &AgentArmRun::dormant)),
                       percent(last(study, arm.name, &AgentArmRun::dormant_tenth)), recycled(study, arm.name));
  out += "\n## What must show\n\n" + claims_markdown(agent_claims(study));
  out += "\n## Along the updates\n\nNever active, and the loss, at tenths of the updates.\n\n| arm | |";
  for (int i = 1; i <= 10; ++i) out += fmt::format(" {} % |", 10 * i);
  out += "\n|---|---|";
  for (int i = 1; i <= 10; ++i) out += "---|";
  out += "\n";
  for (const AgentArm& arm : agent_arms(study.options.kind)) {
    const std::size_t logs = runs_of(study.runs, arm.name).front()->loss.size();
    out += fmt::format("| {} | dormant |", arm.title);
    for (std::size_t i = 1; i <= 10; ++i)
      out += fmt::format(" {:.1f} % |", 100 * at(study, arm.name, &AgentArmRun::dormant, i * logs / 10).mean);
    out += "\n| | loss |";
    for (std::size_t i = 1; i <= 10; ++i)
      out += fmt::format(" {:.2g} |",
                         at(study, arm.name, &AgentArmRun::loss, std::max<std::size_t>(1, i * logs / 10) - 1).mean);
    out += "\n";
  }
  return out;
}

}  // namespace torpor::lab
