// Recycling changes what it says and nothing else: index maps, optimizer slices, and that the network computes what it
// did, for each kind of layer (redo.md 5).
#include "lab/recycle/recycler.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/error.h"
#include "lab/recycle/continual_backprop.h"
#include "lab/recycle/residual_network.h"
#include "lab/recycle/sequential_network.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

NetworkSpec mlp() {
  return {.input = {10}, .hidden = {DenseSpec{16}, DenseSpec{12}}, .outputs = 3};
}

NetworkSpec convolutions(FlattenOrder order = FlattenOrder::channel_major) {
  return {
      .input = {2, 9, 9}, .hidden = {ConvSpec{6, 3}, ConvSpec{5, 3, 2}, DenseSpec{14}}, .outputs = 4, .flatten = order};
}

struct Trained {
  explicit Trained(const NetworkSpec& spec, std::uint64_t seed = 1) {
    torch::manual_seed(seed);
    network = SequentialNetwork(spec);
    std::vector<std::int64_t> shape = spec.input;
    shape.insert(shape.begin(), 32);
    batch = torch::rand(shape);
    optimizer = std::make_unique<UnitAdam>(network->parameters_by_name());
  }

  /// Neurons that never are active, in every layer: numbers 1 and 3.
  void silence() {
    const at::NoGradGuard no_gradient;
    for (const RecyclableLayer& layer : network->layers())
      for (const std::int64_t i : {1, 3}) {
        layer.weight.detach()[i].abs_().neg_();
        layer.bias.detach()[i] = -1;
      }
  }

  void train(int steps) {
    for (int step = 0; step < steps; ++step) {
      optimizer->zero_grad();
      (network->forward(batch) - 1).square().mean().backward();
      optimizer->step(1e-2);
    }
  }

  RecycleReport recycle(const RecycleOptions& options, std::int64_t step = 1000) {
    Recycler recycler(network->layers(), options, optimizer.get(), 7);
    return recycler.recycle(step, probe(*network, batch));
  }

  SequentialNetwork network{nullptr};
  at::Tensor batch;
  std::unique_ptr<UnitAdam> optimizer;
};

struct Kind {
  const char* name;
  NetworkSpec spec;
};

NetworkSpec with_batch_norm(NetworkSpec spec) {
  spec.norm = NormKind::batch;
  return spec;
}

NetworkSpec dueling(NetworkSpec spec) {
  spec.dueling = true;
  return spec;
}

std::vector<Kind> kinds() {
  return {{"dense", mlp()},
          {"conv, channel-major flatten", convolutions()},
          {"conv, channel-minor flatten", convolutions(FlattenOrder::channel_minor)},
          {"two heads", dueling(mlp())},
          {"conv to outputs", {.input = {2, 6, 6}, .hidden = {ConvSpec{6, 3}}, .outputs = 3}},
          {"pools",
           {.input = {2, 10, 10},
            .hidden = {ConvSpec{6, 3}, MaxPoolSpec{2, 2}, ConvSpec{6, 3}, MaxPoolSpec{2, 2}, DenseSpec{9}},
            .outputs = 3}},
          {"batch norm", with_batch_norm(convolutions())}};
}

TEST(Recycler, SilentNeuronsChangeNoBitOfTheOutputs) {
  for (const Kind& kind : kinds()) {
    Trained t(kind.spec);
    t.network->eval();  // a batch norm by its running statistics
    t.silence();
    const at::Tensor before = t.network->forward(t.batch).detach();
    const RecycleReport report = t.recycle({.tau = 0});
    EXPECT_GE(report.recycled, 2 * std::ssize(report.layers)) << kind.name;
    for (const RecycledLayer& layer : report.layers)
      for (const int i : {1, 3}) EXPECT_TRUE(layer.recycled[i].item<bool>()) << kind.name << " " << layer.name;
    EXPECT_TRUE(torch::equal(t.network->forward(t.batch).detach(), before)) << kind.name;
    // And they are active again.
    const auto after = probe(*t.network, t.batch);
    for (const ProbeValues& layer : after) EXPECT_GT(layer.values.abs().sum().item<double>(), 0);
    const auto again = recycle_scores(RecycleScore::activation, t.network->layers()[0], after[0]);
    EXPECT_GT(again[1].item<double>() + again[3].item<double>(), 0) << kind.name;
  }
}

