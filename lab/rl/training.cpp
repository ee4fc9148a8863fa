#include "lab/rl/training.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/tensor/safetensors.h"
#include "lab/nn/tensor_views.h"

namespace torpor::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr const char* kSchema = "torpor.rl-checkpoint/1";

/// How many multiples of `every` lie in (before, now].
std::int64_t crossed(std::int64_t before, std::int64_t now, std::int64_t every) {
  return now / every - before / every;
}

}  // namespace

struct RlTraining::State {
  State(VectorEnvironment& all, const RlOptions& o)
      : environments(all),
        options(o),
        random(o.seed, 4),
        replay(all.spec(), {.capacity = std::min(o.replay, o.steps),
                            .environments = static_cast<std::int64_t>(all.size()),
                            .n_step = o.n_step,
                            .gamma = o.gamma,
                            .priority_exponent = o.priority_exponent}),
        agent(make_agent(all.spec(), o)),
        episodes(all.size()) {
    run.seed = o.seed;
    for (const auto& network : agent->networks())
      for (const RecyclableLayer& layer : network->layers())
        run.layer_names.push_back(agent->networks().size() == 1 ? layer.name : network->name() + "." + layer.name);
  }

  at::Tensor shaped(std::span<float> observations) const {
    std::vector<std::int64_t> sizes = environments.spec().observation;
    sizes.insert(sizes.begin(), static_cast<std::int64_t>(environments.size()));
    return at::from_blob(observations.data(), sizes, at::kFloat);
  }

  void begin() {
    environments.reset();
    for (std::size_t i = 0; i < environments.size(); ++i)
      replay.begin(static_cast<std::int64_t>(i), environments.observation(i));
  }

  void act() {
    const std::size_t width = static_cast<std::size_t>(std::max<std::int64_t>(1, environments.spec().action_values));
    actions.resize(environments.size() * width);
    agent->act(shaped(environments.observations()), /*explore=*/true, step, actions);
    environments.step(actions);
    for (std::size_t i = 0; i < environments.size(); ++i) {
      const StepResult& result = environments.result(i);
      const auto lane = static_cast<std::int64_t>(i);
      if (result.new_task) {
        replay.clear(lane);
        replay.begin(lane, environments.following(i));
      } else {
        replay.add(lane, std::span(actions).subspan(i * width, width), result.reward, environments.following(i),
                   result.terminated, result.truncated);
      }
      Episode& episode = episodes[i];
      episode.reward += result.reward;
      ++episode.length;
      ++step;
      if (!result.over()) continue;
      episode.step = step;
      run.episodes.push_back(episode);
      episode = {};
      replay.begin(lane, environments.observation(i));
    }
  }

  void update() {
    const bool continual = options.continual.has_value();
    values.clear();
    const double value = agent->update(replay, step, continual ? &values : nullptr);
    if (!std::isfinite(value))
      throw BadInput("step {}: expected a finite loss, found {}. A smaller learning rate, or weights that outgrew f32",
                     step, value);
    loss += value;
    ++losses;
    ++run.updates;
    if (continual)
      for (std::size_t n = 0; n < values.size(); ++n)
        if (ContinualBackprop* const replaces = agent->networks()[n]->continual_backprop())
          recycled += replaces->step(run.updates, values[n]);
    if (continual) agent->weights_changed();
    if (run.updates % options.log_every == 0) log();
    for (std::size_t n = 0; n < agent->networks().size() && !continual; ++n) {
      const Recycler* const recycler = agent->networks()[n]->recycler();
      if (recycler != nullptr && recycler->due(run.updates)) recycle(n);
    }
    if (options.layer_reset_every > 0 && run.updates % options.layer_reset_every == 0) reset_layers();
  }

  void reset_layers() {
    for (const auto& network : agent->networks()) network->reset_last_layers();
    agent->weights_changed();
  }

  void log() {
    const Clock::time_point start = Clock::now();
    const at::NoGradGuard no_gradient;
    const Transitions batch = replay.sample(options.probe, random);
    DormancyLog now{.step = step, .update = run.updates};
    std::vector<at::Tensor> scores;
    for (std::size_t n = 0; n < agent->networks().size(); ++n) {
      TrainedNetwork& network = *agent->networks()[n];
      std::vector<at::Tensor> behind;
      const at::Tensor outputs = network->forward(agent->inputs_of(n, batch), behind);
      const TrainedNetwork::Watched watched = network.watch(behind);
      scores.insert(scores.end(), watched.scores.begin(), watched.scores.end());
      if (n > 0) continue;
      now.overlap = watched.overlap;
      now.rank = watched.rank;
      now.value = agent->expected(outputs);
    }
    const Dormancy none = dormancy(scores, 0);
    now.dormant = none.all;
    now.layers = none.layers;
    now.dormant_tenth = dormancy(scores, 0.1).all;
    now.recycled = recycled;
    now.again = again;
    now.loss = loss / static_cast<double>(std::max<std::int64_t>(1, losses));
    run.log.push_back(std::move(now));
    recycled = again = losses = 0;
    loss = 0;
    run.logging_seconds += seconds_since(start);
  }

