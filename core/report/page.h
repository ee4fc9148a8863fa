// One result, one HTML file: it opens offline, for ever. Style, script, charts and data are inside; nothing is fetched
// (a Content-Security-Policy forbids it). Light and dark, printable, usable by keyboard, every chart with its numbers.
// The page is made from values; whoever fills them never writes HTML.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "core/report/chart.h"

namespace torpor {

// Text fields called "prose" may use the marks of prose_to_html (html.h); all others are shown as they are.

struct Tile {
  std::string label;
  std::string value;
  std::string note = {};  // prose
};

/// A hundred dots, divided by shares: the headline as a picture. Shares sum to about 1. At most four parts.
struct HundredDots {
  struct Part {
    std::string label;  // "computed"
    double share = 0;
  };
  std::vector<Part> parts;
  std::string alt;
};

struct Paragraph {
  std::string prose;
};
struct Bullets {
  std::vector<std::string> prose;
};
/// A remark set apart.
struct Note {
  enum class Tone { information, warning } tone = Tone::information;
  std::string prose;
};
struct Definitions {
  struct Entry {
    std::string term;
    std::string prose;
    std::string formula = {};  // prose
  };
  std::vector<Entry> entries;
};
/// A command or other text in fixed pitch.
struct Code {
  std::string label;
  std::string text;
};
/// Several charts of which the reader picks one ("Layer: 0, 1, 2 …").
struct ChartChoice {
  std::string label;
  std::vector<std::pair<std::string, Chart>> options;
};
/// Narrow tables, side by side where there is room.
struct SideBySide {
  std::vector<Table> tables;
};
/// Text that is there when asked for.
struct Folded {
  std::string summary;
  Code code;
};

using Block = std::variant<Paragraph, Bullets, Note, Definitions, Code, Chart, ChartChoice, Table, SideBySide, Folded>;

struct Section {
  std::string title;
  std::vector<Block> blocks;
};

struct ReportPage {
  std::string kicker;    // "Torpor · profile"
  std::string title;     // the thing reported on
  std::string subtitle;  // prose
  std::string headline;  // prose: the result in one sentence
  std::vector<HundredDots> pictures;
  std::vector<Tile> tiles;
  std::vector<Section> sections;
  std::string footer;  // prose
};

/// The page as one UTF-8 string. The same page gives the same bytes. Throws InvalidArgument where a chart's lengths
/// disagree. Thread-safe.
std::string render_page(const ReportPage& page);

}  // namespace torpor
