// Charts as values: what is shown, not how it is drawn. Each is drawn by Chart.js on a canvas (assets/report.js) and
// always comes with the table of its numbers (chart_table). NaN = no value: a gap in the chart, an en dash in the
// table.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/json.h"
#include "core/report/numbers.h"

namespace torpor {

struct Axis {
  std::string title;  // with its unit
  NumberStyle style = NumberStyle::plain;
  bool logarithmic = false;
  std::optional<double> min = {};
  std::optional<double> max = {};
};

/// How a series is told apart: by colour, and by dash and marker for those who do not see the colour.
struct SeriesStyle {
  int slot = -1;     // colour of the palette, 0…7; -1: the series' position in the chart
  double ramp = -1;  // in [0,1]: a colour of the sequential scale instead, for levels of one quantity
  bool dashed = false;
  bool quiet = false;  // grey: a baseline or what is expected by chance
};

struct Point {
  double x = 0, y = 0;
  double low = std::numeric_limits<double>::quiet_NaN();  // confidence interval of y
  double high = std::numeric_limits<double>::quiet_NaN();
  std::string label = {};  // drawn beside the point, which is then drawn larger
};

struct LineSeries {
  std::string name;
  std::vector<Point> points;
  bool joined = true;  // false: a scatter
  SeriesStyle style = {};
};

/// A line across the chart: a budget, a mean.
struct ReferenceLine {
  enum class Across { x, y } axis = Across::y;  // the axis on which it stands
  double at = 0;
  std::string label;
};

/// Lines with bands of confidence, or points.
struct LineChart {
  Axis x, y;
  std::vector<LineSeries> series;
  std::vector<ReferenceLine> references = {};
};

struct BarSeries {
  std::string name;
  std::vector<double> values;
  std::vector<double> low = {};  // as long as values, or empty
  std::vector<double> high = {};
  SeriesStyle style = {};
};

/// Grouped or stacked bars. values[i] belongs to categories[i].
struct BarChart {
  Axis x, y;
  std::vector<std::string> categories;
  std::vector<BarSeries> series;
  bool stacked = false;
  std::vector<ReferenceLine> references = {};  // on y only
};

/// values[i] is the share or count in [edges[i], edges[i+1]); the bins are drawn equally wide, labelled by their edges.
struct Histogram {
  Axis x, y;
  std::vector<double> edges;
  std::vector<BarSeries> series;
};

/// cells[row][column]; columns are named by `columns`, or bounded by `column_edges` (one more than columns).
struct HeatMap {
  Axis x, y, value;
  std::vector<std::string> rows;
  std::vector<std::string> columns = {};
  std::vector<double> column_edges = {};
  std::vector<std::vector<double>> cells;
};

using ChartKind = std::variant<LineChart, BarChart, Histogram, HeatMap>;

struct Chart {
  std::string title;
  std::string caption;  // prose: what is shown and how to read it
  std::string alt;      // what a reader who cannot see it should know, in a sentence
  ChartKind kind;
};

/// A table of text. Cells that hold a number also carry it, so that the page can sort.
struct Cell {
  std::string text;
  double value = std::numeric_limits<double>::quiet_NaN();
};
struct Column {
  std::string title;
  bool number = false;    // right-aligned
  std::string note = {};  // shown as a tooltip of the heading
};
struct Table {
  std::string caption;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  bool facts = false;  // names and values: no headings, not sorted, shown whole
};

Cell number_cell(double value, NumberStyle style = NumberStyle::plain);

/// The numbers of a chart. Series over the same x share a row; otherwise one row a point. Bars: one row a category;
/// histograms: one row a bin; heat maps: one row a row.
Table chart_table(const Chart& chart);

/// What assets/report.js draws. Throws InvalidArgument naming the chart where lengths disagree.
Json chart_json(const Chart& chart);

}  // namespace torpor
