#include "core/report/csv.h"

#include <fmt/format.h>

#include <cmath>

#include "core/base/error.h"

namespace torpor {

CsvWriter::CsvWriter(const std::vector<std::string>& header, std::string_view so_far) : width_(header.size()) {
  if (header.empty()) throw InvalidArgument("[CsvWriter] expected a header of at least one field, got none");
  for (const std::string& name : header) text(name);
  end_row();
  if (so_far.empty()) return;
  if (!so_far.starts_with(out_)) throw InvalidArgument("[CsvWriter] expected a table with the header {}", out_);
  out_ = so_far;
}

void CsvWriter::add(std::string_view raw) {
  if (fields_ == width_) throw InvalidArgument("[CsvWriter] expected {} fields in a row, got more", width_);
  if (fields_++ > 0) out_ += ',';
  out_ += raw;
}

CsvWriter& CsvWriter::text(std::string_view field) {
  const bool outer_blank = !field.empty() && (field.front() == ' ' || field.back() == ' ');
  // A lone empty field would read as an empty line.
  const bool lone_empty = field.empty() && width_ == 1;
  if (field.find_first_of(",\"\r\n") == std::string_view::npos && !outer_blank && !lone_empty) {
    add(field);
    return *this;
  }
  std::string quoted = "\"";
  for (const char c : field) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  quoted += '"';
  add(quoted);
  return *this;
}

CsvWriter& CsvWriter::number(double value) {
  add(std::isnan(value) ? std::string() : fmt::format("{}", value));
  return *this;
}

CsvWriter& CsvWriter::integer(std::int64_t value) {
  add(fmt::format("{}", value));
  return *this;
}

void CsvWriter::end_row() {
  if (fields_ != width_) throw InvalidArgument("[CsvWriter] expected {} fields in a row, got {}", width_, fields_);
  out_ += "\r\n";
  fields_ = 0;
}

const std::string& CsvWriter::str() const {
  if (fields_ != 0) throw InvalidArgument("[CsvWriter] the last row has {} of {} fields", fields_, width_);
  return out_;
}

}  // namespace torpor
