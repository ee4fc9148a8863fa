// How an agent trains: it acts, its steps go into the replay, it updates; its neurons are logged and recycled in the
// order of the ReDo paper's code: update, log, recycle, copy to the target.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "lab/rl/agent.h"
#include "lab/rl/picture.h"
#include "lab/rl/rl_run.h"
#include "lab/rl/vector_environment.h"

namespace torpor::lab {

/// Called about ten times a second and at the end.
using RlProgress = std::function<void(std::int64_t step, const RlRun& run)>;

/// Environments as options.environments asks for, with seeds from options.seed, options.sticky, and threads.
std::unique_ptr<VectorEnvironment> make_environments(std::string_view name, const RlOptions& options, int threads);

/// One run. One thread at a time.
class RlTraining {
 public:
  /// The environments must outlive it. The same seed gives the same run. Throws InvalidArgument: options out of range,
  /// an agent whose actions are of another kind.
  RlTraining(VectorEnvironment& environments, const RlOptions& options);
  ~RlTraining();
  RlTraining(const RlTraining&) = delete;
  RlTraining& operator=(const RlTraining&) = delete;

  /// Where to save the state of the run, every so many seconds, or less often where writing takes long (0: as often as
  /// can be), and at the end; what resume() reads.
  void checkpoint_to(std::filesystem::path path, double seconds);
  /// Goes on where a checkpoint was written: all that follows is as if nothing had happened, replay and random draws
  /// included; environments whose state is out of reach start a new episode. Throws BadInput: a checkpoint of another
  /// agent, environment or other options (but for more steps), or one that is damaged.
  void resume(const std::filesystem::path& path);

  /// Trains to the end. Throws BadInput where a loss is no number, naming the step; Interrupted.
  const RlRun& run(const RlProgress& progress = {});
  const RlRun& result() const;

  Agent& agent();
  Replay& replay();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// An episode of at most `steps` steps with the agent's best known actions. Its return, and its pictures where the
/// environment draws any.
struct Played {
  double reward = 0;
  std::int64_t length = 0;
  std::vector<Picture> pictures = {};
};
Played play_episode(Agent& agent, Environment& environment, std::int64_t steps);

}  // namespace torpor::lab
