#include "core/base/random.h"

#include <cmath>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(Random, BitsAreThoseTheStandardPrescribes) {
  Random random(5489);  // the default seed; C++20 [rand.predef] fixes the 10000th value
  for (int i = 1; i < 10000; ++i) random.bits();
  EXPECT_EQ(random.bits(), 9981545732273789042ULL);
}

TEST(Random, UniformUsesTheTop53Bits) {
  Random bits(1);
  Random uniform(1);
  for (int i = 0; i < 1000; ++i) {
    const double expected = static_cast<double>(bits.bits() / 2048) / 9007199254740992.0;
    const double value = uniform.uniform();
    EXPECT_EQ(value, expected);
    EXPECT_GE(value, 0);
    EXPECT_LT(value, 1);
  }
}

TEST(Random, StreamsOfOneSeedDiffer) {
  std::set<std::uint64_t> first;
  for (std::uint64_t stream = 0; stream < 1000; ++stream) first.insert(Random(42, stream).bits());
  EXPECT_EQ(first.size(), 1000U);
  EXPECT_EQ(Random(42, 3).bits(), Random(42, 3).bits());
}

TEST(Random, BelowStaysBelowAndIsUniform) {
  for (const std::uint64_t n : {1ULL, 2ULL, 3ULL, 10ULL, (1ULL << 63) + 1}) {
    Random random(n);
    for (int i = 0; i < 1000; ++i) ASSERT_LT(random.below(n), n);
  }
  // Chi-squared over 10 bins, 100000 draws: 9 degrees of freedom, above 33.7 with probability 1e-4. Fixed seed.
  std::vector<double> counts(10, 0);
  Random random(7);
  for (int i = 0; i < 100000; ++i) counts[random.below(10)] += 1;
  double chi = 0;
  for (const double count : counts) chi += (count - 10000) * (count - 10000) / 10000;
  EXPECT_LT(chi, 33.7);
}

TEST(Random, BelowIsUnbiasedWhereTheRangeDoesNotDivideTwoToThe64) {
  // Taking the remainder alone would give results below 2^62 twice as often as the others: 2/4 … here 1/3.
  const std::uint64_t n = 3ULL << 62;
  Random random(3);
  int low = 0;
  for (int i = 0; i < 20000; ++i) low += random.below(n) < (1ULL << 62) ? 1 : 0;
  EXPECT_NEAR(low / 20000.0, 1.0 / 3, 0.015);
}

TEST(Random, BelowRefusesZero) {
  EXPECT_THROW(Random(1).below(0), InvalidArgument);
}

TEST(Random, NormalHasTheMomentsOfTheNormalDistribution) {
  Random random(11);
  constexpr int kDraws = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0, before = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x, lag += x * before;
    before = x;
  }
  // Bounds of five standard errors: 1, sqrt 2, sqrt 15, sqrt 96, 1 over sqrt(draws).
  const double unit = 5 / std::sqrt(kDraws);
  EXPECT_NEAR(m1 / kDraws, 0, unit);
  EXPECT_NEAR(m2 / kDraws, 1, unit * std::sqrt(2));
  EXPECT_NEAR(m3 / kDraws, 0, unit * std::sqrt(15));
  EXPECT_NEAR(m4 / kDraws, 3, unit * std::sqrt(96));
  EXPECT_NEAR(lag / kDraws, 0, unit) << "neighbours are correlated";
}

TEST(Random, NormalIsBoxMullerOnTheUniformStream) {
  Random uniform(5);
  Random normal(5);
  for (int i = 0; i < 100; ++i) {
    const double radius = std::sqrt(-2 * std::log1p(-uniform.uniform()));
    const double turn = uniform.uniform();
    EXPECT_NEAR(normal.normal(), radius * std::cos(2 * M_PI * turn), 1e-12);
    EXPECT_NEAR(normal.normal(), radius * std::sin(2 * M_PI * turn), 1e-12);
  }
}

}  // namespace
}  // namespace torpor
