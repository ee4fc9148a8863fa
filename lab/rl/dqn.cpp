#include "lab/rl/dqn.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "lab/rl/replay.h"

namespace torpor::lab {

void check(const DqnOptions& o) {
  const auto at_least = [](const char* what, std::int64_t value, std::int64_t least) {
    if (value < least) throw InvalidArgument("[dqn] expected {} of at least {}, got {}", what, least, value);
  };
  at_least("steps", o.steps, 1);
  at_least("a warm-up", o.warm_up, 1);
  at_least("a replay", o.replay, 1);
  at_least("a batch", o.batch, 1);
  at_least("steps between updates", o.train_every, 1);
  at_least("updates", o.updates, 1);
  at_least("steps between targets", o.target_every, 1);
  at_least("n steps", o.n_step, 1);
  at_least("a probe", o.probe, 1);
  at_least("updates between logs", o.log_every, 1);
  at_least("updates between layer resets", o.layer_reset_every, 0);
  if (!(o.gamma >= 0) || o.gamma > 1) throw InvalidArgument("[dqn] expected gamma from 0 to 1, got {}", o.gamma);
  if (!(o.learning_rate > 0)) throw InvalidArgument("[dqn] expected a learning rate above 0, got {}", o.learning_rate);
  for (const double epsilon : {o.epsilon_first, o.epsilon_last})
    if (!(epsilon >= 0) || epsilon > 1) throw InvalidArgument("[dqn] expected epsilon from 0 to 1, got {}", epsilon);
  if (o.recycle) check(*o.recycle);
}

Json to_json(const DqnOptions& o) {
  Json json = {{"steps", o.steps},
               {"warm_up", o.warm_up},
               {"replay", o.replay},
               {"batch", o.batch},
               {"train_every", o.train_every},
               {"updates", o.updates},
               {"target_every", o.target_every},
               {"n_step", o.n_step},
               {"gamma", o.gamma},
               {"learning_rate", o.learning_rate},
               {"adam_eps", o.adam_eps},
               {"weight_decay", o.weight_decay},
               {"epsilon_first", o.epsilon_first},
               {"epsilon_last", o.epsilon_last},
               {"epsilon_steps", o.epsilon_steps},
               {"double_q", o.double_q},
               {"dueling", o.dueling},
               {"probe", o.probe},
               {"log_every", o.log_every},
               {"layer_reset_every", o.layer_reset_every},
               {"seed", o.seed},
               {"recycle", nullptr}};
  if (o.recycle)
    json["recycle"] = {{"score", name_of(o.recycle->score)}, {"tau", o.recycle->tau}, {"period", o.recycle->period}};
  return json;
}

DqnOptions dqn_defaults(const EnvironmentSpec& environment) {
  DqnOptions o;
  if (environment.observation.size() == 3) {  // grids, as MinAtar's DQN but for Adam
    o.steps = 250'000;
    o.epsilon_steps = 25'000;
    o.learning_rate = 2.5e-4;
  } else if (environment.name == "cartpole") {
    o.steps = 100'000;
    o.epsilon_steps = 5000;
    o.learning_rate = 3e-4;
    o.n_step = 3;
    o.train_every = 1;
    o.target_every = 500;
    o.batch = 64;
    o.double_q = true;
  } else if (environment.name.ends_with("catch")) {
    o.steps = 60'000;
    o.epsilon_steps = 1000;
    o.learning_rate = 1e-3;
    o.adam_eps = 1.5e-4;
    o.train_every = 1;
    o.updates = 2;
    o.target_every = 200;
    o.warm_up = 500;
  } else {
    o.steps = 150'000;
    o.train_every = 2;
    o.learning_rate = 5e-4;
    o.target_every = 500;
    o.double_q = true;
    o.batch = 64;
  }
  return o;
}

NetworkSpec dqn_network(const EnvironmentSpec& environment, bool dueling) {
  NetworkSpec spec{.input = environment.observation, .outputs = environment.actions, .dueling = dueling};
  if (environment.observation.size() == 3)
    spec.hidden = {ConvSpec{16, 3}, DenseSpec{128}};
  else
    spec.hidden = {DenseSpec{128}, DenseSpec{128}};
  return spec;
}

double DqnRun::last_return(std::size_t count) const {
  const std::size_t n = std::min(count, episodes.size());
  if (n == 0) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (std::size_t i = episodes.size() - n; i < episodes.size(); ++i) sum += episodes[i].reward;
  return sum / static_cast<double>(n);
}

Json to_json(const DqnRun& run) {
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
  return {{"episodes", std::move(episodes)},
          {"log", std::move(log)},
          {"layer_names", run.layer_names},
          {"updates", run.updates},
          {"seconds", run.seconds}};
}

namespace {

class Trainer {
 public:
  Trainer(Environment& environment, const DqnOptions& options)
      : environment_(environment),
        options_(options),
        random_(options.seed, 3),
        replay_(std::min(options.replay, options.steps), environment.spec().values(), environment.spec().binary),
        n_step_(options.n_step, options.gamma) {
    torch::manual_seed(options.seed);
    const NetworkSpec spec = dqn_network(environment.spec(), options.dueling);
    online_ = SequentialNetwork(spec);
    target_ = SequentialNetwork(spec);
    optimizer_ = std::make_unique<UnitAdam>(
        online_->parameters_by_name(), UnitAdamOptions{.eps = options.adam_eps, .weight_decay = options.weight_decay});
    layers_ = online_->layers();
    for (const RecyclableLayer& layer : layers_) run_.layer_names.push_back(layer.name);
    if (options.recycle)
      recycler_ = std::make_unique<Recycler>(layers_, *options.recycle, optimizer_.get(), options.seed);
    copy_to_target();
  }

