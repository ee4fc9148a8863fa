#include "core/report/chart.h"

#include <cmath>

#include "core/base/error.h"

namespace torpor {
namespace {

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json numbers(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double value : values) out.push_back(number(value));
  return out;
}

const char* style_name(NumberStyle style) {
  switch (style) {
    case NumberStyle::share:
      return "share";
    case NumberStyle::bytes:
      return "bytes";
    case NumberStyle::count:
      return "count";
    case NumberStyle::plain:
      break;
  }
  return "plain";
}

Json axis_json(const Axis& axis) {
  Json out = {{"title", axis.title}, {"style", style_name(axis.style)}};
  if (axis.logarithmic) out["log"] = true;
  if (axis.min) out["min"] = number(*axis.min);
  if (axis.max) out["max"] = number(*axis.max);
  return out;
}

void add_style(Json& out, const SeriesStyle& style, std::size_t position) {
  out["slot"] = style.slot < 0 ? static_cast<int>(position) : style.slot;
  if (style.ramp >= 0) out["ramp"] = style.ramp;
  if (style.dashed) out["dashed"] = true;
  if (style.quiet) out["quiet"] = true;
}

Json references_json(const std::vector<ReferenceLine>& lines) {
  Json out = Json::array();
  for (const ReferenceLine& line : lines) {
    out.push_back(
        {{"axis", line.axis == ReferenceLine::Across::x ? "x" : "y"}, {"at", number(line.at)}, {"label", line.label}});
  }
  return out;
}

void check_lengths(const std::string& title, const BarSeries& series, std::size_t n) {
  const auto agrees = [n](const std::vector<double>& v) { return v.size() == n; };
  if (!agrees(series.values) || (!series.low.empty() && !agrees(series.low)) ||
      (!series.high.empty() && !agrees(series.high)) || series.low.empty() != series.high.empty()) {
    throw InvalidArgument(
        "[chart] \"{}\", series \"{}\": expected {} values (and as many or no limits), got {}, {}, {}", title,
        series.name, n, series.values.size(), series.low.size(), series.high.size());
  }
}

Json bars_json(const std::string& title, const std::vector<BarSeries>& series, std::size_t n) {
  Json out = Json::array();
  for (std::size_t s = 0; s < series.size(); ++s) {
    check_lengths(title, series[s], n);
    Json one = {{"name", series[s].name}, {"values", numbers(series[s].values)}};
    if (!series[s].low.empty()) {
      one["low"] = numbers(series[s].low);
      one["high"] = numbers(series[s].high);
    }
    add_style(one, series[s].style, s);
    out.push_back(std::move(one));
  }
  return out;
}

Json to_json(const std::string&, const LineChart& chart) {
  Json series = Json::array();
  for (std::size_t s = 0; s < chart.series.size(); ++s) {
    Json one = {{"name", chart.series[s].name}, {"joined", chart.series[s].joined}};
    Json points = Json::array();
    Json labels = Json::object();  // few points have one
    for (std::size_t i = 0; i < chart.series[s].points.size(); ++i) {
      const Point& p = chart.series[s].points[i];
      Json point = {number(p.x), number(p.y)};
      if (std::isfinite(p.low) && std::isfinite(p.high)) {
        point.push_back(p.low);
        point.push_back(p.high);
      }
      points.push_back(std::move(point));
      if (!p.label.empty()) labels[std::to_string(i)] = p.label;
    }
    one["points"] = std::move(points);
    if (!labels.empty()) one["labels"] = std::move(labels);
    add_style(one, chart.series[s].style, s);
    series.push_back(std::move(one));
  }
  return {{"kind", "line"},
          {"x", axis_json(chart.x)},
          {"y", axis_json(chart.y)},
          {"series", std::move(series)},
          {"references", references_json(chart.references)}};
}

Json to_json(const std::string& title, const BarChart& chart) {
  return {{"kind", "bar"},
          {"x", axis_json(chart.x)},
          {"y", axis_json(chart.y)},
          {"stacked", chart.stacked},
          {"categories", chart.categories},
          {"series", bars_json(title, chart.series, chart.categories.size())},
          {"references", references_json(chart.references)}};
}

Json to_json(const std::string& title, const Histogram& chart) {
  if (chart.edges.size() < 2) {
    throw InvalidArgument("[chart] \"{}\": expected at least 2 edges, got {}", title, chart.edges.size());
  }
  return {{"kind", "histogram"},
          {"x", axis_json(chart.x)},
          {"y", axis_json(chart.y)},
          {"edges", numbers(chart.edges)},
          {"series", bars_json(title, chart.series, chart.edges.size() - 1)}};
}

std::size_t column_count(const HeatMap& map) {
  return map.columns.empty() && map.column_edges.size() > 1 ? map.column_edges.size() - 1 : map.columns.size();
}

Json to_json(const std::string& title, const HeatMap& map) {
  const std::size_t columns = column_count(map);
  if (map.cells.size() != map.rows.size()) {
    throw InvalidArgument("[chart] \"{}\": expected {} rows of cells, got {}", title, map.rows.size(),
                          map.cells.size());
  }
  Json cells = Json::array();
  for (const std::vector<double>& row : map.cells) {
    if (row.size() != columns) {
      throw InvalidArgument("[chart] \"{}\": expected {} cells in a row, got {}", title, columns, row.size());
    }
    cells.push_back(numbers(row));
  }
  Json out = {{"kind", "heat"}, {"x", axis_json(map.x)}, {"y", axis_json(map.y)}, {"value", axis_json(map.value)}};
  out["rows"] = map.rows;
  if (map.columns.empty()) {
    out["edges"] = numbers(map.column_edges);
  } else {
    out["columns"] = map.columns;
  }
  out["cells"] = std::move(cells);
  return out;
}

std::string interval(double low, double high, NumberStyle style) {
  return std::isfinite(low) && std::isfinite(high) ? format(low, style) + " to " + format(high, style) : "–";
}

bool same_x(const std::vector<LineSeries>& series) {
  for (const LineSeries& s : series) {
    if (s.points.size() != series.front().points.size()) return false;
    for (std::size_t i = 0; i < s.points.size(); ++i) {
      if (s.points[i].x != series.front().points[i].x) return false;
    }
  }
  return true;
}

bool has_interval(const LineSeries& series) {
  for (const Point& p : series.points) {
    if (std::isfinite(p.low) && std::isfinite(p.high)) return true;
  }
  return false;
}

Table to_table(const LineChart& chart) {
  Table table;
  const NumberStyle x = chart.x.style, y = chart.y.style;
  if (!chart.series.empty() && same_x(chart.series)) {
    table.columns.push_back({chart.x.title, true});
    for (const LineSeries& s : chart.series) {
      table.columns.push_back({chart.series.size() == 1 ? chart.y.title : s.name, true});
      if (has_interval(s)) table.columns.push_back({"95 % interval", true});
    }
    for (std::size_t i = 0; i < chart.series.front().points.size(); ++i) {
      std::vector<Cell> row = {number_cell(chart.series.front().points[i].x, x)};
      for (const LineSeries& s : chart.series) {
        row.push_back(number_cell(s.points[i].y, y));
        if (has_interval(s)) row.push_back({interval(s.points[i].low, s.points[i].high, y), s.points[i].low});
      }
      table.rows.push_back(std::move(row));
    }
    return table;
  }
  bool any_interval = false, any_label = false;
  for (const LineSeries& s : chart.series) {
    any_interval = any_interval || has_interval(s);
    for (const Point& p : s.points) any_label = any_label || !p.label.empty();
  }
  table.columns = {{"Series"}, {chart.x.title, true}, {chart.y.title, true}};
  if (any_interval) table.columns.push_back({"95 % interval", true});
  if (any_label) table.columns.push_back({"Remark"});
  for (const LineSeries& s : chart.series) {
    for (const Point& p : s.points) {
      std::vector<Cell> row = {{s.name}, number_cell(p.x, x), number_cell(p.y, y)};
      if (any_interval) row.push_back({interval(p.low, p.high, y), p.low});
      if (any_label) row.push_back({p.label});
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

/// One row per label; `first` holds the labels.
Table bar_table(const std::string& heading, std::vector<Cell> first, const std::vector<BarSeries>& series,
                const Axis& y, bool first_is_number) {
  Table table;
  table.columns.push_back({heading, first_is_number});
  for (const BarSeries& s : series) {
    table.columns.push_back({s.name.empty() ? y.title : s.name, true});
    if (!s.low.empty()) table.columns.push_back({"95 % interval", true});
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::vector<Cell> row = {std::move(first[i])};
    for (const BarSeries& s : series) {
      row.push_back(number_cell(s.values.at(i), y.style));
      if (!s.low.empty()) row.push_back({interval(s.low.at(i), s.high.at(i), y.style), s.low.at(i)});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table to_table(const BarChart& chart) {
  std::vector<Cell> first;
  for (const std::string& category : chart.categories) first.push_back({category});
  return bar_table(chart.x.title, std::move(first), chart.series, chart.y, false);
}

std::vector<std::string> bin_names(const std::vector<double>& edges, NumberStyle style) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    names.push_back(format(edges[i], style) + " to " + format(edges[i + 1], style));
  }
  return names;
}

Table to_table(const Histogram& chart) {
  std::vector<Cell> first;
  for (std::size_t i = 0; const std::string& name : bin_names(chart.edges, chart.x.style)) {
    first.push_back({name, chart.edges[i++]});
  }
  return bar_table(chart.x.title, std::move(first), chart.series, chart.y, true);
}

Table to_table(const HeatMap& map) {
  Table table;
  table.columns.push_back({map.y.title});
  for (const std::string& name : map.columns.empty() ? bin_names(map.column_edges, map.x.style) : map.columns) {
    table.columns.push_back({name, true});
  }
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    std::vector<Cell> row = {{map.rows[r]}};
    for (const double value : map.cells.at(r)) row.push_back(number_cell(value, map.value.style));
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

Cell number_cell(double value, NumberStyle style) {
  return {format(value, style), value};
}

Table chart_table(const Chart& chart) {
  Table table = std::visit([](const auto& kind) { return to_table(kind); }, chart.kind);
  table.caption = chart.title;
  return table;
}

Json chart_json(const Chart& chart) {
  return std::visit([&](const auto& kind) { return to_json(chart.title, kind); }, chart.kind);
}

}  // namespace torpor
