#include "core/activity/accumulator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activity/row_kernels.h"
#include "core/activity/scores.h"
#include "core/base/error.h"
#include "tests/core/activity/layers.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::random_activations;
using testing::random_layer;

ActivityOptions options_for(const NeuronLayer& layer, float epsilon = 0, std::int64_t stride = 1) {
  ActivityOptions options;
  options.neurons = layer.neurons;
  options.width = layer.width;
  options.epsilon = epsilon;
  options.cett_stride = stride;
  return options;
}

// Every statistic from its formula, one number at a time.
TEST(ActivityAccumulator, AgreesWithTheFormulas) {
  // Sizes around vector widths, so that remainders run.
  for (const int neurons : {1, 3, 8, 15, 16, 17, 65, 131}) {
    SCOPED_TRACE(neurons);
    const int rows = 37;
    const auto layer = random_layer(neurons, 6, 20);
    const auto values = random_activations(rows, neurons, 0.4, static_cast<std::uint64_t>(neurons), neurons % 2 == 0);
    const float epsilon = 0.4F;
    ActivityAccumulator accumulator(options_for(*layer, epsilon), layer);
    accumulator.add(values);
    const auto s = accumulator.statistics();

    double zeros = 0, active = 0, octave_zero = 0;
    std::vector<double> octaves(detail::kOctaves, 0), sum(static_cast<std::size_t>(neurons), 0), fired(sum),
        activation(MagnitudeGrid::kEdges, 0);
    for (int t = 0; t < rows; ++t) {
      const std::span<const float> a(values.data() + t * neurons, static_cast<std::size_t>(neurons));
      const auto m = output_magnitudes(a, layer->outgoing_norms);
      const float largest = *std::max_element(m.begin(), m.end());
      for (int i = 0; i < neurons; ++i) {
        const auto j = static_cast<std::size_t>(i);
        zeros += a[j] == 0 ? 1 : 0;
        active += m[j] > epsilon ? 1 : 0;
        sum[j] += std::fabs(a[j]);
        fired[j] += m[j] > epsilon ? 1 : 0;
        if (m[j] == 0) {
          ++octave_zero;
        } else {
          int octave = 0;  // largest j with m / max <= 2^-j
          while (octave + 1 < detail::kOctaves && m[j] / largest <= std::ldexp(1.F, -(octave + 1))) ++octave;
          ++octaves[static_cast<std::size_t>(octave)];
        }
        for (int k = 0; k < MagnitudeGrid::kEdges; ++k)
          activation[static_cast<std::size_t>(k)] += std::fabs(a[j]) <= MagnitudeGrid::edge(k) ? 1 : 0;
      }
    }
    const double entries = static_cast<double>(rows) * neurons;
    EXPECT_EQ(s.tokens, rows);
    EXPECT_NEAR(s.zero_fraction.mean, zeros / entries, 1e-12);
    EXPECT_NEAR(s.density.mean, active / entries, 1e-12);
    EXPECT_NEAR(s.histogram.exact_zero_share, octave_zero / entries, 1e-12);
    for (std::size_t j = 0; j < octaves.size(); ++j)
      EXPECT_NEAR(s.histogram.share[j], octaves[j] / entries, 1e-12) << j;
    double mean_of_means = 0;
    for (const double x : sum) mean_of_means += x / rows / neurons;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      EXPECT_NEAR(s.mean_magnitude[i], sum[i] / rows, 1e-9);
      EXPECT_NEAR(s.frequency[i], fired[i] / rows, 1e-12);
      EXPECT_NEAR(s.redo_score[i], sum[i] / rows / mean_of_means, 1e-9);
    }
    EXPECT_EQ(s.dead_neurons(), std::count(fired.begin(), fired.end(), 0.0));
    EXPECT_EQ(s.hot_neurons(0.5), std::count_if(fired.begin(), fired.end(), [&](double f) { return f >= 0.5 * rows; }));
    for (std::size_t k = 0; k < activation.size(); ++k)
      EXPECT_NEAR(s.activation_share[k], activation[k] / entries, 1e-12);
  }
}

TEST(ActivityAccumulator, ExactPowersOfTwoFallIntoTheLowerOctave) {
  ActivityOptions options;
  options.neurons = 19;  // some in vectors, some in the remainder
  ActivityAccumulator accumulator(options, std::vector<float>(19, 1.F));
  std::vector<float> row(19, 0.25F);
  row[0] = 1.F;
  row[1] = row[18] = 0.5F;
  row[2] = std::nextafter(0.5F, 1.F);
  row[3] = 0;
  accumulator.add(row);
  const auto s = accumulator.statistics();
  EXPECT_DOUBLE_EQ(s.histogram.share[0] * 19, 2);
  EXPECT_DOUBLE_EQ(s.histogram.share[1] * 19, 2);
  EXPECT_DOUBLE_EQ(s.histogram.share[2] * 19, 14);
  EXPECT_DOUBLE_EQ(s.histogram.exact_zero_share * 19, 1);
}

