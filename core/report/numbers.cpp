#include "core/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace torpor {
namespace {

const std::string kMissing = "–";
const std::string kSpace = "\u00a0";  // between a number and its unit: no line break

std::string without_minus_zero(const std::string& text) {
  return text.find_first_of("123456789") == std::string::npos && text.starts_with("-") ? text.substr(1) : text;
}

/// Enough decimals that a value that is not zero shows two digits; at most four more than asked for.
int decimals_for(double value, int decimals) {
  const double size = std::abs(value);
  if (size == 0 || size >= std::pow(10.0, 1 - decimals)) return decimals;
  return std::min(decimals + 4, static_cast<int>(std::ceil(-std::log10(size))) + 1);
}

}  // namespace

std::string format_share(double share, int decimals) {
  if (!std::isfinite(share)) return kMissing;
  const double percent = share * 100;
  // 99.97 % must not read as 100.0 %: what is left of it is what counts.
  const double rest = percent > 50 ? 100 - percent : percent;
  const int shown = rest == 0 ? decimals : decimals_for(rest, decimals);
  return without_minus_zero(fmt::format("{:.{}f}", percent, shown)) + kSpace + "%";
}

std::string format_change(double relative, int decimals) {
  if (!std::isfinite(relative)) return kMissing;
  const double percent = relative * 100;
  const std::string text = fmt::format("{:+.{}f}", percent, std::abs(percent) >= 100 ? 0 : decimals);
  return text.find_first_of("123456789") == std::string::npos ? "0" + kSpace + "%" : text + kSpace + "%";
}

std::string format_bytes(double bytes) {
  if (!std::isfinite(bytes)) return kMissing;
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  double value = bytes;
  while (std::abs(value) >= 999.5 && unit < 5) {
    value /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 ? 0 : std::abs(value) >= 99.95 ? 0 : std::abs(value) >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}", value, decimals) + kSpace + kUnits[unit];
}

std::string format_count(double count) {
  if (!std::isfinite(count)) return kMissing;
  std::string digits = fmt::format("{:.0f}", std::abs(count));
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return count <= -0.5 ? "-" + digits : digits;
}

std::string format_number(double value, int significant) {
  if (!std::isfinite(value)) return kMissing;
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size >= 1e7 || size < 1e-4) return fmt::format("{:.{}e}", value, std::max(0, significant - 2));
  if (value == std::round(value) && size < 1e7) return format_count(value);
  return fmt::format("{:.{}g}", value, significant);
}

std::string format_rate(double rate) {
  return rate >= 100 ? format_count(std::round(rate)) : format_number(rate, 3);
}

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return kMissing;
  if (seconds < 59.95) return fmt::format("{:.{}f}", seconds, seconds < 9.95 ? 2 : 1) + kSpace + "s";
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{}{}min {:02}{}s", whole / 60, kSpace, whole % 60, kSpace);
  return fmt::format("{}{}h {:02}{}min", whole / 3600, kSpace, whole / 60 % 60, kSpace);
}

std::string format(double value, NumberStyle style) {
  switch (style) {
    case NumberStyle::share:
      return format_share(value, 2);
    case NumberStyle::bytes:
      return format_bytes(value);
    case NumberStyle::count:
      return format_count(value);
    case NumberStyle::plain:
      break;
  }
  return format_number(value);
}

}  // namespace torpor
