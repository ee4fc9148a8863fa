#include "core/text/large_json.h"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "core/base/error.h"
#include "core/text/quote.h"

namespace torpor::text {
namespace {

constexpr std::size_t kMaxDepth = 64;  // real tokenizer files have about 8

class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::string& where) : text_(text), where_(where) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    open(Json::object());
    keys_.emplace_back();
    return true;
  }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second)
      throw BadInput("{}: the key {} appears twice in one object", where_, quote(value));
    key_ = std::move(value);
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    open(Json::array());
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    const auto head = text_.substr(0, std::min(byte, text_.size()));
    const auto newline = head.rfind('\n');
    std::string reason = error.what();
    if (const auto start = reason.rfind("syntax error"); start != std::string::npos) reason = reason.substr(start);
    throw BadInput("{}: expected JSON, found an error at line {}, column {}: {}", where_,
                   1 + std::count(head.begin(), head.end(), '\n'),
                   head.size() - (newline == std::string_view::npos ? 0 : newline + 1), reason);
  }

 private:
  Json& put(Json value) {
    if (open_.empty()) return root_ = std::move(value);
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& array = parent.get_ref<Json::array_t&>();
      return array.emplace_back(std::move(value));
    }
    auto& object = parent.get_ref<Json::object_t&>();
    return object.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool add(Json value) {
    put(std::move(value));
    return true;
  }
  void open(Json value) {
    if (open_.size() >= kMaxDepth) throw BadInput("{}: expected nesting of at most {}, found more", where_, kMaxDepth);
    // The parent does not grow while its child is open, so the pointer stays good.
    open_.push_back(&put(std::move(value)));
  }

  std::string_view text_;
  const std::string& where_;
  Json root_;
  std::string key_;
  std::vector<Json*> open_;
  std::vector<std::unordered_set<std::string>> keys_;
};

}  // namespace

Json parse_large_json(std::string_view text, const std::string& where) {
  refuse_nul(text, where);
  Builder builder(text, where);
  try {
    Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const Json::exception& error) {
    throw BadInput("{}: expected JSON: {}", where, error.what());
  }
  return builder.take();
}

}  // namespace torpor::text
