// Tokens that are found in the text as they are written, before and apart from everything else: "<|endoftext|>".
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/tokenizer.h"

namespace torpor::text {

/// Meaning of the flags: tokenizer.json.
struct AddedToken {
  TokenId id = 0;
  std::string content;       // not empty
  bool special = false;      // found only with parse_special; prints nothing
  bool single_word = false;  // not next to word characters
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // and behind it
  bool normalized = false;   // looked for after normalisation
};

/// Immutable; const methods may run at once.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  /// contents[i] is what to look for to find tokens[i] (normalised, where that applies).
  AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& contents);

  struct Part {
    std::string_view text;
    TokenId id = -1;  // -1: ordinary text
  };
  /// Cuts `text`: at each place the longest token that begins there, from left to right. One ordinary part if there is
  /// none; no part if the text is empty.
  std::vector<Part> split(std::string_view text, bool parse_special) const;
  bool empty() const { return tokens_.empty(); }

 private:
  const AddedToken* longest_at(std::string_view text, std::size_t at, std::size_t& length) const;

  std::vector<AddedToken> tokens_;
  bool all_special_ = true;
  std::array<bool, 256> first_bytes_{};
  // A trie over bytes: (node, byte) -> node; which token ends at a node.
  std::unordered_map<std::uint64_t, std::uint32_t> edges_;
  std::vector<std::int32_t> token_at_;
};

}  // namespace torpor::text
