// Sparse kernels against plain loops, dense kernels and each other.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "core/tensor/safetensors.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/sparse_cases.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::Misaligned;
using testing::normal_values;
using testing::random_weights;

std::string describe(const SparseCase& c) {
  return fmt::format("{} neurons, multiplier {}, width {}, density {}, {}, bias {}, gate {}", c.neurons,
                     c.multiplier_in, c.width, c.density, traits(c.weights).name, c.bias, c.gate_in);
}

std::vector<std::int32_t> draw_active(std::int64_t neurons, double density, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> active;
  for (std::int64_t i = 0; i < neurons; ++i)
    if (random.uniform() < density) active.push_back(static_cast<std::int32_t>(i));
  return active;
}

/// Weights, inputs and an active set of a case.
struct Layer {
  explicit Layer(const SparseCase& c)
      : down(random_weights(c.weights, c.neurons, c.width, 1)),
        multiplier(c.multiplier_in > 0 ? random_weights(c.weights, c.neurons, c.multiplier_in, 2)
                                       : std::vector<std::byte>{}),
        gate(c.gate_in > 0 ? random_weights(c.weights, c.neurons, c.gate_in, 7) : std::vector<std::byte>{}),
        bias(c.bias && c.multiplier_in > 0 ? normal_values(c.neurons, 3) : std::vector<float>{}),
        gate_bias(c.bias && c.gate_in > 0 ? normal_values(c.neurons, 8) : std::vector<float>{}),
        x(normal_values(inputs(c), 4)),
        active(draw_active(c.neurons, c.density, 5)),
        values(normal_values(static_cast<std::int64_t>(active.size()), 6)) {
    rows.down = {c.weights, down.data(), c.neurons, c.width};
    if (c.multiplier_in > 0) rows.multiplier = {c.weights, multiplier.data(), c.neurons, c.multiplier_in};
    rows.multiplier_bias = bias;
    if (c.gate_in > 0) rows.gate = {c.weights, gate.data(), c.neurons, c.gate_in};
    rows.gate_bias = gate_bias;
    rows.activation = c.activation;
    rows.activation_threshold = c.activation_threshold;
  }

  static std::int64_t inputs(const SparseCase& c) { return std::max(c.multiplier_in, c.gate_in); }

  std::vector<float> run(ThreadPool& pool, std::vector<float>* activations = nullptr) const {
    SparseScratch scratch;
    std::vector<float> a = values, out(static_cast<std::size_t>(rows.down.in), -7777.0F);
    sparse_ffn(rows, active, a.data(), x.data(), out.data(), scratch, pool);
    if (activations != nullptr) *activations = a;
    return out;
  }

  std::vector<std::byte> down, multiplier, gate;
  std::vector<float> bias, gate_bias, x;
  std::vector<std::int32_t> active;
  std::vector<float> values;
  NeuronRows rows;
};