TEST(Recycler, TheOfficialFlattenCutsLiveConnections) {
  for (const FlattenOrder order : {FlattenOrder::channel_major, FlattenOrder::channel_minor}) {
    Trained t(convolutions(order));
    t.silence();
    const at::Tensor before = t.network->forward(t.batch).detach();
    t.recycle({.tau = 0, .paper_compatible = true});
    EXPECT_FALSE(torch::allclose(t.network->forward(t.batch).detach(), before, 1e-3, 1e-3));
  }
}

TEST(Recycler, EditsTheSlicesOfTheIndexMapAndNothingElse) {
  for (const Kind& kind : kinds()) {
    Trained t(kind.spec);
    t.silence();
    t.network->eval();
    std::map<std::string, at::Tensor> before;
    for (const auto& [name, p] : t.network->parameters_by_name()) before[name] = p.detach().clone();
    const RecycleReport report = t.recycle({.tau = 0});
    std::map<std::string, at::Tensor> rows, columns;  // what may differ, and must be 0
    const auto layers = t.network->layers();
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const at::Tensor mask = report.layers[l].recycled;
      rows[layers[l].weight_name] = mask;
      for (std::int64_t i = 0; i < layers[l].neurons(); ++i) {
        if (!mask[i].item<bool>()) continue;
        EXPECT_EQ(layers[l].bias.detach()[i].item<float>(), 0);
        // Plain loops over each reader's inputs.
        for (const OutgoingWeight& to : layers[l].outgoing)
          for (std::int64_t k = 0; k < to.per_neuron; ++k) {
            const std::int64_t input =
                to.order == FlattenOrder::channel_major ? i * to.per_neuron + k : k * layers[l].neurons() + i;
            EXPECT_EQ(to.weight.detach().select(1, input).abs().sum().item<float>(), 0) << kind.name << " " << to.name;
            if (!columns[to.name].defined()) columns[to.name] = torch::zeros({to.weight.size(1)}, at::kBool);
            columns[to.name][input] = true;
          }
      }
    }
    for (const auto& [name, p] : t.network->parameters_by_name()) {
      if (p.dim() < 2) {
        if (name.starts_with("output") || name.starts_with("value")) {
          EXPECT_TRUE(torch::equal(p.detach(), before[name])) << name;
        }
        continue;
      }
      at::Tensor same = p.detach().eq(before[name]).flatten(2 < p.dim() ? 2 : 1);
      if (p.dim() > 2) same = same.all(2);
      for (std::int64_t r = 0; r < p.size(0); ++r)
        for (std::int64_t c = 0; c < p.size(1); ++c) {
          const bool fresh = rows[name].defined() && rows[name][r].item<bool>();
          const bool cut = columns[name].defined() && columns[name][c].item<bool>();
          EXPECT_EQ(same[r][c].item<bool>(), !fresh && !cut) << kind.name << " " << name << " " << r << " " << c;
          if (fresh && !cut) {
            const double bound =
                std::sqrt(6.0 / static_cast<double>((p.size(0) + p.size(1)) * (p.numel() / p.size(0) / p.size(1))));
            EXPECT_LE(p.detach()[r][c].abs().max().item<double>(), bound * 1.0001);
          }
        }
    }
  }
}

