#include "core/tensor/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/in_quotes.h"

namespace torpor::safetensors {
namespace {

struct Dtype {
  std::string_view name;
  NumberFormat format;
};
// In the reference implementation's order, by which it sorts tensors (largest last here, first in a file).
constexpr Dtype kDtypes[] = {
    {"BOOL", NumberFormat::boolean}, {"U8", NumberFormat::u8},   {"I8", NumberFormat::i8},
    {"I16", NumberFormat::i16},      {"U16", NumberFormat::u16}, {"F16", NumberFormat::f16},
    {"BF16", NumberFormat::bf16},    {"I32", NumberFormat::i32}, {"U32", NumberFormat::u32},
    {"F32", NumberFormat::f32},      {"F64", NumberFormat::f64}, {"I64", NumberFormat::i64},
    {"U64", NumberFormat::u64},
};
constexpr std::size_t kMostDimensions = 64;  // as NumPy; bounds the memory of a hostile header

// Events of nlohmann-json's SAX parser. Subclasses say what they expect; everything else is refused with the position.
class Events {
 public:
  using Parsed = nlohmann::json;

  explicit Events(std::string where) : where_(std::move(where)) {}
  virtual ~Events() = default;
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  virtual bool null() { refuse("null"); }
  virtual bool boolean(bool) { refuse("true or false"); }
  virtual bool number_integer(Parsed::number_integer_t value) { refuse(fmt::format("{}", value)); }
  virtual bool number_unsigned(Parsed::number_unsigned_t value) { refuse(fmt::format("{}", value)); }
  virtual bool number_float(Parsed::number_float_t, const std::string& text) { refuse(text); }
  virtual bool string(std::string& value) { refuse(in_quotes(value)); }
  virtual bool start_object(std::size_t) { refuse("an object"); }
  virtual bool start_array(std::size_t) { refuse("an array"); }
  virtual bool key(std::string&) = 0;
  virtual bool end_object() = 0;
  virtual bool end_array() { return true; }
  bool binary(Parsed::binary_t&) { refuse("binary data"); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string reason = error.what();
    if (const auto start = reason.rfind("syntax error"); start != std::string::npos) reason = reason.substr(start);
    if (reason.size() > 200) reason = reason.substr(0, 200);
    std::string line;  // parts of the input may be quoted in the reason
    for (const char c : reason)
      line += static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7E ? '?' : c;
    throw BadInput("{}: expected JSON, found an error at byte {} of it: {}", where_, position, line);
  }

  void run(std::string_view json) {
    refuse_nul(json, where_);
    // The result is always true: every failure throws.
    static_cast<void>(Parsed::sax_parse(json.begin(), json.end(), this));
  }

 protected:
  /// What stands at this point of the document, for errors: `expected … at …`.
  virtual std::string expectation() const = 0;
  [[noreturn]] void refuse(const std::string& found) const {
    throw BadInput("{}: expected {}, found {}", where_, expectation(), found);
  }
  const std::string where_;
};

class HeaderEvents final : public Events {
 public:
  using Events::Events;
  Header header;

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start:
        place_ = Place::names;
        return true;
      case Place::tensor:
        place_ = Place::fields;
        entry_ = Entry{};
        entry_.name = name_;
        has_dtype_ = has_shape_ = false;
        offsets_.clear();
        return true;
      case Place::metadata:
        place_ = Place::metadata_keys;
        return true;
      default:
        refuse("an object");
    }
  }

  bool key(std::string& text) override {
    switch (place_) {
      case Place::names:
        name_ = std::move(text);
        if (name_ == "__metadata__" && std::exchange(has_metadata_, true)) repeated(name_);
        place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
        return true;
      case Place::fields:
        if (text == "dtype") {
          if (has_dtype_) repeated(text);
          place_ = Place::dtype;
        } else if (text == "shape") {
          if (has_shape_) repeated(text);
          place_ = Place::shape;
        } else if (text == "data_offsets") {
          if (!offsets_.empty()) repeated(text);
          place_ = Place::offsets;
        } else {
          throw BadInput("{}: tensor {}: expected dtype, shape and data_offsets, found a field {}", where_,
                         in_quotes(name_), in_quotes(text));
        }
        return true;
      case Place::metadata_keys:
        metadata_key_ = std::move(text);
        place_ = Place::metadata_value;
        return true;
      default:
        refuse(in_quotes(text));
    }
  }

  bool string(std::string& text) override {
    if (place_ == Place::dtype) {
      entry_.format = format_of(text, where_, name_);
      has_dtype_ = true;
      place_ = Place::fields;
    } else if (place_ == Place::metadata_value) {
      if (!header.metadata.emplace(std::move(metadata_key_), std::move(text)).second) repeated("a key of __metadata__");
      place_ = Place::metadata_keys;
    } else {
      refuse(in_quotes(text));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape) {
      has_shape_ = true;
      place_ = Place::shape_items;
    } else if (place_ == Place::offsets) {
      place_ = Place::offset_items;
    } else {
      refuse("an array");
    }
    return true;
  }

  bool number_unsigned(Parsed::number_unsigned_t value) override {
    if (place_ == Place::shape_items && value <= static_cast<std::uint64_t>(INT64_MAX)) {
      if (entry_.shape.size() == kMostDimensions)
        throw BadInput("{}: tensor {}: expected at most {} dimensions, found more", where_, in_quotes(name_),
                       kMostDimensions);
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::offset_items && offsets_.size() < 2) {
      offsets_.push_back(value);
    } else {
      refuse(fmt::format("{}", value));
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offset_items) {
      if (offsets_.size() != 2) refuse(fmt::format("{} numbers", offsets_.size()));
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
    }
    place_ = Place::fields;
    return true;
  }

