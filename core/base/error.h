// How things fail. Three ways, each for one kind of event:
//  - the caller's or the user's fault (bad argument, bad file, bad flag): an exception derived from torpor::Error,
//  thrown
//    at the boundary before any work is done;
//  - an outcome one must expect (a rule does not apply to this layer): a value, Expected<T> in expected.h;
//  - our own fault: TORPOR_ASSERT.
// A message is one line: what was expected, what was found, where (file, tensor, byte offset), what to do.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace torpor {

/// Base of all errors that Torpor throws on purpose. `exit_code` is what the command line ends with:
/// 1 the work failed, 2 the command line is wrong, 3 an input is bad.
class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message) : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const noexcept { return exit_code_; }

 private:
  int exit_code_;
};

/// A function was called with arguments it cannot take; text starts with "[function]".
class InvalidArgument : public Error {
 public:
  template <typename... Args>
  explicit InvalidArgument(fmt::format_string<Args...> text, Args&&... args)
      : Error(1, fmt::format(text, std::forward<Args>(args)...)) {}
};

/// The command line asks for something that cannot be (unknown verb, flags that exclude each other).
class UsageError : public Error {
 public:
  template <typename... Args>
  explicit UsageError(fmt::format_string<Args...> text, Args&&... args)
      : Error(2, fmt::format(text, std::forward<Args>(args)...)) {}
};

/// A file, model, text or other input is damaged, inconsistent or of a kind that is not supported.
class BadInput : public Error {
 public:
  template <typename... Args>
  explicit BadInput(fmt::format_string<Args...> text, Args&&... args)
      : Error(3, fmt::format(text, std::forward<Args>(args)...)) {}
};

/// The machine refused: disk full, folder not writable, out of memory for a named purpose.
class IoError : public Error {
 public:
  template <typename... Args>
  explicit IoError(fmt::format_string<Args...> text, Args&&... args)
      : Error(1, fmt::format(text, std::forward<Args>(args)...)) {}
};

/// The user pressed Ctrl-C (see interrupt.h).
class Interrupted : public Error {
 public:
  Interrupted() : Error(1, "interrupted; nothing was written") {}
  explicit Interrupted(const std::string& text) : Error(1, text) {}
};

namespace detail {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line, const std::string& text);
}

}  // namespace torpor

/// Our own invariants, checked in every build. TORPOR_ASSERT(i < n, "i={}, n={}", i, n). Prints and aborts.
#define TORPOR_ASSERT(condition, ...)                                                                    \
  do {                                                                                                   \
    if (!(condition)) [[unlikely]]                                                                       \
      ::torpor::detail::assertion_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (false)

/// The same for inner loops of kernels: only without NDEBUG.
#ifdef NDEBUG
#define TORPOR_DEBUG_ASSERT(condition, ...) static_cast<void>(0)
#else
#define TORPOR_DEBUG_ASSERT(condition, ...) TORPOR_ASSERT(condition, __VA_ARGS__)
#endif