TEST(Recycler, TheOptimizersStateTravelsAlong) {
  for (const OptimizerReset mode : {OptimizerReset::none, OptimizerReset::moments,
                                    OptimizerReset::moments_and_tensor_step, OptimizerReset::moments_and_unit_step}) {
    for (const Kind& kind : kinds()) {
      Trained t(kind.spec);
      t.train(5);
      t.silence();
      t.network->eval();
      std::map<std::string, at::Tensor> before;
      for (const auto& [name, state] : t.optimizer->state()) before[name] = state.clone();
      const RecycleReport report = t.recycle({.tau = 0, .optimizer = mode});
      const auto layers = t.network->layers();
      std::map<std::string, at::Tensor> fresh;  // of each parameter: which weights are new
      const auto mark = [&](const std::string& name, const at::Tensor& like, const at::Tensor& mask, std::int64_t dim) {
        at::Tensor& to = fresh[name];
        if (!to.defined()) to = torch::zeros(like.sizes(), at::kBool);
        to.logical_or_(along(mask, like, dim));
      };
      for (std::size_t l = 0; l < layers.size(); ++l) {
        const at::Tensor mask = report.layers[l].recycled;
        mark(layers[l].weight_name, layers[l].weight, mask, 0);
        mark(layers[l].bias_name, layers[l].bias, mask, 0);
        for (const NeuronNorm& norm : layers[l].norms) {
          mark(norm.name + ".weight", norm.weight, mask, 0);
          mark(norm.name + ".bias", norm.bias, mask, 0);
        }
        for (const OutgoingWeight& to : layers[l].outgoing) mark(to.name, to.weight, inputs_of(to, mask), 1);
      }
      for (const auto& [name, p] : t.network->parameters_by_name()) {
        const at::Tensor mask = fresh[name].defined() ? fresh[name] : torch::zeros(p.sizes(), at::kBool);
        for (const char* moment : {".exp_avg", ".exp_avg_sq"}) {
          at::Tensor now;
          for (const auto& [key, state] : t.optimizer->state())
            if (key == name + moment) now = state;
          const at::Tensor wanted =
              mode == OptimizerReset::none ? before[name + moment] : before[name + moment].masked_fill(mask, 0);
          EXPECT_TRUE(torch::equal(now, wanted)) << kind.name << " " << name << moment;
        }
        const at::Tensor steps = t.optimizer->weight_steps(name);
        at::Tensor wanted = torch::full(p.sizes(), 5, at::kLong);
        if (mode == OptimizerReset::moments_and_unit_step) wanted.masked_fill_(mask, 0);
        if (mode == OptimizerReset::moments_and_tensor_step && mask.any().item<bool>()) wanted.zero_();
        EXPECT_TRUE(torch::equal(steps, wanted)) << kind.name << " " << name;
      }
      t.train(3);
      for (const auto& [name, p] : t.network->parameters_by_name())
        EXPECT_TRUE(p.detach().isfinite().all().item<bool>()) << name;
    }
  }
}

TEST(Recycler, ScoresAreTheirFormulas) {
  Trained t(convolutions());
  const auto gradient_of = [](const at::Tensor& outputs) { return outputs.square().sum(); };
  const auto values = probe(*t.network, t.batch, gradient_of);
  const auto layers = t.network->layers();
  for (const std::string& name : recycle_score_names()) {
    const RecycleScore score = recycle_score_of(name);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const at::Tensor got = recycle_scores(score, layers[l], values[l]);
      EXPECT_NEAR(got.mean().item<double>(), 1, 1e-5) << name;
      const std::int64_t neurons = layers[l].neurons();
      std::vector<double> wanted;
      double sum = 0;
      for (std::int64_t i = 0; i < neurons; ++i) {
        const at::Tensor h = values[l].values.select(1, i).flatten().to(at::kDouble),
                         g = values[l].gradient.select(1, i).flatten().to(at::kDouble);
        double in = layers[l].weight.detach()[i].to(at::kDouble).abs().sum().item<double>(), out = 0;
        for (const OutgoingWeight& to : layers[l].outgoing)
          for (std::int64_t k = 0; k < to.per_neuron; ++k)
            out += to.weight.detach().select(1, i * to.per_neuron + k).to(at::kDouble).abs().sum().item<double>();
        double value = 0;
        if (name == "activation") value = h.abs().mean().item<double>();
        if (name == "mean_subtracted") value = (h - h.mean()).abs().mean().item<double>();
        if (name == "activation_gradient") value = (h * g).abs().mean().item<double>();
        if (name == "gradient") value = g.abs().mean().item<double>();
        if (name == "connected_weights") value = in * out;
        if (name == "contribution") value = (h - h.mean()).abs().mean().item<double>() * out / in;
        wanted.push_back(value);
        sum += value;
      }
      for (std::int64_t i = 0; i < neurons; ++i)
        EXPECT_NEAR(got[i].item<double>(), wanted[static_cast<std::size_t>(i)] * static_cast<double>(neurons) / sum,
                    1e-4)
            << name << " " << i;
    }
  }
  EXPECT_THAT([] { recycle_score_of("noise"); }, ThrowsMessage<InvalidArgument>(HasSubstr("connected_weights")));
  EXPECT_THAT(
      [&] {
        recycle_scores(RecycleScore::gradient, layers[0], {values[0].values, {}});
      },
      ThrowsMessage<InvalidArgument>(HasSubstr("conv1")));
}

TEST(Recycler, ASilentLayerIsRecycledWhole) {
  Trained t(mlp());
  {
    const at::NoGradGuard no_gradient;
    t.network->layers()[1].weight.detach().abs_().neg_();
    t.network->layers()[1].bias.detach().fill_(-1);
  }
  const RecycleReport report = t.recycle({.tau = 0.1});
  EXPECT_EQ(report.layers[1].count, 12);
  EXPECT_TRUE(t.network->forward(t.batch).isfinite().all().item<bool>());
}