TEST(ActivityAccumulator, MassSharesAreMeansOverTokensOfTheSortedShare) {
  const auto layer = random_layer(100, 4, 21);
  const auto values = random_activations(20, 100, 0.3, 21);
  ActivityAccumulator accumulator(options_for(*layer), layer);
  accumulator.add(values);
  std::array<double, kMassShares.size()> expected{};
  for (int t = 0; t < 20; ++t) {
    auto m =
        output_magnitudes(std::span(values).subspan(static_cast<std::size_t>(t * 100), 100), layer->outgoing_norms);
    std::sort(m.begin(), m.end(), std::greater<>());
    const auto squares = [&](int n) {
      return std::accumulate(m.begin(), m.begin() + n, 0.0,
                             [](double s, float x) { return s + static_cast<double>(x) * x; });
    };
    for (std::size_t k = 0; k < expected.size(); ++k)
      expected[k] += squares(static_cast<int>(std::lround(100 * kMassShares[k]))) / squares(100) / 20;
  }
  const auto s = accumulator.statistics();
  for (std::size_t k = 0; k < expected.size(); ++k) EXPECT_NEAR(s.mass_share[k], expected[k], 0.01) << k;
}

void expect_same(const ActivityStatistics& a, const ActivityStatistics& b, double tolerance) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.excluded_tokens, b.excluded_tokens);
  EXPECT_EQ(a.cett_tokens, b.cett_tokens);
  EXPECT_EQ(a.frequency, b.frequency);
  EXPECT_EQ(a.histogram.share, b.histogram.share);
  EXPECT_EQ(a.histogram.exact_zero_share, b.histogram.exact_zero_share);
  EXPECT_EQ(a.activation_share, b.activation_share);
  EXPECT_EQ(a.cett.sparsity, b.cett.sparsity);
  const auto same_interval = [](const Interval& x, const Interval& y) {
    EXPECT_EQ(x.blocks, y.blocks);
    EXPECT_EQ(x.mean, y.mean);
    EXPECT_EQ(std::isnan(x.low), std::isnan(y.low));
    if (std::isnan(x.low)) return;
    EXPECT_EQ(x.low, y.low);
    EXPECT_EQ(x.high, y.high);
  };
  same_interval(a.zero_fraction, b.zero_fraction);
  same_interval(a.density, b.density);
  const auto near = [&](const auto& x, const auto& y) {
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], tolerance);
  };
  near(a.mean_magnitude, b.mean_magnitude);
  near(a.cett.cett, b.cett.cett);
  near(a.mass_share, b.mass_share);
}

TEST(ActivityAccumulator, MergeIsOnePass) {
  const int neurons = 73;
  const auto layer = random_layer(neurons, 5, 22);
  const auto values = random_activations(160, neurons, 0.5, 22);
  const auto options = options_for(*layer, 0.3F, 4);
  std::vector<std::int64_t> position(160);
  for (std::size_t t = 0; t < 160; ++t) position[t] = static_cast<std::int64_t>(t % 32);
  const auto rows = [&](std::size_t from, std::size_t to) {
    return ActivityRows{std::span(values).subspan(from * neurons, (to - from) * neurons),
                        {},
                        std::span(position).subspan(from, to - from),
                        {}};
  };
  ActivityAccumulator whole(options, layer), first(options, layer), second(options, layer), empty(options, layer);
  whole.add(rows(0, 160));
  first.add(rows(0, 64));
  second.add(rows(64, 160));
  first.merge(second);
  first.merge(empty);
  expect_same(whole.statistics(), first.statistics(), 1e-12);
  EXPECT_EQ(whole.statistics().zero_fraction.blocks, 5);
}

TEST(ActivityAccumulator, ChunksAndThreadsLeaveNoTrace) {
  const int neurons = 200;
  const auto layer = random_layer(neurons, 16, 23);
  const auto values = random_activations(97, neurons, 0.5, 23);
  const auto options = options_for(*layer, 0.1F, 3);
  ActivityAccumulator whole(options, layer), chunks(options, layer), threads(options, layer);
  whole.add(values);
  for (std::size_t t = 0; t < 97;) {
    const std::size_t count = std::min<std::size_t>(1 + t % 11, 97 - t);
    chunks.add(std::span(values).subspan(t * neurons, count * neurons));
    t += count;
  }
  ThreadPool pool(3);
  threads.add(ActivityRows{values, {}, {}, {}}, &pool);
  expect_same(whole.statistics(), chunks.statistics(), 0);
  expect_same(whole.statistics(), threads.statistics(), 0);
}

