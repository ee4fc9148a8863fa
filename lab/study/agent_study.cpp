#include "lab/study/agent_study.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "lab/recycle/direct_network.h"
#include "lab/rl/training.h"
#include "lab/study/reshuffle_study.h"

namespace torpor::lab {
namespace {

constexpr std::int64_t kRecyclePeriod = 1000;

/// Writes the gradient of a loss by outputs, [batch, outputs] both; returns the loss.
using Gradient = std::function<double(const float* outputs, float* gradient)>;

/// A Q network that learns whatever it is told.
class Learner {
 public:
  Learner(const EnvironmentSpec& environment, const RlOptions& options)
      : learning_rate_(options.learning_rate), outputs_(environment.actions) {
    auto online = q_network(environment, options), target = q_network(environment, options);
    direct_ = DirectNetwork::of(online);
    direct_target_ = DirectNetwork::of(target);
    network_ = std::make_unique<TrainedNetwork>("q", std::move(online), std::move(target), options, /*recycles=*/true);
  }

  TrainedNetwork& network() { return *network_; }

  double step(const at::Tensor& observations, const Gradient& gradient_of) {
    const std::int64_t n = observations.size(0);
    double loss = 0;
    if (direct_ != nullptr) {
      const float* const outputs = direct_->forward(n, observations.const_data_ptr<float>());
      gradient_.assign(static_cast<std::size_t>(n * outputs_), 0.0F);
      loss = gradient_of(outputs, gradient_.data());
      direct_->backward(gradient_.data());
    } else {
      const at::Tensor outputs = (*network_)->forward(observations).contiguous();
      const at::Tensor gradient = torch::zeros_like(outputs);
      loss = gradient_of(outputs.const_data_ptr<float>(), gradient.mutable_data_ptr<float>());
      outputs.backward(gradient);
    }
    network_->step(learning_rate_);
    return loss;
  }

  /// [batch, actions] of the target, valid until the next call.
  const float* target_outputs(const at::Tensor& observations) {
    if (direct_target_ != nullptr)
      return direct_target_->forward(observations.size(0), observations.const_data_ptr<float>());
    const at::NoGradGuard no_gradient;
    kept_ = network_->target().forward(observations).contiguous();
    return kept_.const_data_ptr<float>();
  }

  void weights_changed() {
    if (direct_ != nullptr) direct_->weights_changed();
    if (direct_target_ != nullptr) direct_target_->weights_changed();
  }