TEST(Recycler, AThresholdOfZeroFindsNothingBehindALeakyRelu) {
  NetworkSpec spec = mlp();
  spec.activation = NetworkActivation::leaky_relu;
  Trained t(spec);
  t.silence();
  EXPECT_EQ(t.recycle({.tau = 0}).recycled, 0);
}

TEST(Recycler, CopiesAreChangedOnlyWhereAskedFor) {
  Trained t(mlp());
  torch::manual_seed(5);
  SequentialNetwork target(mlp());
  for (const bool along_too : {false, true}) {
    t.silence();
    std::vector<at::Tensor> before;
    for (const auto& p : target->parameters()) before.push_back(p.detach().clone());
    std::vector<std::vector<RecyclableLayer>> copies;
    if (along_too) copies.push_back(target->layers());
    Recycler recycler(t.network->layers(), {.tau = 0}, t.optimizer.get(), 7, copies);
    const RecycleReport report = recycler.recycle(1000, probe(*t.network, t.batch));
    bool same = true;
    for (std::size_t i = 0; i < before.size(); ++i) same = same && torch::equal(before[i], target->parameters()[i]);
    EXPECT_EQ(same, !along_too);
    if (!along_too) continue;
    EXPECT_TRUE(torch::equal(target->layers()[0].weight.detach()[1], t.network->layers()[0].weight.detach()[1]));
    EXPECT_FALSE(torch::equal(target->layers()[0].weight.detach()[0], t.network->layers()[0].weight.detach()[0]));
    EXPECT_EQ(target->layers()[0].outgoing[0].weight.detach().select(1, 3).abs().sum().item<float>(), 0);
  }
}

TEST(Recycler, VariantsDoWhatTheySay) {
  {  // V3: a falling fraction; V4 as many; V5 the most active
    NetworkSpec spec = mlp();
    spec.activation = NetworkActivation::leaky_relu;  // no equal scores
    Trained t(spec);
    RecycleOptions options{.end = 10000, .fraction = 0.25};
    const RecycleReport lowest = t.recycle(options, 5000);  // cos(pi / 4) / 4
    EXPECT_EQ(lowest.layers[0].count, 3);
    EXPECT_EQ(lowest.layers[1].count, 2);
    const at::Tensor scores = lowest.layers[0].scores;
    EXPECT_LE(scores.masked_select(lowest.layers[0].recycled).max().item<double>(),
              scores.masked_select(lowest.layers[0].recycled.logical_not()).min().item<double>());
    Trained u(spec), v(spec);
    options.selection = RecycleSelection::highest;
    const RecycleReport highest = u.recycle(options, 5000);
    EXPECT_TRUE(highest.layers[0].recycled[scores.argmax().item<std::int64_t>()].item<bool>());
    EXPECT_EQ(highest.layers[0].count, 3);
    options.selection = RecycleSelection::random;
    const RecycleReport random = v.recycle(options, 5000);
    EXPECT_EQ(random.layers[0].count, 3);
    EXPECT_FALSE(torch::equal(random.layers[0].recycled, lowest.layers[0].recycled));
  }
  {  // V2
    Trained t(mlp());
    t.silence();
    const at::Tensor norms = t.network->layers()[0].weight.detach().norm(2, 1);
    const RecycleReport report = t.recycle({.tau = 0, .incoming = IncomingWeights::rescaled, .incoming_scale = 0.5});
    const double others = norms.masked_select(report.layers[0].recycled.logical_not()).mean().item<double>();
    EXPECT_NEAR(t.network->layers()[0].weight.detach()[1].norm().item<double>(), 0.5 * others, 1e-5);
  }
  {  // V1
    Trained t(mlp());
    t.silence();
    const at::Tensor before = t.network->layers()[0].outgoing[0].weight.detach().select(1, 1).clone();
    t.recycle({.tau = 0, .outgoing = OutgoingWeights::redrawn});
    const at::Tensor after = t.network->layers()[0].outgoing[0].weight.detach().select(1, 1);
    EXPECT_GT(after.abs().min().item<double>(), 0);
    EXPECT_FALSE(torch::equal(after, before));
  }
  {  // V17
    Trained t(mlp());
    t.silence();
    const RecycleReport report = t.recycle({.tau = 0, .first_layer = 1});
    EXPECT_EQ(report.layers[0].count, 0);
    EXPECT_GE(report.layers[1].count, 2);
  }
}

