#include "core/base/interrupt.h"

#include <unistd.h>

#include <csignal>

#include "core/base/error.h"

namespace torpor {
namespace {

// The one flag a signal handler may touch; process-wide by nature.
volatile std::sig_atomic_t stop_requested = 0;

extern "C" void on_signal(int signal_number) {
  if (stop_requested != 0) _exit(128 + signal_number);
  stop_requested = 1;
}

}  // namespace

void handle_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() noexcept { return stop_requested != 0; }

void check_interrupt() {
  if (interrupted()) throw Interrupted();
}

}  // namespace torpor
