#include "apps/lab/recycle_options.h"

#include <fmt/ranges.h>

#include "apps/options.h"

namespace torpor::apps {

std::function<void(CLI::Option*)> add_recycle_options(CLI::App& app, RecycleWords& words, const std::string& steps) {
  const std::string group = "Recycling";
  CLI::Option* const flag = app.add_flag("--recycle", words.recycle, "Recycle dormant neurons")->group(group);
  std::function<void(CLI::Option*)> of_recycling = [=](CLI::Option* option) { option->group(group)->needs(flag); };
  of_recycling(
      add_number_option(app, "--tau", words.tau, "Scores of at most this are dormant; the layer's mean is 1 (0.1)"));
  of_recycling(add_integer_option(app, "--period", words.period, 1, 1'000'000'000,
                                  fmt::format("{} between recyclings (1000)", steps)));
  of_recycling(app.add_option("--score", words.score, fmt::format("{}", fmt::join(lab::recycle_score_names(), ", ")))
                   ->check(CLI::IsMember(lab::recycle_score_names()).description(""))
                   ->capture_default_str());
  of_recycling(app.add_option("--optimizer-reset", words.reset,
                              "Of recycled neurons: unit (moments and counts), tensor, moments (as published), none")
                   ->check(CLI::IsMember({"unit", "tensor", "moments", "none"}).description(""))
                   ->capture_default_str());
  of_recycling(
      add_integer_option(app, "--first-layer", words.first_layer, 0, 1000, "Leave layers before it alone (0)"));
  of_recycling(app.add_flag("--prune", words.prune, "Silence dormant neurons for ever in place of a new life"));
  of_recycling(
      app.add_flag("--check-recycling", words.check, "Stop where recycling changed more than what the neurons gave"));
  return of_recycling;
}

lab::RecycleOptions recycle_options_of(const RecycleWords& words) {
  lab::RecycleOptions options{.score = lab::recycle_score_of(words.score), .tau = words.tau, .period = words.period};
  options.optimizer = words.reset == "unit"      ? lab::OptimizerReset::moments_and_unit_step
                      : words.reset == "tensor"  ? lab::OptimizerReset::moments_and_tensor_step
                      : words.reset == "moments" ? lab::OptimizerReset::moments
                                                 : lab::OptimizerReset::none;
  options.first_layer = static_cast<int>(words.first_layer);
  options.prune = words.prune;
  return options;
}

}  // namespace torpor::apps
