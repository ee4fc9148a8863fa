// Ctrl-C. The first one asks long work to stop at its next checkpoint (so that temporary files are removed); the second
// one ends the process at once.
#pragma once

namespace torpor {

/// Installs the handler for SIGINT and SIGTERM. Called by apps/, never by the library.
void handle_interrupts();

/// True once the user asked to stop.
bool interrupted() noexcept;

/// Throws Interrupted if so. Called by long loops every few milliseconds. Thread-safe.
void check_interrupt();

}  // namespace torpor