TEST(Recycler, WhatNeuronsGaveCanMoveToTheNextBias) {
  for (const FlattenOrder order : {FlattenOrder::channel_major, FlattenOrder::channel_minor}) {
    Trained t(convolutions(order));
    Recycler recycler(t.network->layers(), {.tau = 0.8, .first_layer = 1, .compensate = true}, nullptr, 7);
    // The last hidden layer and the outputs are linear in what is recycled: their means stay.
    const auto before = probe(*t.network, t.batch);
    const RecycleReport report = recycler.measure(1000, before);
    ASSERT_GT(report.layers[2].count, 0);
    Recycler last(t.network->layers(), {.tau = 0.8, .first_layer = 2, .compensate = true}, nullptr, 7);
    const at::Tensor outputs = t.network->forward(t.batch).mean(0);
    last.recycle(1000, before);
    EXPECT_TRUE(torch::allclose(t.network->forward(t.batch).mean(0), outputs, 1e-4, 1e-5));
    // Across the flatten: the mean of what dense1 adds up.
    const auto layers = t.network->layers();
    const auto product = [&] {
      const auto now = probe(*t.network, t.batch);
      const at::Tensor flat = order == FlattenOrder::channel_major ? now[1].values.flatten(1)
                                                                   : now[1].values.permute({0, 2, 3, 1}).flatten(1);
      return (flat.mm(layers[1].outgoing[0].weight.detach().t()) + layers[2].bias.detach()).mean(0);
    };
    const at::Tensor sums = product();
    RecycleOptions second{.tau = 0.8, .first_layer = 1, .compensate = true};
    std::vector<RecyclableLayer> two(layers.begin(), layers.begin() + 2);
    auto values = probe(*t.network, t.batch);
    values.pop_back();
    Recycler conv(two, second, nullptr, 7);
    const RecycleReport done = conv.recycle(1000, values);
    ASSERT_GT(done.layers[1].count, 0);
    EXPECT_TRUE(torch::allclose(product(), sums, 1e-4, 1e-5));
  }
}

TEST(Recycler, TheSameSeedRecyclesTheSameAndOtherDrawsStay) {
  Trained a(mlp()), b(mlp());
  a.silence();
  b.silence();
  torch::manual_seed(11);
  a.recycle({.tau = 0.2});
  const at::Tensor drawn = torch::rand({4});
  torch::manual_seed(11);
  EXPECT_TRUE(torch::equal(drawn, torch::rand({4}))) << "the program's own draws";
  torch::manual_seed(99);
  b.recycle({.tau = 0.2});
  for (std::size_t i = 0; i < a.network->parameters().size(); ++i)
    EXPECT_TRUE(torch::equal(a.network->parameters()[i], b.network->parameters()[i]));
}

TEST(Recycler, CountsNeuronsThatComeBack) {
  Trained t(mlp());
  Recycler recycler(t.network->layers(), {.tau = 0, .period = 100}, t.optimizer.get(), 7);
  t.silence();
  const RecycleReport first = recycler.recycle(100, probe(*t.network, t.batch));
  EXPECT_EQ(first.again, 0);
  t.silence();
  const RecycleReport second = recycler.recycle(300, probe(*t.network, t.batch));
  std::int64_t both = 0;
  for (std::size_t l = 0; l < 2; ++l)
    both += first.layers[l].recycled.logical_and(second.layers[l].recycled).sum().item<std::int64_t>();
  EXPECT_GE(both, 4);
  EXPECT_EQ(second.again, both);
  t.silence();
  EXPECT_EQ(recycler.recycle(600, probe(*t.network, t.batch)).again, 0);
  EXPECT_TRUE(recycler.due(100));
  EXPECT_FALSE(recycler.due(150));
  EXPECT_FALSE(recycler.due(0));
}

