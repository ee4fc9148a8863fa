#include "core/text/decoder.h"

#include <algorithm>

#include "core/text/byte_level.h"
#include "core/text/byte_token.h"
#include "core/text/unicode.h"

namespace torpor::text {

std::string Decoder::token_bytes(std::string_view token, bool first) const {
  std::string text(token);
  for (const TokenDecoding& step : steps_) {
    if (std::holds_alternative<ByteLevelDecoding>(step)) {
      if (auto bytes = bytes_of_characters(text)) text = std::move(*bytes);
    } else if (const auto* const replace = std::get_if<ReplaceDecoding>(&step)) {
      text = replace_all(text, replace->from, replace->to);
    } else if (std::holds_alternative<ByteFallbackDecoding>(step)) {
      if (const auto byte = byte_of_token(text)) text = std::string(1, static_cast<char>(*byte));
    } else if (const auto* const metaspace = std::get_if<MetaspaceDecoding>(&step)) {
      text = replace_all(text, metaspace->marker, first && metaspace->drop_first ? "" : " ");
    }
  }
  return text;
}

bool Decoder::first_differs() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const TokenDecoding& step) {
    const auto* const metaspace = std::get_if<MetaspaceDecoding>(&step);
    return metaspace != nullptr && metaspace->drop_first;
  });
}

void Decoder::strip(std::string& text) const {
  for (const Strip& strip : strips_) {
    std::size_t at = 0;
    for (int i = 0; i < strip.count && std::string_view(text).substr(at).starts_with(strip.content); ++i)
      at += strip.content.size();
    text.erase(0, at);
  }
}

}  // namespace torpor::text
