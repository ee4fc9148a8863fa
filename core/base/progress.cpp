#include "core/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace torpor {
namespace {

using namespace std::chrono_literals;

std::string quantity(double amount, const std::string& unit) {
  if (unit == "bytes") return fmt::format("{:.0f} MB", amount / 1e6);
  return fmt::format("{:.0f} {}", amount, unit);
}

std::string duration(double seconds) {
  const long s = std::lround(seconds);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

}  // namespace

Progress::Progress(std::string title, std::int64_t total, std::string unit, bool enabled, std::int64_t done_before)
    : title_(std::move(title)),
      total_(total),
      done_before_(done_before),
      unit_(std::move(unit)),
      enabled_(enabled),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_ && terminal_) fmt::print(stderr, "\r\033[K");
}

std::string Progress::line(std::int64_t done, const std::string& note) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done - done_before_) / std::max(seconds, 1e-9);
  std::string text = title_;
  if (total_ > 0) {
    const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
    constexpr int kWidth = 24;
    const int filled = static_cast<int>(share * kWidth);
    text += fmt::format(" [{}{}] {:3.0f} %", std::string(filled, '#'), std::string(kWidth - filled, '.'), 100 * share);
    if (rate > 0) text += fmt::format(", {} left", duration(static_cast<double>(std::max(total_ - done, 0L)) / rate));
  } else {
    text += " " + quantity(static_cast<double>(done), unit_);
  }
  text += fmt::format(", {}/s", quantity(rate, unit_));
  if (!note.empty()) text += ", " + note;
  return text;
}

void Progress::update(std::int64_t done, const std::string& note) {
  if (!enabled_) return;
  const auto now = Clock::now();
  if (now - start_ < 2s || (drawn_ && now - last_ < (terminal_ ? 100ms : 10000ms))) return;
  last_ = now;
  drawn_ = true;
  if (terminal_)
    fmt::print(stderr, "\r\033[K{}", line(done, note));
  else
    fmt::print(stderr, "{}\n", line(done, note));
  std::fflush(stderr);
}

}  // namespace torpor
