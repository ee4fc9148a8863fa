// Texts out of files, made safe and short for one line of an error message.
#pragma once

#include <string>
#include <string_view>

namespace torpor::text {

/// In double quotes; control characters, quotes, backslashes and what is no UTF-8 as \xNN; cut after 60 bytes.
std::string quote(std::string_view text);

}  // namespace torpor::text
