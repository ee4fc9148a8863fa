// JSON objects with 10^5 keys, as vocabularies are. parse_json() looks up each new key among those before, one by one,
// which is quadratic; this appends.
#pragma once

#include <string>
#include <string_view>

#include "core/base/json.h"

namespace torpor::text {

/// As parse_json(): throws BadInput with line, column and reason; for keys that appear twice in an object; for nesting
/// deeper than 64.
Json parse_large_json(std::string_view text, const std::string& where);

}  // namespace torpor::text
