#include "core/base/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

#include "core/base/error.h"

namespace torpor {
namespace {

// Set by the signal handler, read by any thread: a lock-free atomic may be both. Process-wide by nature.
std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

thread_local int holds = 0;

extern "C" void on_signal(int signal_number) {
  if (stop_requested.exchange(true)) _exit(128 + signal_number);
}

}  // namespace

void handle_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept {
  return stop_requested.load(std::memory_order_relaxed);
}

HoldInterrupts::HoldInterrupts() noexcept {
  ++holds;
}

HoldInterrupts::~HoldInterrupts() {
  --holds;
}

void check_interrupt() {
  if (holds == 0 && interrupted()) throw Interrupted();
}

}  // namespace torpor