 private:
  double learning_rate_;
  std::int64_t outputs_;
  std::unique_ptr<TrainedNetwork> network_;
  std::unique_ptr<DirectNetwork> direct_, direct_target_;  // null where the network is not one
  std::vector<float> gradient_;
  at::Tensor kept_;
};

/// What one arm does differently.
struct Lesson {
  std::string arm;
  const RecyclableNetwork* begins_as = nullptr;  // null: fresh
  bool recycles_at_start = false, recycles = false;
  /// A batch's gradient; `learner` for targets of its own.
  std::function<Gradient(Learner& learner, const Transitions& batch)> gradient;
};

void note_dormancy(AgentArmRun& run, const std::vector<RecyclableLayer>& layers,
                   const std::vector<ProbeValues>& values) {
  std::vector<at::Tensor> scores;
  for (std::size_t l = 0; l < layers.size(); ++l)
    scores.push_back(recycle_scores(RecycleScore::activation, layers[l], values[l]));
  run.dormant.push_back(dormancy(scores, 0).all);
  run.dormant_tenth.push_back(dormancy(scores, 0.1).all);
}

AgentArmRun learn(const Lesson& lesson, std::uint64_t seed, const AgentStudyOptions& options,
                  const EnvironmentSpec& environment, RlOptions rl, const Replay& replay,
                  const std::function<void(std::int64_t)>& progress) {
  AgentArmRun run{.variant = lesson.arm, .seed = seed};
  if (lesson.recycles || lesson.recycles_at_start)
    rl.recycle = RecycleOptions{.period = lesson.recycles ? kRecyclePeriod : std::numeric_limits<std::int64_t>::max()};
  torch::manual_seed(seed);
  Learner learner(environment, rl);
  TrainedNetwork& network = learner.network();
  if (lesson.begins_as != nullptr) {
    copy_weights(*lesson.begins_as, *network);
    copy_weights(*lesson.begins_as, network.target());
    learner.weights_changed();
  }
  Random random(seed, 5), probes(seed, 6);
  const auto values = [&] { return probe(*network, replay.sample(rl.probe, probes).observations); };
  const auto recycle = [&](std::int64_t update) {
    run.recycled += network.recycler()->recycle(update, values()).recycled;
    learner.weights_changed();
  };
  const auto log = [&] { note_dormancy(run, network.layers(), values()); };
  if (lesson.recycles_at_start) recycle(0);
  log();
  const std::int64_t every = std::max<std::int64_t>(1, options.updates / options.logs);
  const std::int64_t target_every = std::max<std::int64_t>(1, rl.target_every / rl.train_every);
  double loss = 0;
  for (std::int64_t update = 1; update <= options.updates; ++update) {
    const Transitions batch = replay.sample(rl.batch, random);
    loss += learner.step(batch.observations, lesson.gradient(learner, batch));
    if (update % every == 0) {  // before a recycling: behind one nothing is dormant
      check_interrupt();
      log();
      run.loss.push_back(loss / static_cast<double>(every));
      loss = 0;
      progress(update);
    }
    if (lesson.recycles && network.recycler()->due(update)) recycle(update);
    if (update % target_every == 0) {
      network.update_target(1);
      learner.weights_changed();
    }
  }
  return run;
}

/// The Huber loss of the chosen actions' values, and its gradient.
double huber(const Transitions& batch, std::int64_t actions, const std::vector<float>& wanted, const float* outputs,
             float* gradient) {
  const auto n = static_cast<std::int64_t>(wanted.size());
  const std::int64_t* const chosen = batch.actions.const_data_ptr<std::int64_t>();
  double loss = 0;
  for (std::int64_t b = 0; b < n; ++b) {
    const std::int64_t at = b * actions + chosen[b];
    const float error = outputs[at] - wanted[static_cast<std::size_t>(b)], size = std::abs(error);
    loss += static_cast<double>(size < 1 ? 0.5F * error * error : size - 0.5F) / static_cast<double>(n);
    gradient[at] = std::clamp(error, -1.0F, 1.0F) / static_cast<float>(n);
  }
  return loss;
}

std::vector<Lesson> offline_lessons(const EnvironmentSpec& environment, const RlOptions& rl, std::uint64_t seed) {
  const std::int64_t actions = environment.actions;
  const auto td = [actions](Learner& learner, const Transitions& batch) -> Gradient {
    const float* const values = learner.target_outputs(batch.following);
    std::vector<float> wanted;
    for (std::int64_t b = 0; b < batch.following.size(0); ++b)
      wanted.push_back(batch.rewards.const_data_ptr<float>()[b] +
                       batch.discounts.const_data_ptr<float>()[b] *
                           *std::max_element(values + b * actions, values + (b + 1) * actions));
    return
        [=, &batch](const float* outputs, float* gradient) { return huber(batch, actions, wanted, outputs, gradient); };
  };
  torch::manual_seed(seed + 1000);
  const std::shared_ptr<RecyclableNetwork> frozen = q_network(environment, rl);
  const auto fixed = [actions, frozen](Learner&, const Transitions& batch) -> Gradient {
    const at::NoGradGuard no_gradient;
    const at::Tensor values =
        frozen->forward(batch.observations).gather(1, batch.actions.unsqueeze(1)).squeeze(1).contiguous();
    const float* const from = values.const_data_ptr<float>();
    return [=, &batch, wanted = std::vector<float>(from, from + values.numel())](
               const float* outputs, float* gradient) { return huber(batch, actions, wanted, outputs, gradient); };
  };
  // One number for each transition, whenever it is drawn: a network can only learn them by heart.
  const auto stored = [actions, seed](Learner&, const Transitions& batch) -> Gradient {
    std::vector<float> wanted;
    for (const std::int64_t place : batch.places)
      wanted.push_back(
          static_cast<float>(2 * Random(seed, 1'000'000 + static_cast<std::uint64_t>(place)).uniform() - 1));
    return
        [=, &batch](const float* outputs, float* gradient) { return huber(batch, actions, wanted, outputs, gradient); };
  };
  return {{.arm = "td", .gradient = td},
          {.arm = "fixed", .gradient = fixed},
          {.arm = "stored", .gradient = stored},
          {.arm = "redo", .recycles = true, .gradient = td}};
}

/// The mean squared error to the teacher's values, of all actions.
std::vector<Lesson> fitting_lessons(RecyclableNetwork& teacher, const RecyclableNetwork& aged) {
  const auto fit = [&teacher](Learner&, const Transitions& batch) -> Gradient {
    const at::NoGradGuard no_gradient;
    const at::Tensor wanted = teacher.forward(batch.observations).contiguous();
    return [wanted](const float* outputs, float* gradient) {
      const float* const to = wanted.const_data_ptr<float>();
      const std::int64_t n = wanted.numel();
      double loss = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const float error = outputs[i] - to[i];
        loss += static_cast<double>(error * error) / static_cast<double>(n);
        gradient[i] = 2 * error / static_cast<float>(n);
      }
      return loss;
    };
  };
  return {{.arm = "fresh", .gradient = fit},
          {.arm = "aged", .begins_as = &aged, .gradient = fit},
          {.arm = "aged_once", .begins_as = &aged, .recycles_at_start = true, .gradient = fit},
          {.arm = "aged_redo", .begins_as = &aged, .recycles = true, .gradient = fit}};
}

/// The same with images: 2000 of them, and a random network's outputs.
std::vector<AgentArmRun> run_label_arms(std::uint64_t seed, const AgentStudyOptions& options,
                                        const std::function<void(double)>& progress) {
  constexpr std::int64_t kBatch = 64, kProbe = 256, kPeriod = 200;
  ReshuffleOptions labels;
  labels.epochs = options.aged_epochs;
  const ReshuffleArm nothing_done{.name = "none"};
  const auto arms = agent_arms(AgentStudyKind::fitting);
  const double aging =
      static_cast<double>(labels.epochs) * static_cast<double>(labels.samples) / static_cast<double>(labels.batch);
  const double all = aging + static_cast<double>(options.updates) * static_cast<double>(arms.size());
  const ReshuffledNetwork aged = train_reshuffled(nothing_done, seed, labels, [&](std::int64_t epoch) {
    progress(aging / all * static_cast<double>(epoch) / static_cast<double>(labels.epochs));
  });
  torch::manual_seed(seed + 1000);
  SequentialNetwork teacher = reshuffle_network(labels, nothing_done);
  const at::Tensor wanted = [&] {
    const at::NoGradGuard no_gradient;
    return teacher->forward(aged.images);
  }();
  std::vector<AgentArmRun> runs;
  for (const AgentArm& arm : arms) {
    AgentArmRun run{.variant = arm.name, .seed = seed};
    torch::manual_seed(seed + 2000);
    SequentialNetwork network = reshuffle_network(labels, nothing_done);
    if (arm.name != "fresh") copy_weights(*aged.network, *network);
    UnitAdam adam(network->parameters_by_name());
    Random random(seed, 5);
    const auto sample = [&](std::int64_t n) {
      return torch::tensor(permutation(labels.samples, random)).narrow(0, 0, n);
    };
    Recycler recycler(network->layers(), {.period = kPeriod}, &adam, seed);
    const auto values = [&] { return probe(*network, aged.images.index_select(0, sample(kProbe))); };
    const auto log = [&] { note_dormancy(run, recycler.layers(), values()); };
    if (arm.name == "aged_once") run.recycled += recycler.recycle(0, values()).recycled;
    log();
    const std::int64_t every = std::max<std::int64_t>(1, options.updates / options.logs);
    double loss = 0;
    for (std::int64_t update = 1; update <= options.updates; ++update) {
      const at::Tensor which = sample(kBatch);
      adam.zero_grad();
      const at::Tensor error =
          at::mse_loss(network->forward(aged.images.index_select(0, which)), wanted.index_select(0, which));
      error.backward();
      adam.step(1e-3);
      loss += error.item<double>();
      if (update % every == 0) {
        check_interrupt();
        log();
        run.loss.push_back(loss / static_cast<double>(every));
        loss = 0;
        progress((aging + static_cast<double>(options.updates) * static_cast<double>(runs.size()) +
                  static_cast<double>(update)) /
                 all);
      }
      if (arm.name == "aged_redo" && recycler.due(update)) run.recycled += recycler.recycle(update, values()).recycled;
    }
    runs.push_back(std::move(run));
  }
  return runs;
}

std::vector<AgentArmRun> run_all_arms(std::uint64_t seed, const AgentStudyOptions& options,
                                      const EnvironmentSpec& environment, const std::function<void(double)>& progress) {
  RlOptions rl = rl_defaults("dqn", environment);
  rl.seed = seed;
  rl.steps = rl.replay = options.steps;
  rl.epsilon_steps = std::min(rl.epsilon_steps, rl.steps / 4);
  rl.warm_up = std::min(rl.warm_up, rl.steps / 4);
  const bool fits = options.kind == AgentStudyKind::fitting;
  const double aging = fits ? static_cast<double>(options.aged_steps * options.aged_updates) : 0;
  const double playing = static_cast<double>(options.steps) / static_cast<double>(rl.train_every);
  const double all =
      playing + aging + static_cast<double>(options.updates) * static_cast<double>(agent_arms(options.kind).size());
  double done = 0;
  const auto played = [&](const RlOptions& of, double weight) {
    return [&progress, &all, &done, steps = static_cast<double>(of.steps), weight](std::int64_t step, const RlRun&) {
      progress((done + weight * static_cast<double>(step) / steps) / all);
    };
  };
  const auto environments = make_environments(options.environment, rl, 1);
  RlTraining teacher(*environments, rl);
  teacher.run(played(rl, playing));
  done += playing;
  if (teacher.replay().size() < rl.batch)
    throw UsageError(
        "torpor study {}: {} begins a new task at step {} and forgets what was stored: choose other --steps",
        name_of(options.kind), options.environment, options.steps);

  RlOptions old = rl;
  old.seed = seed + 1000;
  old.steps = options.aged_steps;
  old.warm_up = std::min(old.warm_up, old.steps / 4);
  old.train_every = 1;
  old.updates = options.aged_updates;
  const auto places = make_environments(options.environment, old, 1);
  std::unique_ptr<RlTraining> aged;
  if (fits) {
    aged = std::make_unique<RlTraining>(*places, old);
    aged->run(played(old, aging));
    done += aging;
  }
  std::vector<AgentArmRun> runs;
  for (const Lesson& lesson : fits ? fitting_lessons(**teacher.agent().networks()[0], **aged->agent().networks()[0])
                                   : offline_lessons(environment, rl, seed)) {
    runs.push_back(learn(lesson, seed, options, environment, rl, teacher.replay(),
                         [&](std::int64_t update) { progress((done + static_cast<double>(update)) / all); }));
    done += static_cast<double>(options.updates);
  }
  return runs;
}

bool by_labels(const AgentStudyOptions& options) {
  return options.kind == AgentStudyKind::fitting && options.aged_by == AgedBy::labels;
}

EnvironmentSpec spec_of(const AgentStudyOptions& options) {
  EnvironmentSpec environment = make_environment(options.environment, 1)->spec();
  if (environment.actions == 0)
    throw UsageError("torpor study {}: expected an environment with choices as actions, got {}", name_of(options.kind),
                     options.environment);
  return environment;
}

std::vector<double> rounded(std::vector<double> values) {  // four digits are more than seeds agree on
  for (double& v : values) v = std::stod(fmt::format("{:.4g}", v));
  return values;
}

}  // namespace

