#include "core/base/process.h"

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(RunProcess, GivesBothStreamsAndTheExitCode) {
  const ProcessOutput ran = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(ran.output, "out\n");
  EXPECT_EQ(ran.error, "err\n");
  EXPECT_EQ(ran.exit_code, 3);
  EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).exit_code, 137);
}

TEST(RunProcess, ReadsMuchOnBothStreamsAndGivesNoInput) {
  const ProcessOutput ran = run_process({"sh", "-c", "cat; head -c 300000 /dev/zero >&2; head -c 200000 /dev/zero"});
  EXPECT_EQ(ran.output.size(), 200000U);
  EXPECT_EQ(ran.error.size(), 300000U);
  EXPECT_EQ(ran.exit_code, 0);
}

TEST(RunProcess, PassesArgumentsAsTheyAre) {
  EXPECT_EQ(run_process({"printf", "%s|", "a b", "$HOME", "'\"", ""}).output, "a b|$HOME|'\"||");
}

TEST(RunProcess, SaysWhatCannotBeStarted) {
  EXPECT_THAT([] { run_process({"/no/such/program"}); },
              ::testing::ThrowsMessage<IoError>(::testing::HasSubstr("/no/such/program")));
  EXPECT_THROW(run_process({}), InvalidArgument);
}

}  // namespace
}  // namespace torpor
