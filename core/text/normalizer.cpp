#include "core/text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "core/text/unicode.h"

namespace torpor::text {
namespace {

// Applies `change` (UTF-8 to UTF-8) to the well-formed parts.
template <typename Change>
std::string map_valid(std::string_view text, Change change) {
  std::string result;
  while (!text.empty()) {
    const std::size_t valid = valid_prefix(text);
    if (valid > 0) result += change(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    const std::size_t invalid = next_char(text.data(), text.data() + text.size()).bytes;
    result.append(text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
  return result;
}

std::string unicode_form(std::string_view text, UnicodeForm::Form form) {
  using Form = UnicodeForm::Form;
  int options = UTF8PROC_STABLE;
  options |= form == Form::nfc || form == Form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == Form::nfkc || form == Form::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* mapped = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) throw std::bad_alloc();  // the text is valid, so nothing else can be wrong
  return std::string(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
}

std::string lower_case(std::string_view text) {
  std::string result;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    const Char c = next_char(at, end);
    at += c.bytes;
    if (c.code == 0x130)
      result += "i\xCC\x87";  // the one character whose lower case is two
    else
      append_utf8(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))));
  }
  return result;
}

std::string_view strip(std::string_view text, bool left, bool right) {
  const auto is_space = [](const Char& c) { return c.valid && kind_of(c.code) == CharKind::space; };
  while (left && !text.empty()) {
    const Char c = next_char(text.data(), text.data() + text.size());
    if (!is_space(c)) break;
    text.remove_prefix(c.bytes);
  }
  while (right && !text.empty()) {
    std::size_t last = text.size() - 1;
    while (last > 0 && text.size() - last < 4 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
    const Char c = next_char(text.data() + last, text.data() + text.size());
    if (!is_space(c) || last + c.bytes != text.size()) break;
    text.remove_suffix(c.bytes);
  }
  return text;
}

struct Apply {
  std::string& text;
  void operator()(const PrependText& step) const {
    if (!text.empty()) text.insert(0, step.text);
  }
  void operator()(const ReplaceText& step) const { text = replace_all(text, step.from, step.to); }
  void operator()(const ReplaceMatches& step) const {
    text = map_valid(text, [&](std::string_view part) {
      std::string result;
      std::size_t last = 0;
      step.regex.for_each_match(part, [&](std::size_t begin, std::size_t end) {
        result.append(part.substr(last, begin - last)).append(step.to);
        last = end;
      });
      return result.append(part.substr(last));
    });
  }
  void operator()(const UnicodeForm& step) const {
    text = map_valid(text, [&](std::string_view part) { return unicode_form(part, step.form); });
  }
  void operator()(const StripSpaces& step) const { text = std::string(strip(text, step.left, step.right)); }
  void operator()(const LowerCase&) const { text = map_valid(text, lower_case); }
};

}  // namespace

std::string Normalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const NormalizerStep& step : steps_) std::visit(Apply{result}, step);
  return result;
}

}  // namespace torpor::text
