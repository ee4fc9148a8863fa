// Deep Q-learning (Mnih et al. 2015), with double Q-learning, n steps and dueling heads where asked for, and recycling
// of dormant neurons (ReDo) in the order of the paper's code: update, measure, recycle, copy to the target.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "lab/recycle/recycler.h"
#include "lab/recycle/sequential_network.h"
#include "lab/rl/environment.h"

namespace torpor::lab {

struct DqnOptions {
  std::int64_t steps = 200'000;  // of the environment
  std::int64_t warm_up = 1000;   // steps before the first update
  std::int64_t replay = 100'000, batch = 32;
  std::int64_t train_every = 4;      // steps
  std::int64_t updates = 1;          // each time: replay ratio updates / train_every
  std::int64_t target_every = 1000;  // steps
  std::int64_t n_step = 1;
  double gamma = 0.99, learning_rate = 2.5e-4, adam_eps = 1e-8, weight_decay = 0;
  double epsilon_first = 1, epsilon_last = 0.05;
  std::int64_t epsilon_steps = 20'000;  // from the first to the last
  bool double_q = false, dueling = false;
  std::int64_t probe = 64;        // observations that scores are measured on
  std::int64_t log_every = 2000;  // updates
  std::optional<RecycleOptions> recycle = {};
  std::int64_t layer_reset_every = 0;  // updates; > 0: last hidden layer and outputs are drawn anew (redo.md 3.5, V8)
  std::uint64_t seed = 1;
};

/// Throws InvalidArgument saying what is out of range.
void check(const DqnOptions& options);
Json to_json(const DqnOptions& options);

/// Sensible for an environment: sizes, learning rate, length.
DqnOptions dqn_defaults(const EnvironmentSpec& environment);
/// Grids: conv16 3x3, dense 128 (MinAtar's network). Vectors: dense 128, dense 128.
NetworkSpec dqn_network(const EnvironmentSpec& environment, bool dueling);

struct Episode {
  std::int64_t step = 0;  // of the environment, at its end
  double reward = 0;      // the sum
  std::int64_t length = 0;
};

struct DormancyLog {
  std::int64_t step = 0, update = 0;
  double dormant = 0, dormant_tenth = 0;  // share at tau 0 and 0.1, before any recycling
  std::vector<double> layers = {};        // at tau 0
  double overlap = 0;                     // of the last layer's dormant neurons with those of the last log
  std::int64_t rank = 0;                  // effective rank of the last hidden layer on the probe
  std::int64_t recycled = 0, again = 0;   // since the last log
  double loss = 0;                        // mean since the last log
  double value = 0;                       // the largest of an observation's values, the mean over the probe
};

struct DqnRun {
  std::vector<Episode> episodes;
  std::vector<DormancyLog> log;
  std::vector<std::string> layer_names;
  std::int64_t updates = 0;
  double seconds = 0;

  /// Mean of the last `count` episodes' rewards; of all where there are fewer, NaN for none.
  double last_return(std::size_t count) const;
};
Json to_json(const DqnRun& run);

/// Called about ten times a second and at the end.
using DqnProgress = std::function<void(std::int64_t step, const DqnRun& run)>;

/// Trains. The same seed gives the same run. Throws InvalidArgument: options out of range, an environment with
/// continuous actions; BadInput where the loss is no number, naming the step.
DqnRun train_dqn(Environment& environment, const DqnOptions& options, const DqnProgress& progress = {});

}  // namespace torpor::lab
