// The same logits bit for bit in every run, on any number of threads; also run under the thread sanitizer.
#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

std::vector<float> logits_of(const std::shared_ptr<const Model>& model,
                             const std::shared_ptr<const NeuronMajorWeights>& weights,
                             std::span<const SelectionRule> rules, int threads) {
  ThreadPool pool(threads);
  Session session(model, pool, {.context = 16});
  session.set_sparse_ffn(std::make_shared<SparseFfn>(model, weights, rules));
  std::vector<float> all;
  for (const TokenId token : {5, 400, 17}) {
    const auto logits = session.forward({&token, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

TEST(DecodeThreads, AHundredRunsOnAnyNumberOfThreadsGiveTheSameBits) {
  for (const char* name : {"models/relu2", "models/spark"}) {
    const auto model = testing::load_model(name);
    ThreadPool pool(2);
    const auto weights = NeuronMajorWeights::pack(model, pool);
    const std::vector<SelectionRule> rules(model->layers().size(), OutputThreshold{0.05F});
    for (const std::span<const SelectionRule> chosen :
         {std::span<const SelectionRule>(), std::span<const SelectionRule>(rules)}) {
      const auto wanted = logits_of(model, weights, chosen, 1);
      for (int run = 0; run < 20; ++run)
        for (const int threads : {1, 2, 3, 4, 8})
          ASSERT_EQ(std::memcmp(logits_of(model, weights, chosen, threads).data(), wanted.data(),
                                wanted.size() * sizeof(float)),
                    0)
              << name << ", run " << run << ", " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace torpor