TEST(Recycler, RefusesWhatItCannotDo) {
  const auto layers = [] { return SequentialNetwork(mlp())->layers(); };
  const auto refused = [&](const RecycleOptions& options, const char* why) {
    EXPECT_THAT([&] { Recycler(layers(), options, nullptr, 1); }, ThrowsMessage<InvalidArgument>(HasSubstr(why)));
  };
  refused({.tau = -0.1}, "tau");
  refused({.period = 0}, "period");
  refused({.begin = 5, .end = 4}, "steps");
  refused({.fraction = 0.1}, "last step");
  refused({.selection = RecycleSelection::random}, "fraction");
  refused({.first_layer = 2}, "no layer");
  NetworkSpec normed = mlp();
  normed.norm = NormKind::layer;
  SequentialNetwork network(normed);
  EXPECT_THAT([&] { Recycler(network->layers(), {}, nullptr, 1); },
              ThrowsMessage<InvalidArgument>(HasSubstr("\"dense1\"")));
  EXPECT_THROW(Recycler(network->layers(), {.skip_obstacles = true}, nullptr, 1), InvalidArgument);  // none is left
  auto broken = layers();
  broken[0].outgoing[0].per_neuron = 2;
  EXPECT_THAT([&] { Recycler(broken, {}, nullptr, 1); }, ThrowsMessage<InvalidArgument>(HasSubstr("dense2.weight")));
  EXPECT_THROW(Recycler({}, {}, nullptr, 1), InvalidArgument);
  EXPECT_THROW(SequentialNetwork(NetworkSpec{.input = {1, 4, 4}, .hidden = {ConvSpec{2, 5}}}), InvalidArgument);
}

TEST(Recycler, PrunedNeuronsStaySilent) {
  Trained t(mlp());
  t.train(3);
  t.silence();
  const at::Tensor before = t.network->forward(t.batch).detach();
  Recycler recycler(t.network->layers(), {.tau = 0, .prune = true}, t.optimizer.get(), 7);
  EXPECT_GE(recycler.recycle(1000, probe(*t.network, t.batch)).recycled, 4);
  EXPECT_TRUE(at::equal(t.network->forward(t.batch).detach(), before));
  // Others learn on; these do not come back, though the optimizer has moments for them.
  for (int step = 0; step < 20; ++step) {
    t.train(1);
    recycler.keep_pruned();
  }
  std::vector<at::Tensor> values;
  t.network->forward(torch::randn({500, 10}), values);
  for (const at::Tensor& layer : values) {
    const at::Tensor silent = layer.detach().abs().amax(0).eq(0);
    EXPECT_TRUE(silent[1].item<bool>() && silent[3].item<bool>());
    EXPECT_LT(silent.sum().item<std::int64_t>(), silent.numel() / 2 + 2);
  }
}

TEST(Recycler, ItsPromiseCanBeChecked) {
  for (const NetworkSpec& spec : {mlp(), convolutions(), convolutions(FlattenOrder::channel_minor)}) {
    Trained t(spec);
    t.train(3);
    Recycler recycler(t.network->layers(), {.tau = 0.6}, t.optimizer.get(), 7);
    std::vector<at::Tensor> masks;
    std::int64_t count = 0;
    for (const RecycledLayer& layer : recycler.measure(1000, probe(*t.network, t.batch)).layers) {
      masks.push_back(layer.recycled);
      count += layer.count;
    }
    ASSERT_GT(count, 2);  // neurons that gave something
    const at::Tensor whole = t.network->forward(t.batch).detach();
    const at::Tensor without = t.network->forward_without(t.batch, masks).detach();
    EXPECT_FALSE(at::allclose(whole, without));
    recycler.recycle(1000, probe(*t.network, t.batch));
    EXPECT_NO_THROW(check_function_kept(without, t.network->forward(t.batch)));
    EXPECT_THROW(check_function_kept(whole, t.network->forward(t.batch)), Error);
  }
  // The official code's mask for a flatten does not keep it (redo.md 5.1).
  Trained t(convolutions());
  t.train(3);
  Recycler recycler(t.network->layers(), {.tau = 0.6, .paper_compatible = true}, t.optimizer.get(), 7);
  std::vector<at::Tensor> masks;
  for (const RecycledLayer& layer : recycler.measure(1000, probe(*t.network, t.batch)).layers)
    masks.push_back(layer.recycled);
  const at::Tensor without = t.network->forward_without(t.batch, masks).detach();
  recycler.recycle(1000, probe(*t.network, t.batch));
  EXPECT_THROW(check_function_kept(without, t.network->forward(t.batch)), Error);
}

