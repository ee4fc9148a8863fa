#include "engine/profile/evaluate.h"

#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/random.h"
#include "tests/engine/profile/byte_tokenizer.h"

namespace torpor {
namespace {

using testing::golden;

std::vector<TextWindow> windows_of_tiny(const Tokenizer& tokenizer, std::int64_t window) {
  std::vector<TextWindow> windows;
  for_each_window(TextCorpus::open(golden("apps/text.txt")), tokenizer, 320, window, [&](TextWindow w) {
    windows.push_back(std::move(w));
    return true;
  });
  return windows;
}

/// -log softmax(logits)[next] of every predicted token, summed, from the logits of one window at a time.
double slow_nats(Session& session, const TextWindow& window) {
  session.clear(0);
  const auto logits = session.forward(std::span(window.tokens), Logits::all);
  const auto vocab = static_cast<std::size_t>(session.model().config().vocab_size);
  double nats = 0;
  for (std::size_t t = 0; t + 1 < window.tokens.size(); ++t) {
    long double sum = 0;
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<long double>(logits[t * vocab + v]));
    nats -= static_cast<double>(logits[t * vocab + static_cast<std::size_t>(window.tokens[t + 1])] - std::log(sum));
  }
  return nats;
}

TEST(Evaluate, LossIsThatOfTransformers) {
  const Json wanted = parse_json(testing::text_of(golden("apps/expected.json")), "expected.json")["eval"];
  const auto model = Model::load(golden("apps/tiny"));
  const auto tokenizer = load_tokenizer(golden("apps/tiny"));
  const auto windows = windows_of_tiny(*tokenizer, wanted["window"]);
  ThreadPool pool(2);
  Session session = evaluation_session(model, pool, wanted["window"]);
  const Evaluation found = evaluate(session, pool, windows);
  EXPECT_EQ(found.tokens(), wanted["predicted_tokens"]);
  EXPECT_EQ(found.bytes(), wanted["bytes"]);
  const double nats = wanted["loss_nats"];
  EXPECT_NEAR(found.loss_nats_per_token() * static_cast<double>(found.tokens()), nats, 1e-6 * nats);
  EXPECT_NEAR(found.bits_per_byte(), nats / std::log(2.0) / 20000, 1e-5);
  EXPECT_NEAR(found.perplexity(), std::exp(nats / 13930), 1e-4);
}

TEST(Evaluate, EachWindowIsASlowSoftmaxOfThatWindowAlone) {
  const auto model = Model::load(golden("apps/tiny"));
  const auto tokenizer = load_tokenizer(golden("apps/tiny"));
  auto windows = windows_of_tiny(*tokenizer, 50);
  windows.resize(45);           // more than one batch
  windows[3].tokens.resize(2);  // the shortest
  ThreadPool pool(2);
  Session session = evaluation_session(model, pool, 50), alone(model, pool, {.sequences = 1});
  std::int64_t reported = 0;
  const Evaluation found = evaluate(session, pool, windows, [&](std::int64_t tokens) { reported = tokens; });
  ASSERT_EQ(found.windows().size(), windows.size());
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const double nats = slow_nats(alone, windows[w]);
    EXPECT_NEAR(found.windows()[w].nats, nats, 1e-5 * nats);
    EXPECT_EQ(found.windows()[w].tokens, static_cast<std::int64_t>(windows[w].tokens.size()) - 1);
    EXPECT_EQ(found.windows()[w].bytes, windows[w].bytes);
  }
  EXPECT_EQ(reported, found.tokens());
}

TEST(Evaluate, LossesThatAreNotFiniteAreRefused) {
  const auto model = Model::load(golden("apps/tiny"));
  const auto tokenizer = load_tokenizer(golden("apps/tiny"));
  auto windows = windows_of_tiny(*tokenizer, 20);
  windows.resize(2);
  ThreadPool pool(1);
  Session session = evaluation_session(model, pool, 20);
  session.set_ffn_hook([](const FfnActivations& a) { a.values[3] = std::nanf(""); });
  EXPECT_THROW(evaluate(session, pool, windows), BadInput);
}