TEST(ActivityAccumulator, NeuronsFireAboveTheThresholdAndNotAtIt) {
  for (const int neurons : {3, 8, 37, 64})  // less than a vector, vectors, and a rest
    for (const float epsilon : {0.F, 0.5F}) {
      ActivityOptions options;
      options.neurons = neurons;
      options.epsilon = epsilon;
      ActivityAccumulator accumulator(options, std::vector<float>(static_cast<std::size_t>(neurons), 1.F));
      accumulator.add(std::vector<float>(static_cast<std::size_t>(neurons), epsilon));
      EXPECT_EQ(accumulator.statistics().density.mean, 0);
      EXPECT_EQ(accumulator.statistics().dead_neurons(), neurons);
      accumulator.add(std::vector<float>(static_cast<std::size_t>(neurons), std::nextafter(epsilon, 1.F)));
      EXPECT_EQ(accumulator.statistics().density.mean, 0.5);
      EXPECT_EQ(accumulator.statistics().frequency, std::vector<double>(static_cast<std::size_t>(neurons), 0.5));
    }
}

TEST(ActivityAccumulator, ExcludedRowsLeaveNoTrace) {
  const auto layer = random_layer(20, 4, 24);
  const auto values = random_activations(30, 20, 0.5, 24);
  std::vector<float> kept;
  std::vector<std::uint8_t> excluded(30, 0);
  for (std::size_t t = 0; t < 30; ++t) {
    excluded[t] = t % 3 == 0 ? 1 : 0;
    if (excluded[t] == 0)
      kept.insert(kept.end(), values.begin() + static_cast<long>(t * 20),
                  values.begin() + static_cast<long>(t * 20 + 20));
  }
  ActivityAccumulator with(options_for(*layer), layer), without(options_for(*layer), layer);
  with.add(ActivityRows{values, {}, {}, excluded});
  without.add(kept);
  auto s = with.statistics();
  EXPECT_EQ(s.excluded_tokens, 10);
  s.excluded_tokens = 0;
  expect_same(s, without.statistics(), 0);
}

TEST(ActivityAccumulator, BlocksFollowWindowsAndSequences) {
  ActivityOptions options;
  options.neurons = 1;
  options.block_tokens = 6;
  ActivityAccumulator accumulator(options, std::vector<float>{1.F});
  // Two sequences interleaved, sequence 0 restarts once; then a long window that is cut at six tokens.
  const std::vector<float> values{0, 1, 0, 1, 0, 1, 1, 1};
  const std::vector<std::int32_t> sequence{0, 9, 0, 9, 0, 9, 0, 9};
  const std::vector<std::int64_t> position{0, 0, 1, 1, 0, 2, 1, 3};
  accumulator.add(ActivityRows{values, sequence, position, {}});
  EXPECT_EQ(accumulator.statistics().zero_fraction.blocks, 3);  // {0,0}, {0,1}, {1,1,1,1}
  BatchMeans expected;
  expected.add_block(2, 2);
  expected.add_block(1, 2);
  expected.add_block(0, 4);
  EXPECT_EQ(accumulator.statistics().zero_fraction.mean, expected.interval().mean);
  EXPECT_EQ(accumulator.statistics().density.blocks, 3);
  accumulator.add(std::vector<float>(11, 1.F));
  EXPECT_EQ(accumulator.statistics().zero_fraction.blocks, 3 + 2);  // 2+4 | 6 | 1 of sequence 0
}

TEST(ActivityAccumulator, CettUsesEveryStrideThToken) {
  const auto layer = random_layer(30, 6, 25);
  const auto values = random_activations(50, 30, 0.5, 25);
  std::vector<float> sampled;
  for (std::size_t t = 0; t < 50; t += 7)
    sampled.insert(sampled.end(), values.begin() + static_cast<long>(t * 30),
                   values.begin() + static_cast<long>(t * 30 + 30));
  ActivityAccumulator strided(options_for(*layer, 0, 7), layer), all(options_for(*layer, 0, 1), layer);
  for (std::size_t t = 0; t < 50; t += 5) strided.add(std::span(values).subspan(t * 30, 150));
  all.add(sampled);
  EXPECT_EQ(strided.statistics().cett_tokens, 8);
  EXPECT_EQ(strided.statistics().cett.cett, all.statistics().cett.cett);
  EXPECT_EQ(strided.statistics().activation_share, all.statistics().activation_share);
}