TEST(ResidualNetwork, RecyclesWhatOnlyItsBlocksReadAndKeepsTheRest) {
  torch::manual_seed(2);
  ResidualNetwork network(ResidualSpec{.input = {2, 16, 16}, .channels = {4, 6}, .dense = 20, .outputs = 3});
  const at::Tensor x = torch::rand({16, 2, 16, 16});
  std::vector<at::Tensor> values;
  const at::Tensor before = network->forward(x, values).detach();
  const std::vector<RecyclableLayer> layers = network->layers();
  ASSERT_EQ(layers.size(), 4U * 2 + 1);
  ASSERT_EQ(values.size(), layers.size());
  for (std::size_t l = 0; l < layers.size(); ++l) EXPECT_EQ(values[l].size(1), layers[l].neurons()) << layers[l].name;
  EXPECT_EQ(values.back().size(1), 20);
  EXPECT_THAT([&] { Recycler(layers, {}, nullptr, 1); },
              ThrowsMessage<InvalidArgument>(HasSubstr("a residual sum reads its neurons")));
  UnitAdam optimizer(network->parameters_by_name());
  Recycler recycler(layers, {.tau = 0.7, .skip_obstacles = true}, &optimizer, 7);
  std::vector<at::Tensor> masks;
  const RecycleReport report = recycler.measure(1000, probe(*network, x));
  for (std::size_t l = 0; l < layers.size(); ++l) {
    masks.push_back(report.layers[l].recycled);
    if (!layers[l].obstacle.empty()) {
      EXPECT_EQ(report.layers[l].count, 0) << layers[l].name;
    }
  }
  ASSERT_GT(report.recycled, 5);
  const at::Tensor without = network->forward_without(x, masks).detach();
  EXPECT_FALSE(at::allclose(without, before));
  recycler.recycle(1000, probe(*network, x));
  EXPECT_NO_THROW(check_function_kept(without, network->forward(x)));
  EXPECT_THROW(ResidualNetwork(ResidualSpec{.input = {4}}), InvalidArgument);
}

TEST(ContinualBackprop, ReplacesAShareOfTheMatureAndTheLeastUsefulFirst) {
  Trained t(mlp());
  t.train(2);
  {  // Neuron 5 of the first layer gives next to nothing; neuron 0 the most.
    const at::NoGradGuard no_gradient;
    t.network->layers()[0].bias.detach().add_(2);  // all are active
    t.network->layers()[0].outgoing[0].weight.detach().transpose(0, 1)[5].mul_(1e-4);
    t.network->layers()[0].outgoing[0].weight.detach().transpose(0, 1)[0].mul_(10);
  }
  Recycler recycler(t.network->layers(), {.tau = 0, .compensate = true}, t.optimizer.get(), 7);
  ContinualBackprop replaces(recycler, {.decay = 0.9, .replacement_rate = 0.01, .maturity = 10});
  std::vector<at::Tensor> values;
  std::vector<std::int64_t> when;
  const at::Tensor first = t.network->layers()[0].weight.detach().clone();
  for (int step = 1; step <= 40; ++step) {
    const at::Tensor before = t.network->forward(t.batch, values).detach();
    const std::int64_t count = replaces.step(step, values);
    for (std::int64_t i = 0; i < count; ++i) when.push_back(step);
    if (when.size() == 1 && count == 1) {
      const at::Tensor changed = t.network->layers()[0].weight.detach().ne(first).any(1);
      EXPECT_EQ(changed.sum().item<std::int64_t>(), 1);
      EXPECT_TRUE(changed[5].item<bool>());
      // Its mean went to the biases: what it computes has hardly changed.
      EXPECT_LT((t.network->forward(t.batch).detach() - before).abs().max().item<double>(), 1e-3);
    }
  }
  // 16 neurons a hundredth each step from step 11 on: one after 7 steps; of 12 after 9. Fewer are mature behind that.
  ASSERT_GE(when.size(), 4U);
  EXPECT_EQ(when[0], 17);
  EXPECT_EQ(when[1], 19);
  EXPECT_LE(when.size(), 8U);
  EXPECT_TRUE(at::equal(t.network->layers()[0].weight.detach()[0], first[0]));  // the most useful one stays
  EXPECT_THROW(ContinualBackprop(recycler, {.decay = 1}), InvalidArgument);
  EXPECT_THROW(ContinualBackprop(recycler, {.replacement_rate = -1}), InvalidArgument);
  EXPECT_THROW(ContinualBackprop(recycler, {.maturity = -1}), InvalidArgument);
  EXPECT_THROW(replaces.step(41, {}), InvalidArgument);
}

TEST(Dormancy, IsPooledOverNeurons) {
  const std::vector<at::Tensor> scores = {torch::tensor({0.0F, 2.0F}), torch::tensor({0.05F, 0.0F, 1.0F, 2.95F})};
  const Dormancy zero = dormancy(scores, 0), tenth = dormancy(scores, 0.1);
  EXPECT_DOUBLE_EQ(zero.all, 2.0 / 6);
  EXPECT_DOUBLE_EQ(tenth.all, 3.0 / 6);
  EXPECT_DOUBLE_EQ(tenth.layers[0], 0.5);
  EXPECT_DOUBLE_EQ(tenth.layers[1], 0.5);
  const at::Tensor x = torch::tensor({true, true, false, false}), y = torch::tensor({true, false, true, true});
  EXPECT_DOUBLE_EQ(overlap_coefficient(x, y), 0.5);
  EXPECT_DOUBLE_EQ(overlap_coefficient(x, torch::zeros({4}, at::kBool)), 0);
}

