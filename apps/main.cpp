// `torpor VERB …`: finds the verb, and turns what goes wrong into one line on standard error and an exit code.
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "apps/options.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "engine/kernels/dense.h"

namespace torpor::apps {
namespace {

struct Verb {
  const char* name;
  const char* usage;
  const char* purpose;
  VerbFunction function;
};

constexpr std::array kVerbs = {
    Verb{"profile", "[MODEL] [--text FILE]", "which neurons are inactive, and a plan to skip them within a budget",
         profile},
    Verb{"inspect", "MODEL", "what is in a model, and which of its neurons could be skipped", inspect},
    Verb{"eval", "MODEL --text FILE", "loss and perplexity on a text, with and without a plan", eval},
    Verb{"run", "MODEL", "write text with a model, skipping its inactive neurons", run},
    Verb{"bench", "MODEL|--shape SHAPE", "how fast a model decodes here, dense and skipping, beside what memory allows",
         bench},
    Verb{"pack", "MODEL -o DIR", "write a model as decoding reads it: by neuron, and as bf16, 8 or 4 bit", pack},
};

std::string help() {
  std::string text =
      "Torpor finds the neurons of a language model that do nothing, and what leaving them out costs.\n\n"
      "Usage: torpor VERB [MODEL] [options]\n\nVerbs:\n";
  for (const Verb& verb : kVerbs)
    text += hanging(fmt::format("  {} {}", verb.name, verb.usage), verb.purpose, 35, kTerminalWidth);
  text +=
      "\n`torpor VERB --help` shows a verb's options and an example; `torpor --version` this program's version.\n"
      "MODEL is a folder in Hugging Face's layout, a .gguf file, a llama2.c checkpoint (.bin) or a packed folder.\n\n"
      "A first look:\n  torpor inspect MODEL\n  torpor profile MODEL --text FILE -o results\n";
  return text;
}

std::string version() {
  const BuildInfo& info = build_info();
  std::string text = "torpor " + info.version;
  if (!info.commit.empty()) text += " (" + info.commit + ")";
  text += fmt::format(", {} {}", info.compiler, info.build_type);
  if (!info.sanitizers.empty()) text += ", sanitizers: " + info.sanitizers;
  text += fmt::format(", kernels: {}", kernel_instruction_set());
  return text + "\n";
}

int dispatch(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || (words[0] == "help" && words.size() == 1)) {
    print(help());
    return 0;
  }
  if (words[0] == "--version" || words[0] == "-V") {
    print(version());
    return 0;
  }
  if (words[0] == "help") words = {words[1], "--help"};
  const std::span<const std::string> arguments = std::span<const std::string>(words).subspan(1);
  for (const Verb& verb : kVerbs)
    if (words[0] == verb.name) return verb.function(arguments);
  if (is_lab_verb(words[0])) hand_over_to_lab(words[0], arguments);

  if (words[0].starts_with("-"))
    throw UsageError("expected a verb first, found the option {}. See: torpor --help", words[0]);
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  const auto nearest = nearest_word(words[0], names);
  throw UsageError("unknown verb \"{}\". {}See: torpor --help", words[0],
                   nearest ? fmt::format("Did you mean `torpor {}`? ", *nearest) : "");
}

int fail(int exit_code, std::string message) {
  // One line, and nothing in it that a terminal obeys: names inside files are hostile.
  for (char& c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = c == '\n' ? ' ' : '?';
  std::fflush(stdout);
  note("torpor: " + message);
  return exit_code;
}

int guarded(const std::vector<std::string>& words) {
  try {
    const int exit_code = dispatch(words);
    flush_output();
    return exit_code;
  } catch (const OutputClosed&) {
    return 0;  // the reader has what it wanted
  } catch (const Error& error) {
    return fail(error.exit_code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(1, "out of memory. A smaller model, fewer --threads or a shorter context would need less");
  } catch (const std::exception& error) {
    return fail(1, std::string("unexpected error: ") + error.what());
  }
}

}  // namespace
}  // namespace torpor::apps

int main(int argc, char** argv) {
  torpor::handle_interrupts();
  std::signal(SIGPIPE, SIG_IGN);  // seen as EPIPE instead, so that temporary files are removed
  return torpor::apps::guarded(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
