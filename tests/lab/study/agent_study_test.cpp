// The studies of a fixed replay and of fitting new targets, on a small scale: every arm runs, repeats, and is told as
// it was.
#include "lab/study/agent_study.h"

#include <ATen/Parallel.h>

#include "core/base/error.h"
#include "core/report/html.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

AgentStudyOptions small(AgentStudyKind kind, const char* environment = "catch") {
  at::set_num_threads(1);
  return {.kind = kind,
          .environment = environment,
          .steps = 1200,
          .aged_steps = 400,
          .updates = 300,
          .logs = 10,
          .seeds = {1}};
}

class Kinds : public ::testing::TestWithParam<AgentStudyKind> {};
INSTANTIATE_TEST_SUITE_P(All, Kinds, ::testing::Values(AgentStudyKind::offline, AgentStudyKind::fitting),
                         [](const auto& kind) { return name_of(kind.param); });

TEST_P(Kinds, EveryArmRunsRepeatsAndIsTold) {
  const TemporaryFolder folder;
  for (const char* environment : {"catch", "breakout-mini"}) {
    const AgentStudyOptions options = small(GetParam(), environment);
    AgentStudy study{options, {}, "torpor study x"};
    double done = 0;
    study.runs = run_agent_arms(1, options, folder / environment, [&](double now) {
      EXPECT_GE(now, done);
      EXPECT_LE(now, 1 + 1e-9);
      done = now;
    });
    EXPECT_NEAR(done, 1, 1e-9);
    ASSERT_EQ(study.runs.size(), agent_arms(GetParam()).size());
    for (const AgentArmRun& run : study.runs) {
      EXPECT_EQ(run.loss.size(), 10U) << run.variant;
      EXPECT_EQ(run.dormant.size(), 11U) << run.variant;
      for (std::size_t i = 0; i < run.dormant.size(); ++i) EXPECT_LE(run.dormant[i], run.dormant_tenth[i]);
    }
    const auto same = [&](const std::vector<AgentArmRun>& again) {
      for (std::size_t i = 0; i < again.size(); ++i) {
        EXPECT_EQ(again[i].loss, study.runs[i].loss);
        EXPECT_EQ(again[i].dormant, study.runs[i].dormant);
      }
    };
    same(run_agent_arms(1, options, folder / environment, [](double) { ADD_FAILURE() << "read, not run again"; }));
    same(run_agent_arms(1, options, folder / "again" / environment, [](double) {}));
    EXPECT_THAT(render_page(page_of(study)), HasSubstr("What must show"));
    EXPECT_THAT(markdown_of(study), HasSubstr("| " + agent_arms(GetParam())[1].title + " |"));
    EXPECT_EQ(to_json(study)["arms"].size(), study.runs.size());
    AgentStudyOptions other = options;
    other.updates = 200;
    EXPECT_THROW(run_agent_arms(1, other, folder / environment, [](double) {}), BadInput);
  }
}

TEST(Fitting, LearnsTheTeachersValues) {
  const TemporaryFolder folder;
  for (const AgentArmRun& run : run_agent_arms(1, small(AgentStudyKind::fitting), folder / "run", [](double) {}))
    EXPECT_LT(run.loss.back(), 0.5 * run.loss.front()) << run.variant;
}

TEST(Fitting, BeginsAsTheAgedNetworkAndRecyclesWhereItSays) {
  const TemporaryFolder folder;
  AgentStudyOptions options = small(AgentStudyKind::fitting, "breakout-mini");
  options.updates = 1000;
  const std::vector<AgentArmRun> runs = run_agent_arms(1, options, folder / "run", [](double) {});
  const AgentArmRun &fresh = runs[0], &aged = runs[1], &once = runs[2], &redo = runs[3];
  EXPECT_NE(fresh.dormant_tenth.front(), aged.dormant_tenth.front());
  EXPECT_EQ(redo.dormant_tenth.front(), aged.dormant_tenth.front());
  EXPECT_EQ(redo.loss.front(), aged.loss.front()) << "the same until the first recycling";
  EXPECT_LT(once.dormant_tenth.front(), aged.dormant_tenth.front()) << "measured behind it";
  EXPECT_EQ(fresh.recycled + aged.recycled, 0);
  EXPECT_GT(once.recycled, 0);
  EXPECT_GT(redo.recycled, 0);
}

