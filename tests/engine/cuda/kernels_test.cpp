// The code of the CUDA kernels run on the processor (on_host.h), against the reference: on every machine.
#include "engine/kernels/cuda/launches.h"

#include <gtest/gtest.h>

#include "tests/engine/cuda/cases.h"

namespace torpor::cuda {
namespace {

struct OnHost {
  template <class... Parameters, class... Arguments>
  void operator()(unsigned blocks, void (*kernel)(Parameters...), const Arguments&... arguments) const {
    on_host::launch(blocks, kThreads, kernel, static_cast<Parameters>(arguments)...);
  }
};

Rows rows_of(const WeightMatrix& w) {
  return w.empty() ? Rows{} : Rows{reinterpret_cast<const std::uint16_t*>(w.data), w.in};
}

struct HostLayer {
  explicit HostLayer(const testing::CudaLayer& layer, unsigned blocks)
      : x(layer.x),
        scores(static_cast<std::size_t>(layer.neurons)),
        values(scores.size()),
        partial(static_cast<std::size_t>(blocks * static_cast<unsigned>(layer.width)), 7.0F),
        out(static_cast<std::size_t>(layer.width)),
        active(scores.size()) {
    buffers = {.first = rows_of(layer.scorer),
               .multiplier = rows_of(layer.rows.multiplier),
               .down = rows_of(layer.rows.down),
               .first_width = static_cast<int>(layer.first_in),
               .multiplier_width = static_cast<int>(layer.multiplier_in),
               .neurons = static_cast<int>(layer.neurons),
               .width = static_cast<int>(layer.width),
               .bias = layer.bias.empty() ? nullptr : layer.bias.data(),
               .x = x.data(),
               .scores = scores.data(),
               .values = values.data(),
               .active = active.data(),
               .count = &count,
               .partial = partial.data(),
               .out = out.data(),
               .blocks = blocks};
  }
  std::vector<float> x, scores, values, partial, out;
  std::vector<int> active;
  int count = 0;
  FfnBuffers buffers;
};

float z_of(std::int64_t k, std::int64_t n) {
  return k >= n ? -INFINITY : static_cast<float>(normal_quantile(1 - static_cast<double>(k) / static_cast<double>(n)));
}

TEST(CudaKernels, OfAListedLayerAgreeWithTheReference) {
  for (const testing::CudaLayer& layer : testing::cuda_layers())
    for (const double density : {0.0, 0.3, 1.0}) {
      HostLayer host(layer, 3);
      Random random(6);
      std::vector<std::int32_t> active;
      for (std::int32_t i = 0; i < layer.neurons; ++i)
        if (random.uniform() < density) active.push_back(i);
      std::vector<float> values = testing::normal_values(std::ssize(active), 7), wanted(host.out.size());
      if (!values.empty()) values[0] = 0;
      std::copy(active.begin(), active.end(), host.active.begin());
      std::copy(values.begin(), values.end(), host.values.begin());
      host.count = static_cast<int>(active.size());
      launch_sparse_ffn(OnHost(), host.buffers, host.x.data() + layer.first_in);
      reference::sparse_ffn(layer.rows, active, values.data(), layer.x.data() + layer.first_in, wanted.data());
      EXPECT_LT(testing::worst(host.out, wanted), 1e-5) << layer.neurons << ", " << density;
      host.values.resize(values.size());
      EXPECT_LT(testing::worst(host.values, values), 1e-4) << layer.neurons << ", " << density;
    }
}

TEST(CudaKernels, OfASparkLayerAgreeWithTheReference) {
  for (const testing::CudaLayer& layer : testing::cuda_layers())
    for (const std::int64_t k : {std::int64_t{1}, std::max<std::int64_t>(1, layer.neurons / 10), layer.neurons}) {
      if (layer.multiplier_in == 0) continue;
      const auto activation = k == 1 ? Activation::relu : k == layer.neurons ? Activation::silu : Activation::gelu_tanh;
      HostLayer host(layer, 2);
      launch_spark_ffn(OnHost(), host.buffers, static_cast<int>(activation), z_of(k, layer.neurons));
      std::vector<float> wanted;
      EXPECT_EQ(host.count, layer.spark(activation, k, wanted)) << layer.neurons << ", " << k;
      EXPECT_LT(testing::worst(host.out, wanted), 1e-4) << layer.neurons << ", " << k;
    }
}

TEST(CudaKernels, OfEveryActivationFunction) {
  for (const Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::relu, Activation::relu2})
    for (const float x : {-3.0F, -0.5F, 0.0F, 0.5F, 4.0F})
      EXPECT_NEAR(activated(static_cast<int>(activation), x), reference::activation(activation, x), 1e-5) << x;
}

TEST(CudaKernels, OfStatisticalTopKHaveTheRowsOfEachBlock) {
  constexpr int kN = 600, kStride = 610;
  auto scores = testing::normal_values(2 * kStride, 3);
  std::fill(scores.begin() + kStride, scores.end(), 1.5F);  // equal ones: none is above
  scores[kStride + 7] = -50;                                // and one far below lifts the threshold
  std::vector<int> index(scores.size()), counts(2);
  std::vector<float> kept(scores.size());
  OnHost()(2U, cuda::statistical_top_k, scores.data(), kN, kStride, z_of(1, kN), true, index.data(), kept.data(),
           counts.data());
  const double theta = statistical_threshold(std::span(scores).first(kN), 1);
  std::vector<int> wanted;
  for (int i = 0; i < kN; ++i)
    if (static_cast<double>(scores[static_cast<std::size_t>(i)]) > theta) wanted.push_back(i);
  ASSERT_EQ(counts[0], static_cast<int>(wanted.size()));
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.end(), index.begin()));
  EXPECT_EQ(counts[1], 0);
  EXPECT_EQ(index[kStride], 0);  // the first of the largest
  EXPECT_EQ(kept[kStride], 0);
}

