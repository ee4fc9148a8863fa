// torpor rl: train an agent, and watch its neurons. Part of the program torpor-lab.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/report/csv.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "core/report/page.h"
#include "lab/rl/rl_report.h"

namespace torpor::apps {

int rl(std::span<const std::string> arguments) {
  VerbOptions verb(
      "rl",
      "Train an agent by deep Q-learning, and see which of its neurons die; --recycle gives those a new life "
      "(ReDo). Return, dormant neurons by layer, overlap, effective rank and what was recycled go into a report.",
      "--env NAME [options]",
      {"torpor rl --env breakout-mini --recycle", "torpor rl --env cartpole --seeds 3",
       "torpor rl --env permuted-catch --replay-ratio 2 --recycle --tau 0.025 --period 500"});
  std::string name, agent = "dqn", score = "activation", reset = "unit";
  std::int64_t steps = 0, seeds = 1, period = 1000;
  double ratio = 0, tau = 0.1, learning_rate = 0, weight_decay = 0;
  bool recycle = false, double_q = false, dueling = false;
  std::int64_t n_step = 0, layer_reset = 0, warm_up = 0;
  CLI::App& app = verb.app();
  app.add_option("--env", name, fmt::format("The environment: {}", fmt::join(lab::environment_names(), ", ")))
      ->type_name("NAME")
      ->required();
  app.add_option("--agent", agent, "dqn")->check(CLI::IsMember({"dqn"}).description(""))->capture_default_str();
  add_integer_option(app, "--steps", steps, 1, 1'000'000'000'000, "Of the environment (as suits it)");
  add_integer_option(app, "--warm-up", warm_up, 1, 1'000'000'000'000, "Steps before the first update (as suits it)");
  add_integer_option(app, "--seeds", seeds, 1, 1000, "Runs: --seed, and those that follow (1)");
  add_number_option(app, "--replay-ratio", ratio, "Updates a step: 0.25, 0.5, 1, 2, … (as suits it)");
  add_integer_option(app, "--n-step", n_step, 1, 1000, "Rewards before the bootstrap (as suits it)");
  app.add_flag("--double", double_q, "Double Q-learning");
  app.add_flag("--dueling", dueling, "A value and advantages");
  add_number_option(app, "--learning-rate", learning_rate, "Of Adam (as suits it)");
  add_number_option(app, "--weight-decay", weight_decay, "L2, added to the gradient (0)");
  add_integer_option(app, "--layer-reset", layer_reset, 1, 1'000'000'000,
                     "Draw the last hidden layer and the outputs anew each so many updates");
  const std::string group = "Recycling";
  CLI::Option* flag = app.add_flag("--recycle", recycle, "Recycle dormant neurons");
  flag->group(group);
  add_number_option(app, "--tau", tau, "Scores of at most this are dormant; the layer's mean is 1 (0.1)")
      ->group(group)
      ->needs(flag);
  add_integer_option(app, "--period", period, 1, 1'000'000'000, "Updates between recyclings (1000)")
      ->group(group)
      ->needs(flag);
  app.add_option("--score", score, fmt::format("{}", fmt::join(lab::recycle_score_names(), ", ")))
      ->group(group)
      ->needs(flag)
      ->check(CLI::IsMember(lab::recycle_score_names()).description(""))
      ->capture_default_str();
  app.add_option("--optimizer-reset", reset,
                 "Of recycled neurons: unit (moments and counts), tensor, moments (as published), none")
      ->group(group)
      ->needs(flag)
      ->check(CLI::IsMember({"unit", "tensor", "moments", "none"}).description(""))
      ->capture_default_str();
  if (!verb.parse(arguments)) return 0;
  CommonOptions& common = verb.common();
  lab::EnvironmentSpec spec = lab::make_environment(name, 1)->spec();
  if (spec.actions == 0)
    throw UsageError("torpor rl: {} has continuous actions, and dqn chooses among some: expected another environment",
                     name);
  lab::DqnOptions options = lab::dqn_defaults(spec);
  if (steps > 0) options.steps = steps;
  if (warm_up > 0) options.warm_up = warm_up;
  if (learning_rate != 0) options.learning_rate = learning_rate;
  if (ratio != 0) {
    if (!(ratio > 0) || ratio > 64 ||
        (ratio < 1 ? std::abs(1 / ratio - std::round(1 / ratio)) : std::abs(ratio - std::round(ratio))) > 1e-6)
      throw UsageError("torpor rl: expected a replay ratio that is a whole number or one over a whole number, got {}",
                       ratio);
    options.train_every = ratio < 1 ? std::llround(1 / ratio) : 1;
    options.updates = ratio < 1 ? 1 : std::llround(ratio);
  }
  if (n_step > 0) options.n_step = n_step;
  options.double_q = options.double_q || double_q;
  options.dueling = dueling;
  options.weight_decay = weight_decay;
  options.layer_reset_every = layer_reset;
  options.log_every = std::max<std::int64_t>(
      1, std::min<std::int64_t>(2000, options.steps / options.train_every * options.updates / 50));
  if (recycle) {
    options.recycle = lab::RecycleOptions{.score = lab::recycle_score_of(score), .tau = tau, .period = period};
    options.recycle->optimizer = reset == "unit"      ? lab::OptimizerReset::moments_and_unit_step
                                 : reset == "tensor"  ? lab::OptimizerReset::moments_and_tensor_step
                                 : reset == "moments" ? lab::OptimizerReset::moments
                                                      : lab::OptimizerReset::none;
    // Logs fall just before a recycling: behind one nothing is dormant.
    options.log_every = std::max<std::int64_t>(1, options.log_every / period) * period;
  }
  try {
    lab::check(options);
  } catch (const InvalidArgument& error) {
    throw UsageError("torpor rl: {}", error.what());
  }
  if (common.output.empty()) common.output = "rl-" + name;
  at::set_num_threads(std::max(1, common.threads));  // networks this small are slower on several

  Result result("rl", arguments, common);
  lab::RlResult out{
      .environment = name, .agent = "DQN", .options = options, .runs = {}, .seeds = {}, .command = "torpor rl"};
  for (const std::string& word : arguments) out.command += " " + shell_word(word);
  {
    Progress progress("training", options.steps * seeds, "steps", !common.quiet && !common.json);
    for (std::int64_t i = 0; i < seeds; ++i) {
      options.seed = common.seed + static_cast<std::uint64_t>(i);
      const auto environment = lab::make_environment(name, options.seed);
      out.runs.push_back(lab::train_dqn(*environment, options, [&](std::int64_t step, const lab::DqnRun& run) {
        std::string text = fmt::format("return {:.2f}", run.last_return(100));
        if (!run.log.empty()) {
          text += fmt::format(", {:.1f} % dormant", 100 * run.log.back().dormant);
          if (options.recycle) text += fmt::format(", {} recycled", run.log.back().recycled);
        }
        progress.update(options.steps * i + step, text);
      }));
      out.seeds.push_back(options.seed);
    }
  }
  CsvWriter episodes({"seed", "step", "return", "length"});
  CsvWriter log(
      {"seed", "step", "update", "layer", "dormant", "dormant_tenth_all", "rank", "recycled", "again", "loss"});
  Json runs = Json::array();
  std::vector<double> lasts;
  for (std::size_t i = 0; i < out.runs.size(); ++i) {
    const lab::DqnRun& run = out.runs[i];
    const auto seed = static_cast<std::int64_t>(out.seeds[i]);
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
    Json json = to_json(run);
    json["seed"] = seed;
    runs.push_back(std::move(json));
    if (!run.episodes.empty()) lasts.push_back(run.last_return(100));
  }
  Json json = {{"schema", "torpor.rl/1"},         {"environment", name}, {"agent", agent},
               {"options", to_json(out.options)}, {"return", nullptr},   {"dormant", nullptr}};
  if (!lasts.empty()) {
    const lab::Interval interval = lab::interquartile_mean_interval(lasts, 1);
    json["return"] = {{"iqm", interval.value}, {"low", interval.low}, {"high", interval.high}};
  }
  double dormant = 0;
  for (const lab::DqnRun& run : out.runs)
    if (!run.log.empty()) dormant += run.log.back().dormant / static_cast<double>(out.runs.size());
  json["dormant"] = dormant;
  json["runs"] = std::move(runs);
  result.add_file("episodes", "episodes.csv", episodes.str());
  result.add_file("log", "log.csv", log.str());
  result.add_file("report", "report.html", render_page(lab::page_of(out)));
  if (!common.json) {
    if (!lasts.empty())
      print(fmt::format("return of the last 100 episodes  {}\n", format_number(lab::interquartile_mean(lasts))));
    print(fmt::format("dormant neurons at the end       {}\n", format_share(dormant)));
    print(fmt::format("\nreport  {}\n", (result.folder() / "report.html").string()));
  }
  result.finish(json, at::get_num_threads());
  return 0;
}

}  // namespace torpor::apps
