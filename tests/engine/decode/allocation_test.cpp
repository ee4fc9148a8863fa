// A token of decoding allocates nothing: every operator new of this program is counted.
#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) {
  return counted(bytes);
}
void* operator new[](std::size_t bytes) {
  return counted(bytes);
}
// The forms that do not throw too: under AddressSanitizer the library's own would go past these and its memory come to
// the free below.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t& nothrow) noexcept {
  return operator new(bytes, nothrow);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace torpor {
namespace {

/// Allocations of 40 tokens, after some that make room.
long allocations_of(const std::shared_ptr<const Model>& model, std::shared_ptr<SparseFfn> ffn, ThreadPool& pool,
                    NumberFormat cache = NumberFormat::f32) {
  Session session(model, pool, {.context = 64, .cache_format = cache});
  session.set_sparse_ffn(std::move(ffn));
  const auto decode = [&](TokenId first, int n) {
    for (int i = 0; i < n; ++i) {
      const auto token = static_cast<TokenId>((first + i) % model->config().vocab_size);
      session.forward({&token, 1});
    }
  };
  decode(3, 60);  // buffers that grow with the context are as large as they get
  session.clear(0);
  const long before = allocations.load();
  decode(5, 40);
  return allocations.load() - before;
}

TEST(Allocations, AreCounted) {
  const long before = allocations.load();
  const auto one = std::make_unique<int>(7);
  EXPECT_EQ(allocations.load(), before + 1);
}

class Decode : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Decode,
                         ::testing::Values("llama_silu", "arcee", "gpt2", "gemma2", "gemma3n", "models/relu2",
                                           "models/spark"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace(name.begin(), name.end(), '/', '_');
                           return name;
                         });

TEST_P(Decode, OfATokenAllocatesNothing) {
  const auto model = testing::load_model(GetParam());
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    EXPECT_EQ(allocations_of(model, nullptr, pool), 0) << "dense, " << threads << " threads";
    if (model->config().head_dim % 32 == 0 && !model->config().spark.attention()) {
      EXPECT_EQ(allocations_of(model, nullptr, pool, NumberFormat::q8_0), 0) << "8-bit cache";
    }
    const auto weights = NeuronMajorWeights::pack(model, pool);
    if (why_not_skippable(model->config()).empty()) {
      EXPECT_EQ(allocations_of(model, std::make_shared<SparseFfn>(model, weights), pool), 0)
          << "what the model leaves at zero, " << threads << " threads";
    }
    for (const SelectionRule& rule :
         {SelectionRule(OutputThreshold{0.01F}), SelectionRule(ExactZeros{}), SelectionRule(TopK{9}),
          SelectionRule(StatisticalTopK{9}), SelectionRule(GaussianTopK{0.9F})}) {
      const bool has_its_own = model->config().spark.ffn() || model->config().gate_sparsity_of(0) > 0;
      if (has_its_own && std::holds_alternative<GaussianTopK>(rule)) continue;
      EXPECT_EQ(allocations_of(model,
                               std::make_shared<SparseFfn>(model, weights,
                                                           std::vector<SelectionRule>(model->layers().size(), rule)),
                               pool),
                0)
          << describe(rule) << ", " << threads << " threads";
    }
  }
}

TEST(Decode, OfAPredictedTokenAllocatesNothing) {
  const auto model = testing::load_model("models/relu2");
  const ModelConfig& config = model->config();
  const testing::TemporaryFolder folder;
  constexpr std::int64_t kRank = 32;
  std::vector<float> first(static_cast<std::size_t>(kRank * config.d_model)),
      second(static_cast<std::size_t>(config.d_ff * kRank));
  for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<float>(i % 7) - 3;
  for (std::size_t i = 0; i < second.size(); ++i) second[i] = static_cast<float>(i % 5) - 2;
  std::vector<TensorView> tensors;
  for (int l = 0; l < config.n_layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l);
    tensors.push_back(
        {prefix + ".fc1.weight", NumberFormat::f32, {kRank, config.d_model}, std::as_bytes(std::span(first))});
    tensors.push_back(
        {prefix + ".fc2.weight", NumberFormat::f32, {config.d_ff, kRank}, std::as_bytes(std::span(second))});
  }
  write_safetensors(folder.path() / "p", tensors, {{"torpor_predictor", "1"}, {"activation", "relu"}});
  const std::vector<SelectionRule> rules(model->layers().size(), Predictor{"p"});
  const auto predictors = LayerPredictors::load(rules, folder.path(), config);
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    const auto weights = NeuronMajorWeights::pack(model, pool, {}, std::vector(rules.size(), Arranged::whole));
    const auto ffn = std::make_shared<SparseFfn>(model, weights, rules, predictors);
    EXPECT_EQ(allocations_of(model, ffn, pool), 0) << threads;
    EXPECT_GT(ffn->counts()[0].active, 0);
  }
}

}  // namespace
}  // namespace torpor
