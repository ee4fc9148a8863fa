// Names that came out of files, made safe for one line of an error message.
#pragma once

#include <string>
#include <string_view>

namespace torpor {

/// In double quotes; control characters, quotes, backslashes and bytes that are no UTF-8 as \xNN, long names cut.
std::string in_quotes(std::string_view name);

/// True if `text` is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool is_utf8(std::string_view text);

}  // namespace torpor
