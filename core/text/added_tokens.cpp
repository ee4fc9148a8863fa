#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/unicode.h"

namespace torpor::text {
namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
  return std::uint64_t{node} << 8 | static_cast<unsigned char>(byte);
}

// Where the last character of `text` begins; text is not empty.
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && text.size() - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

Char char_in(std::string_view text, std::size_t at) {
  return next_char(text.data() + at, text.data() + text.size());
}

bool starts_with_word(std::string_view text) {
  if (text.empty()) return false;
  const Char c = char_in(text, 0);
  return c.valid && is_word_char(c.code);
}

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  const Char c = char_in(text, last_character(text));
  return c.valid && is_word_char(c.code);
}

std::size_t without_trailing_space(std::string_view text) {
  while (!text.empty()) {
    const std::size_t at = last_character(text);
    const Char c = char_in(text, at);
    if (!c.valid || at + c.bytes != text.size() || kind_of(c.code) != CharKind::space) break;
    text = text.substr(0, at);
  }
  return text.size();
}

std::size_t leading_space(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Char c = char_in(text, at);
    if (!c.valid || kind_of(c.code) != CharKind::space) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& contents)
    : tokens_(std::move(tokens)) {
  token_at_.assign(1, -1);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    all_special_ = all_special_ && tokens_[i].special;
    if (contents[i].empty()) continue;  // normalised away
    first_bytes_[static_cast<unsigned char>(contents[i][0])] = true;
    std::uint32_t node = 0;
    for (const char byte : contents[i]) {
      const auto [next, is_new] = edges_.emplace(edge(node, byte), static_cast<std::uint32_t>(token_at_.size()));
      if (is_new) token_at_.push_back(-1);
      node = next->second;
    }
    if (token_at_[node] < 0) token_at_[node] = static_cast<std::int32_t>(i);
  }
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view text, std::size_t at, std::size_t& length) const {
  const AddedToken* found = nullptr;
  std::uint32_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const auto next = edges_.find(edge(node, text[i]));
    if (next == edges_.end()) break;
    node = next->second;
    if (token_at_[node] < 0) continue;
    found = &tokens_[static_cast<std::size_t>(token_at_[node])];
    length = i + 1 - at;
  }
  return found;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text, bool parse_special) const {
  std::vector<Part> parts;
  std::size_t done = 0;  // what lies before is in parts
  if (!tokens_.empty() && (parse_special || !all_special_)) {
    for (std::size_t at = 0; at < text.size();) {
      std::size_t length = 0;
      const AddedToken* const token =
          first_bytes_[static_cast<unsigned char>(text[at])] ? longest_at(text, at, length) : nullptr;
      if (token == nullptr) {
        ++at;
        continue;
      }
      // A match that does not count still hides what overlaps it, as in the `tokenizers` package.
      std::size_t begin = at;
      std::size_t end = at + length;
      at = end;
      if (token->special && !parse_special) continue;
      if (token->single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
      if (token->left_strip) begin = std::max(without_trailing_space(text.substr(0, begin)), done);
      if (token->right_strip) end += leading_space(text.substr(end));
      begin = std::max(begin, done);  // the token before may have taken our beginning as its white space
      end = std::max(end, done);
      if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
      parts.push_back({text.substr(begin, end - begin), token->id});
      done = end;
    }
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace torpor::text
