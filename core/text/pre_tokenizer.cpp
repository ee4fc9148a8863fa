#include "core/text/pre_tokenizer.h"

#include <algorithm>

#include "core/text/unicode.h"

namespace torpor::text {
namespace {

struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool is_match = false;
};

using Pieces = std::vector<std::string_view>;

// Joins neighbours as the behavior says; parts cover the text without gaps.
std::vector<Part> arranged(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Part> result;
  bool previous_match = false;
  switch (behavior) {
    case SplitBehavior::isolated:
      return parts;
    case SplitBehavior::removed:
      for (const Part& part : parts)
        if (!part.is_match) result.push_back(part);
      return result;
    case SplitBehavior::contiguous:
      for (const Part& part : parts) {
        if (!result.empty() && result.back().is_match == part.is_match)
          result.back().end = part.end;
        else
          result.push_back(part);
      }
      return result;
    case SplitBehavior::merged_with_previous:
      for (const Part& part : parts) {
        if (part.is_match && !previous_match && !result.empty())
          result.back().end = part.end;
        else
          result.push_back(part);
        previous_match = part.is_match;
      }
      return result;
    case SplitBehavior::merged_with_next:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->is_match && !previous_match && !result.empty())
          result.back().begin = part->begin;
        else
          result.push_back(*part);
        previous_match = part->is_match;
      }
      std::reverse(result.begin(), result.end());
      return result;
  }
  return result;
}

// Collects matches and the gaps between them.
class Cutter {
 public:
  Cutter(std::string_view text, bool invert) : text_(text), invert_(invert) {}
  void match(std::size_t begin, std::size_t end) {
    if (begin > last_) parts_.push_back({last_, begin, invert_});
    if (end > begin) parts_.push_back({begin, end, !invert_});
    last_ = end;
  }
  void finish(SplitBehavior behavior, Pieces& out) {
    if (last_ < text_.size()) parts_.push_back({last_, text_.size(), invert_});
    for (const Part& part : arranged(parts_, behavior)) out.push_back(text_.substr(part.begin, part.end - part.begin));
  }

 private:
  std::string_view text_;
  bool invert_;
  std::size_t last_ = 0;
  std::vector<Part> parts_;
};

template <WordPattern P>
void scan_words(std::string_view text, Pieces& out) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const stop = word_end<P>(at, end);
    out.emplace_back(at, static_cast<std::size_t>(stop - at));
    at = stop;
  }
}

struct Step {
  std::string_view text;  // UTF-8
  bool at_start;
  std::deque<std::string>& store;
  Pieces& out;

  void operator()(const ScannerSplit& step) const {
    switch (step.pattern) {
      case WordPattern::gpt2:
        return scan_words<WordPattern::gpt2>(text, out);
      case WordPattern::llama3:
        return scan_words<WordPattern::llama3>(text, out);
      case WordPattern::qwen2:
        return scan_words<WordPattern::qwen2>(text, out);
    }
  }
  void operator()(const RegexSplit& step) const {
    Cutter cutter(text, step.invert);
    step.regex.for_each_match(text, [&](std::size_t begin, std::size_t end) { cutter.match(begin, end); });
    cutter.finish(step.behavior, out);
  }
  void operator()(const StringSplit& step) const {
    Cutter cutter(text, step.invert);
    for (std::size_t at = 0; (at = text.find(step.text, at)) != std::string_view::npos; at += step.text.size())
      cutter.match(at, at + step.text.size());
    cutter.finish(step.behavior, out);
  }
  void operator()(const PrefixSpace&) const {
    if (text.starts_with(' '))
      out.push_back(text);
    else
      out.push_back(store.emplace_back(" ").append(text));
  }
  void operator()(const MetaspaceSplit& step) const {
    std::string changed = replace_all(text, " ", step.marker);
    using Prepend = MetaspaceSplit::Prepend;
    if ((step.prepend == Prepend::always || (step.prepend == Prepend::first && at_start)) &&
        !changed.starts_with(step.marker))
      changed.insert(0, step.marker);
    const std::string& kept = store.emplace_back(std::move(changed));
    if (!step.split) {
      out.push_back(kept);
      return;
    }
    Step{kept, at_start, store, out}(StringSplit{step.marker, SplitBehavior::merged_with_next, false});
  }
  void operator()(const DigitsSplit& step) const {
    Cutter cutter(text, false);
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at < end;) {
      const Char c = next_char(at, end);
      const auto begin = static_cast<std::size_t>(at - text.data());
      if (kind_of(c.code) == CharKind::number) cutter.match(begin, begin + c.bytes);
      at += c.bytes;
    }
    cutter.finish(step.individual ? SplitBehavior::isolated : SplitBehavior::contiguous, out);
  }
};

}  // namespace

std::optional<WordPattern> PreTokenizer::only_scanner() const {
  if (steps_.size() != 1) return std::nullopt;
  const auto* const scanner = std::get_if<ScannerSplit>(&steps_[0]);
  return scanner == nullptr ? std::nullopt : std::optional(scanner->pattern);
}

Pieces PreTokenizer::split(std::string_view text, bool at_start, std::deque<std::string>& store) const {
  Pieces pieces;
  if (text.empty()) return pieces;
  pieces.push_back(text);
  for (const PreTokenizerStep& step : steps_) {
    Pieces next;
    for (std::string_view piece : pieces) {
      while (!piece.empty()) {
        const std::size_t valid = valid_prefix(piece);
        const bool starts = at_start && piece.data() == text.data();
        if (valid > 0) std::visit(Step{piece.substr(0, valid), starts, store, next}, step);
        piece.remove_prefix(valid);
        std::size_t invalid = 0;
        while (invalid < piece.size()) {
          const Char c = next_char(piece.data() + invalid, piece.data() + piece.size());
          if (c.valid) break;
          invalid += c.bytes;
        }
        if (invalid > 0) next.push_back(piece.substr(0, invalid));
        piece.remove_prefix(invalid);
      }
    }
    pieces = std::move(next);
  }
  std::erase_if(pieces, [](std::string_view piece) { return piece.empty(); });
  return pieces;
}

std::optional<WordPattern> known_pattern(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return WordPattern::gpt2;
  if (pattern == kLlama3Pattern || pattern == kCl100kPattern) return WordPattern::llama3;
  if (pattern == kQwen2Pattern) return WordPattern::qwen2;
  return std::nullopt;
}

}  // namespace torpor::text