  void recycle(std::size_t n) {
    const Clock::time_point start = Clock::now();
    TrainedNetwork& network = *agent->networks()[n];
    Recycler& recycler = *network.recycler();
    const Transitions batch = replay.sample(options.probe, random);
    const at::Tensor inputs = agent->inputs_of(n, batch);
    std::function<at::Tensor(const at::Tensor&)> loss_of;
    if (needs_gradient(recycler.options().score))
      loss_of = [&](const at::Tensor& outputs) { return agent->loss_of(n, batch, outputs); };
    const std::vector<ProbeValues> probed = probe(*network, inputs, loss_of);
    at::Tensor kept;
    if (options.check_recycling) {
      const at::NoGradGuard no_gradient;
      std::vector<at::Tensor> masks;
      for (const RecycledLayer& layer : recycler.measure(run.updates, probed).layers) masks.push_back(layer.recycled);
      kept = network->forward_without(inputs, masks);
    }
    const RecycleReport report = recycler.recycle(run.updates, probed);
    agent->weights_changed();
    if (kept.defined()) {
      const at::NoGradGuard no_gradient;
      check_function_kept(kept, network->forward(inputs));
    }
    recycled += report.recycled;
    again += report.again;
    run.recycling_seconds += seconds_since(start);
  }

  /// One step of all environments and the updates that it is time for.
  void advance() {
    const std::int64_t before = step;
    act();
    if (step >= options.warm_up && replay.size() >= options.batch) {
      std::int64_t due = crossed(std::max(before, options.warm_up - 1), step, options.train_every);
      for (due *= options.updates; due > 0; --due) {
        update();
        if (options.target_every == 1) agent->update_targets();
      }
    }
    if (options.target_every > 1 && crossed(before, step, options.target_every) > 0) agent->update_targets();
  }

  NamedTensors tensors() {
    NamedTensors out = agent->tensors();
    append(out, "replay", replay.state());
    return out;
  }

  Json json() {
    Json state = {{"schema", kSchema},
                  {"environment", environments.spec().name},
                  {"options", to_json(options)},
                  {"step", step},
                  {"random", random.state()},
                  {"agent", agent->state()},
                  {"loss", loss},
                  {"losses", losses},
                  {"recycled", recycled},
                  {"again", again},
                  {"run", to_json(run)},
                  {"environments", Json::array()}};
    for (std::size_t i = 0; i < environments.size(); ++i) {
      Environment& environment = environments.at(i);
      Json one = {{"reward", episodes[i].reward}, {"length", episodes[i].length}};
      if (environment.can_resume()) {
        const std::span<const float> observation = environments.observation(i);
        one["state"] = environment.state();
        one["random"] = environment.random_state();
        one["observation"] = std::vector<float>(observation.begin(), observation.end());
      }
      state["environments"].push_back(std::move(one));
    }
    return state;
  }

  void save() {
    NamedTensors all = tensors();
    all.emplace_back("generator", at::detail::getDefaultCPUGenerator().get_state());
    std::vector<TensorView> views;
    for (const auto& [name, tensor] : all) views.push_back(view_of(name, tensor.detach()));
    const Clock::time_point start = Clock::now();
    write_safetensors(path, views, {{"state", json().dump()}});
    saved = Clock::now();
    // A replay of pictures is large: at most a twentieth of the time goes into writing it.
    if (save_every > 0) save_every = std::max(save_every, 20 * seconds_since(start));
  }

  VectorEnvironment& environments;
  RlOptions options;
  Random random;
  Replay replay;
  std::unique_ptr<Agent> agent;
  std::vector<Episode> episodes;  // under way
  std::vector<float> actions;
  std::vector<std::vector<at::Tensor>> values;
  std::int64_t step = 0;
  double loss = 0;
  std::int64_t losses = 0, recycled = 0, again = 0;  // since the last log
  RlRun run;
  bool begun = false;

  std::filesystem::path path;
  double save_every = 0;
  Clock::time_point saved = Clock::now();
};

namespace {

const RlOptions& checked(const RlOptions& options, const EnvironmentSpec& environment) {
  check(options, environment);
  torch::manual_seed(options.seed);
  at::globalContext().setFlushDenormal(true);
  return options;
}

}  // namespace

std::unique_ptr<VectorEnvironment> make_environments(std::string_view name, const RlOptions& options, int threads) {
  std::vector<std::unique_ptr<Environment>> all;
  for (std::int64_t i = 0; i < options.environments; ++i) {
    // Runs of neighbouring seeds share no environment's draws.
    all.push_back(make_environment(name, options.seed + 1000003 * static_cast<std::uint64_t>(i)));
    all.back()->set_sticky(options.sticky);
  }
  return std::make_unique<VectorEnvironment>(std::move(all), threads);
}

RlTraining::RlTraining(VectorEnvironment& environments, const RlOptions& options)
    : state_(std::make_unique<State>(environments, checked(options, environments.spec()))) {}

RlTraining::~RlTraining() = default;