TEST(EffectiveRank, CountsSingularValues) {
  EXPECT_EQ(effective_rank(torch::eye(8)), 8);
  EXPECT_EQ(effective_rank(torch::ones({8, 4})), 1);
  EXPECT_EQ(effective_rank(torch::zeros({8, 4})), 0);
  EXPECT_EQ(effective_rank(torch::diag(torch::tensor({98.0F, 1.5F, 0.5F}))), 2);
}

// A gated unit has two rows that make it: both are drawn anew, and lose their moments.
TEST(Recycler, RenewsGatesWithTheirNeurons) {
  torch::manual_seed(4);
  const auto parameter = [](std::int64_t rows, std::int64_t columns) {
    return torch::randn({rows, columns}).requires_grad_();
  };
  const at::Tensor up = parameter(5, 4), gate = parameter(5, 3), down = parameter(2, 5);
  const at::Tensor gate_bias = torch::randn({5}).requires_grad_();
  const auto sevens = [](const at::Tensor& weight) { weight.detach().fill_(7); };
  RecyclableLayer layer{.name = "gated", .weight_name = "up", .weight = up, .initialise = sevens};
  layer.gates = {{.name = "gate", .bias_name = "gate_bias", .weight = gate, .bias = gate_bias, .initialise = sevens}};
  layer.outgoing = {{.name = "down", .weight = down}};
  const NamedTensors parameters = {{"up", up}, {"gate", gate}, {"gate_bias", gate_bias}, {"down", down}};
  UnitAdam adam(parameters);
  for (const auto& [name, weight] : parameters) weight.mutable_grad() = torch::ones_like(weight);
  adam.step(1e-3);
  const at::Tensor kept_up = up.detach().clone(), kept_gate = gate.detach().clone();
  at::Tensor values = torch::ones({6, 5});
  values.select(1, 2).zero_();
  const ProbeValues probe{values, {}};
  EXPECT_TRUE(at::allclose(
      recycle_scores(RecycleScore::connected_weights, layer, probe),
      at::mul(up.detach().abs().sum(1) + gate.detach().abs().sum(1), down.detach().abs().sum(0)) /
          at::mul(up.detach().abs().sum(1) + gate.detach().abs().sum(1), down.detach().abs().sum(0)).mean()));
  const RecycleReport report = Recycler({layer}, {.tau = 0}, &adam, 1).recycle(1000, {probe});
  EXPECT_EQ(report.recycled, 1);
  for (std::int64_t i = 0; i < 5; ++i) {
    const bool renewed = i == 2;
    EXPECT_EQ(up.detach()[i].eq(7).all().item<bool>(), renewed) << i;
    EXPECT_EQ(gate.detach()[i].eq(7).all().item<bool>(), renewed) << i;
    EXPECT_EQ(gate_bias.detach()[i].item<float>() == 0, renewed) << i;
    EXPECT_EQ(down.detach().select(1, i).eq(0).all().item<bool>(), renewed) << i;
    EXPECT_TRUE(renewed || at::equal(up.detach()[i], kept_up[i])) << i;
    EXPECT_TRUE(renewed || at::equal(gate.detach()[i], kept_gate[i])) << i;
    for (const auto& [name, tensor] : adam.state()) {
      if (!name.ends_with(".exp_avg")) continue;
      const at::Tensor moments = name == "down.exp_avg" ? tensor.select(1, i) : tensor[i];
      EXPECT_EQ(moments.eq(0).all().item<bool>(), renewed) << name << ' ' << i;
    }
    EXPECT_EQ(adam.weight_steps("gate")[i][0].item<std::int64_t>(), renewed ? 0 : 1);
    EXPECT_EQ(adam.weight_steps("gate_bias")[i].item<std::int64_t>(), renewed ? 0 : 1);
  }
  layer.gates[0].weight = parameter(4, 3);
  EXPECT_THAT([&] { check_layer(layer); }, ThrowsMessage<InvalidArgument>(HasSubstr("a gate \"gate\" of 5 neurons")));
}

}  // namespace
}  // namespace torpor::lab
