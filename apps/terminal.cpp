#include "apps/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/base/error.h"

namespace torpor::apps {
namespace {

[[noreturn]] void output_failed() {
  if (errno == EPIPE) throw OutputClosed();
  throw IoError("standard output: cannot write: {}", std::strerror(errno));
}

bool coloured() {
  static const bool yes = [] {
    const char* no_color = std::getenv("NO_COLOR");
    const char* terminal = std::getenv("TERM");
    return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
           std::string_view(terminal) != "dumb";
  }();
  return yes;
}

/// Columns a UTF-8 text takes (no wide characters are used here).
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text, std::size_t width) {
  if (columns(text) <= width) return text;
  std::string kept;
  std::size_t used = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++used >= width) break;
    kept += c;
  }
  return kept + "…";
}

bool looks_like_number(std::string_view cell) {
  return cell.empty() || cell == "–" || (cell.front() >= '0' && cell.front() <= '9') ||
         (cell.size() > 1 && (cell.front() == '-' || cell.front() == '+') && cell[1] >= '0' && cell[1] <= '9');
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) output_failed();
}

void flush_output() {
  if (std::fflush(stdout) != 0) output_failed();
}

void note(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
}

StatusLine::StatusLine(bool enabled) {
  const char* const terminal = std::getenv("TERM");
  winsize size{};
  if (!enabled || isatty(STDOUT_FILENO) == 0 || isatty(STDERR_FILENO) == 0 || terminal == nullptr ||
      std::string_view(terminal) == "dumb" || ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 4)
    return;
  enabled_ = true;
  rows_ = size.ws_row;
  columns_ = size.ws_col;
  // A free line below the cursor; what scrolls are the lines above the last one.
  std::fputs(fmt::format("\n\x1b[A\x1b"
                         "7\x1b[1;{}r\x1b"
                         "8",
                         rows_ - 1)
                 .c_str(),
             stderr);
}

StatusLine::~StatusLine() {
  if (enabled_)
    std::fputs(fmt::format("\x1b"
                           "7\x1b[r\x1b[{};1H\x1b[K\x1b"
                           "8",
                           rows_)
                   .c_str(),
               stderr);
}

bool StatusLine::due() {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || now - drawn_ < std::chrono::milliseconds(100)) return false;
  drawn_ = now;
  return true;
}

void StatusLine::draw(const std::string& text) {
  const std::string shown = cut(text, static_cast<std::size_t>(columns_ - 1));
  std::fputs(fmt::format("\x1b"
                         "7\x1b[{};1H\x1b[K\x1b[2m{}\x1b[0m\x1b"
                         "8",
                         rows_, shown)
                 .c_str(),
             stderr);
}

std::string bold(std::string_view text) {
  return coloured() ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}
std::string dim(std::string_view text) {
  return coloured() ? fmt::format("\x1b[2m{}\x1b[0m", text) : std::string(text);
}

std::string wrapped(std::string_view text, std::size_t width) {
  std::string lines;
  std::size_t used = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const bool fits = used + 1 + columns(word) <= width;
    if (used > 0) lines += fits ? ' ' : '\n';
    used = used > 0 && fits ? used + 1 + columns(word) : columns(word);
    lines += word;
  }
  return lines;
}

std::string hanging(const std::string& name, std::string_view text, std::size_t column, std::size_t width) {
  const bool fits = columns(name) < column;
  std::string line = name;
  line += fits ? std::string(column - columns(name), ' ') : "\n" + std::string(column, ' ');
  std::string body = wrapped(text, width - column);
  for (std::size_t at = body.find('\n'); at != std::string::npos; at = body.find('\n', at + 1))
    body.insert(at + 1, column, ' ');
  return line + body + "\n";
}

TextTable::TextTable(std::vector<std::string> header) : header_(std::move(header)) {}

void TextTable::add(std::vector<std::string> row) {
  TORPOR_ASSERT(row.size() == header_.size(), "{} cells, {} columns", row.size(), header_.size());
  rows_.push_back(std::move(row));
}

std::string TextTable::text(std::size_t width) const {
  const std::size_t n = header_.size();
  std::vector<std::size_t> widths(n);
  std::vector<bool> right(n, !rows_.empty());
  for (std::size_t c = 0; c < n; ++c) {
    widths[c] = columns(header_[c]);
    for (const auto& row : rows_) {
      widths[c] = std::max(widths[c], columns(row[c]));
      if (!looks_like_number(row[c])) right[c] = false;
    }
  }
  const auto total = [&] {
    std::size_t sum = 2 * (n - 1);
    for (const std::size_t w : widths) sum += w;
    return sum;
  };
  while (total() > width) {
    std::size_t widest = n;
    for (std::size_t c = 0; c < n; ++c)
      if (!right[c] && (widest == n || widths[c] > widths[widest])) widest = c;
    if (widest == n || widths[widest] <= 8) break;  // nothing more to give
    --widths[widest];
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t c = 0; c < n; ++c) {
      const std::string cell = cut(cells[c], widths[c]);
      const std::string padding(widths[c] - std::min(widths[c], columns(cell)), ' ');
      out += right[c] ? padding + cell : cell + padding;
      if (c + 1 < n) out += "  ";
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
  };
  std::string out = dim(line(header_)) + "\n";
  for (const auto& row : rows_) out += line(row) + "\n";
  return out;
}

}  // namespace torpor::apps