Evaluation evaluation_of(std::initializer_list<WindowLoss> windows) {
  Evaluation out;
  for (const WindowLoss& w : windows) out.add(w);
  return out;
}

TEST(PerplexityRatio, IsTheExponentialOfThePairedMeanWithStudentsInterval) {
  const Evaluation a = evaluation_of({{30, 10, 40}, {25, 10, 41}, {41, 10, 42}});
  const Evaluation b = evaluation_of({{30.1, 10, 40}, {25.3, 10, 41}, {41.5, 10, 42}});
  const Interval ratio = perplexity_ratio(a, b);
  // Differences a token: 0.01, 0.03, 0.05. Mean 0.03, standard deviation 0.02, t(0.975, 2) = 4.302652729911275.
  const double half = 4.302652729911275 * 0.02 / std::sqrt(3.0);
  EXPECT_NEAR(ratio.mean, std::exp(0.03), 1e-12);
  EXPECT_NEAR(ratio.low, std::exp(0.03 - half), 1e-9);
  EXPECT_NEAR(ratio.high, std::exp(0.03 + half), 1e-9);
  EXPECT_NEAR(b.perplexity() / a.perplexity(), ratio.mean, 1e-12) << "the ratio of the perplexities";
  const Interval unequal =
      perplexity_ratio(evaluation_of({{1, 1, 1}, {2, 9, 9}}), evaluation_of({{2, 1, 1}, {2, 9, 9}}));
  EXPECT_NEAR(unequal.mean, std::exp(0.1), 1e-12) << "a token counts, not a window";
}

TEST(PerplexityRatio, RefusesRunsOverOtherWindows) {
  const Evaluation a = evaluation_of({{30, 10, 40}, {25, 10, 41}});
  EXPECT_THROW(perplexity_ratio(a, evaluation_of({{30, 10, 40}})), InvalidArgument);
  EXPECT_THROW(perplexity_ratio(a, evaluation_of({{30, 10, 40}, {25, 11, 41}})), InvalidArgument);
}

/// What a rule keeps, from its sentence in selection.h. Magnitudes in float, as the rule says.
std::vector<bool> kept_by_hand(const SelectionRule& rule, std::span<const float> a, const NeuronLayer& layer) {
  std::vector<bool> kept(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const float x = std::fabs(a[i]);
    if (std::holds_alternative<ExactZeros>(rule)) kept[i] = a[i] != 0;
    if (const auto* r = std::get_if<OutputThreshold>(&rule)) kept[i] = x * layer.outgoing_norms[i] > r->epsilon;
    if (const auto* r = std::get_if<ActivationThreshold>(&rule)) kept[i] = x > r->threshold;
    if (const auto* r = std::get_if<TopK>(&rule)) {
      int larger = 0;
      for (std::size_t j = 0; j < a.size(); ++j) larger += std::fabs(a[j]) > x || (std::fabs(a[j]) == x && j < i);
      kept[i] = larger < r->k && x > 0;
    }
  }
  return kept;
}

