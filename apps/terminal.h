// Writing for people: standard output with its errors noticed, aligned columns, quiet colour.
#pragma once

#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace torpor::apps {

inline constexpr std::size_t kTerminalWidth = 100;

/// The reader of standard output went away (`torpor run … | head`): the program ends quietly.
class OutputClosed : public std::runtime_error {
 public:
  OutputClosed() : std::runtime_error("standard output was closed") {}
};

/// Writes to standard output; flush_output() makes sure that it arrived. Throw OutputClosed or IoError (disk full).
void print(std::string_view text);
void flush_output();

/// One line on standard error.
void note(std::string_view line);

/// A line at the bottom of the terminal that is redrawn while text scrolls above it. Nothing where standard output or
/// standard error is no terminal.
class StatusLine {
 public:
  explicit StatusLine(bool enabled);
  ~StatusLine();  // gives the line back
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// At most ten times a second; text() is called only when it will be drawn.
  template <typename Text>
  void update(const Text& text) {
    if (due()) draw(text());
  }

 private:
  bool due();
  void draw(const std::string& text);

  bool enabled_ = false;
  int rows_ = 0, columns_ = 0;
  std::chrono::steady_clock::time_point drawn_;
};

/// Emphasis for standard output: only on a terminal, and never with NO_COLOR or TERM=dumb.
std::string bold(std::string_view text);
std::string dim(std::string_view text);

/// Words of `text` in lines of at most `width`.
std::string wrapped(std::string_view text, std::size_t width = kTerminalWidth);
/// `name`, then `text` in a column of its own that starts at `column`; ends with a newline.
std::string hanging(const std::string& name, std::string_view text, std::size_t column, std::size_t width);

/// Aligned columns. Cells that look like numbers go to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);
  void add(std::vector<std::string> row);
  /// Lines of at most `width`: the widest text column is cut with "…" where it must be.
  std::string text(std::size_t width = kTerminalWidth) const;

 private:
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace torpor::apps
