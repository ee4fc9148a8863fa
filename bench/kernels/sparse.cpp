// Sparse feed-forward layers beside the same layers computed densely, in turn: how much of what the bytes allow is
// reached. Weights of many layers, above eight times the last-level cache unless --megabytes says less; the active
// neurons are drawn anew for every layer and round, since a set that repeats would lie in the cache.
#include "bench/kernels/sparse.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "bench/kernels/machine.h"
#include "core/base/cpu.h"
#include "core/base/large_memory.h"
#include "core/base/random.h"
#include "engine/decode/predictor.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/sparse.h"
#include "tests/engine/kernels/kernel_test_support.h"

namespace torpor::bench {
namespace {

using testing::normal_values;
using testing::random_weights;

constexpr std::int64_t kWidth = 2048, kNeurons = 16384, kPredictor = kWidth / 2;
constexpr double kDensity = 0.08;

std::vector<std::int32_t> draw(Random& random) {
  std::vector<std::int32_t> active;
  active.reserve(kNeurons / 8);
  for (std::int32_t i = 0; i < kNeurons; ++i)
    if (random.uniform() < kDensity) active.push_back(i);
  return active;
}

}  // namespace

void sparse(int rounds, std::int64_t megabytes, ThreadPool& pool) {
  const std::int64_t cache = std::max<std::int64_t>(cpu_info().last_level_cache_bytes, 8 << 20);
  const std::int64_t wanted =
      megabytes > 0 ? megabytes << 20 : std::min<std::int64_t>(8 * cache, cpu_info().memory_bytes / 3);
  fmt::print(
      "sparse: width {}, {} neurons, {:.0f} % active, {} threads; weights of {:.1f} GB (last-level cache {:.0f} MB)\n",
      kWidth, kNeurons, 100 * kDensity, pool.threads(), static_cast<double>(wanted) * 1e-9,
      static_cast<double>(cache) * 1e-6);
  fmt::print("  {:5} {:34} {:>8}  speed-up over dense, min median max   limit  GB/s of reading's\n", "", "", "us");
  for (const NumberFormat format : {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0}) {
    // One layer: [neurons, width] for up, [neurons, width] for down.
    const auto matrix = static_cast<std::int64_t>(bytes_of(format, kNeurons * kWidth));
    const std::int64_t layers = std::max<std::int64_t>(2, wanted / (2 * matrix));
    const auto memory = allocate_large(static_cast<std::size_t>(layers * 2 * matrix), "weights");
    const auto pattern = random_weights(format, 64, kWidth, 1);
    for (std::int64_t at = 0; at < layers * 2 * matrix; at += static_cast<std::int64_t>(pattern.size()))
      std::memcpy(memory.get() + at, pattern.data(), pattern.size());
    // Rows in the order that this processor multiplies fastest. What is in a row does not change its time: the bytes
    // stay as they are, and mean other numbers.
    const auto ordered = [](WeightMatrix w) {
      w.interleaved = interleaving_pays(w.format, w.in);
      return w;
    };
    const auto rows = [&](std::int64_t layer, int which, std::int64_t width) {
      const WeightMatrix w{format, memory.get() + (layer * 2 + which) * matrix, kNeurons, width};
      return which == 0 ? ordered(w) : w;  // down by neuron is added up
    };
    // A neuron's row of up, of `width` values, and then its row of down, as NeuronMajorWeights has them.
    const auto side_by_side = [&](const std::byte* data, std::int64_t width) {
      WeightMatrix up{format, data, kNeurons, width}, down{format, data + up.row_bytes(), kNeurons, kWidth};
      up.stride = down.stride = up.row_bytes() + down.row_bytes();
      return std::pair(ordered(up), down);
    };
    // An int8 predictor of rank 256 (Deja Vu's form): its rows lie where the layer's would.
    constexpr std::int64_t kRank = 256;
    std::vector<float> hidden(kRank), logits(kNeurons);
    std::vector<std::int32_t> listed(kNeurons);
    const double predictor_bytes = static_cast<double>(bytes_of(NumberFormat::q8_0, kRank * (kWidth + kNeurons)));
    const auto x = normal_values(kWidth, 2);
    std::vector<float> values(kNeurons), out(kWidth), given = normal_values(kNeurons, 3);
    std::vector<std::int32_t> everyone(kNeurons);
    for (std::int32_t i = 0; i < kNeurons; ++i) everyone[static_cast<std::size_t>(i)] = i;
    SparseScratch scratch;
    Random random(4);

    // Down as files hold it, [width, neurons]: the best that a dense engine does.
    const auto dense = [&](std::int64_t layer) {
      linear(rows(layer, 0, kWidth), x.data(), 1, {}, values.data(), pool);
      activate(Activation::relu2, values.data(), kNeurons);
      WeightMatrix down = rows(layer, 1, kWidth);
      std::swap(down.in, down.out);
      down = ordered(down);
      linear(down, values.data(), 1, {}, out.data(), pool);
    };
    std::vector<std::int32_t> active;
    std::vector<std::vector<std::int32_t>> sets(8);
    std::vector<float> a(kNeurons);
    const auto take = [&] { std::copy_n(given.begin(), active.size(), a.begin()); };
    struct Case {
      const char* name;
      double bytes;  // of the dense layer's
      std::function<void(std::int64_t)> run;
    };
    const double p = kDensity;
    const Case cases[] = {
        {"dense, down by neuron", 1,
         [&](std::int64_t layer) {
           linear(rows(layer, 0, kWidth), x.data(), 1, {}, values.data(), pool);
           activate(Activation::relu2, values.data(), kNeurons);
           std::copy(given.begin(), given.end(), values.begin());
           sparse_ffn({{}, {}, rows(layer, 1, kWidth)}, everyone, values.data(), nullptr, out.data(), scratch, pool);
         }},
        {"up dense, down skipped", (1 + p) / 2,
         [&](std::int64_t layer) {
           linear(rows(layer, 0, kWidth), x.data(), 1, {}, values.data(), pool);
           take();
           sparse_ffn({{}, {}, rows(layer, 1, kWidth)}, active, a.data(), nullptr, out.data(), scratch, pool);
         }},
        {"Spark's split, r = width / 2", (0.5 + 1.5 * p) / 2,
         [&](std::int64_t layer) {
           const WeightMatrix predictor = rows(layer, 0, kPredictor);
           linear(predictor, x.data(), 1, {}, values.data(), pool);
           take();
           const auto [rest, down] = side_by_side(predictor.data + matrix / 2, kWidth - kPredictor);
           sparse_ffn({rest, {}, down}, active, a.data(), x.data(), out.data(), scratch, pool);
         }},
        {"the set known", p,
         [&](std::int64_t layer) {
           std::fill_n(a.begin(), active.size(), 1.0F);
           const auto [up, down] = side_by_side(rows(layer, 0, kWidth).data, kWidth);
           sparse_ffn({up, {}, down}, active, a.data(), x.data(), out.data(), scratch, pool);
         }},
        {"int8 predictor of rank 256", p + predictor_bytes / (2 * static_cast<double>(matrix)),
         [&](std::int64_t layer) {
           LayerPredictor predictor;
           predictor.fc1 = {NumberFormat::q8_0, rows(layer, 0, kWidth).data, kRank, kWidth};
           predictor.fc2 = {NumberFormat::q8_0, predictor.fc1.data + predictor.fc1.bytes(), kNeurons, kRank};
           choose_order(predictor.fc1);
           choose_order(predictor.fc2);
           predictor.predict(x.data(), 1, hidden.data(), logits.data(), pool);
           list_above(logits.data(), kNeurons, 0, listed.data());
           // The drawn set takes the place of what random weights would predict.
           std::fill_n(a.begin(), active.size(), 1.0F);
           const auto [up, down] = side_by_side(rows(layer, 0, kWidth).data, kWidth);
           sparse_ffn({.multiplier = {},
                       .multiplier_bias = {},
                       .down = down,
                       .gate = up,
                       .gate_bias = {},
                       .activation = Activation::silu,
                       .activation_threshold = 0},
                      active, a.data(), x.data(), out.data(), scratch, pool);
         }},
    };
    std::int64_t layer = 0;
    const double dense_bytes = 2 * static_cast<double>(matrix);
    for (const Case& c : cases) {
      std::vector<double> ratio, micros, share, dense_share;
      for (int r = 0; r < rounds; ++r) {
        // Several layers on each side, so that one of the system's interruptions does not decide.
        for (auto& set : sets) set = draw(random);
        const auto run = [&](const std::function<void(std::int64_t)>& work) {
          const double start = seconds();
          for (auto& set : sets) {
            layer = (layer + 1) % layers;
            active.swap(set);
            work(layer);
            active.swap(set);
          }
          return (seconds() - start) / static_cast<double>(sets.size());
        };
        const auto read = [&] {
          layer = (layer + 4) % layers;
          const std::int64_t from = layer + 4 <= layers ? layer : layers - std::min<std::int64_t>(4, layers);
          return memory_read_rate({memory.get() + from * 2 * matrix,
                                   static_cast<std::size_t>(std::min<std::int64_t>(4, layers) * 2 * matrix)},
                                  pool);
        };
        const double before = read();
        const double d = run(dense), s = run(c.run);
        const double reading = std::max(before, read());
        ratio.push_back(d / s);
        micros.push_back(s * 1e6);
        share.push_back(c.bytes * dense_bytes / s / reading);
        dense_share.push_back(dense_bytes / d / reading);
      }
      fmt::print("  {:5} {:34} {:8.0f}  {}                   {:5.2f}  {}   (dense {})\n", traits(format).name, c.name,
                 spread(micros).middle, text(spread(ratio)), 1 / c.bytes, text(spread(share)),
                 text(spread(dense_share)));
    }
  }

  const auto scores = normal_values(13824, 5);
  std::vector<std::int32_t> index(scores.size());
  std::vector<float> shifted(scores.size());
  std::vector<double> micros;
  for (int r = 0; r < 200; ++r) {
    const double start = seconds();
    for (int k = 0; k < 10; ++k) statistical_top_k(scores.data(), 13824, 1106, index.data(), shifted.data());
    micros.push_back((seconds() - start) * 1e5);
  }
  fmt::print("  statistical top-k of 13824 scores: {} us, min median max\n", text(spread(micros)));
}

}  // namespace torpor::bench
