// How numbers read. The expectations are what a person would write.
#include "core/report/numbers.h"

#include <cmath>

#include "tests/test_support.h"

namespace torpor {
namespace {

constexpr const char* kMissing = "–";

/// Plain blanks for the no-break spaces before units.
std::string plain(std::string text) {
  for (std::size_t at = text.find("\u00a0"); at != std::string::npos; at = text.find("\u00a0"))
    text.replace(at, 2, " ");
  return text;
}

TEST(Numbers, SharesArePerCentAndNeverRoundAwayWhatCounts) {
  EXPECT_EQ(plain(format_share(0.8634)), "86.3 %");
  EXPECT_EQ(plain(format_share(0)), "0.0 %");
  EXPECT_EQ(plain(format_share(1)), "100.0 %");
  EXPECT_EQ(plain(format_share(0.00042)), "0.042 %");
  EXPECT_NE(plain(format_share(0.9997)), "100.0 %");
  EXPECT_EQ(format_share(std::nan("")), kMissing);
}

TEST(Numbers, ChangesCarryTheirSign) {
  EXPECT_EQ(plain(format_change(0.0097)), "+0.97 %");
  EXPECT_EQ(plain(format_change(-0.25, 1)), "-25.0 %");
  EXPECT_EQ(format_change(INFINITY), kMissing);
}

TEST(Numbers, BytesCountsAndPlainNumbers) {
  EXPECT_EQ(plain(format_bytes(1234567890)), "1.23 GB");
  EXPECT_EQ(plain(format_bytes(512)), "512 B");
  EXPECT_EQ(format_count(12345678), "12,345,678");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_number(3.14159265), "3.142");
  EXPECT_EQ(format_number(3.14159265, 2), "3.1");
  EXPECT_EQ(format_number(std::nan("")), kMissing);
}

TEST(Numbers, SecondsGrowIntoMinutesAndHours) {
  EXPECT_EQ(plain(format_seconds(12.3)), "12.3 s");
  EXPECT_EQ(plain(format_seconds(245)), "4 min 05 s");
  EXPECT_EQ(plain(format_seconds(7380)), "2 h 03 min");
}

}  // namespace
}  // namespace torpor
