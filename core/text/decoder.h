// From token texts back to text: the "decoder" of a tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace torpor::text {

/// Each character of the token is one byte, as GPT-2 writes them. A token with other characters is text as it stands.
struct ByteLevelDecoding {};
struct ReplaceDecoding {
  std::string from;
  std::string to;
};
/// <0xNN> is that byte. Bytes that form no UTF-8 stay (the `tokenizers` package prints U+FFFD for them).
struct ByteFallbackDecoding {};
/// The marker is a space; in the first token it is nothing, if `drop_first`.
struct MetaspaceDecoding {
  std::string marker;
  bool drop_first = true;
};

using TokenDecoding = std::variant<ByteLevelDecoding, ReplaceDecoding, ByteFallbackDecoding, MetaspaceDecoding>;

/// Immutable; const methods may run at once.
class Decoder {
 public:
  /// Up to `count` of `content` are removed from the beginning of the whole text.
  struct Strip {
    std::string content;
    int count = 0;
  };
  Decoder() = default;
  Decoder(std::vector<TokenDecoding> steps, std::vector<Strip> strips)
      : steps_(std::move(steps)), strips_(std::move(strips)) {}

  std::string token_bytes(std::string_view token, bool first) const;
  /// True if token_bytes depends on `first`.
  bool first_differs() const;
  void strip(std::string& text) const;

 private:
  std::vector<TokenDecoding> steps_;
  std::vector<Strip> strips_;
};

}  // namespace torpor::text