Json to_json(const AgentArmRun& run) {
  return {{"variant", run.variant},
          {"seed", run.seed},
          {"loss", rounded(run.loss)},
          {"dormant", rounded(run.dormant)},
          {"dormant_tenth", rounded(run.dormant_tenth)},
          {"recycled", run.recycled}};
}

void check(const AgentStudyOptions& options) {
  if (!by_labels(options)) spec_of(options);
}

std::string name_of(AgentStudyKind kind) {
  return kind == AgentStudyKind::offline ? "offline" : "fitting";
}

Json to_json(const AgentStudyOptions& options) {
  if (by_labels(options))
    return {{"study", name_of(options.kind)},
            {"aged_by", "labels"},
            {"aged_epochs", options.aged_epochs},
            {"updates", options.updates},
            {"logs", options.logs}};
  Json json = {{"study", name_of(options.kind)},
               {"environment", options.environment},
               {"steps", options.steps},
               {"updates", options.updates},
               {"logs", options.logs}};
  if (options.kind == AgentStudyKind::fitting)
    json.update({{"aged_steps", options.aged_steps}, {"aged_updates", options.aged_updates}});
  return json;
}

std::vector<AgentArm> agent_arms(AgentStudyKind kind) {
  if (kind == AgentStudyKind::offline)
    return {{"td", "Targets that move (TD)"},
            {"fixed", "Targets that stay (a random network's)"},
            {"stored", "Targets that stay (random numbers)"},
            {"redo", "Targets that move, ReDo"}};
  return {{"fresh", "Fresh"}, {"aged", "Aged"}, {"aged_once", "Aged, recycled once"}, {"aged_redo", "Aged, ReDo"}};
}

std::vector<AgentArmRun> run_agent_arms(std::uint64_t seed, const AgentStudyOptions& options,
                                        const std::filesystem::path& folder,
                                        const std::function<void(double)>& progress) {
  const EnvironmentSpec environment = by_labels(options) ? EnvironmentSpec{} : spec_of(options);
  const Json identity = {{"seed", seed}, {"options", to_json(options)}};
  const Json stored = stored_run(folder, identity, [&] {
    Json runs = Json::array();
    for (const AgentArmRun& run : by_labels(options) ? run_label_arms(seed, options, progress)
                                                     : run_all_arms(seed, options, environment, progress))
      runs.push_back(to_json(run));
    return runs;
  });
  try {
    std::vector<AgentArmRun> runs;
    for (const Json& run : stored)
      runs.push_back({.variant = run.at("variant"),
                      .seed = run.at("seed"),
                      .loss = run.at("loss"),
                      .dormant = run.at("dormant"),
                      .dormant_tenth = run.at("dormant_tenth"),
                      .recycled = run.at("recycled")});
    return runs;
  } catch (const Json::exception& error) {
    throw BadInput("{}: is no run of this study: {}. Choose another folder with -o", folder.string(), error.what());
  }
}

}  // namespace torpor::lab
