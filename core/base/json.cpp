#include "core/base/json.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "core/base/atomic_file.h"
#include "core/base/error.h"

namespace torpor {
namespace {

constexpr int kMaxDepth = 256;  // far beyond any real file; bounds the recursion of destructors and printers

// byte: counted from 1; one past the end where something is missing there.
std::string position_in(std::string_view text, std::size_t byte) {
  byte = std::clamp<std::size_t>(byte, 1, text.size() + 1);
  const auto head = text.substr(0, byte - 1);
  const auto line = 1 + std::count(head.begin(), head.end(), '\n');
  const auto newline = head.rfind('\n');
  const auto column = byte - (newline == std::string_view::npos ? 0 : newline + 1);
  return fmt::format("line {}, column {}", line, column);
}

}  // namespace

void refuse_nul(std::string_view text, const std::string& where) {
  if (const auto at = text.find('\0'); at != std::string_view::npos)
    throw BadInput("{}: expected JSON, found a NUL at byte {} of it", where, at);
}

Json parse_json(std::string_view text, const std::string& where) {
  refuse_nul(text, where);
  std::vector<std::unordered_set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) throw BadInput("{}: expected nesting of at most {}, found more", where, kMaxDepth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() && !keys.back().insert(parsed.get<std::string>()).second)
      throw BadInput("{}: the key {} appears twice in one object", where, parsed.dump());
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    std::string reason = error.what();
    if (const auto colon = reason.rfind("syntax error"); colon != std::string::npos) reason = reason.substr(colon);
    throw BadInput("{}: expected JSON, found an error at {}: {}", where, position_in(text, error.byte), reason);
  } catch (const Json::exception& error) {
    throw BadInput("{}: expected JSON: {}", where, error.what());
  }
}

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

JsonReader::JsonReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object_.is_object()) throw BadInput("{}: expected a JSON object, found {}", where_, object_.type_name());
}

void JsonReader::mismatch(std::string_view key, const char* expected) const {
  const auto found = object_.find(key);
  if (found == object_.end()) throw BadInput("{}: expected {} at \"{}\", found nothing", where_, expected, key);
  std::string text = found->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  throw BadInput("{}: expected {} at \"{}\", found {}", where_, expected, key, text);
}

bool JsonReader::has(std::string_view key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

const Json& JsonReader::at(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end()) mismatch(key, "a value");
  return *found;
}

std::int64_t JsonReader::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_number_integer()) mismatch(key, expected.c_str());
  if (found->is_number_unsigned() && found->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    mismatch(key, expected.c_str());
  const auto value = found->get<std::int64_t>();
  if (value < min || value > max) mismatch(key, expected.c_str());
  return value;
}

double JsonReader::number(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_number() || !std::isfinite(found->get<double>())) mismatch(key, "a number");
  return found->get<double>();
}

bool JsonReader::boolean(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_boolean()) mismatch(key, "true or false");
  return found->get<bool>();
}

std::string JsonReader::string(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_string()) mismatch(key, "a string");
  return found->get<std::string>();
}

std::int64_t JsonReader::integer_or(std::string_view key, std::int64_t fallback, std::int64_t min,
                                    std::int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}
double JsonReader::number_or(std::string_view key, double fallback) const {
  return has(key) ? number(key) : fallback;
}
bool JsonReader::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}
std::string JsonReader::string_or(std::string_view key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

JsonReader JsonReader::object(std::string_view key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_object()) mismatch(key, "an object");
  return JsonReader(*found, fmt::format("{}: {}", where_, key));
}

}  // namespace torpor
