// Progress of work that takes longer than two seconds: one redrawn line on a terminal, a plain line every ten seconds
// elsewhere, nothing for short work. On standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace torpor {

/// One piece of work. One thread at a time. Erases its line when destroyed.
class Progress {
 public:
  /// total: units of work, 0 if unknown. unit: "tokens", "bytes" (bytes are shown as MB). done_before: of them, those
  /// that an earlier run did: they count in the share that is done, not in the speed.
  Progress(std::string title, std::int64_t total, std::string unit, bool enabled = true, std::int64_t done_before = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// done: units finished so far. note: shown at the end of the line.
  void update(std::int64_t done, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(std::int64_t done, const std::string& note) const;

  std::string title_;
  std::int64_t total_, done_before_;
  std::string unit_;
  bool enabled_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace torpor
