#include "engine/bench/kernel_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/large_memory.h"
#include "core/base/random.h"
#include "engine/bench/memory_rate.h"
#include "engine/bench/spread.h"
#include "engine/decode/predictor.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/sparse.h"

namespace torpor {
namespace {

/// Switches asking ahead off while it lives.
class NotAhead {
 public:
  NotAhead() { simd::asks_ahead = false; }
  ~NotAhead() { simd::asks_ahead = true; }
  NotAhead(const NotAhead&) = delete;
  NotAhead& operator=(const NotAhead&) = delete;
};

class Layers {
 public:
  Layers(NumberFormat format, const KernelBenchOptions& options, ThreadPool& pool)
      : format_(format), options_(options), pool_(pool), random_(options.seed) {
    matrix_ = static_cast<std::int64_t>(bytes_of(format, options.neurons * options.width));
    const CpuInfo cpu = cpu_info();
    const std::int64_t wanted =
        options.bytes > 0
            ? options.bytes
            : std::min(8 * std::max<std::int64_t>(cpu.last_level_cache_bytes, 8 << 20), cpu.memory_bytes / 3);
    count_ = std::max<std::int64_t>(2, wanted / (2 * matrix_));
    memory_ = allocate_large(static_cast<std::size_t>(count_ * 2 * matrix_), "the weights of the kernels");
    // 64 rows of normal numbers, again and again: what is in a row does not change its time.
    std::vector<float> values(static_cast<std::size_t>(64 * options.width));
    for (float& v : values) v = static_cast<float>(0.02 * random_.normal());
    std::vector<std::byte> rows(bytes_of(format, 64 * options.width));
    from_f32(values, format, rows.data());
    for (std::int64_t at = 0; at < count_ * 2 * matrix_; at += static_cast<std::int64_t>(rows.size()))
      std::memcpy(memory_.get() + at, rows.data(),
                  std::min(rows.size(), static_cast<std::size_t>(count_ * 2 * matrix_ - at)));
    x_.resize(static_cast<std::size_t>(options.width));
    for (float& v : x_) v = static_cast<float>(random_.normal());
    values_.resize(static_cast<std::size_t>(options.neurons));
    products_.resize(values_.size());
    out_.resize(x_.size());
    listed_.resize(values_.size());
  }

  std::int64_t matrix_bytes() const { return matrix_; }

  /// Active neurons for so many layers.
  void draw(std::size_t layers) {
    sets_.resize(layers);
    for (auto& set : sets_) {
      set.clear();
      for (std::int32_t i = 0; i < options_.neurons; ++i)
        if (random_.uniform() < options_.density) set.push_back(i);
    }
  }

  /// Goes to the next layer, with set number `set`.
  void next(std::size_t set) {
    layer_ = (layer_ + 1) % count_;
    active_.swap(sets_[set]);
    std::fill_n(values_.begin(), active_.size(), 1.0F);
  }

  /// Rows in the order that this processor multiplies fastest. (What is in them does not change their time: the bytes
  /// stay as they are, and mean other numbers.)
  static WeightMatrix interleaved(WeightMatrix w) {
    w.interleaved = interleaving_pays(w.format, w.in);
    return w;
  }

  void dense() {
    WeightMatrix down = rows(1);
    std::swap(down.in, down.out);  // as files hold it
    linear(interleaved(rows(0)), x_.data(), 1, {}, values_.data(), pool_);
    linear(interleaved(down), values_.data(), 1, {}, out_.data(), pool_);
  }

  void plain() { reference::sparse_ffn({rows(0), {}, rows(1)}, active_, values_.data(), x_.data(), out_.data()); }

  void two_passes() {
    dot_rows(rows(0), active_, x_.data(), {}, products_.data(), pool_);
    for (std::size_t k = 0; k < active_.size(); ++k) values_[k] *= products_[k];
    sparse_ffn({{}, {}, rows(1)}, active_, values_.data(), nullptr, out_.data(), scratch_, pool_);
  }

  void fused() { sparse_ffn({rows(0), {}, rows(1)}, active_, values_.data(), x_.data(), out_.data(), scratch_, pool_); }

  void by_neuron(bool interleave) {
    by_neuron_ = true;
    const WeightMatrix up = rows(0), down = rows(1);
    by_neuron_ = false;
    sparse_ffn({interleave ? interleaved(up) : up, {}, down}, active_, values_.data(), x_.data(), out_.data(), scratch_,
               pool_);
  }

  /// An int8 predictor of rank 256 and then what it names.
  void predicted() {
    LayerPredictor predictor;
    predictor.fc1 = {NumberFormat::q8_0, memory_.get() + 2 * layer_ * matrix_, kRank, options_.width};
    predictor.fc2 = {NumberFormat::q8_0, predictor.fc1.data + predictor.fc1.bytes(), options_.neurons, kRank};
    choose_order(predictor.fc1);
    choose_order(predictor.fc2);
    predictor.predict(x_.data(), 1, hidden_, products_.data(), pool_);
    list_above(products_.data(), options_.neurons, 0, listed_.data());
    by_neuron_ = true;
    // An ungated layer's rows of up are what makes activations.
    const NeuronRows neurons{.multiplier = {},
                             .multiplier_bias = {},
                             .down = rows(1),
                             .gate = interleaved(rows(0)),
                             .gate_bias = {},
                             .activation = Activation::silu,
                             .activation_threshold = 0};
    by_neuron_ = false;
    sparse_ffn(neurons, active_, values_.data(), x_.data(), out_.data(), scratch_, pool_);
  }

