// What the verbs say of the neurons that a run skipped or masked.
#pragma once

#include <string>

#include "core/base/json.h"
#include "engine/decode/skipping.h"

namespace torpor::apps {

/// Layer by layer, for machines; null where nothing was skipped or masked.
Json skipping_json(const Skipping& skipping, const Model& model);

/// The same as a table for people: active neurons, bytes of weights read for a token, why a layer ran densely.
std::string layer_table(const Skipping& skipping, const Model& model);

/// "8.1 % of neurons active (3.2 to 14 %), 22 MB a token", for a line that is redrawn; empty before the first token.
std::string live_text(const SparseFfn& ffn, const Model& model);

}  // namespace torpor::apps
