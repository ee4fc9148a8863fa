#include "core/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

#include "core/base/error.h"
#include "core/text/quote.h"
#include "core/text/unicode.h"

namespace torpor::text {

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  std::string where;
  std::string pattern;

  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

std::string pattern_for_pcre2(std::string_view pattern) {
  // White_Space = the separators (Z) and nine to thirteen, 0x85. \S inside a class cannot be written so; no known
  // tokenizer has it, and it then differs in U+180E alone.
  constexpr std::string_view kSpaces = R"(\x{9}-\x{d}\x{85}\p{Z})";
  std::string result;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's')
        result.append(in_class ? "" : "[").append(kSpaces).append(in_class ? "" : "]");
      else if (next == 'S' && !in_class)
        result.append("[^").append(kSpaces).append("]");
      else
        result.append({c, next});
      continue;
    }
    if (!in_class && c == '[') {
      in_class = true;
      result.push_back(c);
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') result.push_back(pattern[++i]);
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') result.push_back(pattern[++i]);
      continue;
    }
    if (in_class && c == ']') in_class = false;
    result.push_back(c);
  }
  return result;
}

Regex::Regex(const std::string& pattern, const std::string& where) : code_(std::make_unique<Code>()) {
  // A pattern can ask PCRE2 for much memory by nested counted repeats; real ones are below 1 KB.
  constexpr std::size_t kMaxPattern = 4096;
  if (pattern.empty() || pattern.size() > kMaxPattern)
    throw BadInput("{}: expected a pattern of 1 to {} bytes, found {}", where, kMaxPattern, pattern.size());
  code_->where = where;
  code_->pattern = pattern;
  const std::string text = pattern_for_pcre2(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* limits = pcre2_compile_context_create(nullptr);
  if (limits == nullptr) throw std::bad_alloc();
  pcre2_set_parens_nest_limit(limits, 100);
  // No \C: it would cut characters.
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, limits);
  pcre2_compile_context_free(limits);
  if (code_->code == nullptr) {
    PCRE2_UCHAR message[128] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw BadInput("{}: expected a regular expression, found {}: {}", where, quote(pattern),
                   reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // refused on some machines: the interpreter then does the work
  code_->context = pcre2_match_context_create(nullptr);
  if (code_->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(code_->context, 1000000);
  pcre2_set_heap_limit(code_->context, 65536);  // KiB
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

Regex::Run::Run(const Regex& regex) : code_(*regex.code_) {
  match_data_ = pcre2_match_data_create_from_pattern(code_.code, nullptr);
  if (match_data_ == nullptr) throw std::bad_alloc();
}

Regex::Run::~Run() {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(match_data_));
}

bool Regex::Run::next(std::string_view text, std::size_t at, std::size_t& begin, std::size_t& end) const {
  auto* const data = static_cast<pcre2_match_data*>(match_data_);
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code_.code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, options, data,
                       code_.context);
  };
  int count = match(PCRE2_NO_UTF_CHECK);
  if (count == PCRE2_ERROR_JIT_STACKLIMIT) count = match(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  if (count == PCRE2_ERROR_NOMATCH) return false;
  if (count < 0) {
    PCRE2_UCHAR message[128] = {};
    pcre2_get_error_message(count, message, sizeof message);
    throw BadInput("{}: the pattern {} cannot be run on this text: {}", code_.where, quote(code_.pattern),
                   reinterpret_cast<const char*>(message));
  }
  const PCRE2_SIZE* const ends = pcre2_get_ovector_pointer(data);
  begin = ends[0];
  end = ends[1];
  // \K inside a lookaround can put the start behind the end or before where we are.
  if (begin > end || begin < at)
    throw BadInput("{}: the pattern {} moves the start of its match, which is not supported", code_.where,
                   quote(code_.pattern));
  return true;
}

std::size_t Regex::step(std::string_view text, std::size_t at) {
  if (at >= text.size()) return at + 1;
  return at + next_char(text.data() + at, text.data() + text.size()).bytes;
}

}  // namespace torpor::text