TEST(RuleMask, ZeroesWhatItsRuleSaysAndCountsRowsAfterTheFirstTokens) {
  Random random(5);
  std::vector<NeuronLayer> layers(2);
  for (int l = 0; l < 2; ++l) {
    layers[static_cast<std::size_t>(l)].index = l;
    layers[static_cast<std::size_t>(l)].neurons = 77;
    for (int i = 0; i < 77; ++i)
      layers[static_cast<std::size_t>(l)].outgoing_norms.push_back(0.1F + static_cast<float>(random.uniform()));
  }
  const std::vector<SelectionRule> all = {ExactZeros{}, OutputThreshold{0.2F}, ActivationThreshold{0.4F}, TopK{9}};
  for (const SelectionRule& rule : all)
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      const std::vector<SelectionRule> rules = {ExactZeros{}, rule};
      RuleMask mask(layers, rules, pool, 2);
      std::vector<float> values(40 * 77);
      for (float& x : values) x = random.below(4) == 0 ? 0.F : static_cast<float>(2 * random.uniform() - 1);
      std::vector<std::int32_t> sequence(40, 0);
      std::vector<std::int64_t> position(40);
      for (std::size_t r = 0; r < 40; ++r) position[r] = static_cast<std::int64_t>(r % 10);
      std::vector<float> wanted = values;
      std::int64_t active = 0;
      for (std::size_t r = 0; r < 40; ++r) {
        const auto kept = kept_by_hand(rule, std::span(values).subspan(r * 77, 77), layers[1]);
        for (std::size_t i = 0; i < 77; ++i) {
          if (!kept[i]) wanted[r * 77 + i] = 0;
          active += kept[i] && position[r] >= 2;
        }
      }
      mask.apply(
          {.layer = 1, .rows = 40, .neurons = 77, .values = values.data(), .sequence = sequence, .position = position});
      EXPECT_EQ(values, wanted) << "rule " << rule.index();
      EXPECT_EQ(mask.counts()[0].rows, 0);
      EXPECT_EQ(mask.counts()[1].rows, 32);
      EXPECT_EQ(mask.counts()[1].active, active);
      EXPECT_DOUBLE_EQ(mask.density(), static_cast<double>(active) / (32 * 77) / 2) << "mean over layers";
      mask.reset_counts();
      EXPECT_EQ(mask.counts()[1].rows + mask.counts()[1].active, 0);
    }
  ThreadPool pool(1);
  EXPECT_THROW(RuleMask(layers, std::vector<SelectionRule>{ExactZeros{}}, pool), InvalidArgument);
}

TEST(RuleMask, AsAHookIsTheModelWithThoseEntriesZero) {
  const auto model = Model::load(golden("apps/tiny"));
  const auto tokenizer = load_tokenizer(golden("apps/tiny"));
  auto windows = windows_of_tiny(*tokenizer, 40);
  windows.resize(30);
  ThreadPool pool(2);
  Session session = evaluation_session(model, pool, 40);
  const auto layers = neuron_layers(*model);
  const std::vector<SelectionRule> rules = {OutputThreshold{0.3F}, TopK{20}};
  session.set_ffn_hook([&](const FfnActivations& a) {
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const std::span row(a.values + r * a.neurons, static_cast<std::size_t>(a.neurons));
      const auto l = static_cast<std::size_t>(a.layer);
      const auto kept = kept_by_hand(rules[l], row, layers[l]);
      for (std::size_t i = 0; i < row.size(); ++i)
        if (!kept[i]) row[i] = 0;
    }
  });
  const double by_hand = evaluate(session, pool, windows).loss_nats_per_token();
  session.set_ffn_hook({});
  const double dense = evaluate(session, pool, windows).loss_nats_per_token();
  RuleMask mask(*model, rules, pool);
  session.set_ffn_hook(mask.hook());
  EXPECT_EQ(evaluate(session, pool, windows).loss_nats_per_token(), by_hand);
  EXPECT_NE(by_hand, dense);
}

TEST(NeuronLayers, HaveTheColumnsOfTheDownProjection) {
  const auto model = Model::load(golden("apps/tiny"));
  for (int l = 0; l < 2; ++l) {
    const WeightMatrix& down = model->layers()[static_cast<std::size_t>(l)].ffn.down;  // f32 [32, 88]
    const NeuronLayer layer = neuron_layer(*model, l, true);
    EXPECT_TRUE(neuron_layer(*model, l, false).outgoing_rows.empty());
    for (int i = 0; i < 88; ++i) {
      double squares = 0;
      for (int o = 0; o < 32; ++o) {
        float w = 0;
        std::memcpy(&w, down.row(o) + sizeof(float) * static_cast<std::size_t>(i), sizeof w);
        EXPECT_EQ(layer.outgoing_rows[static_cast<std::size_t>(i * 32 + o)], w);
        squares += static_cast<double>(w) * w;
      }
      EXPECT_NEAR(layer.outgoing_norms[static_cast<std::size_t>(i)], std::sqrt(squares), 1e-6);
    }
  }
}

}  // namespace
}  // namespace torpor
