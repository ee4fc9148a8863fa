// Numbers as people read them, in English and with units. What does not exist (NaN, infinity) is shown as an en dash.
#pragma once

#include <cstdint>
#include <string>

namespace torpor {

/// How the values of an axis or a column are shown. `share`: a number in [0,1] or a relative change, shown in per cent.
enum class NumberStyle { plain, share, bytes, count };

/// 0.8634 → "86.3 %": `decimals` after the point; small values get more, so that 0.00042 is "0.042 %" and not "0.0 %".
std::string format_share(double share, int decimals = 1);
/// With its sign: 0.0097 → "+0.97 %".
std::string format_change(double relative, int decimals = 2);
/// 1234567890 → "1.23 GB" (powers of 1000).
std::string format_bytes(double bytes);
/// 12345678 → "12,345,678".
std::string format_count(double count);
/// Four significant digits by default; powers of ten below 1e-4 and above 1e7.
std::string format_number(double value, int significant = 4);
/// A rate in three digits, without digits after the point where there are three before it: "3,127", "31.3".
std::string format_rate(double rate);
/// 12.3 s, 4 min 05 s, 2 h 03 min.
std::string format_seconds(double seconds);
std::string format(double value, NumberStyle style);

}  // namespace torpor
