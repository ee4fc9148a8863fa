#include "core/report/page.h"

#include <fmt/format.h>

#include <cmath>

#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/report/assets.h"
#include "core/report/html.h"

namespace torpor {
namespace {

// Six neurons of which one is awake: the mark of the project, also the icon of the browser's tab.
constexpr std::string_view kMark =
    R"(<svg viewBox="0 0 20 20" aria-hidden="true"><g fill="none" stroke="currentColor" stroke-width="1.4">)"
    R"(<circle cx="4" cy="4" r="2.3"/><circle cx="16" cy="4" r="2.3"/><circle cx="4" cy="10" r="2.3"/>)"
    R"(<circle cx="10" cy="4" r="2.3"/><circle cx="16" cy="10" r="2.3"/><circle cx="4" cy="16" r="2.3"/>)"
    R"(<circle cx="10" cy="16" r="2.3"/><circle cx="16" cy="16" r="2.3"/></g>)"
    R"svg(<circle cx="10" cy="10" r="3" style="fill:var(--accent)"/></svg>)svg";
constexpr std::string_view kIcon =
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'%3E%3Cg fill='none' "
    "stroke='%23808890' stroke-width='1.6'%3E%3Ccircle cx='4' cy='4' r='2.3'/%3E%3Ccircle cx='10' cy='4' r='2.3'/%3E"
    "%3Ccircle cx='16' cy='4' r='2.3'/%3E%3Ccircle cx='4' cy='10' r='2.3'/%3E%3Ccircle cx='16' cy='10' r='2.3'/%3E"
    "%3Ccircle cx='4' cy='16' r='2.3'/%3E%3Ccircle cx='10' cy='16' r='2.3'/%3E%3Ccircle cx='16' cy='16' r='2.3'/%3E"
    "%3C/g%3E%3Ccircle cx='10' cy='10' r='3.2' fill='%230072b2'/%3E%3C/svg%3E";

class PageWriter {
 public:
  std::string write(const ReportPage& page);

 private:
  void head(const ReportPage& page);
  void picture(const HundredDots& dots);
  void tiles(const std::vector<Tile>& tiles);
  void contents(const ReportPage& page);
  void figure(const Chart& chart);
  void table(const Table& table, const std::string& label);

  void block(const Paragraph& b) { out_ += "<p>" + prose_to_html(b.prose) + "</p>\n"; }
  void block(const Bullets& b);
  void block(const Note& b);
  void block(const Definitions& b);
  void block(const Code& b);
  void block(const Chart& b) { figure(b); }
  void block(const ChartChoice& b);
  void block(const Table& b) { table(b, b.caption); }
  void block(const SideBySide& b);
  void block(const Folded& b);

  std::string out_;
  int charts_ = 0;
  int choices_ = 0;
};

std::string section_id(std::size_t index) {
  return fmt::format("section-{}", index + 1);
}

void PageWriter::head(const ReportPage& page) {
  out_ += "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out_ +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
      "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n";
  out_ += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out_ += "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n";
  out_ += "<meta name=\"generator\" content=\"Torpor " + escape_html(build_info().version) + "\">\n";
  out_ += "<title>" + escape_html(page.title + " · " + page.kicker) + "</title>\n";
  out_ += fmt::format("<link rel=\"icon\" href=\"{}\">\n<style>\n{}</style>\n</head>\n", kIcon, assets::report_css());
}

void PageWriter::picture(const HundredDots& dots) {
  if (dots.parts.size() > 4) throw InvalidArgument("[HundredDots] expected at most 4 parts, got {}", dots.parts.size());
  // Largest remainder: the dots sum to a hundred whatever the rounding.
  std::vector<int> counts(dots.parts.size());
  std::vector<double> rests(dots.parts.size());
  int placed = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double exact =
        std::isfinite(dots.parts[i].share) ? std::min(std::max(dots.parts[i].share, 0.0), 1.0) * 100 : 0;
    counts[i] = static_cast<int>(exact);
    rests[i] = exact - counts[i];
    placed += counts[i];
  }
  while (placed < 100 && !counts.empty()) {
    std::size_t best = 0;
    for (std::size_t i = 1; i < rests.size(); ++i) best = rests[i] > rests[best] ? i : best;
    if (rests[best] <= 0) break;
    ++counts[best];
    rests[best] = 0;
    ++placed;
  }
  out_ += "<figure class=\"picture\"><svg viewBox=\"0 0 400 100\" role=\"img\" aria-label=\"" + escape_html(dots.alt) +
          "\">";
  int at = 0;
  for (std::size_t part = 0; part < counts.size(); ++part) {
    out_ += fmt::format("<g class=\"part{}\">", part);
    for (int i = 0; i < counts[part] && at < 100; ++i, ++at) {
      out_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"7\"/>", 10 + 20 * (at % 20), 10 + 20 * (at / 20));
    }
    out_ += "</g>";
  }
  out_ += "</svg><figcaption><ul>";
  for (std::size_t part = 0; part < counts.size(); ++part) {
    out_ += fmt::format(
        "<li><svg viewBox=\"0 0 20 20\" aria-hidden=\"true\"><circle class=\"part{}\" cx=\"10\" cy=\"10\" r=\"8\" "
        "stroke-width=\"2\"/></svg><b>{}</b> <span>{}</span></li>",
        part, format_share(dots.parts[part].share), escape_html(dots.parts[part].label));
  }
  out_ += "</ul></figcaption></figure>\n";
}

