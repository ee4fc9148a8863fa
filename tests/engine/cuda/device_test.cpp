// The CUDA backend on a GPU, against the reference. SKIPPED where there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "engine/kernels/cuda/cuda.h"
#include "tests/engine/cuda/cases.h"

namespace torpor::cuda {
namespace {

#define NEEDS_A_GPU() \
  if (const std::string reason = why_not_available(); !reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason

TEST(CudaDevice, SaysWhyItIsNotThere) {
  if (why_not_available().empty()) {
    EXPECT_FALSE(device_name().empty());
    return;
  }
  EXPECT_EQ(device_name(), "");
  const testing::CudaLayer layer(70, 16, 24, 40, true);
  EXPECT_THAT([&] { FfnLayer made(layer.rows); }, ::testing::ThrowsMessage<IoError>(why_not_available()));
}

TEST(CudaDevice, ListedLayersAgreeWithTheReferenceAndWithThemselves) {
  NEEDS_A_GPU();
  for (const testing::CudaLayer& layer : testing::cuda_layers()) {
    FfnLayer device(layer.rows);
    for (const double density : {0.0, 0.1, 1.0}) {
      Random random(6);
      std::vector<std::int32_t> active;
      for (std::int32_t i = 0; i < layer.neurons; ++i)
        if (random.uniform() < density) active.push_back(i);
      const std::vector<float> given = testing::normal_values(std::ssize(active), 7);
      std::vector<float> values = given, wanted(static_cast<std::size_t>(layer.width)), out(wanted.size()), first;
      reference::sparse_ffn(layer.rows, active, values.data(), layer.x.data(), wanted.data());
      for (int run = 0; run < 20; ++run) {
        std::vector<float> a = given;
        device.sparse_ffn(active, a.data(), layer.x.data(), out.data());
        EXPECT_LT(testing::worst(out, wanted), 1e-5) << layer.neurons;
        EXPECT_LT(testing::worst(a, values), 1e-4) << layer.neurons;
        if (run == 0) first = out;
        EXPECT_EQ(out, first) << "the same bits in every run";
      }
    }
  }
}

TEST(CudaDevice, SparkLayersAgreeWithTheReference) {
  NEEDS_A_GPU();
  for (const testing::CudaLayer& layer : testing::cuda_layers()) {
    if (layer.multiplier_in == 0) continue;
    FfnLayer device(layer.rows, layer.scorer);
    for (const std::int64_t k : {std::max<std::int64_t>(1, layer.neurons / 10), layer.neurons}) {
      std::vector<float> out(static_cast<std::size_t>(layer.width)), wanted;
      EXPECT_EQ(device.spark_ffn(Activation::gelu_tanh, k, layer.x.data(), out.data()),
                layer.spark(Activation::gelu_tanh, k, wanted));
      EXPECT_LT(testing::worst(out, wanted), 1e-4) << layer.neurons << ", " << k;
      EXPECT_GT(device.seconds(), 0);
    }
  }
}

TEST(CudaDevice, SparkAttentionAgreesWithTheReference) {
  NEEDS_A_GPU();
  for (const testing::CudaCache& cache : testing::cuda_caches()) {
    SparkCache device(cache.shape, cache.positions + 3);
    const auto row = static_cast<std::size_t>(cache.shape.attention.kv_heads * cache.shape.attention.head_dim);
    for (std::int64_t p = 0; p < cache.positions; ++p)
      device.put(p, cache.keys.data() + static_cast<std::size_t>(p) * row,
                 cache.values.data() + static_cast<std::size_t>(p) * row);
    std::vector<float> out(cache.q.size()), wanted;
    const SparkAttentionCounts counts = device.attend(cache.q.data(), cache.positions - 1, out.data());
    const SparkAttentionCounts expected = cache.wanted(wanted);
    EXPECT_EQ(counts.kept, expected.kept);
    EXPECT_EQ(counts.most, expected.most);
    EXPECT_EQ(counts.empty_rows, expected.empty_rows);
    EXPECT_LT(testing::worst(out, wanted), 1e-4) << cache.positions;
  }
}

TEST(CudaDevice, RefusesWhatItCannotDo) {
  NEEDS_A_GPU();
  testing::CudaLayer layer(70, 16, 24, 40, true);
  NeuronRows narrow = layer.rows;
  narrow.down.in = 36;
  EXPECT_THROW(FfnLayer{narrow}, InvalidArgument);
  NeuronRows gated = layer.rows;
  gated.gate = gated.multiplier;
  EXPECT_THROW(FfnLayer{gated}, InvalidArgument);
  FfnLayer device(layer.rows);
  const std::vector<std::int32_t> beyond{70};
  std::vector<float> values(70), out(40);
  EXPECT_THROW(device.sparse_ffn(beyond, values.data(), layer.x.data(), out.data()), InvalidArgument);
  EXPECT_THROW(device.spark_ffn(Activation::relu, 7, layer.x.data(), out.data()), InvalidArgument);
  SparkAttentionShape shape{{.heads = 2, .kv_heads = 1, .head_dim = 16, .scale = 1}, 8, 4};
  EXPECT_THROW(SparkCache(shape, 0), InvalidArgument);
  shape.predictor = 0;
  EXPECT_THROW(SparkCache(shape, 8), InvalidArgument);
}

}  // namespace
}  // namespace torpor::cuda
