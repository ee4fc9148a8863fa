#include "lab/study/reshuffle_study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "lab/study/cifar.h"

namespace torpor::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

RecycleOptions recycling(const std::function<void(RecycleOptions&)>& change = {}) {
  RecycleOptions options{.tau = 0.1, .period = 200};
  if (change) change(options);
  return options;
}

}  // namespace

Json to_json(const ReshuffleOptions& options) {
  Json json = {{"samples", options.samples}, {"classes", options.classes},
               {"epochs", options.epochs},   {"epochs_per_task", options.epochs_per_task},
               {"batch", options.batch},     {"probe", options.probe},
               {"logged", options.logged}};
  if (options.images.empty())
    json.update({{"side", options.side}, {"width", options.width}, {"layers", options.layers}});
  else
    json.update({{"images", options.images.filename().string()}, {"scale", options.scale}});
  return json;
}

ReshuffleOptions cifar_options(const std::filesystem::path& images) {
  return {.images = images, .samples = 10'000, .epochs = 100, .batch = 256};
}

std::vector<ReshuffleArm> reshuffle_arms(const ReshuffleOptions& options) {
  std::vector<ReshuffleArm> arms;
  const auto add = [&](const std::string& name, const std::string& title) -> ReshuffleArm& {
    arms.push_back({.name = name, .title = title});
    return arms.back();
  };
  const auto redo = [&](const std::string& name, const std::string& title,
                        const std::function<void(RecycleOptions&)>& change = {}) -> ReshuffleArm& {
    ReshuffleArm& arm = add(name, title);
    arm.recycles = true;
    arm.recycle = recycling(change);
    return arm;
  };
  if (!options.images.empty()) {
    add("fixed", "Labels stay").reshuffles = false;
    add("none", "Nothing done");
    redo("redo", "ReDo", [](auto& o) { o.period = 100; });
    add("layer_reset", "Last layers drawn anew each 500 steps (V8)").layer_reset_period = 500;
    add("weight_decay", "L2 of 1e-3 (V9)").weight_decay = 1e-3;
    for (ReshuffleArm& arm : arms) {
      arm.optimizer = ReshuffleOptimizer::sgd;
      arm.learning_rate = 0.01;
    }
    return arms;
  }
  const std::int64_t steps = options.epochs * ((options.samples + options.batch - 1) / options.batch);
  add("fixed", "Labels stay").reshuffles = false;
  add("none", "Nothing done");
  redo("redo", "ReDo, moments and unit counts");
  redo("redo_tensor_step", "ReDo, moments and the tensors' counts",
       [](auto& o) { o.optimizer = OptimizerReset::moments_and_tensor_step; });
  redo("redo_moments", "ReDo, moments alone (as published)", [](auto& o) { o.optimizer = OptimizerReset::moments; });
  redo("redo_no_reset", "ReDo, optimizer left alone", [](auto& o) { o.optimizer = OptimizerReset::none; });
  add("none_eps", "Nothing done, eps 1.5e-4").eps = 1.5e-4;
  redo("redo_moments_eps", "ReDo, moments alone, eps 1.5e-4", [](auto& o) {
    o.optimizer = OptimizerReset::moments;
  }).eps = 1.5e-4;
  redo("redo_eps", "ReDo, unit counts, eps 1.5e-4").eps = 1.5e-4;
  redo("redo_tau_0", "ReDo, tau 0", [](auto& o) { o.tau = 0; });
  redo("redo_rare", "ReDo, every 1000 steps", [](auto& o) { o.period = 1000; });
  redo("redo_outgoing", "ReDo, outgoing weights drawn (V1)", [](auto& o) { o.outgoing = OutgoingWeights::redrawn; });
  redo("redo_rescaled", "ReDo, incoming weights rescaled (V2)",
       [](auto& o) { o.incoming = IncomingWeights::rescaled; });
  redo("redo_compensated", "ReDo, means moved to the next bias", [](auto& o) { o.compensate = true; });
  for (const auto& [name, title, selection] :
       {std::tuple{"lowest", "A tenth, lowest scores (V3)", RecycleSelection::lowest},
        std::tuple{"random", "A tenth, random (V4)", RecycleSelection::random},
        std::tuple{"highest", "A tenth, highest scores (V5)", RecycleSelection::highest}})
    redo(name, title, [&, chosen = selection](auto& o) {
      o.fraction = 0.1;
      o.end = steps + 1;
      o.selection = chosen;
    });
  redo("contribution", "A tenth, continual backprop's utility (V6)", [&](auto& o) {
    o.fraction = 0.1;
    o.end = steps + 1;
    o.score = RecycleScore::contribution;
  });
  redo("grama", "GraMa: gradient magnitude", [](auto& o) {
    o.score = RecycleScore::gradient;
    o.tau = 0.01;
  });
  add("layer_reset", "Last layers drawn anew each 1000 steps (V8)").layer_reset_period = 1000;
  add("weight_decay", "L2 of 1e-4 (V9)").weight_decay = 1e-4;
  add("leaky", "Leaky ReLU, nothing done (V10)").activation = NetworkActivation::leaky_relu;
  const auto by_sgd = [](ReshuffleArm& arm) {
    arm.optimizer = ReshuffleOptimizer::sgd;
    arm.learning_rate = 0.05;
  };
  by_sgd(add("sgd", "SGD with momentum, nothing done"));
  by_sgd(redo("sgd_redo", "SGD with momentum, ReDo"));
  return arms;
}

at::Tensor reshuffle_images(const ReshuffleOptions& options, std::uint64_t seed) {
  Random random(seed, 1);
  const std::int64_t side = options.side;
  at::Tensor images = torch::empty({options.samples, side * side});
  float* pixel = images.mutable_data_ptr<float>();
  for (std::int64_t s = 0; s < options.samples; ++s, pixel += side * side) {
    std::vector<double> image(static_cast<std::size_t>(side * side));
    for (double& v : image) v = 0.1 * std::abs(random.normal());
    for (int bump = 0; bump < 4; ++bump) {
      const double x = static_cast<double>(side) * random.uniform(), y = static_cast<double>(side) * random.uniform();
      const double width = 1 + 2 * random.uniform(), height = 0.3 + 0.7 * random.uniform();
      for (std::int64_t row = 0; row < side; ++row)
        for (std::int64_t column = 0; column < side; ++column) {
          const double dx = static_cast<double>(column) - x, dy = static_cast<double>(row) - y;
          image[static_cast<std::size_t>(row * side + column)] +=
              height * std::exp(-(dx * dx + dy * dy) / (2 * width * width));
        }
    }
    for (std::size_t i = 0; i < image.size(); ++i) pixel[i] = static_cast<float>(std::min(1.0, image[i]));
  }
  return images;
}

Json to_json(const ReshuffleRun& run) {
  const auto rounded = [](std::vector<double> values) {  // shares: four digits are more than their seeds agree on
    for (double& v : values) v = std::round(v * 1e4) / 1e4;
    return values;
  };
  Json layers = Json::array();
  for (const std::vector<double>& layer : run.layers) layers.push_back(rounded(layer));
  return {{"variant", run.variant},
          {"seed", run.seed},
          {"accuracy", rounded(run.accuracy)},
          {"dormant", rounded(run.dormant)},
          {"dormant_tenth", rounded(run.dormant_tenth)},
          {"layers", std::move(layers)},
          {"overlap", rounded(run.overlap)},
          {"recycled", run.recycled},
          {"again", run.again},
          {"rank", run.rank},
          {"seconds", run.seconds},
          {"recycle_seconds", run.recycle_seconds},
          {"log_seconds", run.log_seconds}};
}

ReshuffleRun reshuffle_run_from_json(const Json& json, const std::string& where) {
  try {
    return {.variant = json.at("variant"),
            .seed = json.at("seed"),
            .accuracy = json.at("accuracy"),
            .dormant = json.at("dormant"),
            .dormant_tenth = json.at("dormant_tenth"),
            .layers = json.at("layers"),
            .overlap = json.at("overlap"),
            .recycled = json.at("recycled"),
            .again = json.at("again"),
            .rank = json.at("rank"),
            .seconds = json.at("seconds"),
            .recycle_seconds = json.at("recycle_seconds"),
            .log_seconds = json.at("log_seconds")};
  } catch (const Json::exception& error) {
    throw BadInput("{}: is no run of this study: {}. Choose another folder with -o", where, error.what());
  }
}

namespace {

/// Images and their first labels.
LabelledImages data_of(const ReshuffleOptions& options, std::uint64_t seed, Random& random) {
  if (!options.images.empty()) return read_cifar10(options.images, options.samples);
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < options.samples; ++i)
    labels.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(options.classes))));
  return {reshuffle_images(options, seed), torch::tensor(labels)};
}

