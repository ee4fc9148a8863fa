#include "core/activity/mask.h"

#include <rapidcheck.h>

#include <set>

#include "tests/test_support.h"

namespace torpor {
namespace {

// Any size around word boundaries, any subset.
std::pair<int, std::set<std::int32_t>> any_set(int neurons) {
  std::set<std::int32_t> set;
  for (int i = 0; i < neurons; ++i)
    if (*rc::gen::arbitrary<bool>()) set.insert(i);
  return {neurons, set};
}

TEST(NeuronMask, BehavesLikeASetOfIndices) {
  EXPECT_TRUE(rc::check([] {
    const int n = *rc::gen::inRange(0, 200);
    const auto a = any_set(n).second, b = any_set(n).second;
    const std::vector<std::int32_t> va(a.begin(), a.end()), vb(b.begin(), b.end());
    const auto ma = NeuronMask::from_indices(n, va), mb = NeuronMask::from_indices(n, vb);
    RC_ASSERT(ma.indices() == va);
    RC_ASSERT(ma.count() == static_cast<int>(a.size()));
    std::vector<std::int32_t> both, either;
    std::set_intersection(va.begin(), va.end(), vb.begin(), vb.end(), std::back_inserter(both));
    std::set_union(va.begin(), va.end(), vb.begin(), vb.end(), std::back_inserter(either));
    RC_ASSERT((ma & mb).indices() == both);
    RC_ASSERT((ma | mb).indices() == either);
    RC_ASSERT(NeuronMask::count_and(ma, mb) == static_cast<int>(both.size()));
    for (int i = 0; i < n; ++i) RC_ASSERT(ma.test(i) == (a.count(i) == 1));
    auto copy = ma;
    for (const auto i : va) copy.reset(i);
    RC_ASSERT(copy == NeuronMask(n));
  }));
}

TEST(NeuronMask, FullMaskHasEveryNeuronAndNoBitBeyond) {
  for (const int n : {1, 63, 64, 65, 127, 128, 129}) {
    EXPECT_EQ(NeuronMask(n, true).count(), n);
    EXPECT_EQ(NeuronMask(n, true).indices().back(), n - 1);
  }
  EXPECT_EQ(NeuronMask(0, true).count(), 0);
}

TEST(NeuronMask, RefusesWhatDoesNotFit) {
  const std::vector<std::int32_t> outside{3}, negative{-1};
  EXPECT_THROW(NeuronMask::from_indices(3, outside), InvalidArgument);
  EXPECT_THROW(NeuronMask::from_indices(3, negative), InvalidArgument);
  EXPECT_THROW(NeuronMask(3) | NeuronMask(4), InvalidArgument);
  EXPECT_THROW(NeuronMask(3) & NeuronMask(4), InvalidArgument);
  EXPECT_THROW(NeuronMask::count_and(NeuronMask(64), NeuronMask(65)), InvalidArgument);
  EXPECT_THROW(NeuronMask(-1), InvalidArgument);
}

}  // namespace
}  // namespace torpor
