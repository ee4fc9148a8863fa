#include "core/text/tokenizer.h"
#include "core/text/unicode.h"

namespace torpor {
namespace {

// Takes from `pending` what can be printed: all but a beginning of a character at its end.
std::string take_complete(std::string& pending) {
  std::string result;
  std::string_view rest = pending;
  while (!rest.empty()) {
    const std::size_t valid = text::valid_prefix(rest);
    result.append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const text::Char c = text::next_char(rest.data(), rest.data() + rest.size());
    if (c.truncated) break;
    result += "\xEF\xBF\xBD";
    rest.remove_prefix(c.bytes);
  }
  pending = std::string(rest);
  return result;
}

}  // namespace

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

std::string StreamingDetokenizer::push(TokenId id) {
  if (tokenizer_.is_special(id)) return {};
  if (first_) {
    // How a text begins is the tokenizer's own affair (leading spaces go), so it decodes until something is printed.
    start_.push_back(id);
    pending_ = tokenizer_.decode(start_);
    first_ = pending_.empty();
    if (!first_) start_ = {};
  } else {
    pending_ += tokenizer_.token_bytes(id);
  }
  return take_complete(pending_);
}

std::string StreamingDetokenizer::finish() {
  std::string rest = text::replace_invalid(pending_);
  pending_.clear();
  start_.clear();
  first_ = true;
  return rest;
}

}  // namespace torpor
