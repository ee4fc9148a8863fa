#include "lab/rl/rl_run.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace torpor::lab {

double RlRun::last_return(std::size_t count) const {
  const std::size_t n = std::min(count, episodes.size());
  if (n == 0) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (std::size_t i = episodes.size() - n; i < episodes.size(); ++i) sum += episodes[i].reward;
  return sum / static_cast<double>(n);
}

Json to_json(const RlRun& run) {
  Json episodes = Json::array(), log = Json::array();
  for (const Episode& e : run.episodes) episodes.push_back({e.step, e.reward, e.length});
  for (const DormancyLog& l : run.log)
    log.push_back({{"step", l.step},
                   {"update", l.update},
                   {"dormant", l.dormant},
                   {"dormant_tenth", l.dormant_tenth},
                   {"layers", l.layers},
                   {"overlap", l.overlap},
                   {"rank", l.rank},
                   {"recycled", l.recycled},
                   {"again", l.again},
                   {"loss", l.loss},
                   {"value", l.value}});
  return {{"seed", run.seed},
          {"episodes", std::move(episodes)},
          {"log", std::move(log)},
          {"layer_names", run.layer_names},
          {"updates", run.updates},
          {"seconds", run.seconds},
          {"logging_seconds", run.logging_seconds},
          {"recycling_seconds", run.recycling_seconds}};
}

RlRun rl_run_of(const Json& json) {
  try {
    RlRun run{.seed = json.at("seed").get<std::uint64_t>(),
              .layer_names = json.at("layer_names").get<std::vector<std::string>>(),
              .updates = json.at("updates").get<std::int64_t>(),
              .seconds = json.at("seconds").get<double>(),
              .logging_seconds = json.at("logging_seconds").get<double>(),
              .recycling_seconds = json.at("recycling_seconds").get<double>()};
    for (const Json& e : json.at("episodes"))
      run.episodes.push_back({e.at(0).get<std::int64_t>(), e.at(1).get<double>(), e.at(2).get<std::int64_t>()});
    for (const Json& l : json.at("log")) {
      DormancyLog log{.step = l.at("step").get<std::int64_t>(),
                      .update = l.at("update").get<std::int64_t>(),
                      .dormant = l.at("dormant").get<double>(),
                      .dormant_tenth = l.at("dormant_tenth").get<double>(),
                      .layers = l.at("layers").get<std::vector<double>>(),
                      .overlap = l.at("overlap").get<double>(),
                      .rank = l.at("rank").get<std::int64_t>(),
                      .recycled = l.at("recycled").get<std::int64_t>(),
                      .again = l.at("again").get<std::int64_t>(),
                      .loss = l.at("loss").get<double>(),
                      .value = l.at("value").get<double>()};
      if (log.layers.size() != run.layer_names.size())
        throw BadInput("a run's log: expected shares of {} layers, found {}", run.layer_names.size(),
                       log.layers.size());
      run.log.push_back(std::move(log));
    }
    return run;
  } catch (const Json::exception& error) {
    throw BadInput("a run as torpor rl writes it was expected, found other JSON: {}", error.what());
  }
}

}  // namespace torpor::lab
