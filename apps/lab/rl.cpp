// torpor rl: train an agent, and watch its neurons. Part of the program torpor-lab.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "apps/lab/recycle_options.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/report/csv.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "core/report/page.h"
#include "lab/rl/rl_report.h"
#include "lab/rl/training.h"
#include "lab/train/tensorboard.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

struct Words {
  std::string environment, agent, network, only = "both";
  RecycleWords recycling;
  fs::path replay;
  std::int64_t steps = 0, seeds = 1, n_step = 0, layer_reset = 0, warm_up = 0, environments = 0, film = 500;
  double ratio = 0, learning_rate = 0, weight_decay = 0, width = 1, sticky = 0, prioritised = 0, continual = 0,
         checkpoint_every = 60, epsilon = -1;
  bool double_q = false, dueling = false, resume = false, compensate = false, paper = false, target = false;
};

void add_options(CLI::App& app, Words& w) {
  app.add_option("--env", w.environment, fmt::format("The environment: {}", lab::environment_help()))
      ->type_name("NAME");
  app.add_option("--agent", w.agent, "dqn, drq or sac (dqn; sac where actions are continuous)")
      ->check(CLI::IsMember(lab::agent_names()).description(""));
  add_integer_option(app, "--steps", w.steps, 1, 1'000'000'000'000, "Of the environment (as suits it)");
  add_integer_option(app, "--envs", w.environments, 1, 1024, "Environments side by side, on --threads threads (1)");
  add_integer_option(app, "--warm-up", w.warm_up, 1, 1'000'000'000'000, "Steps before the first update (as suits it)");
  add_integer_option(app, "--seeds", w.seeds, 1, 1000, "Runs: --seed, and those that follow (1)");
  add_number_option(app, "--replay-ratio", w.ratio, "Updates a step: 0.25, 0.5, 1, 2, … (as suits it)");
  add_integer_option(app, "--n-step", w.n_step, 1, 1000, "Rewards before the bootstrap (as suits it)");
  app.add_option("--network", w.network, "small, nature or impala (as suits the environment)")
      ->check(CLI::IsMember(lab::network_names()).description(""));
  add_number_option(app, "--width", w.width, "Times the network's usual neurons (1)");
  app.add_flag("--double", w.double_q, "Double Q-learning");
  app.add_flag("--dueling", w.dueling, "A value and advantages");
  add_number_option(app, "--prioritised", w.prioritised, "Draw by errors to this power: 0.6 is usual (0: uniformly)");
  add_number_option(app, "--sticky", w.sticky, "Probability that a step repeats the action before (0)");
  add_number_option(app, "--epsilon", w.epsilon, "Random actions of dqn and drq in the end (as suits the environment)");
  add_number_option(app, "--learning-rate", w.learning_rate, "Of Adam (as suits it)");
  add_number_option(app, "--weight-decay", w.weight_decay, "L2, added to the gradient (0)");
  add_integer_option(app, "--layer-reset", w.layer_reset, 1, 1'000'000'000,
                     "Draw the last hidden layer and the outputs anew each so many updates");
  add_integer_option(app, "--film", w.film, 0, 100'000,
                     "Steps of an episode of the first seed's agent to film at the end; 0: none (500)");
  add_number_option(app, "--checkpoint-every", w.checkpoint_every, "Seconds between checkpoints (60)");
  app.add_flag("--resume", w.resume, "Go on from the checkpoints in -o; with more --steps also beyond the end");
  app.add_option("--replay", w.replay, "Draw the report of a finished run in this folder again, and train nothing")
      ->type_name("DIR");
  const auto of_recycling = add_recycle_options(app, w.recycling, "Updates");
  CLI::Option* const only = app.add_option("--recycle-only", w.only, "Of sac's networks: actor, critic or both")
                                ->check(CLI::IsMember({"actor", "critic", "both"}).description(""))
                                ->capture_default_str();
  of_recycling(only);
  of_recycling(app.add_flag("--recycle-target", w.target, "Targets get the same new weights at once"));
  of_recycling(app.add_flag("--compensate", w.compensate, "Add to the next biases what neurons gave on the average"));
  of_recycling(app.add_flag("--paper-compatible", w.paper, "As the published code, errors included"));
  of_recycling(add_number_option(app, "--continual-backprop", w.continual,
                                 "Replace this share of mature neurons each update, those of least use first, in place "
                                 "of all dormant ones each --period (1e-4 is usual)"));
}

