// Charts as values: what the script is given, and the table that comes with each.
#include "core/report/chart.h"

#include <cmath>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

Chart two_lines() {
  LineChart lines{{"Sparsity", NumberStyle::share}, {"Ratio"}, {}};
  lines.series = {{"ours", {{0.1, 1.0, 0.9, 1.1, "here"}, {0.2, 2.0}}}, {"theirs", {{0.1, 3.0}, {0.2, std::nan("")}}}};
  return {"Price", "", "", lines};
}

std::vector<std::string> texts(const std::vector<Cell>& row) {
  std::vector<std::string> out;
  for (const Cell& cell : row) out.push_back(cell.text);
  return out;
}

TEST(ChartTable, SeriesOverTheSamePlacesShareRows) {
  const Table table = chart_table(two_lines());
  ASSERT_EQ(table.rows.size(), 2u);
  const auto first = texts(table.rows[0]), second = texts(table.rows[1]);
  EXPECT_THAT(first, ::testing::Contains("1"));
  EXPECT_THAT(first, ::testing::Contains("3"));
  EXPECT_THAT(second, ::testing::Contains("2"));
  EXPECT_THAT(second, ::testing::Contains("–"));  // what was not measured is no zero
}

TEST(ChartTable, BarsHaveARowACategoryWithTheNumberToSortBy) {
  BarChart bars{{"Layer", NumberStyle::count}, {"Share", NumberStyle::share}, {"0", "1"}, {{"zeros", {0.25, 0.5}}}};
  const Table table = chart_table({"Zeros", "", "", bars});
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[1].back().text, "50.00\u00a0%");
  EXPECT_DOUBLE_EQ(table.rows[1].back().value, 0.5);
}

TEST(ChartTable, HistogramsAndHeatMapsKeepEveryCell) {
  Histogram histogram{{"x"}, {"Share", NumberStyle::share}, {0, 1, 2}, {{"all", {0.75, 0.25}}}};
  EXPECT_EQ(chart_table({"H", "", "", histogram}).rows.size(), 2u);
  HeatMap heat{{"x"},           {"Layer"}, {"Share", NumberStyle::share}, {"0", "1"},
               {"a", "b", "c"}, {},        {{0, 0.5, 1}, {1, 0, 0}}};
  const Table table = chart_table({"M", "", "", heat});
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].size(), 4u);  // its name and three cells
}

TEST(ChartJson, GivesTheScriptTheNumbersAndNullForNone) {
  const Json json = chart_json(two_lines());
  const std::string text = json.dump();
  EXPECT_THAT(text, HasSubstr("ours"));
  EXPECT_THAT(text, HasSubstr("null"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("nan")));
}

TEST(ChartJson, RefusesLengthsThatDisagreeAndNamesTheChart) {
  BarChart bars{{"x"}, {"y"}, {"0", "1"}, {{"zeros", {0.25}}}};
  HeatMap heat{{"x"}, {"y"}, {"v"}, {"0", "1"}, {"a"}, {}, {{0}}};
  Histogram histogram{{"x"}, {"y"}, {0, 1}, {{"all", {1, 2}}}};
  for (const ChartKind& kind : {ChartKind(bars), ChartKind(heat), ChartKind(histogram)}) {
    try {
      chart_json({"Odd one", "", "", kind});
      FAIL() << "took it";
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), HasSubstr("Odd one"));
    }
  }
}

}  // namespace
}  // namespace torpor
