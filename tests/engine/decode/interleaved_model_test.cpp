// Models whose quantised rows are interleaved when they are loaded to decode: the same logits as where they are not.
#include "core/base/random.h"
#include "engine/bench/llama_cpp.h"
#include "engine/bench/random_model.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/simd/vnni.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::copy;
using testing::relative_difference;

class InterleavedModel : public ::testing::TestWithParam<NumberFormat> {
 protected:
  void SetUp() override {
    if (!interleaving_pays(GetParam(), 640)) GTEST_SKIP() << "needs a processor with AVX-512 VNNI";
    write_gguf(*random_model(shape_config("640,1280,2,300", 0.1), GetParam(), 1, pool), folder.path() / "m.gguf");
    file = Model::load(folder.path() / "m.gguf");
    interleaved = Model::load(folder.path() / "m.gguf", {.activation_override = {}, .large_pages = true});
    Random random(2);
    for (int i = 0; i < 60; ++i) ids.push_back(static_cast<TokenId>(random.below(300)));
  }
  testing::TemporaryFolder folder;
  ThreadPool pool{2};
  std::shared_ptr<const Model> file, interleaved;
  std::vector<TokenId> ids;
};
INSTANTIATE_TEST_SUITE_P(Formats, InterleavedModel, ::testing::Values(NumberFormat::q8_0, NumberFormat::q4_0),
                         [](const auto& format) { return std::string(traits(format.param).name); });

TEST_P(InterleavedModel, IsInterleavedWhereRowsAreMultiplied) {
  const LayerWeights& layer = interleaved->layers()[1];
  for (const WeightMatrix* w :
       {&layer.attention.query, &layer.attention.output, &layer.ffn.up, &layer.ffn.down, &interleaved->unembedding()})
    EXPECT_TRUE(w->interleaved);
  EXPECT_FALSE(file->layers()[1].ffn.up.interleaved);
  EXPECT_EQ(interleaved->fingerprint(), file->fingerprint());
  EXPECT_EQ(interleaved->outgoing_rows(1), file->outgoing_rows(1));
  simd::vnni::switched_off = true;
  EXPECT_FALSE(Model::load(folder.path() / "m.gguf", {.activation_override = {}, .large_pages = true})
                   ->layers()[1]
                   .ffn.up.interleaved);
  simd::vnni::switched_off = false;
}

TEST_P(InterleavedModel, HasTheSameLogitsAtOnceAndTokenByToken) {
  Session plain(file, pool), other(interleaved, pool);
  const auto wanted = copy(plain.forward(ids, Logits::all));
  EXPECT_LT(relative_difference(other.forward(ids, Logits::all), wanted), 1e-4);
  other.clear(0);
  plain.clear(0);
  for (const TokenId id : ids) {
    const auto one = copy(plain.forward({&id, 1}));
    ASSERT_LT(relative_difference(other.forward({&id, 1}), one), 2e-3);  // neurons close to the threshold
  }
}

TEST_P(InterleavedModel, SkipsAsItsMaskedSelfDoes) {
  const Skipping skipping = prepare_skipping(interleaved, nullptr, Skip::always, pool);
  ASSERT_TRUE(skipping.ffn && skipping.reason.empty());
  Session dense(interleaved, pool), sparse(interleaved, pool);
  sparse.set_sparse_ffn(skipping.ffn);
  for (const TokenId id : ids) {
    const auto wanted = copy(dense.forward({&id, 1}));
    ASSERT_LT(relative_difference(sparse.forward({&id, 1}), wanted), 1e-2);  // down is rounded to q8_0 by neuron
  }
  EXPECT_LT(skipping.ffn->density(), 0.6);  // GGUF does not name the threshold that the weights were drawn for
}

TEST_P(InterleavedModel, WritesTheSameFileAgain) {
  write_gguf(*interleaved, folder.path() / "again.gguf");
  const auto again = Model::load(folder.path() / "again.gguf");
  for (const auto of :
       {+[](const LayerWeights& l) { return &l.ffn.up; }, +[](const LayerWeights& l) { return &l.ffn.down; }}) {
    const WeightMatrix &a = *of(file->layers()[1]), &b = *of(again->layers()[1]);
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())), 0);
  }
}

}  // namespace
}  // namespace torpor
