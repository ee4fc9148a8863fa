// Planted masks (relu2.md 6.1 (ix)) and the definitions written out slowly.
#include "core/activity/locality.h"

#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

NeuronMask bernoulli(int neurons, double p, Random& random) {
  NeuronMask mask(neurons);
  for (int i = 0; i < neurons; ++i)
    if (random.uniform() < p) mask.set(i);
  return mask;
}

TEST(ReuseCounter, IsTheDefinition) {
  Random random(1);
  const int neurons = 70;
  std::vector<NeuronMask> masks;
  for (int t = 0; t < 60; ++t)
    masks.push_back(t % 13 == 5 ? NeuronMask(neurons) : bernoulli(neurons, 0.1 + 0.01 * (t % 20), random));
  ReuseCounter counter(neurons);
  for (int t = 0; t < 60; ++t) counter.add(masks[static_cast<std::size_t>(t)], 3, t + 10);
  const auto s = counter.statistics();

  std::vector<double> p(neurons, 0);
  for (const auto& mask : masks)
    for (const auto i : mask.indices()) p[static_cast<std::size_t>(i)] += 1.0 / 60;
  for (std::size_t w = 0; w < kReuseWindows.size(); ++w) {
    const int k = kReuseWindows[w];
    double sum = 0;
    int tokens = 0;
    for (int t = k; t < 60; ++t) {
      std::set<int> recent;
      for (int j = 1; j <= k; ++j)
        for (const auto i : masks[static_cast<std::size_t>(t - j)].indices()) recent.insert(i);
      const auto now = masks[static_cast<std::size_t>(t)].indices();
      if (now.empty()) continue;
      double again = 0;
      for (const auto i : now) again += recent.count(i) != 0 ? 1 : 0;
      sum += again / static_cast<double>(now.size());
      ++tokens;
    }
    EXPECT_NEAR(s.reuse[w].mean, sum / tokens, 1e-12) << k;
    double top = 0, bottom = 0;
    for (const double x : p) {
      top += x * (1 - std::pow(1 - x, k));
      bottom += x;
    }
    EXPECT_NEAR(s.chance[w], top / bottom, 1e-12) << k;
    if (w == 0) {
      EXPECT_EQ(s.tokens, tokens);
    }
  }
}

TEST(ReuseCounter, IndependentFiringGivesChanceAndAConstantMaskGivesOne) {
  Random random(2);
  ReuseCounter iid(300), constant(300);
  const auto fixed = bernoulli(300, 0.2, random);
  for (int t = 0; t < 2000; ++t) {
    iid.add(bernoulli(300, 0.1, random), 0, t);
    constant.add(fixed, 0, t);
  }
  EXPECT_NEAR(iid.statistics().reuse[0].mean, 0.1, 0.002);
  EXPECT_NEAR(iid.statistics().chance[0], 0.1, 0.002);
  EXPECT_NEAR(iid.statistics().reuse[2].mean, 1 - std::pow(0.9, 5), 0.004);
  EXPECT_NEAR(iid.statistics().chance[2], 1 - std::pow(0.9, 5), 0.004);
  EXPECT_EQ(constant.statistics().reuse[0].mean, 1);
  EXPECT_EQ(constant.statistics().chance[0], 1);
}

TEST(ReuseCounter, SequencesDoNotMixAndGapsStartAnew) {
  const std::vector<std::int32_t> one{0}, two{1};
  const auto a = NeuronMask::from_indices(2, one), b = NeuronMask::from_indices(2, two);
  ReuseCounter counter(2);
  for (int t = 0; t < 10; ++t) {
    counter.add(a, 0, t);
    counter.add(b, 1, t);
  }
  EXPECT_EQ(counter.statistics().reuse[0].mean, 1);
  EXPECT_EQ(counter.statistics().tokens, 18);
  EXPECT_EQ(counter.statistics().reuse[0].blocks, 2);
  counter.add(b, 0, 20);  // a gap: no predecessor
  EXPECT_EQ(counter.statistics().tokens, 18);
  counter.add(b, 0, 0);  // a restart: none either
  EXPECT_EQ(counter.statistics().tokens, 18);
  counter.add(a, 0, 1);
  EXPECT_EQ(counter.statistics().tokens, 19);
  EXPECT_NEAR(counter.statistics().reuse[0].mean, 18.0 / 19, 1e-12);
}

TEST(ReuseCounter, MergeAtTheEndOfSequencesIsOnePass) {
  Random random(3);
  ReuseCounter whole(50), first(50), second(50);
  for (int s = 0; s < 8; ++s)
    for (int t = 0; t < 20; ++t) {
      const auto mask = bernoulli(50, 0.3, random);
      whole.add(mask, s, t);
      (s < 4 ? first : second).add(mask, s, t);
    }
  first.merge(second);
  const auto a = whole.statistics(), b = first.statistics();
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.chance, b.chance);
  for (std::size_t w = 0; w < a.reuse.size(); ++w) {
    EXPECT_NEAR(a.reuse[w].mean, b.reuse[w].mean, 1e-12);
    EXPECT_NEAR(a.reuse[w].high, b.reuse[w].high, 1e-12);
  }
  ReuseCounter other(51);
  EXPECT_THROW(first.merge(other), InvalidArgument);
  EXPECT_THROW(first.add(NeuronMask(51), 0, 0), InvalidArgument);
}

