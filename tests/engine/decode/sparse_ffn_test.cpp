// Skipping changes nothing: the same logits and the same text as with all neurons computed and the inactive ones set to
// zero, for every kind of layer and rule.
#include "engine/decode/sparse_ffn.h"

#include <limits>

#include "core/base/error.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"
#include "engine/models/neuron_layers.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using testing::copy;
using testing::expected_of;
using testing::relative_difference;

constexpr double kSelf = 2e-5;  // other orders of sums

std::shared_ptr<SparseFfn> sparse_ffn_of(const std::shared_ptr<const Model>& model, ThreadPool& pool,
                                         const std::vector<SelectionRule>& rules = {}) {
  return std::make_shared<SparseFfn>(model, NeuronMajorWeights::pack(model, pool), rules);
}

std::vector<SelectionRule> same_rule(const Model& model, const SelectionRule& rule) {
  return std::vector<SelectionRule>(model.layers().size(), rule);
}

class Decoded : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Model> model = testing::load_model(GetParam());
  std::vector<TokenId> ids = expected_of(GetParam()).ids;
  ThreadPool pool{2};

  /// Logits of every position, token by token.
  std::vector<float> decode(Session& session) const {
    std::vector<float> all;
    for (const TokenId id : ids) {
      const auto logits = session.forward({&id, 1});
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }

  void expect_as_masked(const std::vector<SelectionRule>& rules) {
    Session masked(model, pool);
    std::vector<RowSelector> selectors;
    for (std::size_t l = 0; l < rules.size(); ++l)
      selectors.emplace_back(rules[l], neuron_layer(*model, static_cast<int>(l), false));
    std::int64_t active = 0;
    if (!selectors.empty())
      masked.set_ffn_hook([&](const FfnActivations& a) {
        for (std::int64_t r = 0; r < a.rows; ++r)
          active += selectors[static_cast<std::size_t>(a.layer)].keep_active(
              {a.values + r * a.neurons, static_cast<std::size_t>(a.neurons)});
      });
    const auto wanted = decode(masked);
    Session session(model, pool);
    const auto ffn = sparse_ffn_of(model, pool, rules);
    session.set_sparse_ffn(ffn);
    EXPECT_LT(relative_difference(decode(session), wanted), kSelf);
    EXPECT_EQ(ffn->counts()[0].tokens, static_cast<std::int64_t>(ids.size()));
    if (selectors.empty()) {  // exact zeros: of many tokens too
      masked.clear(0);
      const auto wanted_together = copy(masked.forward(ids, Logits::all));
      ffn->set_together_from(0);
      ffn->set_union_up_to(1);
      std::int64_t once = 0;
      for (const SparseLayerCount& count : ffn->counts()) once += count.active;
      for (const double limit : {1.0, 0.0}) {
        ffn->set_many_tokens_limit(limit);
        ffn->reset_counts();
        session.clear(0);
        EXPECT_LT(relative_difference(session.forward(ids, Logits::all), wanted_together), kSelf);
        std::int64_t kept = 0;
        for (const SparseLayerCount& count : ffn->masked()) kept += count.active;
        EXPECT_EQ(kept, once);
      }
      return;
    }
    std::int64_t counted = 0;
    for (const SparseLayerCount& count : ffn->counts()) counted += count.active;
    EXPECT_EQ(counted, active);
    // A longer input is masked the same way, together or in full.
    masked.clear(0);
    active = 0;
    const auto prefill = copy(masked.forward(ids, Logits::all));
    const std::int64_t prefill_active = active;
    for (const std::int64_t from : {0, INT32_MAX}) {
      ffn->set_together_from(from);
      ffn->reset_counts();
      session.clear(0);
      EXPECT_LT(relative_difference(session.forward(ids, Logits::all), prefill), kSelf);
      EXPECT_EQ(ffn->counts()[0].calls, from == 0 ? 1 : 0);
    }
    // Each token by itself, or in full.
    ffn->set_together_from(0);
    ffn->set_union_up_to(1);
    for (const double limit : {1.0, 0.0}) {
      ffn->set_many_tokens_limit(limit);
      ffn->reset_counts();
      session.clear(0);
      EXPECT_LT(relative_difference(session.forward(ids, Logits::all), prefill), kSelf);
      std::int64_t kept = 0;
      for (const SparseLayerCount& count : ffn->masked()) kept += count.active;
      EXPECT_EQ(kept, prefill_active);
      EXPECT_EQ(ffn->counts()[0].tokens, 0);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(All, Decoded, ::testing::ValuesIn(testing::kGoldenModels),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(Decoded, ExactZerosAreSkippedWithoutEffect) {
  if (!why_not_skippable(model->config()).empty()) {
    EXPECT_THROW(sparse_ffn_of(model, pool), InvalidArgument);
    return;
  }
  expect_as_masked({});
}

TEST_P(Decoded, RulesAreSkippedAsTheyAreMasked) {
  for (const SelectionRule& rule : {SelectionRule(OutputThreshold{0.01F}), SelectionRule(ActivationThreshold{0.02F}),
                                    SelectionRule(LayerThreshold{0.05F, 0.5F}), SelectionRule(TopK{7}),
                                    SelectionRule(StatisticalTopK{9}), SelectionRule(ExactZeros{})}) {
    SCOPED_TRACE(describe(rule));
    expect_as_masked(same_rule(*model, rule));
  }
}

TEST_P(Decoded, EveryThreadCountGivesTheSameBits) {
  const auto rules = same_rule(*model, OutputThreshold{0.005F});
  std::vector<float> wanted;
  for (const int threads : {1, 2, 3, 4, 8}) {
    ThreadPool some(threads);
    Session session(model, some);
    session.set_sparse_ffn(sparse_ffn_of(model, some, rules));
    const auto got = decode(session);
    if (wanted.empty()) wanted = got;
    ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0) << threads;
  }
}

TEST_P(Decoded, SequencesTogetherHaveTheBitsThatEachHasAlone) {
  const auto rules = why_not_skippable(model->config()).empty() ? std::vector<SelectionRule>{}
                                                                : same_rule(*model, OutputThreshold{0.01F});
  constexpr int kSequences = 5;
  const int steps = 6;
  const auto token = [&](int s, int step) { return ids[static_cast<std::size_t>(s * 7 + step) % ids.size()]; };
  std::vector<std::vector<float>> wanted(kSequences);
  std::int64_t active = 0;
  for (int s = 0; s < kSequences; ++s) {
    Session alone(model, pool);
    const auto ffn = sparse_ffn_of(model, pool, rules);
    alone.set_sparse_ffn(ffn);
    for (int step = 0; step < steps; ++step) {
      const TokenId id = token(s, step);
      const auto logits = alone.forward({&id, 1});
      wanted[static_cast<std::size_t>(s)].insert(wanted[static_cast<std::size_t>(s)].end(), logits.begin(),
                                                 logits.end());
    }
    for (const SparseLayerCount& count : ffn->counts()) active += count.active;
  }
  for (const double limit : {1.0, 0.0}) {  // 0: always dense
    Session session(model, pool, {.sequences = kSequences});
    const auto ffn = sparse_ffn_of(model, pool, rules);
    ffn->set_together_from(0);
    ffn->set_density_limit(limit);
    session.set_sparse_ffn(ffn);
    std::vector<std::vector<float>> got(kSequences);
    for (int step = 0; step < steps; ++step) {
      std::vector<TokenId> tokens;
      for (int s = 0; s < kSequences; ++s) tokens.push_back(token(s, step));
      std::vector<SequenceTokens> batch;
      for (int s = 0; s < kSequences; ++s)
        batch.push_back({s, std::span(tokens).subspan(static_cast<std::size_t>(s), 1)});
      const auto logits = session.forward(batch);
      const auto width = static_cast<std::size_t>(model->config().vocab_size);
      for (int s = 0; s < kSequences; ++s) {
        const auto row = logits.subspan(static_cast<std::size_t>(s) * width, width);
        got[static_cast<std::size_t>(s)].insert(got[static_cast<std::size_t>(s)].end(), row.begin(), row.end());
      }
    }
    for (std::size_t s = 0; s < kSequences; ++s) {
      if (limit > 0) {
        ASSERT_EQ(std::memcmp(got[s].data(), wanted[s].data(), wanted[s].size() * sizeof(float)), 0) << s;
      } else {
        EXPECT_LT(relative_difference(got[s], wanted[s]), kSelf) << s;
      }
    }
    std::int64_t counted = 0;
    for (const SparseLayerCount& count : ffn->counts()) {
      counted += count.active;
      EXPECT_EQ(count.calls, steps);
      EXPECT_EQ(count.tokens, steps * kSequences);
    }
    if (limit > 0) {
      EXPECT_EQ(counted, active);
    }
  }
}

/// Greedy text of n tokens.
std::vector<TokenId> greedy(Session& session, TokenId first, int n) {
  std::vector<TokenId> text{first};
  for (int i = 0; i < n; ++i) {
    const auto logits = session.forward({&text.back(), 1});
    text.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return text;
}

class Shipped : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Shipped, ::testing::Values("models/relu2", "models/spark"),
                         [](const auto& model) { return std::string(model.param).substr(7); });

TEST_P(Shipped, WritesTheSameThousandTokensSkippingAndDense) {
  const auto model = testing::load_model(GetParam());
  ThreadPool pool(2);
  for (const TokenId first : {5, 400}) {
    Session dense(model, pool, {.context = 512}), sparse(model, pool, {.context = 512});
    const auto ffn = sparse_ffn_of(model, pool);
    sparse.set_sparse_ffn(ffn);
    ASSERT_EQ(greedy(sparse, first, 500), greedy(dense, first, 500));
    EXPECT_GT(ffn->density(), 0.02);
    EXPECT_LT(ffn->density(), 0.3);  // texts that start from anything are unlike novels
    EXPECT_LT(ffn->bytes_per_token(), 0.7 * static_cast<double>(ffn->dense_bytes_per_token()));
  }
}

TEST_P(Shipped, ReadsAPromptAsWithAllNeurons) {
  const auto model = testing::load_model(GetParam());
  ThreadPool pool(2);
  std::vector<TokenId> prompt(static_cast<std::size_t>(SparseFfn::kMostTokens) + 9);
  for (std::size_t i = 0; i < prompt.size(); ++i)
    prompt[i] = static_cast<TokenId>((i * 37 + 11) % static_cast<std::size_t>(model->config().vocab_size));
  Session dense(model, pool), sparse(model, pool);
  const auto wanted = copy(dense.forward(prompt, Logits::all));
  const auto ffn = sparse_ffn_of(model, pool);
  ffn->set_together_from(0);
  sparse.set_sparse_ffn(ffn);
  for (const double limit : {1.0, 0.0}) {  // each token's neurons, or all
    ffn->set_many_tokens_limit(limit);
    sparse.clear(0);
    EXPECT_LT(relative_difference(sparse.forward(prompt, Logits::all), wanted), kSelf) << limit;
  }
  EXPECT_GT(ffn->masked()[0].tokens, 0);
}

TEST(SparseFfn, StopsAtNumbersThatAreNotFiniteAndNamesTheLayer) {
  const auto model = testing::load_model("arcee");
  ThreadPool pool(1);
  const auto ffn = sparse_ffn_of(model, pool);
  std::vector<float> in(static_cast<std::size_t>(model->config().d_model), 1.0F), out(in.size());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    in[3] = bad;
    EXPECT_THAT([&] { ffn->forward(1, in.data(), 1, out.data(), pool); },
                ::testing::ThrowsMessage<BadInput>(::testing::HasSubstr("feed-forward layer 1")));
  }
}

TEST(SparseFfn, RefusesRulesThatDoNotFit) {
  const auto model = testing::load_model("arcee");
  ThreadPool pool(1);
  EXPECT_THROW(sparse_ffn_of(model, pool, {ExactZeros{}}), InvalidArgument);  // one rule, more layers
  EXPECT_THROW(sparse_ffn_of(model, pool, same_rule(*model, TopK{100000})), Error);
  EXPECT_THROW(sparse_ffn_of(model, pool, same_rule(*model, Predictor{"x"})), BadInput);
}

TEST(SparseFfn, SkipsTheLayersOfGemma3nThatHaveSparseGatesAlone) {
  const auto model = testing::load_model("gemma3n");
  ThreadPool pool(1);
  const Skipping skipping = prepare_skipping(model, nullptr, Skip::always, pool);
  ASSERT_NE(skipping.ffn, nullptr);
  ASSERT_EQ(skipping.dense.size(), 4U);
  EXPECT_EQ(skipping.dense.front().layer, 3);
  EXPECT_THAT(skipping.dense.front().reason, ::testing::HasSubstr("no neuron at exactly zero"));
  for (int l = 0; l < 7; ++l) EXPECT_EQ(skipping.ffn->skips(l), l < 3) << l;
  EXPECT_THROW(skipping.ffn->set_skips(4, true), InvalidArgument);
  const std::vector<Arranged> some{Arranged::rows,    Arranged::rows,    Arranged::rows,   Arranged::nothing,
                                   Arranged::nothing, Arranged::nothing, Arranged::nothing};
  EXPECT_EQ(skipping.ffn->weights()->bytes(), NeuronMajorWeights::bytes_needed(*model, some));
  EXPECT_LT(NeuronMajorWeights::bytes_needed(*model, some), NeuronMajorWeights::bytes_needed(*model));
  EXPECT_THROW(NeuronMajorWeights::pack(model, pool, {}, std::span(some).first(2)), InvalidArgument);

  const std::vector<TokenId> ids = expected_of("gemma3n").ids;
  Session session(model, pool);
  session.set_sparse_ffn(skipping.ffn);
  for (const TokenId id : ids) session.forward({&id, 1});
  const auto counts = skipping.ffn->counts();
  EXPECT_EQ(counts[0].tokens, std::ssize(ids));
  EXPECT_EQ(counts[3].tokens, 0);
  const double density = static_cast<double>(counts[1].active) / static_cast<double>(counts[1].tokens * 53);
  EXPECT_NEAR(density, 0.2, 0.05) << "of gates that are normal";
}

TEST(SparseFfn, RefusesWhatGemma3nHasOfItsOwn) {
  const auto model = testing::load_model("gemma3n");
  ThreadPool pool(1);
  EXPECT_THAT([&] { sparse_ffn_of(model, pool, same_rule(*model, GaussianTopK{0.9F})); },
              ::testing::ThrowsMessage<BadInput>(::testing::HasSubstr("layer 0: the plan wants Gaussian top-k")));
}

TEST(NeuronMajorWeights, HoldsTheColumnsOfDown) {
  for (const char* name : {"llama_silu", "arcee", "models/relu2", "gpt2"}) {
    const auto model = testing::load_model(name);
    ThreadPool pool(2);
    int reported = 0;
    const auto weights = NeuronMajorWeights::pack(model, pool, [&](int layers) { reported = layers; });
    EXPECT_EQ(reported, model->config().n_layers);
    EXPECT_GT(weights->bytes(), 0);
    EXPECT_EQ(weights->bytes(), NeuronMajorWeights::bytes_needed(*model));
    for (int l = 0; l < model->config().n_layers; ++l) {
      const WeightMatrix& down = weights->layers()[static_cast<std::size_t>(l)].down;
      const auto wanted = model->outgoing_rows(l);
      std::vector<float> rows(wanted.size());
      for (std::int64_t i = 0; i < down.out; ++i)
        to_f32(down.format, down.row(i),
               std::span(rows).subspan(static_cast<std::size_t>(i * down.in), static_cast<std::size_t>(down.in)));
      ASSERT_EQ(rows, wanted) << name << ", layer " << l;
    }
  }
}

}  // namespace
}  // namespace torpor
