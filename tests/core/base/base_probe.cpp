// base_probe WHAT [ARGUMENTS]: does one thing of core/base the way a command of apps/ would, for process_test.cpp and
// atomic_file_test.cpp.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"

namespace {

int run(const std::string& what, const std::string& first, const std::string& second) {
  using namespace torpor;
  using namespace std::chrono_literals;
  if (what == "write") {
    write_file_atomically(first, std::string(std::stoul(second), 'x'));
  } else if (what == "wait") {  // an unfinished file, until interrupted
    handle_interrupts();
    AtomicFile file(first);
    file.append("half");
    std::puts("ready");
    std::fflush(stdout);
    for (int i = 0; i < 3000; ++i) {
      check_interrupt();
      std::this_thread::sleep_for(10ms);
    }
  } else if (what == "deaf") {  // never looks whether it should stop
    handle_interrupts();
    std::puts("ready");
    std::fflush(stdout);
    std::this_thread::sleep_for(1s);
    for (int i = 0; i < 3000; ++i) std::this_thread::sleep_for(10ms);
  } else if (what == "assert") {
    TORPOR_ASSERT(first == second, "first={}", first);
  } else if (what == "progress" || what == "resumed progress") {  // unit total; resumed: a half was done before
    const long total = std::stol(second), before = what == "progress" ? 0 : total / 2;
    Progress progress("measuring", total, first, true, before);
    for (int i = 0; i <= 24; ++i) {
      progress.update(before + (total - before) * i / 24, "note");
      std::this_thread::sleep_for(100ms);
    }
  } else if (what == "log") {
    set_log_level(first == "debug"   ? LogLevel::debug
                  : first == "info"  ? LogLevel::info
                  : first == "quiet" ? LogLevel::quiet
                                     : LogLevel::warning);
    log_debug("level {}", "debug");
    log_info("level {}", "info");
    log_warning("level {}", "warning");
  } else {
    throw UsageError("unknown probe {}", what);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : "");
  } catch (const torpor::Error& error) {
    std::fprintf(stderr, "torpor: %s\n", error.what());
    return error.exit_code();
  }
}
