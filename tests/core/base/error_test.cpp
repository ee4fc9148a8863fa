#include "core/base/error.h"

#include <memory>

#include "core/base/expected.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(Error, KindsHaveTheExitCodesOfTheDesign) {
  EXPECT_EQ(InvalidArgument("x").exit_code(), 1);
  EXPECT_EQ(IoError("x").exit_code(), 1);
  EXPECT_EQ(Interrupted().exit_code(), 1);
  EXPECT_EQ(UsageError("x").exit_code(), 2);
  EXPECT_EQ(BadInput("x").exit_code(), 3);
}

TEST(Error, FormatsItsArgumentsAndIsCaughtAsItsBase) {
  try {
    throw BadInput("{}: expected {}, found {}", "config.json", 3, "four");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "config.json: expected 3, found four");
    EXPECT_EQ(error.exit_code(), 3);
  }
}

TEST(Error, AssertionThatHoldsEvaluatesOnceAndDoesNothing) {
  int evaluations = 0;
  TORPOR_ASSERT(++evaluations == 1);
  EXPECT_EQ(evaluations, 1);
}

TEST(Expected, HoldsAValueOrAReason) {
  const Expected<int> value = 3;
  EXPECT_TRUE(value.has_value());
  EXPECT_EQ(*value, 3);
  EXPECT_EQ(value.reason(), "");
  const Expected<int> none = Unavailable{"layer 3 has no down projection"};
  EXPECT_FALSE(none);
  EXPECT_EQ(none.reason(), "layer 3 has no down projection");
}

TEST(Expected, HoldsTypesThatOnlyMove) {
  Expected<std::unique_ptr<int>> value = std::make_unique<int>(5);
  EXPECT_EQ(**value, 5);
  EXPECT_EQ(*std::move(value.value()), 5);
}

TEST(ExpectedDeathTest, SaysTheReasonWhenTheValueIsTakenAnyway) {
  const Expected<int> none = Unavailable{"no such layer"};
  EXPECT_DEATH(static_cast<void>(none.value()), "no such layer");
}

}  // namespace
}  // namespace torpor
