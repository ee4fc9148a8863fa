// What is done to a text before it is cut: the "normalizer" of a tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/regex.h"

namespace torpor::text {

struct PrependText {
  std::string text;  // nothing is put before an empty text
};
struct ReplaceText {
  std::string from;
  std::string to;
};
struct ReplaceMatches {
  Regex regex;
  std::string to;
};
struct UnicodeForm {
  enum class Form { nfc, nfd, nfkc, nfkd } form;
};
struct StripSpaces {
  bool left = true;
  bool right = true;
};
struct LowerCase {};

using NormalizerStep = std::variant<PrependText, ReplaceText, ReplaceMatches, UnicodeForm, StripSpaces, LowerCase>;

/// Immutable; const methods may run at once.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}
  bool empty() const { return steps_.empty(); }
  /// Parts that are no UTF-8 stay as they are.
  std::string apply(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace torpor::text