TEST(CudaKernels, OfSparkAttentionAgreeWithTheReference) {
  for (const testing::CudaCache& cache : testing::cuda_caches()) {
    const AttentionShape& a = cache.shape.attention;
    const std::int64_t context = cache.positions + 3, d = a.head_dim, r = cache.shape.predictor;
    const auto bits = [](float v) { return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16); };
    const auto table = [&](std::int64_t width) {
      return std::vector<std::uint16_t>(static_cast<std::size_t>(a.kv_heads * context * width) + 16);
    };
    // Rows of 16 bytes begin at multiples of 16.
    const auto aligned = [](std::vector<std::uint16_t>& v) {
      auto* p = v.data();
      while (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) ++p;
      return p;
    };
    auto leading_memory = table(r), rest_memory = table(d - r), values_memory = table(d);
    std::uint16_t *leading = aligned(leading_memory), *rest = aligned(rest_memory), *values = aligned(values_memory);
    for (std::int64_t p = 0; p < cache.positions; ++p)
      for (std::int64_t h = 0; h < a.kv_heads; ++h)
        for (std::int64_t i = 0; i < d; ++i) {
          const auto at = static_cast<std::size_t>((p * a.kv_heads + h) * d + i);
          if (i < r)
            leading[(h * context + p) * r + i] = bits(cache.keys[at]);
          else
            rest[(h * context + p) * (d - r) + i - r] = bits(cache.keys[at]);
          values[(h * context + p) * d + i] = bits(cache.values[at]);
        }
    const auto rows = static_cast<std::size_t>(a.heads * context);
    std::vector<float> q = cache.q, scores(rows), kept(rows), partial(2 * cache.q.size()), out(cache.q.size()), wanted;
    std::vector<int> index(rows), counts(static_cast<std::size_t>(a.heads));
    const SparkBuffers buffers{
        .sizes = {a.heads, a.kv_heads, a.head_dim, cache.shape.predictor, static_cast<int>(cache.positions),
                  context * r, context * (d - r), context * d, a.scale},
        .leading = leading,
        .rest = rest,
        .values = values,
        .stride = static_cast<int>(context),
        .q = q.data(),
        .scores = scores.data(),
        .kept = kept.data(),
        .index = index.data(),
        .count = counts.data(),
        .partial = partial.data(),
        .out = out.data(),
        .parts = 2};
    launch_spark_attention(OnHost(), buffers, z_of(cache.shape.active, cache.positions));
    const SparkAttentionCounts counted = cache.wanted(wanted);
    std::int64_t all = 0;
    for (const int count : counts) all += std::max(count, 1);
    EXPECT_EQ(all, counted.kept) << cache.positions;
    EXPECT_LT(testing::worst(out, wanted), 1e-4) << cache.positions;
  }
}

}  // namespace
}  // namespace torpor::cuda
