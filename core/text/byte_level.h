// GPT-2 writes bytes as printable characters in its vocabulary: 33…126, 161…172 and 174…255 as the character of the
// same number, the other 68 bytes in order as U+0100, U+0101, …
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace torpor::text {

/// The character that stands for a byte, in UTF-8.
const std::string& byte_character(unsigned char byte);

/// The bytes that a token of such a vocabulary stands for; nothing if it contains other characters.
std::optional<std::string> bytes_of_characters(std::string_view token);

}  // namespace torpor::text