TEST(SparseFfn, AgreesWithTheReferenceForEveryFormatShapeAndInstructionSet) {
  ThreadPool pool(2);
  for (const SparseCase& c : kSparseCases) {
    const Layer layer(c);
    std::vector<float> wanted(static_cast<std::size_t>(c.width)), wanted_a = layer.values;
    reference::sparse_ffn(layer.rows, layer.active, wanted_a.data(), layer.x.data(), wanted.data());
    std::vector<double> size(wanted.size(), 1e-30), size_a(wanted_a.size(), 0);
    std::vector<float> row(wanted.size()), factor(static_cast<std::size_t>(c.multiplier_in));
    std::vector<float> guesses = layer.values;
    if (c.gate_in > 0) {
      // What a multiplier is multiplied with: the activation, computed without one.
      NeuronRows alone = layer.rows;
      alone.multiplier = {};
      std::vector<float> unused(wanted.size());
      reference::sparse_ffn(alone, layer.active, guesses.data(), layer.x.data(), unused.data());
      // Its own error: that of its projection times the slope of the activation function.
      std::vector<float> gate(static_cast<std::size_t>(c.gate_in));
      for (std::size_t k = 0; k < guesses.size(); ++k) {
        to_f32(c.weights, layer.rows.gate.row(layer.active[k]), gate);
        float projection = 0;
        for (std::size_t j = 0; j < gate.size(); ++j) projection += std::pow(layer.x[j] * gate[j], 2.0F);
        projection = std::sqrt(projection);
        guesses[k] = std::abs(guesses[k]) + projection * (1 + 2 * std::sqrt(std::abs(guesses[k])));
      }
    }
    for (std::size_t k = 0; k < layer.active.size(); ++k) {
      if (c.multiplier_in > 0) to_f32(c.weights, layer.rows.multiplier.row(layer.active[k]), factor);
      for (std::size_t j = 0; j < factor.size(); ++j)
        size_a[k] += std::pow(static_cast<double>(layer.x[j]) * static_cast<double>(factor[j]), 2);
      size_a[k] = (c.multiplier_in > 0 ? std::sqrt(size_a[k]) : 1) * std::abs(static_cast<double>(guesses[k]));
      to_f32(c.weights, layer.rows.down.row(layer.active[k]), row);
      for (std::size_t j = 0; j < row.size(); ++j)
        size[j] += std::pow(static_cast<double>(wanted_a[k]) * static_cast<double>(row[j]), 2);
    }
    testing::with_every_instruction_set([&](const std::string& set) {
      std::vector<float> a;
      const auto got = layer.run(pool, &a);
      for (std::size_t k = 0; k < a.size(); ++k)
        ASSERT_NEAR(a[k], wanted_a[k], 1e-4 * (size_a[k] + std::abs(static_cast<double>(wanted_a[k]))))
            << set << ", " << describe(c) << ", activation " << k;
      for (std::size_t j = 0; j < got.size(); ++j)
        ASSERT_NEAR(got[j], wanted[j],
                    static_cast<double>(c.tolerance) * (std::sqrt(size[j]) + std::abs(static_cast<double>(wanted[j]))))
            << set << ", " << describe(c) << ", output " << j;
    });
  }
}

TEST(SparseFfn, GivesTheSameBitsForEveryThreadCount) {
  for (const SparseCase& c : kSparseCases) {
    const Layer layer(c);
    ThreadPool one(1);
    const auto wanted = layer.run(one);
    for (const int threads : {2, 3, 4, 8}) {
      ThreadPool pool(threads);
      for (int repeat = 0; repeat < 3; ++repeat) ASSERT_EQ(layer.run(pool), wanted) << describe(c) << ", " << threads;
    }
  }
}

TEST(SparseFfn, NeuronsOfActivationZeroChangeNoBit) {
  ThreadPool pool(2);
  for (const SparseCase& c : kSparseCases) {
    Layer layer(c);
    const auto wanted = layer.run(pool);
    std::vector<float> all(static_cast<std::size_t>(c.neurons), 0.0F);
    for (std::size_t k = 0; k < layer.active.size(); ++k)
      all[static_cast<std::size_t>(layer.active[k])] = layer.values[k];
    layer.values = all;
    layer.active.resize(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) layer.active[i] = static_cast<std::int32_t>(i);
    ASSERT_EQ(layer.run(pool), wanted) << describe(c);
  }
}

TEST(SparseFfn, TokensTogetherHaveTheBitsThatEachHasAlone) {
  for (const SparseCase& c : kSparseCases) {
    const Layer layer(c);
    for (const std::int64_t tokens : {2, 5, 17}) {
      // Each token has some of the active neurons, the third none, and inputs of its own.
      const auto n = static_cast<std::int64_t>(layer.active.size());
      const std::int64_t in = Layer::inputs(c);
      std::vector<float> values = normal_values(tokens * n, 21), x = normal_values(tokens * in, 22);
      Random random(23);
      for (std::int64_t i = 0; i < tokens * n; ++i)
        if (i / std::max<std::int64_t>(n, 1) == 2 || random.uniform() < 0.6) values[static_cast<std::size_t>(i)] = 0;
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        SparseScratch scratch;
        std::vector<float> together = values, out(static_cast<std::size_t>(tokens * c.width) + 4, -7777.0F);
        sparse_ffn(layer.rows, layer.active, together.data(), x.data(), tokens, out.data(), scratch, pool);
        for (std::int64_t t = 0; t < tokens; ++t) {
          std::vector<float> alone(values.begin() + t * n, values.begin() + (t + 1) * n);
          std::vector<float> wanted(static_cast<std::size_t>(c.width));
          sparse_ffn(layer.rows, layer.active, alone.data(), x.data() + t * in, wanted.data(), scratch, pool);
          const std::string which = fmt::format("{}, token {} of {}", describe(c), t, tokens);
          ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), out.begin() + t * c.width)) << which;
          ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + t * n)) << which;
        }
        for (std::size_t i = 0; i < 4; ++i) ASSERT_EQ(out[out.size() - 1 - i], -7777.0F) << describe(c);
      }
    }
  }
}

