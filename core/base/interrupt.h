// Ctrl-C. The first one asks long work to stop at its next checkpoint (so that temporary files are removed); the second
// one ends the process at once.
#pragma once

namespace torpor {

/// Installs the handler for SIGINT and SIGTERM. Called by apps/, never by the library.
void handle_interrupts();

/// True once the user asked to stop.
bool interrupted() noexcept;

/// While one lives, check_interrupt() of this thread does nothing: for work that has to be finished, such as writing
/// down what was done so far. interrupted() still answers.
class HoldInterrupts {
 public:
  HoldInterrupts() noexcept;
  ~HoldInterrupts();
  HoldInterrupts(const HoldInterrupts&) = delete;
  HoldInterrupts& operator=(const HoldInterrupts&) = delete;
};

/// Throws Interrupted if so. Called by long loops every few milliseconds. Thread-safe.
void check_interrupt();

}  // namespace torpor
