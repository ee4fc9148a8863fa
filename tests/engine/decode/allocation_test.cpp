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
long allocations_of(const std::shared_ptr<const Model>& model, std::shared_ptr<SparseFfn> ffn, ThreadPool& pool) {
  Session session(model, pool, {.context = 64});
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
                         ::testing::Values("llama_silu", "arcee", "gpt2", "gemma2", "models/relu2", "models/spark"),
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
    const auto weights = NeuronMajorWeights::pack(model, pool);
    if (why_not_skippable(model->config()).empty()) {
      EXPECT_EQ(allocations_of(model, std::make_shared<SparseFfn>(model, weights), pool), 0)
          << "what the model leaves at zero, " << threads << " threads";
    }
    for (const SelectionRule& rule : {SelectionRule(OutputThreshold{0.01F}), SelectionRule(ExactZeros{})})
      EXPECT_EQ(allocations_of(model,
                               std::make_shared<SparseFfn>(model, weights,
                                                           std::vector<SelectionRule>(model->layers().size(), rule)),
                               pool),
                0)
          << describe(rule) << ", " << threads << " threads";
  }
}

}  // namespace
}  // namespace torpor