TEST(SparseFfn, ManyTokensHaveTheBitsThatEachHasAlone) {
  for (const SparseCase& c : kSparseCases) {
    const Layer layer(c);
    const std::int64_t in = Layer::inputs(c), stride = c.neurons + 3;
    for (const std::int64_t tokens : {1, 5, 150}) {
      if (tokens > 5 && c.neurons * c.width > 1 << 20) continue;  // seconds
      const std::vector<float> x = normal_values(tokens * in, 22);
      std::vector<std::int64_t> counts;
      std::vector<std::int32_t> index(static_cast<std::size_t>(tokens * stride), -1);
      std::vector<float> values(index.size(), 1e30F);
      for (std::int64_t t = 0; t < tokens; ++t) {
        // The third token has no neuron.
        const auto active = draw_active(c.neurons, t == 2 ? 0 : c.density, 30 + static_cast<std::uint64_t>(t));
        const auto some = normal_values(std::ssize(active), 60 + static_cast<std::uint64_t>(t));
        std::copy(active.begin(), active.end(), index.begin() + t * stride);
        std::copy(some.begin(), some.end(), values.begin() + t * stride);
        counts.push_back(std::ssize(active));
        if (counts.back() > 2) values[static_cast<std::size_t>(t * stride + 1)] = 0;  // listed, and yet inactive
      }
      std::vector<float> wanted(static_cast<std::size_t>(tokens * c.width)), alone = values;
      ThreadPool one(1);
      SparseScratch scratch;
      for (std::int64_t t = 0; t < tokens; ++t)
        sparse_ffn(layer.rows,
                   std::span(index).subspan(static_cast<std::size_t>(t * stride),
                                            static_cast<std::size_t>(counts[static_cast<std::size_t>(t)])),
                   alone.data() + t * stride, x.data() + t * in, wanted.data() + t * c.width, scratch, one);
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        std::vector<float> each = values, out(wanted.size() + 4, -7777.0F);
        sparse_ffn(layer.rows, {counts, stride, index.data()}, each.data(), x.data(), out.data(), pool);
        ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), out.begin())) << describe(c) << ", " << tokens;
        ASSERT_EQ(each, alone) << describe(c) << ", " << tokens;
        for (std::size_t i = 0; i < 4; ++i) ASSERT_EQ(out[out.size() - 1 - i], -7777.0F) << describe(c);
      }
    }
  }
  const Layer layer(kSparseCases[0]);
  ThreadPool pool(1);
  const std::int64_t counts[] = {3};
  const std::int32_t index[] = {0, 1, 2};
  float values[3] = {}, out[4096];
  EXPECT_THROW(sparse_ffn(layer.rows, {counts, 2, index}, values, layer.x.data(), out, pool), InvalidArgument);
}

TEST(SparseFfn, ReadsRowsAtAnyAddress) {
  ThreadPool pool(1);
  for (const SparseCase& c : kSparseCases) {
    Layer layer(c);
    const auto wanted = layer.run(pool);
    for (const std::size_t offset : {2U, 34U, 62U}) {
      Misaligned<std::byte> down(layer.down.data(), layer.down.size(), offset);
      Misaligned<std::byte> multiplier(layer.multiplier.data(), layer.multiplier.size(), offset);
      Layer moved(c);
      moved.rows.down.data = down.data();
      if (c.multiplier_in > 0) moved.rows.multiplier.data = multiplier.data();
      Misaligned<std::byte> gate(layer.gate.data(), layer.gate.size(), offset);
      if (c.gate_in > 0) moved.rows.gate.data = gate.data();
      ASSERT_EQ(moved.run(pool), wanted) << describe(c) << ", offset " << offset;
    }
  }
}