void RlTraining::checkpoint_to(std::filesystem::path path, double seconds) {
  state_->path = std::move(path);
  state_->save_every = seconds;
}

const RlRun& RlTraining::result() const {
  return state_->run;
}
Agent& RlTraining::agent() {
  return *state_->agent;
}
Replay& RlTraining::replay() {
  return state_->replay;
}

const RlRun& RlTraining::run(const RlProgress& progress) {
  State& s = *state_;
  const Clock::time_point start = Clock::now();
  const double before = s.run.seconds;
  Clock::time_point told = start;
  s.saved = start;
  if (!s.begun) s.begin();
  s.begun = true;
  for (std::int64_t turn = 0; s.step < s.options.steps; ++turn) {
    s.advance();
    const bool last = s.step >= s.options.steps;
    if (turn % 32 != 0 && !last) continue;
    check_interrupt();
    s.run.seconds = before + seconds_since(start);
    if (progress && (last || Clock::now() - told > std::chrono::milliseconds(100))) {
      progress(s.step, s.run);
      told = Clock::now();
    }
    if (!s.path.empty() && (last || seconds_since(s.saved) > s.save_every)) s.save();
  }
  return s.run;
}

void RlTraining::resume(const std::filesystem::path& path) {
  State& s = *state_;
  const TensorArchive archive = open_safetensors(path);
  const auto damaged = [&](const std::string& what) {
    return BadInput("{}: expected a checkpoint of torpor rl, {}", path.string(), what);
  };
  const auto text = archive.metadata().find("state");
  if (text == archive.metadata().end()) throw damaged("found no state in its metadata");
  try {
    const Json json = Json::parse(text->second);
    if (json.at("schema") != kSchema) throw damaged(fmt::format("found {}", json.at("schema").dump()));
    if (json.at("environment") != s.environments.spec().name)
      throw BadInput("{}: is of the environment {}, and {} is asked for", path.string(),
                     json.at("environment").get<std::string>(), s.environments.spec().name);
    const Json wanted = to_json(s.options);
    for (const auto& [name, value] : json.at("options").items())
      if (name != "steps" && wanted.value(name, Json()) != value)
        throw BadInput("{}: was written with {} {}, and {} is asked for: resume with the options of that run",
                       path.string(), name, value.dump(), wanted.value(name, Json()).dump());
    for (auto& [name, tensor] : s.tensors()) {
      copy_bits(archive.at(name), tensor.detach(), path.string());
    }
    s.step = json.at("step").get<std::int64_t>();
    s.random.set_state(json.at("random").get<std::string>());
    s.agent->set_state(json.at("agent"));
    s.agent->weights_changed();
    s.loss = json.at("loss").get<double>();
    s.losses = json.at("losses").get<std::int64_t>();
    s.recycled = json.at("recycled").get<std::int64_t>();
    s.again = json.at("again").get<std::int64_t>();
    s.run = rl_run_of(json.at("run"));
    s.replay.restored();
    for (std::size_t i = 0; i < s.environments.size(); ++i) {
      const Json& one = json.at("environments").at(i);
      const std::span<float> observation = s.environments.observation(i);
      Environment& environment = s.environments.at(i);
      if (!environment.can_resume()) {
        environment.reset(observation);
        s.replay.begin(static_cast<std::int64_t>(i), observation);
        continue;
      }
      s.episodes[i].reward = one.at("reward").get<double>();
      s.episodes[i].length = one.at("length").get<std::int64_t>();
      environment.set_state(one.at("state").get<std::vector<double>>());
      environment.set_random_state(one.at("random").get<std::string>());
      const auto values = one.at("observation").get<std::vector<float>>();
      if (values.size() != observation.size()) throw damaged("an observation has another size");
      std::copy(values.begin(), values.end(), observation.begin());
    }
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    at::Tensor generator_state = generator.get_state();
    copy_bits(archive.at("generator"), generator_state, path.string());
    generator.set_state(generator_state);
    s.begun = true;
  } catch (const Json::exception& error) {
    throw damaged(error.what());
  }
}

Played play_episode(Agent& agent, Environment& environment, std::int64_t steps) {
  const EnvironmentSpec& spec = environment.spec();
  std::vector<std::int64_t> sizes = spec.observation;
  sizes.insert(sizes.begin(), 1);
  std::vector<float> observation(static_cast<std::size_t>(spec.values()));
  std::vector<float> action(static_cast<std::size_t>(std::max<std::int64_t>(1, spec.action_values)));
  Played played;
  const auto look = [&] {
    Picture picture = environment.picture();
    if (!picture.empty()) played.pictures.push_back(std::move(picture));
  };
  environment.reset(observation);
  look();
  for (bool over = false; !over && played.length < steps; ++played.length) {
    check_interrupt();
    agent.act(at::from_blob(observation.data(), sizes, at::kFloat), /*explore=*/false, 0, action);
    const StepResult result = spec.actions > 0 ? environment.step(static_cast<std::int64_t>(action[0]), observation)
                                               : environment.step(action, observation);
    played.reward += result.reward;
    over = result.over();
    look();
  }
  return played;
}

}  // namespace torpor::lab
