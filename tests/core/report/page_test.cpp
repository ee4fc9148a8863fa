// The page as one file: complete, closed to the network, the same bytes every time.
#include "core/report/page.h"

#include <regex>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ReportPage small_page(const std::string& name) {
  ReportPage page;
  page.kicker = "Torpor · test";
  page.title = name;
  page.headline = "**Half** of it";
  page.pictures = {{{{"on", 1 / 3.0}, {"off", 1 / 3.0}, {"idle", 1 / 3.0}}, "thirds"}};
  page.tiles = {{"Label", "12", "note"}};
  BarChart bars{{"Layer", NumberStyle::count}, {"Share", NumberStyle::share}, {"0"}, {{"zeros", {0.5}}}};
  page.sections = {{"First", {Paragraph{"text"}, Chart{"Bars", "caption", "alt", bars}}}};
  return page;
}

/// How often `pattern` stands in `text`.
std::size_t count(const std::string& text, const std::string& pattern) {
  std::size_t n = 0;
  for (std::size_t at = text.find(pattern); at != std::string::npos; at = text.find(pattern, at + 1)) ++n;
  return n;
}

TEST(Page, IsTheSameBytesEveryTime) {
  EXPECT_EQ(render_page(small_page("a")), render_page(small_page("a")));
}

TEST(Page, LoadsNothingAndForbidsIt) {
  const std::string page = render_page(small_page("a"));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  EXPECT_FALSE(std::regex_search(page, std::regex(R"re(<(script|img|iframe|video)[^>]* src=)re")));
  EXPECT_FALSE(std::regex_search(page, std::regex(R"re(<link[^>]*href="(https?:|//))re")));
}

TEST(Page, ShowsAHostileNameAsText) {
  const std::string page = render_page(small_page(R"(<script>alert("1")</script>)"));
  EXPECT_THAT(page, Not(HasSubstr("<script>alert(")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert("));
}

TEST(Page, EveryChartComesWithItsTableAndWords) {
  const std::string page = render_page(small_page("a"));
  EXPECT_EQ(count(page, "<canvas"), 1u);
  EXPECT_THAT(page, HasSubstr("50.00\u00a0%"));
  EXPECT_THAT(page, HasSubstr("alt"));
}

TEST(Page, DotsSumToAHundredWhateverTheRounding) {
  const std::string page = render_page(small_page("a"));
  EXPECT_EQ(count(page, "r=\"7\"/>"), 100u);
}

TEST(Page, RefusesMorePartsThanItHasColours) {
  ReportPage page = small_page("a");
  page.pictures[0].parts.resize(5);
  EXPECT_THROW(render_page(page), InvalidArgument);
}

}  // namespace
}  // namespace torpor