TEST(SparseFfn, WritesNothingBeyondItsOutput) {
  ThreadPool pool(1);
  for (const SparseCase& c : kSparseCases) {
    const Layer layer(c);
    SparseScratch scratch;
    std::vector<float> a = layer.values, out(static_cast<std::size_t>(c.width) + 16, -7777.0F);
    sparse_ffn(layer.rows, layer.active, a.data(), layer.x.data(), out.data(), scratch, pool);
    for (std::size_t j = static_cast<std::size_t>(c.width); j < out.size(); ++j) ASSERT_EQ(out[j], -7777.0F);
  }
}

TEST(SparseFfn, NeuronsWhoseGateIsClosedChangeNothingAndAreTold) {
  ThreadPool pool(2);
  for (const SparseCase& c : kSparseCases) {
    if (c.gate_in == 0 || (c.activation != Activation::relu && c.activation != Activation::relu2)) continue;
    Layer layer(c);
    std::vector<float> a;
    const auto wanted = layer.run(pool, &a);
    std::vector<std::int32_t> open;
    for (std::size_t k = 0; k < a.size(); ++k)
      if (a[k] != 0) open.push_back(layer.active[k]);
    ASSERT_GT(open.size(), 0U);
    ASSERT_LT(open.size(), a.size());
    layer.active = open;
    layer.values.assign(open.size(), 1.0F);
    ASSERT_EQ(layer.run(pool), wanted) << describe(c);
  }
}

TEST(DotRows, HasTheBitsOfALinearLayer) {
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0,
                                    NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    const std::int64_t neurons = 333, in = 768;
    const auto bytes = random_weights(format, neurons, in, 1);
    const WeightMatrix w{format, bytes.data(), neurons, in};
    const auto x = normal_values(in, 2), bias = normal_values(neurons, 3);
    const auto active = draw_active(neurons, 0.2, 4);
    testing::with_every_instruction_set([&](const std::string& set) {
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        std::vector<float> all(static_cast<std::size_t>(neurons)), some(active.size());
        linear(w, x.data(), 1, bias, all.data(), pool);
        dot_rows(w, active, x.data(), bias, some.data(), pool);
        for (std::size_t k = 0; k < active.size(); ++k)
          ASSERT_EQ(some[k], all[static_cast<std::size_t>(active[k])]) << traits(format).name << ", " << set;
      }
    });
  }
}

TEST(CompactNonzero, ListsWhatIsNotZeroAlsoInPlace) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const double density : {0.0, 0.08, 0.5, 1.0})
      for (const std::int64_t n : {1, 2, 15, 16, 17, 31, 33, 100, 1000, 4097}) {
        auto values = normal_values(n, static_cast<std::uint64_t>(n));
        Random random(7);
        for (float& v : values)
          if (random.uniform() >= density) v = random.below(2) == 0 ? 0.0F : -0.0F;
        std::vector<std::int32_t> wanted_index, index(values.size());
        std::vector<float> wanted, packed(values.size());
        for (std::size_t i = 0; i < values.size(); ++i)
          if (values[i] != 0) wanted_index.push_back(static_cast<std::int32_t>(i)), wanted.push_back(values[i]);
        const auto check = [&](std::int64_t count, const std::vector<float>& got) {
          ASSERT_EQ(count, static_cast<std::int64_t>(wanted.size())) << set << ", " << n << ", " << density;
          EXPECT_TRUE(std::equal(wanted_index.begin(), wanted_index.end(), index.begin()));
          EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), got.begin()));
        };
        check(compact_nonzero(values.data(), n, index.data(), packed.data()), packed);
        check(compact_nonzero(values.data(), n, index.data(), values.data()), values);
      }
  });
}

