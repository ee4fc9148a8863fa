// A cache of 8 bits: close to one of 32, and the same however a text is run.
#include "core/base/error.h"
#include "core/base/random.h"
#include "engine/bench/random_model.h"
#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::copy;
using ::testing::HasSubstr;
using testing::relative_difference;
using ::testing::ThrowsMessage;

std::vector<TokenId> text(const Model& model, std::int64_t n) {
  Random random(5);
  std::vector<TokenId> ids(static_cast<std::size_t>(n));
  for (TokenId& id : ids)
    id = static_cast<TokenId>(random.below(static_cast<std::uint64_t>(model.config().vocab_size)));
  return ids;
}

class EightBitCache : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = testing::load_model(GetParam());
  std::vector<TokenId> ids = text(*model, 200);
  ThreadPool pool{2};
  SessionOptions options{.cache_format = NumberFormat::q8_0};
};
INSTANTIATE_TEST_SUITE_P(Shipped, EightBitCache, ::testing::Values("models/relu2"),
                         [](const auto& model) { return std::string(model.param).substr(7); });

TEST_P(EightBitCache, IsCloseToOneOfFloats) {
  Session floats(model, pool), eight(model, pool, options);
  const auto wanted = copy(floats.forward(ids, Logits::all));
  const auto got = copy(eight.forward(ids, Logits::all));
  EXPECT_LT(relative_difference(got, wanted), 0.02);
  EXPECT_GT(relative_difference(got, wanted), 1e-5);  // and it is one of 8 bits
}

TEST_P(EightBitCache, TokenByTokenEqualsPrefillAndThreadsDoNotChangeABit) {
  Session whole(model, pool, options);
  const auto wanted = copy(whole.forward(ids, Logits::all));
  const auto vocab = static_cast<std::size_t>(model->config().vocab_size);
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool some(threads);
    Session session(model, some, options);
    std::vector<float> all;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto one = session.forward({&ids[i], 1});
      // Sums in another order move a key by a step of 1/127 now and then.
      if (threads == 1) {
        ASSERT_LT(relative_difference(one, std::span(wanted).subspan(i * vocab, vocab)), 0.01) << i;
      }
      all.insert(all.end(), one.begin(), one.end());
    }
    if (first.empty()) first = all;
    ASSERT_EQ(std::memcmp(all.data(), first.data(), all.size() * sizeof(float)), 0) << threads;
  }
}

TEST(EightBitCache, TakesHeadsOfWholeBlocksOnly) {
  const auto model = testing::load_model("gpt2");
  ThreadPool pool(1);
  EXPECT_THAT([&] { Session(model, pool, {.cache_format = NumberFormat::q8_0}); },
              ThrowsMessage<BadInput>(HasSubstr("multiple of 32 values for an 8-bit cache")));
}

TEST(EightBitCache, OfASparkModelKeepsItsPredictorApart) {
  ThreadPool pool(2);
  ModelConfig config = shape_config("gemma2-2b-spark", 0.1);
  config.d_model = config.d_embedding = 256;
  config.d_ff = 512;
  config.n_layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = config.rope_dims = 64;
  config.vocab_size = 300;
  config.windows.assign(2, 0);
  config.spark = {.ffn_active = 64, .ffn_predictor = 128, .attention_active = 16, .attention_predictor = 32};
  const auto model = random_model(config, NumberFormat::f32, 3, pool);
  const auto ids = text(*model, 90);
  Session floats(model, pool), eight(model, pool, {.cache_format = NumberFormat::q8_0});
  const auto wanted = copy(floats.forward(ids, Logits::all));
  const auto got = copy(eight.forward(ids, Logits::all));
  EXPECT_LT(relative_difference(got, wanted), 0.1);  // keys near the threshold change sides
  Session steps(model, pool, {.cache_format = NumberFormat::q8_0});
  std::vector<float> last;
  for (const TokenId id : ids) last = copy(steps.forward({&id, 1}));
  EXPECT_LT(relative_difference(last, std::span(got).last(last.size())), 0.05);
}

TEST(EightBitCache, StopsAtKeysThatAreNoNumbersAndNamesThePosition) {
  ThreadPool pool(1);
  const ModelConfig config = shape_config("128,256,2,64", 0.5);
  const auto model = random_model(config, NumberFormat::f32, 3, pool);
  // Found in the first layer's key projection, in memory that the test may write to.
  auto* const weights = reinterpret_cast<float*>(const_cast<std::byte*>(model->layers()[1].attention.key.data));
  weights[5] = std::numeric_limits<float>::quiet_NaN();
  Session session(model, pool, {.cache_format = NumberFormat::q8_0});
  const std::vector<TokenId> ids{1, 2, 3};
  EXPECT_THAT([&] { session.forward(ids); },
              ThrowsMessage<BadInput>(HasSubstr("among the keys and values of layer 1 at position 0")));
}

}  // namespace
}  // namespace torpor