lab::RlOptions options_of(const Words& w, const lab::EnvironmentSpec& spec) {
  lab::RlOptions options = lab::rl_defaults(!w.agent.empty() ? w.agent : spec.actions > 0 ? "dqn" : "sac", spec);
  if (w.steps > 0) options.steps = w.steps;
  if (w.warm_up > 0) options.warm_up = w.warm_up;
  if (w.environments > 0) options.environments = w.environments;
  if (w.learning_rate != 0) options.learning_rate = w.learning_rate;
  if (w.epsilon != -1) options.epsilon_last = w.epsilon;
  if (w.ratio != 0) {
    if (!(w.ratio > 0) || w.ratio > 64 ||
        (w.ratio < 1 ? std::abs(1 / w.ratio - std::round(1 / w.ratio)) : std::abs(w.ratio - std::round(w.ratio))) >
            1e-6)
      throw UsageError("torpor rl: expected a replay ratio that is a whole number or one over a whole number, got {}",
                       w.ratio);
    options.train_every = w.ratio < 1 ? std::llround(1 / w.ratio) : 1;
    options.updates = w.ratio < 1 ? 1 : std::llround(w.ratio);
  }
  if (w.n_step > 0) options.n_step = w.n_step;
  if (!w.network.empty()) options.network = lab::network_of(w.network);
  if (w.width != 1) options.width *= w.width;
  options.double_q = options.double_q || w.double_q;
  options.dueling = options.dueling || w.dueling;
  options.priority_exponent = w.prioritised;
  options.sticky = w.sticky;
  options.weight_decay = w.weight_decay;
  options.layer_reset_every = w.layer_reset;
  options.log_every = std::max<std::int64_t>(
      1, std::min<std::int64_t>(2000, options.steps / options.train_every * options.updates / 50));
  if (w.recycling.recycle) {
    options.recycle = recycle_options_of(w.recycling);
    options.recycle->compensate = w.compensate;
    options.recycle->paper_compatible = w.paper;
    options.recycle->skip_obstacles = options.network == lab::NetworkKind::impala;
    options.recycle_actor = w.only != "critic";
    options.recycle_critic = w.only != "actor";
    options.recycle_target = w.target;
    options.check_recycling = w.recycling.check;
    if (w.continual != 0) {
      options.continual = lab::ContinualBackpropOptions{.replacement_rate = w.continual};
      options.recycle->compensate = true;
    }
    // Logs fall just before a recycling: behind one nothing is dormant.
    if (!options.continual)
      options.log_every = std::max<std::int64_t>(1, options.log_every / w.recycling.period) * w.recycling.period;
  }
  lab::check(options, spec);
  return options;
}

/// The logs of a run that came since the last call.
void write_events(lab::EventFile& events, const lab::RlRun& run, std::size_t& logs, std::size_t& episodes) {
  for (; logs < run.log.size(); ++logs) {
    const lab::DormancyLog& l = run.log[logs];
    std::vector<std::string> tags;
    for (const std::string& layer : run.layer_names) tags.push_back("dormant/" + layer);
    std::vector<lab::Scalar> scalars = {{"dormant/all", l.dormant},
                                        {"dormant/tenth", l.dormant_tenth},
                                        {"neurons/overlap", l.overlap},
                                        {"neurons/rank", static_cast<double>(l.rank)},
                                        {"neurons/recycled", static_cast<double>(l.recycled)},
                                        {"train/loss", l.loss},
                                        {"train/value", l.value}};
    for (std::size_t i = 0; i < tags.size(); ++i) scalars.emplace_back(tags[i], l.layers[i]);
    events.add(l.step, scalars);
  }
  for (; episodes < run.episodes.size(); ++episodes) {
    const lab::Episode& e = run.episodes[episodes];
    const lab::Scalar scalars[] = {{"episode/return", e.reward}, {"episode/length", static_cast<double>(e.length)}};
    events.add(e.step, scalars);
  }
}