TEST(Fitting, AgesByLabels) {
  const TemporaryFolder folder;
  AgentStudyOptions options = small(AgentStudyKind::fitting);
  options.aged_by = AgedBy::labels;
  options.aged_epochs = 20;
  options.updates = 220;
  AgentStudy study{options, run_agent_arms(1, options, folder / "run", [](double) {}), "torpor study x"};
  ASSERT_EQ(study.runs.size(), 4U);
  const AgentArmRun &fresh = study.runs[0], &aged = study.runs[1], &once = study.runs[2], &redo = study.runs[3];
  EXPECT_LT(fresh.loss.back(), fresh.loss.front());
  EXPECT_GT(aged.dormant.front(), fresh.dormant.front());
  EXPECT_EQ(redo.loss[5], aged.loss[5]) << "the same until the first recycling, at 200";
  EXPECT_LT(once.dormant.front(), aged.dormant.front());
  EXPECT_GT(once.recycled, 0);
  EXPECT_GT(redo.recycled, 0);
  EXPECT_THAT(markdown_of(study), HasSubstr("for 20 epochs, new ones each 20"));
  EXPECT_EQ(run_agent_arms(1, options, folder / "run", [](double) { ADD_FAILURE(); })[1].loss, aged.loss);
  options.aged_epochs = 40;
  EXPECT_THROW(run_agent_arms(1, options, folder / "run", [](double) {}), BadInput);
}

TEST(Fitting, RefusesAReplayThatIsForgottenAtTheEnd) {
  const TemporaryFolder folder;
  AgentStudyOptions options = small(AgentStudyKind::offline, "permuted-catch");
  options.steps = 4000;  // a new task begins
  EXPECT_THAT([&] { run_agent_arms(1, options, folder / "run", [](double) {}); },
              ::testing::ThrowsMessage<UsageError>(HasSubstr("choose other --steps")));
}

TEST(Offline, FixedTargetsCanBeFittedAndMovingOnesMove) {
  const TemporaryFolder folder;
  const std::vector<AgentArmRun> runs =
      run_agent_arms(1, small(AgentStudyKind::offline), folder / "run", [](double) {});
  EXPECT_LT(runs[1].loss.back(), 0.2 * runs[1].loss.front());
  EXPECT_LT(runs[2].loss.back(), runs[2].loss.front()) << "random numbers are learnt by heart";
  EXPECT_GT(runs[2].loss.back(), runs[1].loss.back());
  EXPECT_EQ(runs[0].loss, runs[3].loss) << "300 updates: none recycled yet";
}

TEST(AgentStudy, ClaimsHoldAndFailByTheirNumbers) {
  const auto run = [](const char* arm, double loss, double first, double last) {
    return AgentArmRun{
        .variant = arm, .seed = 1, .loss = {1, loss}, .dormant = {first, 0.1, last}, .dormant_tenth = {1, 1, 1}};
  };
  const auto check = [](AgentStudyKind kind, const std::vector<AgentArmRun>& good,
                        const std::vector<std::pair<std::size_t, AgentArmRun>>& bad) {
    AgentStudy study{{.kind = kind}, good, ""};
    for (const Claim& claim : agent_claims(study)) EXPECT_TRUE(claim.held) << claim.name;
    for (std::size_t i = 0; i < bad.size(); ++i) {
      study.runs = good;
      study.runs[bad[i].first] = bad[i].second;
      EXPECT_FALSE(agent_claims(study)[i].held) << i;
    }
    study.runs.pop_back();
    EXPECT_THROW(agent_claims(study), InvalidArgument);
  };
  check(AgentStudyKind::offline,
        {run("td", 1, 0.2, 0.4), run("fixed", 1, 0.2, 0.1), run("stored", 1, 0.2, 0.1), run("redo", 1, 0.2, 0.05)},
        {{0, run("td", 1, 0.2, 0.15)},
         {2, run("stored", 1, 0.2, 0.5)},
         {1, run("fixed", 1, 0.2, 0.5)},
         {3, run("redo", 1, 0.2, 0.2)}});
  check(AgentStudyKind::fitting,
        {run("fresh", 0.1, 0.1, 0.2), run("aged", 0.5, 0.5, 0.6), run("aged_once", 0.2, 0, 0.1),
         run("aged_redo", 0.1, 0.5, 0.05)},
        {{1, run("aged", 0.5, 0.5, 0.1)}, {1, run("aged", 0.05, 0.5, 0.6)}, {2, run("aged_once", 0.6, 0, 0.1)}});
}

TEST(AgentStudy, RefusesContinuousActions) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { run_agent_arms(1, small(AgentStudyKind::offline, "pendulum"), folder / "run", [](double) {}); },
              ::testing::ThrowsMessage<UsageError>(HasSubstr("choices as actions, got pendulum")));
}

}  // namespace
}  // namespace torpor::lab
