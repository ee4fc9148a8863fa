// The options of recycling that verbs have in common.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "lab/recycle/recycler.h"

namespace torpor::apps {

struct RecycleWords {
  std::string score = "activation", reset = "unit";
  std::int64_t period = 1000, first_layer = 0;
  double tau = 0.1;
  bool recycle = false, check = false, prune = false;
};

/// --recycle and what needs it. `steps`: what the verb calls gradient steps. Returns what puts an option of the verb
/// beside them.
std::function<void(CLI::Option*)> add_recycle_options(CLI::App& app, RecycleWords& words, const std::string& steps);

/// Not checked: that is the library's.
lab::RecycleOptions recycle_options_of(const RecycleWords& words);

}  // namespace torpor::apps
