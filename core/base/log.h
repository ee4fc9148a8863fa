// What the library tells while it works. Standard error only: standard output belongs to results. Apps set the level.
#pragma once

#include <fmt/format.h>

#include <string>

namespace torpor {

enum class LogLevel { quiet, warning, info, debug };

void set_log_level(LogLevel level);

namespace detail {
void log(LogLevel level, const std::string& line);
}

template <typename... Args>
void log_info(fmt::format_string<Args...> text, Args&&... args) {
  detail::log(LogLevel::info, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> text, Args&&... args) {
  detail::log(LogLevel::warning, fmt::format(text, std::forward<Args>(args)...));
}
template <typename... Args>
void log_debug(fmt::format_string<Args...> text, Args&&... args) {
  detail::log(LogLevel::debug, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace torpor