/// " (4, 12 %)": of the last log, layer by layer; nothing for a single layer, or for more than a line has room for.
std::string dormant_by_layer(const lab::RlRun& run) {
  const std::vector<double>& layers = run.log.back().layers;
  if (layers.size() < 2 || layers.size() > 6) return {};
  std::string text;
  for (const double share : layers) text += fmt::format("{}{:.0f}", text.empty() ? " (" : ", ", 100 * share);
  return text + ")";
}

lab::RlResult result_of(const Json& json, const fs::path& path) {
  try {
    if (json.at("schema") != "torpor.rl/2")
      throw BadInput("{}: expected \"schema\" \"torpor.rl/2\", found {}", path.string(), json.at("schema").dump());
    lab::RlResult out{.environment = json.at("environment").get<std::string>(),
                      .options = json.at("options"),
                      .runs = {},
                      .command = json.at("command").get<std::string>()};
    for (const Json& run : json.at("runs")) out.runs.push_back(lab::rl_run_of(run));
    return out;
  } catch (const Json::exception& error) {
    throw BadInput("{}: expected what torpor rl writes, found other JSON: {}", path.string(), error.what());
  }
}

void add_tables(Result& result, const std::vector<lab::RlRun>& runs) {
  CsvWriter episodes({"seed", "step", "return", "length"});
  CsvWriter log(
      {"seed", "step", "update", "layer", "dormant", "dormant_tenth_all", "rank", "recycled", "again", "loss"});
  for (const lab::RlRun& run : runs) {
    const auto seed = static_cast<std::int64_t>(run.seed);
    for (const lab::Episode& e : run.episodes)
      episodes.integer(seed).integer(e.step).number(e.reward).integer(e.length).end_row();
    for (const lab::DormancyLog& l : run.log)
      for (std::size_t layer = 0; layer < l.layers.size(); ++layer)
        log.integer(seed)
            .integer(l.step)
            .integer(l.update)
            .text(run.layer_names[layer])
            .number(l.layers[layer])
            .number(l.dormant_tenth)
            .integer(l.rank)
            .integer(l.recycled)
            .integer(l.again)
            .number(l.loss)
            .end_row();
  }
  result.add_file("episodes", "episodes.csv", episodes.str());
  result.add_file("log", "log.csv", log.str());
}

Json json_of(const lab::RlResult& out) {
  Json json = {{"schema", "torpor.rl/2"}, {"environment", out.environment}, {"agent", out.options.at("agent")},
               {"command", out.command},  {"options", out.options},         {"return", nullptr},
               {"dormant", nullptr},      {"runs", Json::array()}};
  std::vector<double> lasts;
  double dormant = 0;
  for (const lab::RlRun& run : out.runs) {
    if (!run.episodes.empty()) lasts.push_back(run.last_return(100));
    if (!run.log.empty()) dormant += run.log.back().dormant / static_cast<double>(out.runs.size());
    json["runs"].push_back(to_json(run));
  }
  if (!lasts.empty()) {
    const lab::Interval interval = lab::interquartile_mean_interval(lasts, 1);
    json["return"] = {{"iqm", interval.value}, {"low", interval.low}, {"high", interval.high}};
  }
  json["dormant"] = dormant;
  return json;
}

}  // namespace