TEST(TopK, SelectsWhatSortingSelects) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const std::int64_t n : {1, 2, 17, 100, 1152, 13824})
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, std::max<std::int64_t>(1, n / 12), n / 2 + 1,
                                   std::max<std::int64_t>(1, n - 1), n, n + 3})
        for (const int kind : {0, 1, 2, 3, 4}) {
          auto values = normal_values(n, static_cast<std::uint64_t>(n + k));
          if (kind == 1)  // many equals
            for (float& v : values) v = std::round(2 * v) / 2;
          if (kind == 2)  // mostly zeros, of both signs
            for (float& v : values) v = v > 1 ? v : std::copysign(0.0F, v);
          if (kind == 3)  // of very different sizes, sorted: the sample sees little
            for (std::size_t i = 0; i < values.size(); ++i)
              values[i] = std::ldexp(values[i], static_cast<int>(i % 200) - 120);
          if (kind == 3) std::sort(values.begin(), values.end());
          if (kind == 4) std::fill(values.begin(), values.end(), -1.5F);
          std::vector<std::int32_t> order(values.size());
          for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
          std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
            return std::abs(values[static_cast<std::size_t>(a)]) > std::abs(values[static_cast<std::size_t>(b)]);
          });
          order.resize(static_cast<std::size_t>(std::min(k, n)));
          std::erase_if(order, [&](std::int32_t i) { return values[static_cast<std::size_t>(i)] == 0; });
          std::sort(order.begin(), order.end());
          std::vector<std::int32_t> index(values.size());
          std::vector<float> packed(values.size());
          const std::int64_t count = top_k(values.data(), n, k, index.data(), packed.data());
          index.resize(static_cast<std::size_t>(count));
          ASSERT_EQ(index, order) << set << ", n " << n << ", k " << k << ", kind " << kind;
          for (std::size_t i = 0; i < index.size(); ++i)
            ASSERT_EQ(packed[i], values[static_cast<std::size_t>(index[i])]);
        }
  });
}

TEST(ListAbove, ListsWhatIsAbove) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const std::int64_t n : {1, 63, 64, 65, 1000}) {
      auto scores = normal_values(n, 3);
      scores[0] = 0.25F;
      std::vector<std::int32_t> wanted, index(scores.size());
      for (std::size_t i = 0; i < scores.size(); ++i)
        if (scores[i] > 0.25F) wanted.push_back(static_cast<std::int32_t>(i));
      index.resize(static_cast<std::size_t>(list_above(scores.data(), n, 0.25F, index.data())));
      ASSERT_EQ(index, wanted) << set << ", " << n;
    }
  });
}

TEST(StatisticalTopK, SelectsWhatItsDefinitionSelects) {
  testing::with_every_instruction_set([&](const std::string& set) {
    for (const std::int64_t n : {2, 8, 17, 100, 1152, 13824})
      for (const std::int64_t k : {std::int64_t{1}, std::max<std::int64_t>(1, n / 12), n - 1, n, n + 3}) {
        const auto scores = normal_values(n, static_cast<std::uint64_t>(n + k), 3);
        const double theta = statistical_threshold(scores, k);
        std::vector<std::int32_t> index(scores.size());
        std::vector<float> shifted(scores.size());
        const std::int64_t count = statistical_top_k(scores.data(), n, k, index.data(), shifted.data());
        std::size_t at = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          const double x = scores[static_cast<std::size_t>(i)];
          if (!(x > theta)) continue;
          ASSERT_LT(at, static_cast<std::size_t>(count)) << set << ", n " << n << ", k " << k;
          ASSERT_EQ(index[at], i) << set << ", n " << n << ", k " << k;
          ASSERT_EQ(shifted[at], k >= n ? static_cast<float>(x) : static_cast<float>(x - theta));
          ++at;
        }
        ASSERT_EQ(at, static_cast<std::size_t>(count)) << set << ", n " << n << ", k " << k;
      }
  });
}

