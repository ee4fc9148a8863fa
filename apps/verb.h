// The verbs of the program `torpor`: one function and one file each. A verb parses its arguments, calls the library and
// renders what comes back; what it knows about neurons lives in the library.
#pragma once

#include <span>
#include <string>

namespace torpor::apps {

/// `arguments`: what follows the verb. Returns the exit code; throws torpor::Error, which main() turns into one line on
/// standard error and the error's exit code.
using VerbFunction = int (*)(std::span<const std::string> arguments);

int profile(std::span<const std::string> arguments);
int inspect(std::span<const std::string> arguments);
int eval(std::span<const std::string> arguments);
int run(std::span<const std::string> arguments);
int bench(std::span<const std::string> arguments);
int pack(std::span<const std::string> arguments);

/// Of the program torpor-lab.
int train(std::span<const std::string> arguments);
int rl(std::span<const std::string> arguments);
int study(std::span<const std::string> arguments);

/// Verbs that need LibTorch live in the program torpor-lab: is `verb` one of them?
bool is_lab_verb(const std::string& verb);

/// The path of torpor-lab: beside this program, else in PATH; empty if there is none.
std::string find_lab_program();

/// Becomes `torpor-lab verb arguments…`. Returns only by throwing IoError (it is not installed, it cannot be started).
[[noreturn]] void hand_over_to_lab(const std::string& verb, std::span<const std::string> arguments);

}  // namespace torpor::apps
