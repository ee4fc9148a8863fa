// `torpor-lab VERB …`: the verbs that train or differentiate. `torpor` hands them over to this program.
#include <malloc.h>
#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/json.h"
#include "lab/selfcheck.h"

namespace torpor::lab {
namespace {

std::string version() {
  const BuildInfo& info = build_info();
  return fmt::format("torpor-lab {}{}, {} {}, LibTorch {}", info.version,
                     info.commit.empty() ? "" : " (" + info.commit + ")", info.compiler, info.build_type,
                     TORCH_VERSION);
}

int run_selfcheck(std::uint64_t seed, bool json) {
  const std::vector<SelfcheckCase> cases = selfcheck(seed);
  bool all = true;
  Json rows = Json::array();
  if (!json)
    fmt::print("{}\n\n{:<14} {:>7} {:>8} {:>8} {:>10} {:>8}\n", version(), "layer", "tokens", "neurons", "density",
               "deviation", "allowed");
  for (const SelfcheckCase& c : cases) {
    all = all && c.holds();
    rows.push_back({{"layer", c.name},
                    {"tokens", c.tokens},
                    {"neurons", c.neurons},
                    {"density", c.density},
                    {"deviation", c.deviation},
                    {"allowed", c.allowed},
                    {"held", c.holds()}});
    if (!json)
      fmt::print("{:<14} {:>7} {:>8} {:>8.4f} {:>10.1e} {:>8.0e}{}\n", c.name, c.tokens, c.neurons, c.density,
                 c.deviation, c.allowed, c.holds() ? "" : "  DIFFERS");
  }
  if (json)
    fmt::print("{}\n", Json{{"seed", seed}, {"libtorch", TORCH_VERSION}, {"cases", rows}, {"held", all}}.dump(2));
  if (!all) throw Error(1, "the activity statistics of core and of LibTorch differ (see above); please report this");
  return 0;
}

int run(int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (std::any_of(words.begin(), words.end(), [](const std::string& w) { return w == "--version" || w == "-V"; })) {
    fmt::print("{}\n", version());
    return 0;
  }
  if (!words.empty() && words.front() == "train") return apps::train(std::span(words).subspan(1));
  if (!words.empty() && words.front() == "study") return apps::study(std::span(words).subspan(1));
  if (!words.empty() && words.front() == "rl") return apps::rl(std::span(words).subspan(1));

  CLI::App app(
      "Torpor's verbs that train or differentiate. They need LibTorch; `torpor VERB` hands them over to this program.",
      "torpor-lab");
  app.set_version_flag("--version,-V", version());
  app.require_subcommand(1);
  app.footer("Example:\n  torpor-lab train --help");
  app.add_subcommand("train", "train a small language model whose neurons are inactive by design");
  app.add_subcommand("study", "train networks that differ in one thing and check what a paper leads one to expect");
  auto* check = app.add_subcommand("selfcheck",
                                   "check that LibTorch works here and agrees with the engine's activity statistics");
  std::uint64_t seed = 1;
  bool json = false;
  check->add_option("--seed", seed, "of the random layers")->capture_default_str();
  check->add_flag("--json", json, "print JSON instead of a table");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    throw UsageError("{}. See: torpor-lab --help", error.what());
  }
  return run_selfcheck(seed, json);
}

}  // namespace
}  // namespace torpor::lab

int main(int argc, char** argv) {
  // The tensors of a step are allocated and freed in every step: what malloc gives back to the system in between comes
  // back as page faults, 8 % of a training step.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // its largest value
  mallopt(M_TRIM_THRESHOLD, INT32_MAX);
  torpor::handle_interrupts();
  try {
    return torpor::lab::run(argc, argv);
  } catch (const torpor::apps::OutputClosed&) {
    return 0;  // the reader has what it wanted
  } catch (const torpor::Error& error) {
    std::fflush(stdout);
    fmt::print(stderr, "torpor-lab: {}\n", error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "torpor-lab: unexpected error: {}\n", error.what());
    return 1;
  }
}