void PageWriter::tiles(const std::vector<Tile>& tiles) {
  if (tiles.empty()) return;
  out_ += "<dl class=\"tiles\">\n";
  for (const Tile& tile : tiles) {
    out_ += "<div class=\"tile\"><dt>" + escape_html(tile.label) + "</dt><dd class=\"value\">" +
            escape_html(tile.value) + "</dd>";
    if (!tile.note.empty()) out_ += "<dd class=\"note\">" + prose_to_html(tile.note) + "</dd>";
    out_ += "</div>\n";
  }
  out_ += "</dl>\n";
}

void PageWriter::contents(const ReportPage& page) {
  if (page.sections.empty()) return;
  out_ += "<nav class=\"contents\" aria-label=\"Contents\"><div class=\"sticky\"><h2>Contents</h2><ol>\n";
  for (std::size_t i = 0; i < page.sections.size(); ++i) {
    out_ += "<li><a href=\"#" + section_id(i) + "\">" + escape_html(page.sections[i].title) + "</a></li>\n";
  }
  out_ += "</ol></div></nav>\n";
}

void PageWriter::table(const Table& table, const std::string& label) {
  if (table.facts) {
    out_ += "<table class=\"facts\"><caption>" + escape_html(table.caption) + "</caption><tbody>\n";
    for (const std::vector<Cell>& row : table.rows) {
      out_ += "<tr><th scope=\"row\">" + escape_html(row.at(0).text) + "</th><td>" + escape_html(row.at(1).text) +
              "</td></tr>\n";
    }
    out_ += "</tbody></table>\n";
    return;
  }
  // A region that scrolls must be reachable by keyboard.
  out_ += "<div class=\"rows\" role=\"region\" tabindex=\"0\" aria-label=\"Table: " + escape_html(label) + "\"><table>";
  if (!table.caption.empty()) out_ += "<caption>" + escape_html(table.caption) + "</caption>";
  out_ += "\n<thead><tr>";
  for (const Column& column : table.columns) {
    out_ += "<th scope=\"col\"";
    if (column.number) out_ += " class=\"n\"";
    if (!column.note.empty()) out_ += " title=\"" + escape_html(column.note) + "\"";
    out_ += "><button type=\"button\">" + escape_html(column.title) + "</button></th>";
  }
  out_ += "</tr></thead>\n<tbody>\n";
  for (const std::vector<Cell>& row : table.rows) {
    if (row.size() != table.columns.size()) {
      throw InvalidArgument("[table] \"{}\": expected {} cells in a row, got {}", label, table.columns.size(),
                            row.size());
    }
    out_ += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) {
      out_ += c == 0 ? "<th scope=\"row\"" : "<td";
      if (table.columns[c].number) out_ += " class=\"n\"";
      if (std::isfinite(row[c].value)) out_ += fmt::format(" data-v=\"{}\"", row[c].value);
      out_ += ">" + escape_html(row[c].text) + (c == 0 ? "</th>" : "</td>");
    }
    out_ += "</tr>\n";
  }
  out_ += "</tbody></table></div>\n";
}

void PageWriter::figure(const Chart& chart) {
  const int number = ++charts_;
  const std::string title = escape_html(chart.title);
  out_ += fmt::format("<figure class=\"chart\" id=\"chart-{0}\" aria-labelledby=\"chart-{0}-title\">\n", number);
  out_ += fmt::format("<h3 id=\"chart-{}-title\">{}</h3>\n<figcaption>{}</figcaption>\n", number, title,
                      prose_to_html(chart.caption));
  const std::string alt = escape_html(chart.title + ". " + chart.alt);
  out_ += fmt::format("<div class=\"canvas\"><canvas role=\"img\" aria-label=\"{}\">{}</canvas></div>\n", alt, alt);
  if (std::holds_alternative<HeatMap>(chart.kind)) {
    const Axis& value = std::get<HeatMap>(chart.kind).value;
    out_ += fmt::format(
        "<p class=\"scale\" aria-hidden=\"true\"><span>{}{}</span><span class=\"low\"></span><i></i>"
        "<span class=\"high\"></span></p>\n",
        escape_html(value.title), value.logarithmic ? ", log scale" : "");
  }
  out_ += "<script type=\"application/json\">" + json_for_script(chart_json(chart)) + "</script>\n";
  out_ += "<details><summary>Numbers of this chart</summary>\n";
  table(chart_table(chart), chart.title);
  out_ += "</details>\n</figure>\n";
}