// C_ij and the gap straight from the definition.
double slow_gap(const std::vector<NeuronMask>& masks, const std::vector<int>& neurons, double* top_out = nullptr,
                double* average_out = nullptr) {
  double top_sum = 0, average_sum = 0;
  for (const int i : neurons) {
    double top = 0, sum = 0;
    for (const int j : neurons) {
      if (i == j) continue;
      double both = 0, alone = 0;
      for (const auto& mask : masks) {
        alone += mask.test(i) ? 1 : 0;
        both += mask.test(i) && mask.test(j) ? 1 : 0;
      }
      top = std::max(top, both / alone);
      sum += both / alone;
    }
    top_sum += top;
    average_sum += sum / static_cast<double>(neurons.size() - 1);
  }
  const auto n = static_cast<double>(neurons.size());
  if (top_out != nullptr) *top_out = top_sum / n;
  if (average_out != nullptr) *average_out = average_sum / n;
  return (top_sum - average_sum) / n;
}

TEST(CoactivationCounter, IsTheDefinition) {
  Random random(4);
  const int neurons = 40;
  std::vector<NeuronMask> masks;
  CoactivationCounter counter(neurons, 64, 1000, 9);
  for (int t = 0; t < 333; ++t) {
    NeuronMask mask(neurons);
    for (int i = 0; i < neurons; ++i)
      if (random.uniform() < 0.01 * (i + 1)) mask.set(i);
    masks.push_back(mask);
    counter.add(mask);
  }
  std::vector<std::pair<int, int>> counts;
  for (int i = 0; i < neurons; ++i) {
    int n = 0;
    for (const auto& mask : masks) n += mask.test(i) ? 1 : 0;
    if (n >= 20) counts.push_back({-n, i});
  }
  std::stable_sort(counts.begin(), counts.end(), [](auto a, auto b) { return a.first < b.first; });
  std::vector<int> often, cool;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    often.push_back(counts[k].second);
    if (k >= std::ceil(0.05 * static_cast<double>(counts.size()))) cool.push_back(counts[k].second);
  }
  ASSERT_LT(often.size(), 40U);
  const auto s = counter.statistics(20);
  double top = 0, average = 0;
  EXPECT_EQ(s.tokens, 333);
  EXPECT_EQ(s.neurons, static_cast<std::int64_t>(often.size()));
  EXPECT_NEAR(s.gap, slow_gap(masks, often, &top, &average), 1e-12);
  EXPECT_NEAR(s.top, top, 1e-12);
  EXPECT_NEAR(s.average, average, 1e-12);
  EXPECT_NEAR(s.gap_without_hottest, slow_gap(masks, cool), 1e-12);
}

TEST(CoactivationCounter, PlantedPairsGiveAGapOfOneMinusPAndIndependentNeuronsGiveChance) {
  Random random(5);
  const double p = 0.2;
  CoactivationCounter pairs(60, 512, 8192, 1), iid(60, 512, 8192, 1);
  for (int t = 0; t < 8192; ++t) {
    NeuronMask mask(60);
    for (int i = 0; i < 60; i += 2)
      if (random.uniform() < p) {
        mask.set(i);
        mask.set(i + 1);
      }
    pairs.add(mask);
    iid.add(bernoulli(60, p, random));
  }
  const auto planted = pairs.statistics(), independent = iid.statistics();
  EXPECT_EQ(planted.top, 1);
  EXPECT_NEAR(planted.gap, (1 - p) * 58 / 59, 0.01);
  EXPECT_LT(planted.chance_gap, 0.06);
  EXPECT_LT(independent.gap, 0.06);
  EXPECT_NEAR(independent.gap, independent.chance_gap, 0.01);
}

TEST(CoactivationCounter, RemovingTheHottestRemovesEveryonesPartner) {
  Random random(6);
  CoactivationCounter counter(40, 512, 4096, 1);
  for (int t = 0; t < 4096; ++t) {
    auto mask = bernoulli(40, 0.1, random);
    mask.set(7);
    mask.set(8);  // 5 % of 40 are two
    counter.add(mask);
  }
  const auto s = counter.statistics();
  EXPECT_GT(s.gap, 0.7);
  EXPECT_LT(s.gap_without_hottest, 0.1);
}

TEST(CoactivationCounter, SamplesDeterministicallyAndStopsWhenFull) {
  const CoactivationCounter a(1000, 32, 100, 5), b(1000, 32, 100, 5), c(1000, 32, 100, 6);
  EXPECT_EQ(a.sampled_neurons(), b.sampled_neurons());
  EXPECT_NE(a.sampled_neurons(), c.sampled_neurons());
  EXPECT_EQ(a.sampled_neurons().size(), 32U);
  EXPECT_TRUE(std::is_sorted(a.sampled_neurons().begin(), a.sampled_neurons().end()));
  EXPECT_EQ(std::set<std::int32_t>(a.sampled_neurons().begin(), a.sampled_neurons().end()).size(), 32U);

  Random random(7);
  CoactivationCounter whole(90, 20, 100, 5), first(90, 20, 100, 5), second(90, 20, 100, 5);
  for (int t = 0; t < 150; ++t) {
    const auto mask = bernoulli(90, 0.4, random);
    whole.add(mask);
    (t < 70 ? first : second).add(mask);
  }
  first.merge(second);
  EXPECT_TRUE(first.full());
  EXPECT_EQ(first.statistics().tokens, 100);
  EXPECT_EQ(first.statistics().gap, whole.statistics().gap);
  EXPECT_EQ(first.statistics().chance_gap, whole.statistics().chance_gap);
  EXPECT_THROW(first.merge(CoactivationCounter(90, 21, 100, 5)), InvalidArgument);
  EXPECT_THROW(CoactivationCounter(0), InvalidArgument);
}

}  // namespace
}  // namespace torpor
