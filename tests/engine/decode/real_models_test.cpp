// Trained models of the data folder: the text and the losses that others get from them.
#include <algorithm>

#include "core/base/json.h"
#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"
#include "tests/engine/decode/llama2c_vocabulary.h"

namespace torpor {
namespace {

/// Sum of -log p(ids[i + 1] | ids[..i]) in nats.
double negative_log_likelihood(Session& session, std::span<const TokenId> ids) {
  session.clear(0);
  const SequenceTokens input{0, ids};
  const auto vocab = session.model().config().vocab_size;
  double sum = 0;
  session.forward({&input, 1}, [&](std::int64_t first, std::int64_t rows, const float* logits) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto next = static_cast<std::size_t>(first + r) + 1;
      if (next >= ids.size()) continue;
      const float* row = logits + r * vocab;
      sum += log_sum_exp(row, vocab) - static_cast<double>(row[ids[next]]);
    }
  });
  return sum;
}

TEST(Stories260K, GreedyTextIsThatOfLlama2cByteForByte) {
  TORPOR_DATA_OR_SKIP(folder, "lm/stories260K");
  const auto model = Model::load(folder / "stories260K.bin");
  const testing::Llama2cVocabulary vocabulary(folder / "tok512.bin", model->config().vocab_size);
  ThreadPool pool(1);
  Session session(model, pool);
  std::string text;
  TokenId token = 1;
  for (int step = 0; step < 200; ++step) {  // ./run stories260K.bin -z tok512.bin -t 0 -n 200
    const auto logits = session.forward({&token, 1});
    const auto next = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (next == 1) break;
    text += vocabulary.decode(token, next);
    token = next;
  }
  EXPECT_EQ(text, read_file(folder / "expected_greedy_200.txt"));
}

// Protocol and golden number: tests/golden/models/stories260K.py, a forward pass written out in PyTorch. Published:
// about 1.30 nats/token on the validation split of the model's own data.
TEST(Stories260K, LossOnTinyStoriesIsAsPublished) {
  TORPOR_DATA_OR_SKIP(folder, "lm/stories260K");
  TORPOR_DATA_OR_SKIP(stories_file, "text/tinystories_1000.json");
  const Json expected = read_json(testing::golden("models/stories260K.json"));
  const auto model = Model::load(folder / "stories260K.bin");
  const testing::Llama2cVocabulary vocabulary(folder / "tok512.bin", model->config().vocab_size);
  ThreadPool pool(2);
  Session session(model, pool);
  double sum = 0;
  std::int64_t tokens = 0, stories = 0;
  for (const auto& entry : read_json(stories_file)) {
    auto story = entry.get<std::string>();
    if (std::any_of(story.begin(), story.end(), [](char c) { return static_cast<unsigned char>(c) >= 128; })) continue;
    for (auto at = story.find("\n\n"); at != std::string::npos; at = story.find("\n\n", at + 1)) story.erase(at, 1);
    auto ids = vocabulary.encode(story);
    ids.resize(std::min<std::size_t>(ids.size(), 512));
    sum += negative_log_likelihood(session, ids);
    tokens += static_cast<std::int64_t>(ids.size()) - 1;
    if (++stories == expected["stories"].get<std::int64_t>()) break;
  }
  EXPECT_EQ(tokens, expected["tokens"].get<std::int64_t>());
  const double loss = sum / static_cast<double>(tokens);
  EXPECT_NEAR(loss, expected["loss_nats_per_token"].get<double>(), 1e-5);
  EXPECT_GT(loss, 1.30);
  EXPECT_LT(loss, 1.32);
}

// tinystories656K.py made the ids (of a story of our own) and the losses with transformers.
TEST(TinyStories656K, LossIsThatOfTransformers) {
  TORPOR_DATA_OR_SKIP(folder, "lm/tinystories656K");
  const Json expected = read_json(testing::golden("models/tinystories656K.json"));
  const auto ids = expected["ids"].get<std::vector<TokenId>>();
  const auto model = Model::load(folder);
  EXPECT_EQ(model->parameters(), 656'000);
  ThreadPool pool(2);
  Session session(model, pool);
  const double loss = negative_log_likelihood(session, ids) / static_cast<double>(ids.size() - 1);
  EXPECT_NEAR(loss, expected["loss_nats_per_token"].get<double>(), 1e-5);
  session.clear(0);
  const auto logits = session.forward(ids);
  const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_EQ(top, expected["next_token"].get<std::int64_t>());
}

}  // namespace
}  // namespace torpor
