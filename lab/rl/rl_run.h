// What a training run of an agent leaves: episodes, and what was measured of its neurons.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace torpor::lab {

struct Episode {
  std::int64_t step = 0;  // of all environments, at its end
  double reward = 0;      // the sum
  std::int64_t length = 0;
};

struct DormancyLog {
  std::int64_t step = 0, update = 0;
  double dormant = 0, dormant_tenth = 0;  // share at tau 0 and 0.1, before any recycling, over all networks
  std::vector<double> layers = {};        // at tau 0
  double overlap = 0;                     // of the last layer's dormant neurons with those of the last log
  std::int64_t rank = 0;                  // effective rank of the last hidden layer on the probe
  std::int64_t recycled = 0, again = 0;   // since the last log
  double loss = 0;                        // mean since the last log
  double value = 0;                       // what the network expects, the mean over the probe
};

struct RlRun {
  std::uint64_t seed = 0;
  std::vector<Episode> episodes = {};
  std::vector<DormancyLog> log = {};
  std::vector<std::string> layer_names = {};
  std::int64_t updates = 0;
  double seconds = 0;                                 // in all, over resumed runs
  double logging_seconds = 0, recycling_seconds = 0;  // of those: for logs, for recycling

  /// Mean of the last `count` episodes' rewards; of all where there are fewer, NaN for none.
  double last_return(std::size_t count) const;
};

Json to_json(const RlRun& run);
/// Throws BadInput for JSON that to_json() did not make.
RlRun rl_run_of(const Json& json);

}  // namespace torpor::lab
