// Comma-separated values as RFC 4180 defines them, for spreadsheets and data frames.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace torpor {

/// One table. The header fixes the number of fields of every row. Records end with CRLF; fields with a comma, a quote,
/// a line break or outer blanks are quoted. Missing numbers (NaN) are empty fields. One thread at a time.
class CsvWriter {
 public:
  /// so_far: a table that str() of another writer gave; empty: none. Throws InvalidArgument where it does not begin
  /// with this header.
  explicit CsvWriter(const std::vector<std::string>& header, std::string_view so_far = {});

  CsvWriter& text(std::string_view field);
  /// The shortest digits that read back as the same number.
  CsvWriter& number(double value);
  CsvWriter& integer(std::int64_t value);
  /// Ends the row. Throws InvalidArgument where the number of fields is not the header's.
  void end_row();

  /// Everything so far. Write it with write_file_atomically. Throws InvalidArgument inside of a row.
  const std::string& str() const;

 private:
  void add(std::string_view raw);

  std::string out_;
  std::size_t width_;
  std::size_t fields_ = 0;
};

}  // namespace torpor