TEST(ActivityAccumulator, TokensWithTinyOutputAreReportedAndLeftOut) {
  const auto layer = random_layer(10, 4, 26);
  auto values = random_activations(6, 10, 0, 26);
  ActivityAccumulator clean(options_for(*layer), layer), mixed(options_for(*layer), layer);
  clean.add(values);
  std::vector<float> tiny(10, 0.F);
  mixed.add(values);
  mixed.add(tiny);
  for (auto& x : tiny) x = 1e-9F;
  mixed.add(tiny);
  const auto s = mixed.statistics();
  EXPECT_EQ(s.tokens_with_tiny_output, 2);
  EXPECT_EQ(s.cett_tokens, 6);
  EXPECT_EQ(s.cett.cett.back(), clean.statistics().cett.cett.back());
  EXPECT_EQ(s.mass_share, clean.statistics().mass_share);
  EXPECT_NEAR(s.zero_fraction.mean, 10.0 / 80, 1e-12);
}

TEST(ActivityAccumulator, TinyIsAMillionthOfTheMeanNormThatEitherSideOfAMergeHasSeen) {
  const auto layer = random_layer(10, 4, 27);
  const std::vector<float> usual = random_activations(1, 10, 0, 27);
  std::vector<float> small = usual, tiny = usual;
  for (auto& x : small) x *= 1e-5F;
  for (auto& x : tiny) x *= 1e-7F;
  ActivityAccumulator one(options_for(*layer), layer), merged(options_for(*layer), layer);
  one.add(usual);
  merged.merge(one);
  for (ActivityAccumulator* accumulator : {&one, &merged}) {
    accumulator->add(small);
    EXPECT_EQ(accumulator->statistics().tokens_with_tiny_output, 0);
    accumulator->add(tiny);
    EXPECT_EQ(accumulator->statistics().tokens_with_tiny_output, 1);
    EXPECT_EQ(accumulator->statistics().cett_tokens, 2);
  }
}

TEST(ActivityAccumulator, DeadNeuronsNeverFireAndHotOnesDoAtLeastThatOften) {
  ActivityStatistics s;
  s.frequency = {0, 0.5, 0.49, 1, 0, 0.25};
  EXPECT_EQ(s.dead_neurons(), 2);
  EXPECT_EQ(s.hot_neurons(), 2);
  EXPECT_EQ(s.hot_neurons(0.25), 4);
}

TEST(ActivityAccumulator, NeuronsForFiringsIsTheSmallestSet) {
  ActivityStatistics s;
  s.frequency = {0.1, 0.5, 0.0, 0.4};
  EXPECT_EQ(s.neurons_for_firings(0.5), 1);
  EXPECT_EQ(s.neurons_for_firings(0.8), 2);
  EXPECT_EQ(s.neurons_for_firings(1), 3);
}

TEST(ActivityAccumulator, WorksFromNormsAlone) {
  ActivityOptions options;
  options.neurons = 3;
  options.epsilon = 1;
  ActivityAccumulator accumulator(options, std::vector<float>{1.F, 2.F, 0.F});
  accumulator.add(std::vector<float>{1.F, -0.6F, 100.F});
  const auto s = accumulator.statistics();
  EXPECT_EQ(s.frequency, (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(s.cett_tokens, 0);
  EXPECT_TRUE(s.cett.cett.empty());
}

TEST(ActivityAccumulator, RefusesWhatItCannotCount) {
  ActivityOptions options;
  options.neurons = 9;
  const std::vector<float> norms(9, 1.F);
  ActivityAccumulator accumulator(options, norms);
  EXPECT_THROW(accumulator.add(std::vector<float>(10)), InvalidArgument);
  const std::vector<std::int32_t> sequence(2, 0);
  const std::vector<float> row(9, 1.F);
  EXPECT_THROW(accumulator.add(ActivityRows{row, sequence, {}, {}}), InvalidArgument);
  for (const float bad :
       {std::nanf(""), -std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    for (const std::size_t at : {0U, 8U}) {
      auto values = row;
      values[at] = bad;
      EXPECT_THROW(accumulator.add(values), BadInput);
    }
  EXPECT_EQ(accumulator.statistics().tokens, 0);
  EXPECT_EQ(accumulator.statistics().frequency, std::vector<double>(9, 0));
  EXPECT_THROW(ActivityAccumulator(options, std::vector<float>(8)), InvalidArgument);
  EXPECT_THROW(ActivityAccumulator(options, std::vector<float>(9, -1.F)), BadInput);
  options.width = 2;
  EXPECT_THROW(ActivityAccumulator(options, norms), InvalidArgument);
  options.width = 0;
  options.epsilon = -1;
  EXPECT_THROW(ActivityAccumulator(options, norms), InvalidArgument);
  options.epsilon = 1;
  ActivityAccumulator other(options, norms);
  EXPECT_THROW(accumulator.merge(other), InvalidArgument);
  options.neurons = 0;
  EXPECT_THROW(ActivityAccumulator(options, std::vector<float>{}), InvalidArgument);
}

}  // namespace
}  // namespace torpor