TEST(GaussianTopK, IsThatOfTransformersGemma3n) {
  const auto golden = open_safetensors(testing::golden("kernels/gemma3n_mlp.safetensors"));
  const auto values = [&](const std::string& name) { return to_f32(golden.at(name)); };
  const auto x = values("x");
  constexpr std::int64_t kTokens = 6, kWidth = 48, kNeurons = 160;
  ThreadPool pool(2);
  for (const int layer : {0, 1}) {
    const double sparsity = layer == 0 ? 0.95 : 0.5;
    const std::string prefix = std::to_string(layer) + ".";
    const auto gate = values(prefix + "gate_proj.weight"), up = values(prefix + "up_proj.weight"),
               down = values(prefix + "down_proj.weight"), wanted = values(prefix + "out");
    const auto matrix = [](const std::vector<float>& w, std::int64_t out, std::int64_t in) {
      return WeightMatrix{NumberFormat::f32, reinterpret_cast<const std::byte*>(w.data()), out, in};
    };
    std::vector<float> gates(kTokens * kNeurons), ups(gates.size()), out(kTokens * kWidth);
    linear(matrix(gate, kNeurons, kWidth), x.data(), kTokens, {}, gates.data(), pool);
    linear(matrix(up, kNeurons, kWidth), x.data(), kTokens, {}, ups.data(), pool);
    // One row at a time, and in place.
    std::vector<std::int32_t> index(kNeurons);
    std::vector<float> shifted(kNeurons);
    std::int64_t listed = 0;
    std::vector<float> from_lists(gates.size(), 0.0F);
    for (std::int64_t t = 0; t < kTokens; ++t) {
      const std::int64_t n =
          gaussian_top_k(gates.data() + t * kNeurons, kNeurons, sparsity, index.data(), shifted.data());
      for (std::int64_t k = 0; k < n; ++k)
        from_lists[static_cast<std::size_t>(t * kNeurons + index[static_cast<std::size_t>(k)])] =
            shifted[static_cast<std::size_t>(k)];
      listed += n;
    }
    EXPECT_EQ(gaussian_shift(gates.data(), kTokens, kNeurons, sparsity, pool), listed);
    EXPECT_EQ(gates, from_lists);
    EXPECT_NEAR(static_cast<double>(listed) / (kTokens * kNeurons), 1 - sparsity, 0.05);
    activate_gated(Activation::gelu_tanh, gates.data(), ups.data(), kTokens * kNeurons);
    linear(matrix(down, kWidth, kNeurons), gates.data(), kTokens, {}, out.data(), pool);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], wanted[i], 2e-5) << layer;
  }
  std::vector<std::int32_t> index(4);
  std::vector<float> row(4);
  EXPECT_THROW(gaussian_top_k(row.data(), 4, 0, index.data(), row.data()), InvalidArgument);
  EXPECT_THROW(gaussian_top_k(row.data(), 4, 1, index.data(), row.data()), InvalidArgument);
  EXPECT_THROW(gaussian_top_k(row.data(), 0, 0.5, index.data(), row.data()), InvalidArgument);
}

TEST(StatisticalTopK, AThresholdThatRoundsUpToAScoreStillSelectsIt) {
  // Few different numbers: in some of the rows the threshold lies less than half a step below a score.
  const std::int64_t n = 100, k = 8;
  std::vector<std::int32_t> index(n);
  std::vector<float> shifted(n);
  int close = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    auto scores = normal_values(n, seed);
    for (float& v : scores) v += 4096;
    const double theta = statistical_threshold(scores, k);
    const auto above =
        std::count_if(scores.begin(), scores.end(), [&](float v) { return static_cast<double>(v) > theta; });
    const auto above_rounded =
        std::count_if(scores.begin(), scores.end(), [&](float v) { return v > static_cast<float>(theta); });
    close += above != above_rounded ? 1 : 0;
    ASSERT_EQ(statistical_top_k(scores.data(), n, k, index.data(), shifted.data()), above) << seed;
  }
  EXPECT_GT(close, 0);
}