int rl(std::span<const std::string> arguments) {
  VerbOptions verb("rl",
                   "Train an agent, and see which of its neurons die; --recycle gives those a new life (ReDo). Return, "
                   "dormant neurons by layer, overlap, effective rank and what was recycled go into a report.",
                   "--env NAME [options]",
                   {"torpor rl --env breakout-mini --recycle", "torpor rl --env cartpole --seeds 3",
                    "torpor rl --env pendulum --agent sac",
                    "torpor rl --env permuted-catch --replay-ratio 2 --recycle --tau 0.025 --period 500",
                    "torpor rl --replay rl-breakout-mini"});
  Words words;
  add_options(verb.app(), words);
  if (!verb.parse(arguments)) return 0;
  CommonOptions& common = verb.common();
  lab::RlResult out;
  if (!words.replay.empty()) {
    if (!words.environment.empty()) throw UsageError("torpor rl: --replay draws a finished run: expected no --env");
    const fs::path path = words.replay / "rl.json";
    out = result_of(read_json(path), path);
    if (common.output.empty()) common.output = words.replay;
  } else {
    if (words.environment.empty()) throw UsageError("torpor rl: expected --env NAME: {}", lab::environment_help());
    if (common.output.empty()) {
      std::string name = words.environment;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c == '/' || c == ':'; }, '-');
      common.output = "rl-" + name;
    }
  }
  Result result("rl", arguments, common);
  std::vector<ManifestOutput> others;
  if (words.replay.empty()) {
    // Says what it is, and plays the film.
    const std::unique_ptr<lab::Environment> environment =
        lab::make_environment(words.environment, common.seed + 1'000'000);
    const lab::EnvironmentSpec& spec = environment->spec();
    lab::RlOptions options;
    try {
      options = options_of(words, spec);
    } catch (const InvalidArgument& error) {
      throw UsageError("torpor rl: {}", error.what());
    }
    // Networks this small are slower on several threads.
    at::set_num_threads(options.network == lab::NetworkKind::small ? 1 : std::max(1, common.threads));
    out.environment = words.environment;
    out.command = "torpor rl";
    for (const std::string& word : arguments) out.command += " " + shell_word(word);
    options.seed = common.seed;
    out.options = to_json(options);
    Progress progress("training", options.steps * words.seeds, "steps", !common.quiet && !common.json);
    for (std::int64_t i = 0; i < words.seeds; ++i) {
      options.seed = common.seed + static_cast<std::uint64_t>(i);
      const auto environments = lab::make_environments(words.environment, options, std::max(1, common.threads));
      lab::RlTraining training(*environments, options);
      const fs::path checkpoint = result.folder() / fmt::format("checkpoint-{}.safetensors", options.seed);
      std::size_t logs = 0, episodes = 0;
      if (words.resume && fs::exists(checkpoint)) {
        training.resume(checkpoint);
        logs = training.result().log.size();
        episodes = training.result().episodes.size();
      }
      training.checkpoint_to(checkpoint, words.checkpoint_every);
      others.push_back({"checkpoint", checkpoint.filename()});
      const fs::path folder = result.folder() / fmt::format("seed-{}", options.seed);
      fs::create_directories(folder);
      const bool goes_on = !training.result().episodes.empty();
      lab::EventFile events(folder, goes_on ? training.result().episodes.back().step : 0);
      out.runs.push_back(training.run([&](std::int64_t step, const lab::RlRun& run) {
        std::string text = fmt::format("return {:.2f}", run.last_return(100));
        if (!run.log.empty()) {
          text += fmt::format(", {:.1f} % dormant", 100 * run.log.back().dormant);
          text += dormant_by_layer(run);
          if (options.recycle) text += fmt::format(", {} recycled", run.log.back().recycled);
        }
        progress.update(options.steps * i + std::min(step, options.steps), text);
        write_events(events, run, logs, episodes);
      }));
      write_events(events, training.result(), logs, episodes);
      events.flush();
      if (i > 0 || words.film == 0) continue;
      const lab::Played played = lab::play_episode(training.agent(), *environment, words.film);
      if (played.pictures.empty()) continue;
      lab::write_gif(result.folder() / "episode.gif", played.pictures, 60);
      others.push_back({"film", "episode.gif"});
    }
  }
  add_tables(result, out.runs);
  const Json json = json_of(out);
  result.add_file("report", "report.html", render_page(lab::page_of(out)));
  if (!common.json) {
    if (json["return"].is_object())
      print(fmt::format("return of the last 100 episodes  {}\n", format_number(json["return"]["iqm"].get<double>())));
    print(fmt::format("dormant neurons at the end       {}\n", format_share(json["dormant"].get<double>())));
    print(fmt::format("\nreport  {}\n", (result.folder() / "report.html").string()));
    if (!others.empty() && others.back().role == "film")
      print(fmt::format("film    {}\n", (result.folder() / "episode.gif").string()));
  }
  result.finish(json, at::get_num_threads(), others);
  return 0;
}

}  // namespace torpor::apps
