#include "core/text/json_steps.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/quote.h"
#include "core/text/unicode.h"

namespace torpor::text {
namespace {

constexpr std::int64_t kMaxId = 0x7FFFFFFE;

[[noreturn]] void unknown(const std::string& where, const std::string& type, const char* known) {
  throw BadInput("{}: expected a type that is supported ({}), found {}", where, known, quote(type));
}

// Calls visit(step, where) for a step or, in order, for those of (nested) Sequences.
template <typename Visit>
void for_each_step(const Json& json, const std::string& where, const char* list, const Visit& visit) {
  if (json.is_null()) return;
  const JsonReader reader(json, where);
  if (reader.string("type") != "Sequence") return visit(reader);
  const Json& steps = reader.at(list);
  if (!steps.is_array()) throw BadInput("{}: expected an array at \"{}\", found {}", where, list, steps.type_name());
  for (std::size_t i = 0; i < steps.size(); ++i)
    for_each_step(steps[i], fmt::format("{}: {}[{}]", where, list, i), list, visit);
}

// {"String": …} or {"Regex": …}
struct Pattern {
  std::string text;
  bool is_regex = false;
};
Pattern pattern_from(const JsonReader& step) {
  const JsonReader pattern = step.object("pattern");
  const bool is_regex = pattern.has("Regex");
  const std::string text = pattern.string(is_regex ? "Regex" : "String");
  if (text.empty()) throw BadInput("{}: expected a pattern that is not empty", pattern.where());
  return {text, is_regex};
}

SplitBehavior behavior_from(const JsonReader& step) {
  const std::string name = step.string("behavior");
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  throw BadInput(
      "{}: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous at \"behavior\", found {}",
      step.where(), quote(name));
}

// One character, "▁" in all files known.
std::string replacement_from(const JsonReader& step) {
  std::string text = step.string("replacement");
  if (text.empty() || next_char(text.data(), text.data() + text.size()).bytes != text.size())
    throw BadInput("{}: expected one character at \"replacement\", found {}", step.where(), quote(text));
  return text;
}

MetaspaceSplit metaspace_from(const JsonReader& step) {
  MetaspaceSplit result;
  using Prepend = MetaspaceSplit::Prepend;
  result.marker = replacement_from(step);
  const std::string scheme = step.string_or("prepend_scheme", "always");
  if (scheme == "always")
    result.prepend = Prepend::always;
  else if (scheme == "first")
    result.prepend = Prepend::first;
  else if (scheme == "never")
    result.prepend = Prepend::never;
  else
    throw BadInput("{}: expected always, first or never at \"prepend_scheme\", found {}", step.where(), quote(scheme));
  if (!step.boolean_or("add_prefix_space", true)) {  // files from before prepend_scheme
    if (step.has("prepend_scheme") && result.prepend != Prepend::never)
      throw BadInput("{}: expected \"prepend_scheme\" never beside \"add_prefix_space\" false, found {}", step.where(),
                     quote(scheme));
    result.prepend = Prepend::never;
  }
  result.split = step.boolean_or("split", true);
  return result;
}

}  // namespace

Normalizer normalizer_from(const Json& json, const std::string& where) {
  std::vector<NormalizerStep> steps;
  for_each_step(json, where, "normalizers", [&](const JsonReader& step) {
    using Form = UnicodeForm::Form;
    const std::string type = step.string("type");
    if (type == "Prepend") {
      steps.push_back(PrependText{step.string("prepend")});
    } else if (type == "Replace") {
      const Pattern pattern = pattern_from(step);
      if (pattern.is_regex)
        steps.push_back(ReplaceMatches{Regex(pattern.text, step.where() + ": pattern"), step.string("content")});
      else
        steps.push_back(ReplaceText{pattern.text, step.string("content")});
    } else if (type == "NFC") {
      steps.push_back(UnicodeForm{Form::nfc});
    } else if (type == "NFD") {
      steps.push_back(UnicodeForm{Form::nfd});
    } else if (type == "NFKC") {
      steps.push_back(UnicodeForm{Form::nfkc});
    } else if (type == "NFKD") {
      steps.push_back(UnicodeForm{Form::nfkd});
    } else if (type == "Strip") {
      steps.push_back(StripSpaces{step.boolean("strip_left"), step.boolean("strip_right")});
    } else if (type == "Lowercase") {
      steps.push_back(LowerCase{});
    } else {
      unknown(step.where(), type, "Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Strip, Lowercase");
    }
  });
  return Normalizer(std::move(steps));
}

PreTokenizerSettings pre_tokenizer_from(const Json& json, const std::string& where) {
  std::vector<PreTokenizerStep> steps;
  bool byte_level = false;
  for_each_step(json, where, "pretokenizers", [&](const JsonReader& step) {
    if (byte_level)
      throw BadInput(
          "{}: expected ByteLevel to be the last step, found another behind it, which would see bytes as characters",
          step.where());
    const std::string type = step.string("type");
    if (type == "ByteLevel") {
      byte_level = true;
      if (step.boolean("add_prefix_space")) steps.push_back(PrefixSpace{});
      if (step.boolean_or("use_regex", true)) steps.push_back(ScannerSplit{WordPattern::gpt2});
    } else if (type == "Split") {
      const Pattern pattern = pattern_from(step);
      const SplitBehavior behavior = behavior_from(step);
      const bool invert = step.boolean("invert");
      const std::string pattern_where = step.where() + ": pattern";
      if (!pattern.is_regex)
        steps.push_back(StringSplit{pattern.text, behavior, invert});
      else if (const auto known = known_pattern(pattern.text);
               known && (behavior == SplitBehavior::isolated || (behavior == SplitBehavior::removed && invert)))
        steps.push_back(
            ScannerSplit{*known});  // these patterns match every character, so that there are no gaps to remove
      else
        steps.push_back(RegexSplit{Regex(pattern.text, pattern_where), behavior, invert});
    } else if (type == "Digits") {
      steps.push_back(DigitsSplit{step.boolean("individual_digits")});
    } else if (type == "Metaspace") {
      steps.push_back(metaspace_from(step));
    } else {
      unknown(step.where(), type, "Sequence, ByteLevel, Split, Digits, Metaspace");
    }
  });
  return {PreTokenizer(std::move(steps)), byte_level};
}

Decoder decoder_from(const Json& json, const std::string& where) {
  if (json.is_null())
    throw BadInput("{}: expected a decoder, found null, which puts a space between any two tokens", where);
  std::vector<TokenDecoding> steps;
  std::vector<Decoder::Strip> strips;
  bool fused = false;
  for_each_step(json, where, "decoders", [&](const JsonReader& step) {
    const std::string type = step.string("type");
    if (type == "Fuse") {
      fused = true;
      return;
    }
    if (type == "Strip") {
      if (!fused) throw BadInput("{}: expected Fuse before Strip, found none", step.where());
      if (step.integer("stop", 0, 1000) != 0)
        throw BadInput("{}: expected 0 at \"stop\" (the end of a stream is not known), found another number",
                       step.where());
      const std::string content = step.string("content");
      if (content.empty()) throw BadInput("{}: expected a character at \"content\", found nothing", step.where());
      strips.push_back({content, static_cast<int>(step.integer("start", 0, 1000))});
      return;
    }
    if (fused) throw BadInput("{}: expected only Strip behind Fuse, found {}", step.where(), quote(type));
    if (type == "ByteLevel") {
      steps.push_back(ByteLevelDecoding{});
    } else if (type == "ByteFallback") {
      steps.push_back(ByteFallbackDecoding{});
    } else if (type == "Replace") {
      const Pattern pattern = pattern_from(step);
      if (pattern.is_regex) throw BadInput("{}: expected a String at \"pattern\", found a Regex", step.where());
      steps.push_back(ReplaceDecoding{pattern.text, step.string("content")});
    } else if (type == "Metaspace") {
      const MetaspaceSplit metaspace = metaspace_from(step);
      steps.push_back(MetaspaceDecoding{metaspace.marker, metaspace.prepend != MetaspaceSplit::Prepend::never});
    } else {
      unknown(step.where(), type, "Sequence, ByteLevel, ByteFallback, Replace, Metaspace, Fuse, Strip");
    }
  });
  return Decoder(std::move(steps), std::move(strips));
}

namespace {

// [token, id]
TokenId pair_id(const JsonReader& step, const char* key, std::int64_t limit) {
  const Json& pair = step.at(key);
  if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_integer() || pair[1].get<std::int64_t>() < 0 ||
      pair[1].get<std::int64_t>() >= limit)
    throw BadInput("{}: expected a token and its id below {} at \"{}\"", step.where(), limit, key);
  return pair[1].get<TokenId>();
}

void read_template(const JsonReader& step, std::int64_t limit, Frame& frame) {
  const JsonReader specials = step.object("special_tokens");
  const Json& single = step.at("single");
  if (!single.is_array()) throw BadInput("{}: expected an array at \"single\"", step.where());
  bool text_seen = false;
  for (std::size_t i = 0; i < single.size(); ++i) {
    const JsonReader piece(single[i], fmt::format("{}: single[{}]", step.where(), i));
    if (piece.has("Sequence")) {
      if (text_seen) throw BadInput("{}: expected the text once, found it again", piece.where());
      if (const std::string id = piece.object("Sequence").string("id"); id != "A")
        throw BadInput("{}: expected the sequence A, found {}", piece.where(), quote(id));
      text_seen = true;
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    const JsonReader special = specials.object(name);
    const Json& ids = special.at("ids");
    if (!ids.is_array()) throw BadInput("{}: expected an array at \"ids\"", special.where());
    for (const Json& id : ids) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= limit)
        throw BadInput("{}: expected ids from 0 to {} at \"ids\"", special.where(), limit - 1);
      (text_seen ? frame.after : frame.before).push_back(id.get<TokenId>());
    }
  }
  if (!text_seen) throw BadInput("{}: expected the sequence A at \"single\", found none", step.where());
}

}  // namespace

Frame frame_from(const Json& json, const std::string& where, std::int64_t limit) {
  Frame frame;
  limit = std::min(limit, kMaxId);
  for_each_step(json, where, "processors", [&](const JsonReader& step) {
    const std::string type = step.string("type");
    if (type == "ByteLevel") return;  // moves offsets only
    if (frame.given) throw BadInput("{}: expected one template, found another", step.where());
    frame.given = true;
    if (type == "TemplateProcessing") {
      read_template(step, limit, frame);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      frame.before.push_back(pair_id(step, "cls", limit));
      frame.after.push_back(pair_id(step, "sep", limit));
    } else {
      unknown(step.where(), type, "Sequence, ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing");
    }
  });
  return frame;
}

}  // namespace torpor::text