NetworkSpec network_of(const ReshuffleOptions& options, const ReshuffleArm& arm) {
  if (options.images.empty()) {
    NetworkSpec spec{.input = {options.side * options.side}, .outputs = options.classes, .activation = arm.activation};
    for (std::int64_t l = 0; l < options.layers; ++l) spec.hidden.emplace_back(DenseSpec{options.width});
    return spec;
  }
  const auto scaled = [&](std::int64_t neurons) {
    return std::max<std::int64_t>(1, std::llround(options.scale * static_cast<double>(neurons)));
  };
  const auto conv = [&](std::int64_t maps) { return ConvSpec{scaled(maps), 3, 1, 1}; };
  const MaxPoolSpec pool{2, 2};
  return {.input = {3, 32, 32},
          .hidden = {conv(32), conv(64), pool, conv(64), pool, DenseSpec{scaled(128)}},
          .outputs = options.classes,
          .activation = arm.activation};
}

}  // namespace

SequentialNetwork reshuffle_network(const ReshuffleOptions& options, const ReshuffleArm& arm) {
  return SequentialNetwork(network_of(options, arm));
}

ReshuffledNetwork train_reshuffled(const ReshuffleArm& arm, std::uint64_t seed, const ReshuffleOptions& options,
                                   const std::function<void(std::int64_t)>& progress) {
  const Clock::time_point start = Clock::now();
  ReshuffleRun run{.variant = arm.name, .seed = seed};
  Random random(seed, 2);
  const LabelledImages data = data_of(options, seed, random);
  const at::Tensor& images = data.images;

  // Where nothing is left to learn, moments fall to numbers of which a product takes a hundred times as long.
  at::globalContext().setFlushDenormal(true);
  torch::manual_seed(seed);
  SequentialNetwork network = reshuffle_network(options, arm);
  std::unique_ptr<UnitAdam> adam;
  std::unique_ptr<torch::optim::SGD> sgd;
  if (arm.optimizer == ReshuffleOptimizer::adam)
    adam = std::make_unique<UnitAdam>(network->parameters_by_name(),
                                      UnitAdamOptions{.eps = arm.eps, .weight_decay = arm.weight_decay});
  else
    sgd = std::make_unique<torch::optim::SGD>(
        network->parameters(),
        torch::optim::SGDOptions(arm.learning_rate).momentum(0.9).weight_decay(arm.weight_decay));
  std::unique_ptr<Recycler> recycler;
  if (arm.recycles) recycler = std::make_unique<Recycler>(network->layers(), arm.recycle, adam.get(), seed);

  at::Tensor targets = data.labels;
  const auto loss_of = [](const at::Tensor& outputs, const at::Tensor& wanted) {
    return torch::nn::functional::cross_entropy(outputs, wanted);
  };
  const auto sample = [&](std::int64_t n) {
    return torch::tensor(permutation(options.samples, random)).narrow(0, 0, std::min(n, options.samples));
  };
  const std::vector<RecyclableLayer> layers = network->layers();
  at::Tensor dormant_before;
  const auto log = [&] {
    const Clock::time_point from = Clock::now();
    const std::vector<ProbeValues> values = probe(*network, images.index_select(0, sample(options.logged)));
    std::vector<at::Tensor> scores;
    for (std::size_t l = 0; l < layers.size(); ++l)
      scores.push_back(recycle_scores(RecycleScore::activation, layers[l], values[l]));
    const Dormancy none = dormancy(scores, 0);
    run.dormant.push_back(none.all);
    run.layers.push_back(none.layers);
    run.dormant_tenth.push_back(dormancy(scores, 0.1).all);
    const at::Tensor now = scores.back().le(0);
    run.overlap.push_back(dormant_before.defined() ? overlap_coefficient(now, dormant_before) : 0);
    dormant_before = now;
    run.log_seconds += seconds_since(from);
  };

  std::int64_t step = 0;
  log();
  for (std::int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    check_interrupt();
    if (arm.reshuffles && epoch > 0 && epoch % options.epochs_per_task == 0)
      targets = targets.index_select(0, torch::tensor(permutation(options.samples, random)));
    const at::Tensor order = torch::tensor(permutation(options.samples, random));
    for (std::int64_t from = 0; from < options.samples; from += options.batch) {
      const at::Tensor which = order.narrow(0, from, std::min(options.batch, options.samples - from));
      const at::Tensor loss = loss_of(network->forward(images.index_select(0, which)), targets.index_select(0, which));
      if (adam) adam->zero_grad();
      if (sgd) sgd->zero_grad();
      loss.backward();
      if (adam) adam->step(arm.learning_rate);
      if (sgd) sgd->step();
      ++step;
      const bool last = from + options.batch >= options.samples;
      if (last) log();  // before a recycling at the same step: else nothing would be left to see
      if (recycler && recycler->due(step)) {
        const Clock::time_point begun = Clock::now();
        const at::Tensor probed = sample(options.probe);
        const at::Tensor batch = images.index_select(0, probed), wanted = targets.index_select(0, probed);
        const RecycleReport report = recycler->recycle(
            step, needs_gradient(arm.recycle.score)
                      ? probe(*network, batch, [&](const at::Tensor& outputs) { return loss_of(outputs, wanted); })
                      : probe(*network, batch));
        run.recycled += report.recycled;
        run.again += report.again;
        run.recycle_seconds += seconds_since(begun);
      }
      if (arm.layer_reset_period > 0 && step % arm.layer_reset_period == 0) {
        network->reset_layers(layers.size() - 1);
        // New weights, new moments.
        if (adam)
          for (const std::string& name : {layers.back().weight_name, std::string("output.weight")}) adam->restart(name);
      }
    }
    if ((epoch + 1) % options.epochs_per_task == 0) {
      const at::NoGradGuard no_gradient;
      std::int64_t right = 0;
      for (std::int64_t from = 0; from < options.samples; from += 1000) {
        const std::int64_t n = std::min<std::int64_t>(1000, options.samples - from);
        right += network->forward(images.narrow(0, from, n))
                     .argmax(1)
                     .eq(targets.narrow(0, from, n))
                     .sum()
                     .item<std::int64_t>();
      }
      run.accuracy.push_back(static_cast<double>(right) / static_cast<double>(options.samples));
    }
    progress(epoch + 1);
  }
  run.rank =
      effective_rank(probe(*network, images.narrow(0, 0, std::min<std::int64_t>(2000, options.samples))).back().values);
  run.seconds = seconds_since(start);
  return {std::move(run), network, images};
}

ReshuffleRun run_reshuffle_arm(const ReshuffleArm& arm, std::uint64_t seed, const ReshuffleOptions& options,
                               const std::filesystem::path& folder,
                               const std::function<void(std::int64_t epoch)>& progress) {
  const Json identity = {{"arm", arm.name}, {"seed", seed}, {"options", to_json(options)}};
  return reshuffle_run_from_json(
      stored_run(folder, identity, [&] { return to_json(train_reshuffled(arm, seed, options, progress).run); }),
      folder.string());
}

}  // namespace torpor::lab
