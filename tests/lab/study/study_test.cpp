#include "lab/study/study.h"

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

struct Measured {
  std::string variant;
  std::uint64_t seed = 0;
  double value = 0;
};

TEST(Study, PairsRunsOfTheSameSeed) {
  const std::vector<Measured> runs = {{"a", 1, 2}, {"b", 2, 10}, {"a", 2, 30}, {"b", 1, 4}, {"a", 3, 100}};
  const Spread ratio = paired(runs, "a", "b", [](const Measured& x, const Measured& y) { return x.value / y.value; });
  EXPECT_EQ(ratio.least, 0.5);
  EXPECT_EQ(ratio.most, 3);
  EXPECT_EQ(ratio.mean, 1.75);
  EXPECT_EQ(runs_of(runs, "a").size(), 3U);
  EXPECT_THROW(runs_of(runs, "c"), InvalidArgument);
  EXPECT_THROW(spread_of({}), InvalidArgument);
  EXPECT_EQ(with_range(ratio, 2), "1.75 (0.50 to 3.00)");
  EXPECT_EQ(with_range({1.5, 1.5, 1.5}, 1), "1.5");
}

TEST(Study, ARunIsMadeOnceAndAnotherIsRefused) {
  const TemporaryFolder folder;
  int made = 0;
  const auto run = [&](const Json& identity) {
    return stored_run(folder / "run", identity, [&]() -> Json {
      ++made;
      std::filesystem::create_directories(folder / "run");
      return {{"number", made}};
    });
  };
  EXPECT_EQ(run({{"seed", 1}})["number"], 1);
  EXPECT_EQ(run({{"seed", 1}})["number"], 1);
  EXPECT_EQ(made, 1);
  try {
    run({{"seed", 2}});
    FAIL();
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("result.json: is of a run with other options"));
  }
  EXPECT_EQ(run({{"seed", 1}})["number"], 1) << "the result was lost";
}

TEST(Study, ClaimsAreShownHeldOrNot) {
  const std::vector<Claim> claims = {{"one", true, "1"}, {"two", false, "2"}};
  EXPECT_EQ(claims_markdown(claims),
            "| claim | held | numbers |\n|---|---|---|\n| one | yes | 1 |\n| two | **no** | 2 |\n");
  EXPECT_EQ(claims_table(claims).rows[1][1].text, "no");
  EXPECT_EQ(to_json(claims)[1]["held"], false);
}

}  // namespace
}  // namespace torpor::lab
