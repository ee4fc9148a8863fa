// Each architecture against transformers, and the session against itself: every way to run a text gives the same
// logits.
#include "engine/decode/session.h"

#include "core/base/error.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::copy;
using testing::Expected;
using testing::expected_of;
using testing::golden;
using testing::relative_difference;

constexpr double kParity = 1e-4;  // against transformers, whose sums run in another order
constexpr double kSelf = 4e-5;    // against ourselves: other row counts take other kernels, with other orders of sums

class GoldenModel : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = testing::load_model(GetParam());
  Expected expected = expected_of(GetParam());
  ThreadPool pool{1};
};
INSTANTIATE_TEST_SUITE_P(All, GoldenModel, ::testing::ValuesIn(testing::kGoldenModels),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(GoldenModel, AgreesWithTransformers) {
  Session session(model, pool);
  EXPECT_LT(relative_difference(session.forward(expected.ids, Logits::all), expected.logits), kParity);
}

TEST_P(GoldenModel, TokenByTokenEqualsPrefill) {
  Session session(model, pool);
  const auto vocab = static_cast<std::size_t>(model->config().vocab_size);
  const auto whole = copy(session.forward(expected.ids, Logits::all));
  session.clear(0);
  for (std::size_t i = 0; i < expected.ids.size(); ++i) {
    const auto one = session.forward({&expected.ids[i], 1});
    ASSERT_LT(relative_difference(one, std::span(whole).subspan(i * vocab, vocab)), kSelf) << "position " << i;
  }
}

TEST_P(GoldenModel, ChunkedEqualsWhole) {
  Session session(model, pool);
  const auto whole = copy(session.forward(expected.ids, Logits::all));
  for (const std::int64_t rows : {1, 7, 63, 64}) {
    Session chunked(model, pool, {.rows_per_pass = rows});
    EXPECT_LT(relative_difference(chunked.forward(expected.ids, Logits::all), whole), kSelf) << rows;
  }
}

TEST_P(GoldenModel, BatchEqualsSingle) {
  const auto vocab = static_cast<std::size_t>(model->config().vocab_size);
  const std::span ids(expected.ids);
  const std::span<const TokenId> texts[] = {ids.subspan(0, 20), ids.subspan(31, 33), ids.subspan(5, 1)};
  std::vector<float> all, last, decoded;
  for (const auto text : texts) {
    Session single(model, pool);
    const auto logits = copy(single.forward(text, Logits::all));
    all.insert(all.end(), logits.begin(), logits.end());
    last.insert(last.end(), logits.end() - static_cast<std::ptrdiff_t>(vocab), logits.end());
    const auto next = single.forward(ids.first(1));
    decoded.insert(decoded.end(), next.begin(), next.end());
  }
  for (const std::int64_t rows : {256, 9}) {  // 9: passes end inside sequences, and the last rows of two fall into one
    Session batch(model, pool, {.sequences = 4, .rows_per_pass = rows});
    const SequenceTokens inputs[] = {{3, texts[0]}, {0, texts[1]}, {2, texts[2]}};
    EXPECT_LT(relative_difference(batch.forward(inputs, Logits::all), all), kSelf);
    for (const int s : {0, 2, 3}) batch.clear(s);
    EXPECT_LT(relative_difference(batch.forward(inputs, Logits::last), last), kSelf);
    const SequenceTokens step[] = {{3, ids.first(1)}, {0, ids.first(1)}, {2, ids.first(1)}};
    EXPECT_LT(relative_difference(batch.forward(step), decoded), kSelf);
    EXPECT_EQ(batch.position(0), 34);
    EXPECT_EQ(batch.position(1), 0);
  }
}

TEST_P(GoldenModel, ThreadsDoNotChangeABit) {
  Session one(model, pool);
  const auto prefill = copy(one.forward(expected.ids, Logits::all));
  const auto step = copy(one.forward(std::span(expected.ids).first(1)));
  for (const int threads : {2, 3}) {
    ThreadPool more(threads);
    Session session(model, more);
    const auto logits = session.forward(expected.ids, Logits::all);
    EXPECT_EQ(std::memcmp(logits.data(), prefill.data(), logits.size_bytes()), 0) << threads;
    const auto next = session.forward(std::span(expected.ids).first(1));
    EXPECT_EQ(std::memcmp(next.data(), step.data(), next.size_bytes()), 0) << threads;
  }
}

TEST_P(GoldenModel, SinkSeesEveryRowOnceInOrder) {
  Session session(model, pool, {.rows_per_pass = 10});
  const auto whole = copy(session.forward(expected.ids, Logits::all));
  session.clear(0);
  std::vector<float> seen;
  const SequenceTokens input{0, expected.ids};
  session.forward({&input, 1}, [&](std::int64_t first, std::int64_t rows, const float* logits) {
    EXPECT_EQ(first * model->config().vocab_size, static_cast<std::int64_t>(seen.size()));
    seen.insert(seen.end(), logits, logits + rows * model->config().vocab_size);
  });
  EXPECT_EQ(seen, whole);
}

class GoldenGguf : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, GoldenGguf, ::testing::ValuesIn(testing::kGoldenGgufs),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(GoldenGguf, AgreesWithTransformers) {
  const std::string name = GetParam();
  const auto expected = expected_of(name);
  ThreadPool pool(1);
  LoadOptions options;
  if (name == "llama_rope_llama3") options.activation_override = "gelu";  // GGUF has no field for it
  Session session(Model::load(golden("models/" + name + "/model.gguf"), options), pool);
  EXPECT_LT(relative_difference(session.forward(expected.ids, Logits::all), expected.logits), kParity);
}

}  // namespace
}  // namespace torpor