  DqnRun train(const DqnProgress& progress) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    Clock::time_point told = start;
    const auto values = static_cast<std::size_t>(environment_.spec().values());
    std::vector<float> observation(values), following(values);
    environment_.reset(observation);
    Episode episode;
    for (std::int64_t step = 1; step <= options_.steps; ++step) {
      const std::int64_t action = choose(observation, step);
      const StepResult result = environment_.step(action, following);
      if (result.new_task) {
        replay_.clear();
        n_step_.clear();
      } else {
        n_step_.add(observation, action, result.reward, following, result.terminated, result.truncated, replay_);
      }
      episode.reward += result.reward;
      ++episode.length;
      observation.swap(following);
      if (result.terminated || result.truncated) {
        n_step_.clear();
        episode.step = step;
        run_.episodes.push_back(episode);
        episode = {};
        environment_.reset(observation);
      }
      if (step >= options_.warm_up && step % options_.train_every == 0 && replay_.size() >= options_.batch)
        for (std::int64_t u = 0; u < options_.updates; ++u) update(step);
      if (step % options_.target_every == 0) copy_to_target();
      if (step % 64 == 0 || step == options_.steps) {
        check_interrupt();
        const Clock::time_point now = Clock::now();
        run_.seconds = std::chrono::duration<double>(now - start).count();
        if (progress && (step == options_.steps || now - told > std::chrono::milliseconds(100))) {
          progress(step, run_);
          told = now;
        }
      }
    }
    return std::move(run_);
  }

 private:
  at::Tensor shaped(const at::Tensor& observations) const {
    std::vector<std::int64_t> shape = environment_.spec().observation;
    shape.insert(shape.begin(), observations.size(0));
    return observations.view(shape);
  }