void PageWriter::block(const Bullets& b) {
  out_ += "<ul class=\"bullets\">\n";
  for (const std::string& prose : b.prose) out_ += "<li>" + prose_to_html(prose) + "</li>\n";
  out_ += "</ul>\n";
}

void PageWriter::block(const Note& b) {
  const bool warning = b.tone == Note::Tone::warning;
  out_ += fmt::format("<p class=\"remark{}\">{}{}</p>\n", warning ? " warning" : "", warning ? "<b>Note.</b> " : "",
                      prose_to_html(b.prose));
}

void PageWriter::block(const Definitions& b) {
  out_ += "<dl class=\"terms\">\n";
  for (const Definitions::Entry& entry : b.entries) {
    out_ += "<div><dt>" + escape_html(entry.term) + "</dt><dd>" + prose_to_html(entry.prose);
    if (!entry.formula.empty()) out_ += "<span class=\"formula\">" + prose_to_html(entry.formula) + "</span>";
    out_ += "</dd></div>\n";
  }
  out_ += "</dl>\n";
}

void PageWriter::block(const Code& b) {
  if (!b.label.empty()) out_ += "<p class=\"code-label\">" + escape_html(b.label) + "</p>\n";
  out_ += "<pre tabindex=\"0\">" + escape_html(b.text) + "</pre>\n";
}

void PageWriter::block(const ChartChoice& b) {
  if (b.options.empty()) return;
  out_ += fmt::format("<div class=\"choice\"><label hidden>{} <select id=\"choice-{}\">\n", escape_html(b.label),
                      ++choices_);
  for (const auto& [name, chart] : b.options) out_ += "<option>" + escape_html(name) + "</option>\n";
  out_ += "</select></label>\n";
  for (const auto& [name, chart] : b.options) figure(chart);
  out_ += "</div>\n";
}

void PageWriter::block(const SideBySide& b) {
  out_ += "<div class=\"side-by-side\">\n";
  for (const Table& one : b.tables) table(one, one.caption);
  out_ += "</div>\n";
}

void PageWriter::block(const Folded& b) {
  out_ += "<details><summary>" + escape_html(b.summary) + "</summary>\n";
  block(b.code);
  out_ += "</details>\n";
}

std::string PageWriter::write(const ReportPage& page) {
  head(page);
  out_ += "<body>\n<a class=\"skip\" href=\"#main\">Skip to the results</a>\n<div class=\"frame\">\n";
  out_ += "<header class=\"masthead\">\n<div class=\"bar\"><p class=\"kicker\">";
  out_ += kMark;
  out_ += escape_html(page.kicker) +
          "</p>\n<button type=\"button\" class=\"theme\" id=\"theme\" hidden>Dark mode</button></div>\n";
  out_ += "<h1>" + escape_html(page.title) + "</h1>\n";
  if (!page.subtitle.empty()) out_ += "<p class=\"subtitle\">" + prose_to_html(page.subtitle) + "</p>\n";
  out_ += "</header>\n";
  contents(page);
  out_ += "<main id=\"main\" tabindex=\"-1\">\n";
  if (!page.headline.empty()) out_ += "<p class=\"headline\">" + prose_to_html(page.headline) + "</p>\n";
  if (!page.pictures.empty()) {
    out_ += "<div class=\"pictures\">\n";
    for (const HundredDots& dots : page.pictures) picture(dots);
    out_ += "</div>\n";
  }
  tiles(page.tiles);
  out_ +=
      "<noscript><p class=\"remark\">The charts need JavaScript, which is off. Every number is in the "
      "tables.</p></noscript>\n";
  for (std::size_t i = 0; i < page.sections.size(); ++i) {
    const std::string id = section_id(i);
    out_ += fmt::format("<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<h2 id=\"{0}-title\">{1}</h2>\n", id,
                        escape_html(page.sections[i].title));
    for (const Block& one : page.sections[i].blocks) std::visit([this](const auto& b) { block(b); }, one);
    out_ += "</section>\n";
  }
  if (!page.footer.empty()) out_ += "<footer>" + prose_to_html(page.footer) + "</footer>\n";
  out_ += "</main>\n</div>\n";
  out_ += "<script>\n";
  out_ += assets::chart_js();
  out_ += "\n</script>\n<script>\n";
  out_ += assets::report_js();
  out_ += "</script>\n</body>\n</html>\n";
  return std::move(out_);
}

}  // namespace

std::string render_page(const ReportPage& page) {
  return PageWriter().write(page);
}

}  // namespace torpor