  bool end_object() override {
    switch (place_) {
      case Place::fields:
        if (!has_dtype_ || !has_shape_ || offsets_.empty())
          throw BadInput("{}: tensor {}: expected dtype, shape and data_offsets, found no {}", where_, in_quotes(name_),
                         !has_dtype_   ? "dtype"
                         : !has_shape_ ? "shape"
                                       : "data_offsets");
        header.entries.push_back(std::move(entry_));
        place_ = Place::names;
        return true;
      case Place::metadata_keys:
        place_ = Place::names;
        return true;
      default:
        place_ = Place::end;
        return true;
    }
  }

 private:
  enum class Place {
    start,
    names,
    tensor,
    fields,
    dtype,
    shape,
    shape_items,
    offsets,
    offset_items,
    metadata,
    metadata_keys,
    metadata_value,
    end
  };

  [[noreturn]] void repeated(const std::string& key) const {
    throw BadInput("{}: tensor {}: the key {} appears twice", where_, in_quotes(name_), in_quotes(key));
  }

  std::string expectation() const override {
    const std::string tensor = in_quotes(name_);
    switch (place_) {
      case Place::start:
        return "the header to be a JSON object";
      case Place::tensor:
        return fmt::format("an object that describes the tensor {}", tensor);
      case Place::dtype:
        return fmt::format("the dtype of the tensor {} as a string", tensor);
      case Place::shape:
        return fmt::format("the shape of the tensor {} as an array", tensor);
      case Place::shape_items:
        return fmt::format("dimensions from 0 to 2^63 - 1 in the shape of the tensor {}", tensor);
      case Place::offsets:
      case Place::offset_items:
        return fmt::format("data_offsets of the tensor {} as two integers of at least 0", tensor);
      case Place::metadata:
        return "__metadata__ to be an object of strings";
      case Place::metadata_value:
        return fmt::format("a string at {} of __metadata__", in_quotes(metadata_key_));
      default:
        return "another value";
    }
  }

  Place place_ = Place::start;
  std::string name_, metadata_key_;
  Entry entry_;
  bool has_dtype_ = false, has_shape_ = false, has_metadata_ = false;
  std::vector<std::uint64_t> offsets_;
};

// Only "weight_map" matters; the other members (metadata with total_size, …) may hold anything.
class IndexEvents final : public Events {
 public:
  IndexEvents(std::string where, const std::function<void(const std::string&, const std::string&)>& tensor)
      : Events(std::move(where)), tensor_(tensor) {}
  bool found_map = false;

  bool null() override { return ignored("null"); }
  bool boolean(bool) override { return ignored("true or false"); }
  bool number_integer(Parsed::number_integer_t) override { return ignored("a number"); }
  bool number_unsigned(Parsed::number_unsigned_t) override { return ignored("a number"); }
  bool number_float(Parsed::number_float_t, const std::string&) override { return ignored("a number"); }
  bool string(std::string& text) override {
    if (!in_map_) return ignored(in_quotes(text));
    tensor_(key_, text);
    return true;
  }
  bool start_object(std::size_t) override {
    if (in_map_) refuse("an object");
    if (depth_ == 1 && key_ == "weight_map") {
      if (found_map) throw BadInput("{}: the key \"weight_map\" appears twice", where_);
      in_map_ = found_map = true;
    }
    ++depth_;
    return true;
  }
  bool end_object() override {
    in_map_ = false;
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    ignored("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& text) override {
    if (in_map_ || depth_ == 1) key_ = std::move(text);
    return true;
  }

 private:
  bool ignored(const std::string& found) const {
    if (depth_ == 0 || in_map_ || (depth_ == 1 && key_ == "weight_map")) refuse(found);
    return true;
  }
  std::string expectation() const override {
    if (depth_ == 0) return "a JSON object";
    if (in_map_) return fmt::format("a file name for the tensor {} in weight_map", in_quotes(key_));
    return "weight_map to be an object";
  }

  const std::function<void(const std::string&, const std::string&)>& tensor_;
  std::size_t depth_ = 0;
  bool in_map_ = false;
  std::string key_;
};

}  // namespace

NumberFormat format_of(std::string_view dtype, const std::string& where, const std::string& tensor) {
  for (const Dtype& known : kDtypes)
    if (known.name == dtype) return known.format;
  std::string supported;
  for (const Dtype& known : kDtypes) supported += fmt::format("{}{}", supported.empty() ? "" : ", ", known.name);
  throw BadInput("{}: tensor {}: the dtype {} is not supported; supported: {}", where, in_quotes(tensor),
                 in_quotes(dtype), supported);
}

std::string_view dtype_of(NumberFormat format) {
  for (const Dtype& known : kDtypes)
    if (known.format == format) return known.name;
  throw InvalidArgument("[write_safetensors] expected a plain number format, got {}; convert with to_f32 first",
                        traits(format).name);
}

int alignment_rank(NumberFormat format) {
  const auto* found =
      std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& known) { return known.format == format; });
  return static_cast<int>(found - std::begin(kDtypes));
}

Header parse_header(std::string_view json, const std::string& where) {
  HeaderEvents events(where + ": header");
  events.run(json);
  return std::move(events.header);
}

void parse_index(std::string_view json, const std::string& where,
                 const std::function<void(const std::string&, const std::string&)>& tensor) {
  IndexEvents events(where, tensor);
  events.run(json);
  if (!events.found_map)
    throw BadInput("{}: expected an object \"weight_map\", found none. Is this an index file?", where);
}

}  // namespace torpor::safetensors