  std::int64_t choose(std::span<const float> observation, std::int64_t step) {
    const double part = std::min(1.0, static_cast<double>(std::max<std::int64_t>(0, step - options_.warm_up)) /
                                          static_cast<double>(std::max<std::int64_t>(1, options_.epsilon_steps)));
    const double epsilon = options_.epsilon_first + part * (options_.epsilon_last - options_.epsilon_first);
    if (random_.uniform() < epsilon)
      return static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(environment_.spec().actions)));
    const c10::InferenceMode inference;
    const at::Tensor one = at::from_blob(const_cast<float*>(observation.data()),
                                         {1, static_cast<std::int64_t>(observation.size())}, at::kFloat);
    return online_->forward(shaped(one)).argmax(1).item<std::int64_t>();
  }

  void update(std::int64_t step) {
    const Transitions batch = replay_.sample(options_.batch, random_);
    at::Tensor wanted;
    {
      const at::NoGradGuard no_gradient;
      const at::Tensor following = shaped(batch.following);
      const at::Tensor values = target_->forward(following);
      const at::Tensor best = options_.double_q
                                  ? values.gather(1, online_->forward(following).argmax(1, true)).squeeze(1)
                                  : std::get<0>(values.max(1));
      wanted = batch.rewards + batch.discounts * best;
    }
    const at::Tensor chosen =
        online_->forward(shaped(batch.observations)).gather(1, batch.actions.unsqueeze(1)).squeeze(1);
    const at::Tensor loss = at::huber_loss(chosen, wanted);
    optimizer_->zero_grad();
    loss.backward();
    optimizer_->step(options_.learning_rate);
    const auto value = loss.item<double>();
    if (!std::isfinite(value))
      throw BadInput("step {}: expected a finite loss, found {}. A smaller learning rate, or weights that outgrew f32",
                     step, value);
    loss_ += value;
    ++losses_;
    ++run_.updates;
    if (run_.updates % options_.log_every == 0) log(step);
    if (recycler_ && recycler_->due(run_.updates)) recycle();
    if (options_.layer_reset_every > 0 && run_.updates % options_.layer_reset_every == 0) reset_last_layers();
  }

  std::vector<ProbeValues> probe_values() {
    return probe(*online_, shaped(replay_.sample_observations(options_.probe, random_)));
  }

  void log(std::int64_t step) {
    const at::Tensor observations = shaped(replay_.sample_observations(options_.probe, random_));
    const at::NoGradGuard no_gradient;
    std::vector<at::Tensor> values, scores;
    const at::Tensor outputs = online_->forward(observations, values);
    for (std::size_t l = 0; l < layers_.size(); ++l)
      scores.push_back(recycle_scores(RecycleScore::activation, layers_[l], {values[l], {}}));
    const Dormancy none = dormancy(scores, 0);
    const at::Tensor now = scores.back().le(0);
    run_.log.push_back({.step = step,
                        .update = run_.updates,
                        .dormant = none.all,
                        .dormant_tenth = dormancy(scores, 0.1).all,
                        .layers = none.layers,
                        .overlap = dormant_before_.defined() ? overlap_coefficient(now, dormant_before_) : 0,
                        .rank = effective_rank(values.back().flatten(1)),
                        .recycled = recycled_,
                        .again = again_,
                        .loss = loss_ / static_cast<double>(std::max<std::int64_t>(1, losses_)),
                        .value = std::get<0>(outputs.max(1)).mean().item<double>()});
    dormant_before_ = now;
    recycled_ = again_ = losses_ = 0;
    loss_ = 0;
  }

  void recycle() {
    std::vector<ProbeValues> values;
    if (needs_gradient(options_.recycle->score)) {
      const Transitions batch = replay_.sample(options_.probe, random_);
      values = probe(*online_, shaped(batch.observations), [&](const at::Tensor& outputs) {
        const at::Tensor best = std::get<0>(target_->forward(shaped(batch.following)).max(1)).detach();
        return at::huber_loss(outputs.gather(1, batch.actions.unsqueeze(1)).squeeze(1),
                              batch.rewards + batch.discounts * best);
      });
    } else {
      values = probe_values();
    }
    const RecycleReport report = recycler_->recycle(run_.updates, values);
    recycled_ += report.recycled;
    again_ += report.again;
  }

  void reset_last_layers() {
    online_->reset_layers(layers_.size() - 1);
    for (const auto& [name, weight] : online_->parameters_by_name()) {
      if (name == layers_.back().weight_name || name == layers_.back().bias_name || name.starts_with("output") ||
          name.starts_with("value"))
        optimizer_->restart(name);
    }
  }

  void copy_to_target() {
    const at::NoGradGuard no_gradient;
    const auto from = online_->parameters();
    const auto to = target_->parameters();
    for (std::size_t i = 0; i < from.size(); ++i) to[i].detach().copy_(from[i].detach());
  }

  Environment& environment_;
  const DqnOptions& options_;
  Random random_;
  Replay replay_;
  NStep n_step_;
  SequentialNetwork online_{nullptr}, target_{nullptr};
  std::unique_ptr<UnitAdam> optimizer_;
  std::vector<RecyclableLayer> layers_;
  std::unique_ptr<Recycler> recycler_;
  at::Tensor dormant_before_;
  std::int64_t recycled_ = 0, again_ = 0, losses_ = 0;
  double loss_ = 0;
  DqnRun run_;
};

}  // namespace

DqnRun train_dqn(Environment& environment, const DqnOptions& options, const DqnProgress& progress) {
  check(options);
  if (environment.spec().actions == 0)
    throw InvalidArgument("[dqn] {} has continuous actions: expected a choice among some", environment.spec().name);
  at::globalContext().setFlushDenormal(true);
  return Trainer(environment, options).train(progress);
}

}  // namespace torpor::lab
