// What a step of training costs: environments, a small network's passes beside LibTorch's, recycling and logging.
//
//     bench_rl [--benchmark_filter=…]
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <cstdlib>
#include <string>

#include "lab/recycle/direct_kernels.h"
#include "lab/recycle/direct_network.h"
#include "lab/rl/training.h"

namespace torpor::lab {
namespace {

/// Steps a second of one environment under random actions, with observations.
void environment_steps(benchmark::State& state, const std::string& name) {
  const auto environment = make_environment(name, 1);
  Random random(1);
  std::vector<float> observation(static_cast<std::size_t>(environment->spec().values()));
  environment->reset(observation);
  std::vector<float> torque(static_cast<std::size_t>(environment->spec().action_values));
  const auto actions = static_cast<std::uint64_t>(environment->spec().actions);
  for (auto _ : state) {
    for (float& value : torque)
      value = static_cast<float>(environment->spec().action_bound * (2 * random.uniform() - 1));
    const StepResult result = actions > 0
                                  ? environment->step(static_cast<std::int64_t>(random.bits() % actions), observation)
                                  : environment->step(torque, observation);
    if (result.over()) environment->reset(observation);
    benchmark::DoNotOptimize(observation.data());
  }
  state.SetItemsProcessed(state.iterations());
}

/// Observations like a grid game's: `active` of 400 values are 1.
at::Tensor grid(std::int64_t batch, int active) {
  Random random(2);
  at::Tensor x = torch::zeros({batch, 4, 10, 10});
  float* const values = x.mutable_data_ptr<float>();
  for (std::int64_t b = 0; b < batch; ++b)
    for (int i = 0; i < active; ++i) values[b * 400 + static_cast<std::int64_t>(random.below(400))] = 1;
  return x;
}

SequentialNetwork network_of_grids() {
  torch::manual_seed(1);
  return SequentialNetwork(
      NetworkSpec{.input = {4, 10, 10}, .hidden = {ConvSpec{16, 3}, DenseSpec{128}}, .outputs = 3});
}

void forward_direct(benchmark::State& state) {
  DirectNetwork direct(network_of_grids().ptr());
  const at::Tensor x = grid(state.range(0), 34);
  for (auto _ : state) {
    direct.weights_changed();
    benchmark::DoNotOptimize(direct.forward(x.size(0), x.const_data_ptr<float>()));
  }
}
BENCHMARK(forward_direct)->Arg(1)->Arg(32);

void forward_libtorch(benchmark::State& state) {
  SequentialNetwork network = network_of_grids();
  const at::Tensor x = grid(state.range(0), 34);
  const c10::InferenceMode inference;
  for (auto _ : state) benchmark::DoNotOptimize(network->forward(x));
}
BENCHMARK(forward_libtorch)->Arg(1)->Arg(32);

void both_direct(benchmark::State& state) {
  DirectNetwork direct(network_of_grids().ptr());
  const at::Tensor x = grid(32, 34);
  std::vector<float> gradient(32 * 3);
  for (std::size_t b = 0; b < 32; ++b) gradient[3 * b + b % 3] = b % 2 == 0 ? 0.01F : -0.01F;
  for (auto _ : state) {
    direct.forward(32, x.const_data_ptr<float>());
    direct.backward(gradient.data());
  }
}
BENCHMARK(both_direct);

void both_libtorch(benchmark::State& state) {
  SequentialNetwork network = network_of_grids();
  const at::Tensor x = grid(32, 34);
  at::Tensor gradient = torch::zeros({32, 3});
  for (std::int64_t b = 0; b < 32; ++b) gradient[b][b % 3] = b % 2 == 0 ? 0.01 : -0.01;
  for (auto _ : state) {
    network->zero_grad();
    network->forward(x).backward(gradient);
  }
}
BENCHMARK(both_libtorch);

std::vector<float> numbers(std::int64_t n, double active) {
  Random random(3);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = random.uniform() < active ? static_cast<float>(random.normal()) : 0;
  return x;
}

void dense_forward(benchmark::State& state) {
  const std::int64_t batch = state.range(0);
  const auto x = numbers(batch * 1024, 1), w = numbers(1024 * 128, 1), bias = numbers(128, 1);
  std::vector<float> y(static_cast<std::size_t>(batch * 128));
  for (auto _ : state) {
    detail::dense_forward(batch, 1024, 128, x.data(), w.data(), bias.data(), true, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["GFLOP/s"] = benchmark::Counter(static_cast<double>(batch) * 2 * 1024 * 128 * 1e-9,
                                                 benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(dense_forward)->Arg(1)->Arg(32);

void dense_backward(benchmark::State& state) {
  const auto x = numbers(32 * 1024, 0.5), w = numbers(1024 * 128, 1);
  const auto dy = numbers(32 * 128, static_cast<double>(state.range(0)) / 100);
  std::vector<float> dw(1024 * 128), db(128), dx(32 * 1024);
  for (auto _ : state) {
    detail::dense_backward(32, 1024, 128, x.data(), w.data(), dy.data(), dw.data(), db.data(), dx.data());
    benchmark::DoNotOptimize(dw.data());
  }
}
BENCHMARK(dense_backward)->Arg(100)->Arg(50)->Arg(20);

void dense_forward_active(benchmark::State& state) {
  const auto x = numbers(32 * 1024, static_cast<double>(state.range(0)) / 100), w = numbers(1024 * 128, 1),
             bias = numbers(128, 1);
  std::vector<float> y(32 * 128);
  for (auto _ : state) {
    detail::dense_forward_active(32, 1024, 128, x.data(), w.data(), bias.data(), true, y.data());
    benchmark::DoNotOptimize(y.data());
  }
}
BENCHMARK(dense_forward_active)->Arg(100)->Arg(40)->Arg(20);

void transpose(benchmark::State& state) {
  const auto w = numbers(1024 * 128, 1);
  std::vector<float> to(1024 * 128);
  for (auto _ : state) {
    detail::transpose(128, 1024, w.data(), to.data());
    benchmark::DoNotOptimize(to.data());
  }
}
BENCHMARK(transpose);

void conv_forward(benchmark::State& state) {
  const detail::ConvSizes sizes(4, 10, 10, 16, 3, 1);
  const at::Tensor x = grid(32, 34);
  const auto w = numbers(16 * 36, 1), bias = numbers(16, 1);
  std::vector<float> y(32 * 1024);
  for (auto _ : state) {
    detail::conv_forward(32, sizes, x.const_data_ptr<float>(), w.data(), bias.data(), y.data());
    benchmark::DoNotOptimize(y.data());
  }
}
BENCHMARK(conv_forward);

void conv_backward(benchmark::State& state) {
  const detail::ConvSizes sizes(4, 10, 10, 16, 3, 1);
  const at::Tensor x = grid(32, 34);
  const auto dy = numbers(32 * 1024, 0.5);
  std::vector<float> dw(16 * 36), db(16);
  for (auto _ : state) {
    detail::conv_backward(32, sizes, x.const_data_ptr<float>(), dy.data(), dw.data(), db.data());
    benchmark::DoNotOptimize(dw.data());
  }
}
BENCHMARK(conv_backward);

void adam(benchmark::State& state) {
  SequentialNetwork network = network_of_grids();
  UnitAdam optimizer(network->parameters_by_name());
  network->forward(grid(32, 34)).sum().backward();
  for (auto _ : state) optimizer.step(1e-4);
}
BENCHMARK(adam);

void replay_sample(benchmark::State& state) {
  const auto environment = make_environment("breakout-mini", 1);
  Replay replay(environment->spec(), {.capacity = 20'000});
  std::vector<float> observation(400);
  environment->reset(observation);
  replay.begin(0, observation);
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    const float action = static_cast<float>(random.below(3));
    const StepResult result = environment->step(static_cast<std::int64_t>(action), observation);
    replay.add(0, {&action, 1}, result.reward, observation, result.terminated, false);
    if (!result.over()) continue;
    environment->reset(observation);
    replay.begin(0, observation);
  }
  for (auto _ : state) benchmark::DoNotOptimize(replay.sample(32, random));
}
BENCHMARK(replay_sample);

}  // namespace
}  // namespace torpor::lab

int main(int argc, char** argv) {
  at::set_num_threads(1);
  at::globalContext().setFlushDenormal(true);
  for (const std::string& name : torpor::lab::environment_names())
    benchmark::RegisterBenchmark(("environment/" + name).c_str(), torpor::lab::environment_steps, name);
  if (const char* const other = std::getenv("TORPOR_BENCH_ENV"))  // as --env takes it: gym:ALE/Breakout-v5
    benchmark::RegisterBenchmark("environment/other", torpor::lab::environment_steps, std::string(other))
        ->UseRealTime()
        ->MinTime(4);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
