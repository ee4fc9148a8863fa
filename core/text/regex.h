// A pattern of a tokenizer file, run by PCRE2 with UTF and UCP and compiled to machine code where it can be. The files
// are written for Oniguruma and Rust's regex crate; where PCRE2 means something else by the same letters, it is
// rewritten: \s is White_Space there, and has U+180E in addition here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace torpor::text {

/// Immutable; `for_each_match` may run at once.
class Regex {
 public:
  /// where: names the field in errors. Throws BadInput for a pattern that does not compile.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Calls found(begin, end) for the matches in `text`, which must be UTF-8, from left to right without overlap; also
  /// for empty ones. Throws BadInput if the pattern takes too many steps on this text.
  template <typename Found>
  void for_each_match(std::string_view text, Found&& found) const {
    std::size_t begin = 0;
    std::size_t end = 0;
    const Run run(*this);
    for (std::size_t at = 0; at <= text.size();) {
      if (!run.next(text, at, begin, end)) return;
      found(begin, end);
      at = end > begin ? end : step(text, end);
    }
  }

 private:
  struct Code;
  class Run {
   public:
    explicit Run(const Regex& regex);
    ~Run();
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    bool next(std::string_view text, std::size_t at, std::size_t& begin, std::size_t& end) const;

   private:
    const Code& code_;
    void* match_data_;
  };
  static std::size_t step(std::string_view text, std::size_t at);

  std::unique_ptr<Code> code_;
};

/// The pattern as PCRE2 is to read it.
std::string pattern_for_pcre2(std::string_view pattern);

}  // namespace torpor::text
