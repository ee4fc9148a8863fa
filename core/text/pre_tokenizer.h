// Cutting a text into the words that BPE then works on: the "pre_tokenizer" of a tokenizer.json.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/regex.h"
#include "core/text/word_scanner.h"

namespace torpor::text {

/// What becomes of the matches of a Split; names and meaning are those of tokenizer.json.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct ScannerSplit {
  WordPattern pattern;
};
struct RegexSplit {
  Regex regex;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
};
struct StringSplit {
  std::string text;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
};
/// A space before each piece that has none (ByteLevel's add_prefix_space).
struct PrefixSpace {};
/// Spaces become `marker`; one is put in front as asked; with `split`, each begins a word.
struct MetaspaceSplit {
  enum class Prepend { always, first, never };
  std::string marker;
  Prepend prepend = Prepend::always;
  bool split = true;
};
/// SplitBehavior::isolated or contiguous runs of decimal-like characters (\p{N}).
struct DigitsSplit {
  bool individual = false;
};

using PreTokenizerStep = std::variant<ScannerSplit, RegexSplit, StringSplit, PrefixSpace, MetaspaceSplit, DigitsSplit>;

/// Immutable; const methods may run at once.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  /// The pattern if the whole is one scanner.
  std::optional<WordPattern> only_scanner() const;
  bool empty() const { return steps_.empty(); }

  /// Pieces of `text` in order, none empty. at_start: the text is the beginning of the whole input. `store` owns what
  /// had to be changed. Parts that are no UTF-8 are pieces of their own in front of every pattern.
  std::vector<std::string_view> split(std::string_view text, bool at_start, std::deque<std::string>& store) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

/// The scanner that cuts as this pattern does, if there is one.
std::optional<WordPattern> known_pattern(std::string_view pattern);

}  // namespace torpor::text