TEST(StatisticalTopK, PublishedExample) {  // spark.md 2.3
  const std::vector<float> x{0.5F, -1, 2, 0, 1, -0.5F, 3, -2};
  std::vector<std::int32_t> index(x.size());
  std::vector<float> shifted(x.size());
  ASSERT_EQ(statistical_top_k(x.data(), 8, 2, index.data(), shifted.data()), 2);
  EXPECT_EQ(index[0], 2);
  EXPECT_EQ(index[1], 6);
  EXPECT_NEAR(shifted[0], 0.5322016, 1e-6);
  EXPECT_NEAR(shifted[1], 1.5322016, 1e-6);
}

TEST(StatisticalTopK, SelectsNothingAmongEqualScoresOrWhereOneIsNotFinite) {
  std::vector<std::int32_t> index(100);
  std::vector<float> shifted(100);
  std::vector<float> scores(100, 1.5F);
  EXPECT_EQ(statistical_top_k(scores.data(), 100, 8, index.data(), shifted.data()), 0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    scores = normal_values(100, 1);
    scores[40] = bad;
    EXPECT_EQ(statistical_top_k(scores.data(), 100, 8, index.data(), shifted.data()), 0);
  }
}

TEST(Sparse, BadArgumentsAreRefused) {
  ThreadPool pool(1);
  SparseScratch scratch;
  const auto bytes = random_weights(NumberFormat::f32, 8, 32, 1);
  const auto deep = random_weights(NumberFormat::q4_k, 8, 256, 1);
  const WeightMatrix w{NumberFormat::f32, bytes.data(), 8, 32}, fewer{NumberFormat::f32, bytes.data(), 7, 32};
  const WeightMatrix unsupported{NumberFormat::q4_k, deep.data(), 8, 256};
  std::vector<float> x(256), values(8), out(256);
  const std::vector<std::int32_t> active{1, 3}, beyond{1, 8}, negative{-1, 2};
  const std::vector<float> bias(5);
  EXPECT_THROW(sparse_ffn({{}, {}, w}, beyond, values.data(), x.data(), out.data(), scratch, pool), InvalidArgument);
  EXPECT_THROW(sparse_ffn({{}, {}, w}, negative, values.data(), x.data(), out.data(), scratch, pool), InvalidArgument);
  EXPECT_THROW(sparse_ffn({fewer, {}, w}, active, values.data(), x.data(), out.data(), scratch, pool), InvalidArgument);
  EXPECT_THROW(sparse_ffn({w, bias, w}, active, values.data(), x.data(), out.data(), scratch, pool), InvalidArgument);
  EXPECT_THROW(sparse_ffn({{}, {}, unsupported}, active, values.data(), x.data(), out.data(), scratch, pool),
               InvalidArgument);
  EXPECT_THROW(sparse_ffn({{}, {}, {}}, active, values.data(), x.data(), out.data(), scratch, pool), InvalidArgument);
  EXPECT_THROW(dot_rows(w, beyond, x.data(), {}, out.data(), pool), InvalidArgument);
  EXPECT_THROW(dot_rows(w, active, x.data(), bias, out.data(), pool), InvalidArgument);
  const WeightMatrix narrow{NumberFormat::f32, bytes.data(), 8, 16};
  EXPECT_THROW(sparse_ffn({w, {}, w, fewer}, active, values.data(), x.data(), out.data(), scratch, pool),
               InvalidArgument);
  EXPECT_THROW(sparse_ffn({w, {}, w, narrow}, active, values.data(), x.data(), out.data(), scratch, pool),
               InvalidArgument);
  EXPECT_THROW(sparse_ffn({w, {}, w, w, bias}, active, values.data(), x.data(), out.data(), scratch, pool),
               InvalidArgument);
  std::int32_t index[1];
  EXPECT_THROW(top_k(x.data(), 1, 0, index, out.data()), InvalidArgument);
  EXPECT_THROW(top_k(x.data(), -1, 1, index, out.data()), InvalidArgument);
  EXPECT_THROW(list_above(x.data(), -1, 0, index), InvalidArgument);
  EXPECT_THROW(statistical_top_k(x.data(), 0, 1, index, out.data()), InvalidArgument);
  EXPECT_THROW(statistical_top_k(x.data(), 1, 0, index, out.data()), InvalidArgument);
}

}  // namespace
}  // namespace torpor