  double predictor_bytes() const {
    return static_cast<double>(bytes_of(NumberFormat::q8_0, kRank * (options_.width + options_.neurons)));
  }

  double read() {
    layer_ = (layer_ + 1) % count_;
    const std::int64_t first = std::min(layer_, count_ - std::min<std::int64_t>(4, count_));
    return memory_read_rate({memory_.get() + first * 2 * matrix_,
                             static_cast<std::size_t>(std::min<std::int64_t>(4, count_) * 2 * matrix_)},
                            pool_);
  }

 private:
  WeightMatrix rows(int which) const {
    const std::int64_t row = matrix_ / options_.neurons;
    if (by_neuron_)
      return {format_, memory_.get() + 2 * layer_ * matrix_ + which * row, options_.neurons, options_.width, 2 * row};
    return {format_, memory_.get() + (2 * layer_ + which) * matrix_, options_.neurons, options_.width};
  }

  static constexpr std::int64_t kRank = 256;
  float hidden_[kRank] = {};
  std::vector<std::int32_t> listed_;
  bool by_neuron_ = false;
  NumberFormat format_;
  const KernelBenchOptions& options_;
  ThreadPool& pool_;
  Random random_;
  std::int64_t matrix_ = 0, count_ = 0, layer_ = 0;
  std::shared_ptr<std::byte> memory_;
  std::vector<float> x_, values_, products_, out_;
  std::vector<std::int32_t> active_;
  std::vector<std::vector<std::int32_t>> sets_;
  SparseScratch scratch_;
};

}  // namespace

std::vector<KernelStep> bench_kernels(NumberFormat weights, const KernelBenchOptions& options, ThreadPool& pool,
                                      const std::function<void(int)>& progress) {
  if (options.width < 32 || options.width % 32 != 0 || options.neurons < 64 || options.rounds < 1 ||
      options.bytes < 0 || !(options.density > 0 && options.density <= 1))
    throw InvalidArgument(
        "[bench_kernels] expected a width that is a multiple of 32, 64 neurons or more, a density above 0 and at most "
        "1, "
        "got {}, {}, {}",
        options.width, options.neurons, options.density);
  Layers layers(weights, options, pool);
  struct Step {
    const char* name;
    bool dense;
    int repeats;  // layers of a round
    std::function<void()> run;
  };
  const Step steps[] = {
      {"dense", true, 2, [&] { layers.dense(); }},
      {"plain loops in double, one thread", false, 1, [&] { layers.plain(); }},
      {"SIMD and threads, up then down", false, 8,
       [&] {
         const NotAhead not_ahead;
         layers.two_passes();
       }},
      {"the next rows asked for meanwhile", false, 8, [&] { layers.two_passes(); }},
      {"up and down fused", false, 8, [&] { layers.fused(); }},
      {"a neuron's rows side by side", false, 8, [&] { layers.by_neuron(false); }},
      {"a row's blocks side by side (VNNI)", false, 8, [&] { layers.by_neuron(true); }},
      {"the set from a predictor of rank 256", false, 8, [&] { layers.predicted(); }},
  };
  const bool vnni = interleaving_pays(weights, options.width);
  std::vector<KernelStep> result;
  for (const Step& step : steps) {
    const bool last = &step == std::end(steps) - 1;
    result.push_back({.name = step.name,
                      .weights = weights,
                      .bytes = 2 * static_cast<double>(layers.matrix_bytes()) * (step.dense ? 1 : options.density) +
                               (last ? layers.predictor_bytes() : 0),
                      .seconds = {},
                      .bandwidth = {}});
  }
  using Clock = std::chrono::steady_clock;
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t s = 0; s < std::size(steps); ++s) {
      check_interrupt();
      if (s == std::size(steps) - 2 && !vnni) continue;
      // One layer right after the other, as decoding has them: threads that are waited for too long would sleep.
      layers.draw(static_cast<std::size_t>(steps[s].repeats));
      const double before = layers.read();
      const auto start = Clock::now();
      for (int i = 0; i < steps[s].repeats; ++i) {
        layers.next(static_cast<std::size_t>(i));
        steps[s].run();
      }
      result[s].seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() / steps[s].repeats);
      result[s].bandwidth.push_back(std::max(before, layers.read()));
    }
    if (progress) progress(round + 1);
  }
  if (!vnni) result.erase(result.end() - 2);
  return result;
}

Json to_json(const std::vector<KernelStep>& steps) {
  Json json = Json::array();
  for (const KernelStep& step : steps) {
    std::vector<double> micros, shares, speedups;
    for (std::size_t r = 0; r < step.seconds.size(); ++r) {
      micros.push_back(step.seconds[r] * 1e6);
      shares.push_back(step.bytes / step.seconds[r] / step.bandwidth[r]);
      speedups.push_back(steps.front().seconds[r] / step.seconds[r]);
    }
    json.push_back({{"step", step.name},
                    {"weights", traits(step.weights).name},
                    {"microseconds", spread(micros)},
                    {"bytes", step.bytes},
                    {"gb_per_s", step.bytes * 1e-3 / median(micros)},
                    {"share_of_bandwidth", spread(shares)},
                    {"speedup", spread(speedups)}});
  }
  return json;
}

}  // namespace torpor
