#include "core/activity/confidence.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(StudentT, QuantilesAgreeWithTables) {
  // Two-sided 95 % and 99 % points, standard tables.
  const struct {
    double p, freedom, t;
  } cases[] = {{0.975, 1, 12.7062047364},   {0.975, 2, 4.30265272991},   {0.975, 3, 3.18244630528},
               {0.975, 5, 2.57058183661},   {0.975, 10, 2.22813885196},  {0.975, 30, 2.04227245630},
               {0.975, 100, 1.98397151852}, {0.995, 1, 63.6567411629},   {0.995, 10, 3.16927266718},
               {0.95, 7, 1.89457860506},    {0.025, 10, -2.22813885196}, {0.975, 1e9, 1.95996398454}};
  for (const auto& c : cases)
    EXPECT_NEAR(student_t_quantile(c.p, c.freedom), c.t, 1e-8 * std::fabs(c.t)) << c.p << " " << c.freedom;
  EXPECT_EQ(student_t_quantile(0.5, 4), 0);
  EXPECT_THROW(student_t_quantile(0.975, 0), InvalidArgument);
  EXPECT_THROW(student_t_quantile(1, 3), InvalidArgument);
}

TEST(BatchMeans, IntervalIsTheTextbookOneForBlocksOfOneLength) {
  // Equal blocks: mean and standard error of the block means.
  const double means[] = {1.0, 2.0, 4.0, 7.0};
  BatchMeans batch;
  for (const double m : means) batch.add_block(10 * m, 10);
  const double mean = 3.5;
  double squares = 0;
  for (const double m : means) squares += (m - mean) * (m - mean);
  const double error = std::sqrt(squares / 3 / 4);
  const auto interval = batch.interval();
  EXPECT_DOUBLE_EQ(interval.mean, mean);
  EXPECT_NEAR(interval.high - mean, student_t_quantile(0.975, 3) * error, 1e-12);
  EXPECT_NEAR(mean - interval.low, student_t_quantile(0.975, 3) * error, 1e-12);
}

TEST(BatchMeans, RatioEstimatorWeighsBlocksByTheirTokens) {
  BatchMeans batch;
  const double sums[] = {3, 40, 11};
  const std::int64_t tokens[] = {2, 30, 7};
  for (int b = 0; b < 3; ++b) batch.add_block(sums[b], tokens[b]);
  const double r = 54.0 / 39;
  double spread = 0;
  for (int b = 0; b < 3; ++b) spread += std::pow(sums[b] - r * static_cast<double>(tokens[b]), 2);
  const auto interval = batch.interval();
  EXPECT_NEAR(interval.mean, r, 1e-15);
  EXPECT_NEAR(interval.high - r, student_t_quantile(0.975, 2) * std::sqrt(1.5 * spread) / 39, 1e-12);
}

TEST(BatchMeans, CoversTheTruthForTokensThatAreCorrelated) {
  // AR(1) inside windows, correlation 0.9: an iid interval would cover far too rarely.
  constexpr int kTrials = 400, kBlocks = 20, kTokens = 64;
  Random random(11);
  int covered = 0, covered_iid = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    BatchMeans batch, iid;
    for (int b = 0; b < kBlocks; ++b) {
      double x = random.normal(), sum = 0;
      for (int t = 0; t < kTokens; ++t) {
        x = 0.9 * x + std::sqrt(1 - 0.81) * random.normal();
        sum += x + 3;
        iid.add_block(x + 3, 1);
      }
      batch.add_block(sum, kTokens);
    }
    const auto interval = batch.interval(), naive = iid.interval();
    covered += interval.low <= 3 && 3 <= interval.high ? 1 : 0;
    covered_iid += naive.low <= 3 && 3 <= naive.high ? 1 : 0;
  }
  // Binomial(400, 0.95): 380 +- 4.4; the bounds are four standard deviations out.
  EXPECT_GE(covered, 362);
  EXPECT_LE(covered, 397);
  EXPECT_LT(covered_iid, 300);
}

TEST(BatchMeans, MergeIsOnePassInEveryBitForCounts) {
  Random random(2);
  BatchMeans all, parts[3];
  for (int b = 0; b < 300; ++b) {
    const auto tokens = static_cast<std::int64_t>(random.below(512));
    const auto sum = static_cast<double>(random.below(100000));
    all.add_block(sum, tokens);
    parts[b % 3].add_block(sum, tokens);
  }
  parts[0].merge(parts[1]);
  parts[0].merge(parts[2]);
  EXPECT_EQ(parts[0].tokens(), all.tokens());
  EXPECT_EQ(parts[0].interval().mean, all.interval().mean);
  EXPECT_EQ(parts[0].interval().low, all.interval().low);
  EXPECT_EQ(parts[0].interval().high, all.interval().high);
}

TEST(BatchMeans, OneBlockHasNoBounds) {
  BatchMeans batch;
  EXPECT_EQ(batch.interval().mean, 0);
  batch.add_block(5, 2);
  batch.add_block(5, 0);
  EXPECT_EQ(batch.interval().mean, 2.5);
  EXPECT_FALSE(batch.interval().has_bounds());
  EXPECT_TRUE(std::isnan(batch.interval().low));
}

}  // namespace
}  // namespace torpor
