// JSON with errors that a person can act on. Parsing is nlohmann-json's; this adds the file's name to every complaint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace torpor {

using Json = nlohmann::ordered_json;

/// nlohmann-json takes a NUL for the end of its input; JSON has none. Throws BadInput where `text` holds one.
void refuse_nul(std::string_view text, const std::string& where);

/// Parses `text`; `where` names it in errors. Throws BadInput with line, column and the parser's reason, and for
/// duplicate keys in one object or nesting deeper than 256.
Json parse_json(std::string_view text, const std::string& where);
Json read_json(const std::filesystem::path& path);

/// Typed access to one object of a file: `where` is "config.json". Every getter throws BadInput("config.json: expected
/// an integer at \"hidden_size\", found \"big\"").
class JsonReader {
 public:
  JsonReader(const Json& object, std::string where);

  bool has(std::string_view key) const;  // present and not null
  const Json& at(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  std::string string(std::string_view key) const;

  std::int64_t integer_or(std::string_view key, std::int64_t fallback, std::int64_t min, std::int64_t max) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, const std::string& fallback) const;

  JsonReader object(std::string_view key) const;
  const std::string& where() const { return where_; }
  const Json& json() const { return object_; }

 private:
  [[noreturn]] void mismatch(std::string_view key, const char* expected) const;

  const Json& object_;
  std::string where_;
};

}  // namespace torpor
