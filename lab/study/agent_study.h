// What makes an agent's neurons dormant, away from the agent (Sokar et al. 2023, Figs. 4 and 8): a network that learns
// from a replay that no longer changes, by targets that move or stay; and one that has learnt for long, against a fresh
// one, at learning something given.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/page.h"
#include "lab/study/study.h"

namespace torpor::lab {

enum class AgentStudyKind : std::uint8_t { offline, fitting };
/// What ages the network of `fitting`: a DQN at a high replay ratio, whose teacher is another DQN, or labels that are
/// reshuffled (reshuffle_study.h), whose teacher is a network as it was drawn.
enum class AgedBy : std::uint8_t { agent, labels };

struct AgentStudyOptions {
  AgentStudyKind kind = AgentStudyKind::offline;
  AgedBy aged_by = AgedBy::agent;
  std::int64_t aged_epochs = 160;             // of labels, new ones each 20
  std::string environment = "breakout-mini";  // one with choices as actions
  std::int64_t steps = 100'000;               // of the DQN that fills the replay, and is the teacher of `fitting`
  std::int64_t aged_steps = 30'000;           // of the one that ages, of `fitting`
  std::int64_t aged_updates = 4;              // its updates a step: its replay ratio
  std::int64_t updates = 50'000;              // of each arm
  std::int64_t logs = 50;                     // along them
  std::vector<std::uint64_t> seeds = {1, 2, 3, 4, 5};
};

/// Throws UsageError for an environment that is not there, or has no choices as actions.
void check(const AgentStudyOptions& options);

/// "offline", "fitting".
std::string name_of(AgentStudyKind kind);
Json to_json(const AgentStudyOptions& options);

struct AgentArm {
  std::string name, title;
};
std::vector<AgentArm> agent_arms(AgentStudyKind kind);

struct AgentArmRun {
  std::string variant;  // the arm
  std::uint64_t seed = 0;
  std::vector<double> loss = {};  // means between logs
  std::vector<double> dormant = {},
                      dormant_tenth = {};  // shares at tau 0 and 0.1: before the first update, at each log
  std::int64_t recycled = 0;
};
Json to_json(const AgentArmRun& run);

/// All arms with one seed, from the same replay, or what an earlier call left in `folder` (stored_run). progress: the
/// share that is done. Throws as check().
std::vector<AgentArmRun> run_agent_arms(std::uint64_t seed, const AgentStudyOptions& options,
                                        const std::filesystem::path& folder,
                                        const std::function<void(double done)>& progress);

struct AgentStudy {
  AgentStudyOptions options;
  std::vector<AgentArmRun> runs;
  std::string command;
};

/// What the paper leads one to expect. Throws InvalidArgument where an arm has no run.
std::vector<Claim> agent_claims(const AgentStudy& study);
Json to_json(const AgentStudy& study);
ReportPage page_of(const AgentStudy& study);
/// The same for docs/results.
std::string markdown_of(const AgentStudy& study);

}  // namespace torpor::lab
