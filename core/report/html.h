// Text into HTML without surprises. Everything that reaches a page passes through here: model names, file paths and
// reasons come from files and are hostile.
#pragma once

#include <string>
#include <string_view>

#include "core/base/json.h"

namespace torpor {

/// `text` as HTML text or as a double-quoted attribute value: & < > " ' become entities; bytes that are not UTF-8,
/// control characters (except tab and newline) and bidirectional overrides become U+FFFD. Thread-safe.
std::string escape_html(std::string_view text);

/// The markup that prose may carry, escaped first, so that no input can open an element: **strong**, *emphasis*,
/// `code`, x_{sub}, and a backslash before any of these characters to mean itself. An opening mark without its end is
/// text.
std::string prose_to_html(std::string_view text);

/// `text` with a backslash before every character that prose_to_html reads as markup: for names inside of prose.
std::string literal(std::string_view text);

/// JSON that may stand inside <script>: no "<", ">" or "&" (written as \u003c …), no U+2028/2029, invalid UTF-8
/// replaced.
std::string json_for_script(const Json& value);

/// One word of a POSIX shell command: unchanged where nothing needs quoting, else in single quotes.
std::string shell_word(std::string_view word);

}  // namespace torpor
