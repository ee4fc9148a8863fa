#include "core/tensor/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/tensor/gguf_cursor.h"
#include "core/tensor/gguf_types.h"

namespace torpor {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as little endian");

constexpr std::uint32_t kMostDimensions = 4;  // ggml's
constexpr std::uint32_t kLargestAlignment = 1U << 20;

template <typename T>
T load(std::span<const std::byte> bytes, std::uint64_t i = 0) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return value;
}

// Calls f with element i of a numeric span, in the element's own type. False if it is none.
template <typename F>
bool with_number(GgufType type, std::span<const std::byte> bytes, std::uint64_t i, const F& f) {
  switch (type) {
    case GgufType::u8:
      f(load<std::uint8_t>(bytes, i));
      return true;
    case GgufType::i8:
      f(load<std::int8_t>(bytes, i));
      return true;
    case GgufType::u16:
      f(load<std::uint16_t>(bytes, i));
      return true;
    case GgufType::i16:
      f(load<std::int16_t>(bytes, i));
      return true;
    case GgufType::u32:
      f(load<std::uint32_t>(bytes, i));
      return true;
    case GgufType::i32:
      f(load<std::int32_t>(bytes, i));
      return true;
    case GgufType::f32:
      f(load<float>(bytes, i));
      return true;
    case GgufType::u64:
      f(load<std::uint64_t>(bytes, i));
      return true;
    case GgufType::i64:
      f(load<std::int64_t>(bytes, i));
      return true;
    case GgufType::f64:
      f(load<double>(bytes, i));
      return true;
    default:
      return false;
  }
}

bool is_integer(GgufType type) {
  return gguf::fixed_size(type) != 0 && type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean;
}
bool is_number(GgufType type) {
  return is_integer(type) || type == GgufType::f32 || type == GgufType::f64;
}

// Integers of all widths; nothing for u64 beyond int64.
std::optional<std::int64_t> integer_at(GgufType type, std::span<const std::byte> bytes, std::uint64_t i) {
  std::optional<std::int64_t> result;
  with_number(type, bytes, i, [&](auto value) {
    if constexpr (std::is_same_v<decltype(value), std::uint64_t>) {
      if (value <= static_cast<std::uint64_t>(INT64_MAX)) result = static_cast<std::int64_t>(value);
    } else {
      result = static_cast<std::int64_t>(value);
    }
  });
  return result;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A scalar as text, for error messages.
std::string shown(const GgufValue& value) {
  std::string text = value.type_text();
  if (value.type == GgufType::string) return in_quotes(text_of(value.bytes.subspan(8)));
  if (value.type == GgufType::boolean) return value.bytes[0] == std::byte{0} ? "false" : "true";
  with_number(value.type, value.bytes, 0, [&](auto number) { text = fmt::format("{} ({})", +number, text); });
  return text;
}

struct TensorInfo {
  TensorView view;
  std::uint64_t offset = 0;  // from the start of the data
  std::uint64_t bytes = 0;
};

TensorInfo read_tensor_info(gguf::Cursor& cursor, std::uint32_t alignment, const std::string& where) {
  TensorInfo info;
  cursor.set_context("the name of a tensor");
  const std::uint64_t at = cursor.position();
  const std::string_view name = cursor.string();
  if (name.empty() || !is_utf8(name))
    throw BadInput("{}: expected the name of a tensor in UTF-8 at byte {}, found {}", where, at, in_quotes(name));
  cursor.set_context(fmt::format("the description of tensor {}", in_quotes(name)));
  const auto dimensions = cursor.read<std::uint32_t>();
  if (dimensions > kMostDimensions)
    throw BadInput("{}: tensor {}: expected at most {} dimensions, found {}", where, in_quotes(name), kMostDimensions,
                   dimensions);
  std::vector<std::int64_t> shape;  // innermost first, as in the file
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto dimension = cursor.read<std::uint64_t>();
    if (dimension > static_cast<std::uint64_t>(INT64_MAX))
      throw BadInput("{}: tensor {}: expected dimensions below 2^63, found {}", where, in_quotes(name), dimension);
    shape.push_back(static_cast<std::int64_t>(dimension));
  }
  info.view.name = std::string(name);
  info.view.format = gguf::format_of(cursor.read<std::uint32_t>(), where, name);
  info.offset = cursor.read<std::uint64_t>();

  const NumberFormatTraits& t = traits(info.view.format);
  const std::int64_t row = shape.empty() ? 1 : shape.front();
  std::reverse(shape.begin(), shape.end());
  info.view.shape = std::move(shape);
  const auto elements = element_count(info.view.shape);
  if (!elements || *elements > INT64_MAX / t.block_bytes)
    throw BadInput("{}: tensor {}: the shape {} overflows 2^63 - 1 bytes", where, in_quotes(name),
                   info.view.shape_text());
  if (row % t.block_values != 0)
    throw BadInput("{}: tensor {}: expected rows of a multiple of {} values for {}, found {}", where, in_quotes(name),
                   t.block_values, t.name, row);
  info.bytes = bytes_of(info.view.format, *elements);
  if (info.offset % alignment != 0)
    throw BadInput("{}: tensor {}: expected an offset that is a multiple of the alignment {}, found {}", where,
                   in_quotes(name), alignment, info.offset);
  return info;
}

// Checks the places against the file and each other.
TensorArchive place(std::vector<TensorInfo> infos, std::span<const std::byte> data,
                    const std::shared_ptr<const void>& owner, const std::string& where) {
  std::stable_sort(infos.begin(), infos.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  TensorArchive archive;
  archive.set_where(where);
  std::uint64_t covered = 0;
  std::string previous;
  for (TensorInfo& info : infos) {
    const std::string name = in_quotes(info.view.name);
    if (info.offset > data.size() || info.bytes > data.size() - info.offset)
      throw BadInput(
          "{}: tensor {} takes {} bytes from byte {} of the data on, the file has {} bytes of data. Is the "
          "download complete?",
          where, name, info.bytes, info.offset, data.size());
    if (info.offset < covered)
      throw BadInput("{}: tensors {} and {} overlap: the one ends at byte {} of the data, the other begins at {}",
                     where, previous, name, covered, info.offset);
    covered = info.offset + info.bytes;
    previous = name;
    info.view.bytes = data.subspan(info.offset, info.bytes);
    archive.add(std::move(info.view), owner);
  }
  return archive;
}

void check_version(std::uint32_t version, const std::string& where) {
  if (version == 2 || version == 3) return;
  if (version != 0 && (version & 0xFFFFU) == 0)
    throw BadInput(
        "{}: expected a little-endian GGUF file, found a big-endian one; convert it with gguf-convert-endian", where);
  throw BadInput("{}: expected GGUF version 2 or 3, found {}{}", where, version,
                 version == 1 ? "; convert the model again with a current tool" : "");
}

}  // namespace

std::string_view name_of(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",      "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "boolean", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<std::size_t>(type);
  TORPOR_ASSERT(index < std::size(kNames), "type {}", index);
  return kNames[index];
}

std::string GgufValue::type_text() const {
  if (type != GgufType::array) return std::string(name_of(type));
  return fmt::format("array of {} {}{}", count, name_of(element), count == 1 ? "" : "s");
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse(bytes, std::move(mapped), path.string());
}

GgufFile GgufFile::parse(std::span<const std::byte> file, const std::shared_ptr<const void>& owner,
                         const std::string& where) {
  gguf::Cursor cursor(file, where);
  if (file.size() < 4 || text_of(file.first(4)) != "GGUF")
    throw BadInput("{}: expected a GGUF file, which starts with the letters GGUF, found {}", where,
                   in_quotes(text_of(file.first(std::min<std::size_t>(4, file.size())))));
  cursor.bytes(4);
  GgufFile result;
  result.owner_ = owner;
  result.tensors_.set_where(where);
  result.version_ = cursor.read<std::uint32_t>();
  check_version(result.version_, where);
  const auto n_tensors = cursor.read<std::uint64_t>();
  const auto n_values = cursor.read<std::uint64_t>();
  // Each entry takes at least this many bytes: name's length, type and value; or name's length, dimensions, type,
  // offset.
  constexpr std::uint64_t kLeastValue = 8 + 4 + 1, kLeastTensor = 8 + 4 + 4 + 8;
  if (n_values > cursor.left() / kLeastValue || n_tensors > cursor.left() / kLeastTensor)
    throw BadInput("{}: {} metadata values and {} tensors do not fit a file of {} bytes. Is the download complete?",
                   where, n_values, n_tensors, file.size());

  for (std::uint64_t i = 0; i < n_values; ++i) {
    cursor.set_context(fmt::format("the key of metadata value {}", i));
    const std::uint64_t at = cursor.position();
    const std::string_view key = cursor.string();
    if (key.empty() || !is_utf8(key))
      throw BadInput("{}: expected a metadata key in UTF-8 at byte {}, found {}", where, at, in_quotes(key));
    cursor.set_context(fmt::format("the value of {}", in_quotes(key)));
    if (!result.values_.emplace(key, cursor.value()).second)
      throw BadInput("{}: the metadata key {} appears twice (again at byte {})", where, in_quotes(key), at);
    result.keys_.push_back(key);
  }
  if (const GgufValue* alignment = result.find("general.alignment")) {
    if (alignment->type != GgufType::u32 || !std::has_single_bit(load<std::uint32_t>(alignment->bytes)) ||
        load<std::uint32_t>(alignment->bytes) > kLargestAlignment)
      throw BadInput("{}: expected general.alignment to be a u32 and a power of two up to {}, found {}", where,
                     kLargestAlignment, shown(*alignment));
    result.alignment_ = load<std::uint32_t>(alignment->bytes);
  }

  std::vector<TensorInfo> infos;
  for (std::uint64_t i = 0; i < n_tensors; ++i) infos.push_back(read_tensor_info(cursor, result.alignment_, where));
  const std::uint64_t padding = (result.alignment_ - cursor.position() % result.alignment_) % result.alignment_;
  const auto data = padding <= cursor.left() ? file.subspan(cursor.position() + padding) : std::span<const std::byte>{};
  result.tensors_ = place(std::move(infos), data, owner, where);
  return result;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void GgufFile::mismatch(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find(key);
  throw BadInput("{}: expected {} at {}, found {}", where(), expected, in_quotes(key),
                 value == nullptr ? "no such key" : shown(*value));
}

const GgufValue& GgufFile::expect(std::string_view key, const char* expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr) mismatch(key, expected);
  return *value;
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const GgufValue* value = find(key);
  const auto number =
      value != nullptr && is_integer(value->type) ? integer_at(value->type, value->bytes, 0) : std::nullopt;
  if (!number || *number < min || *number > max) mismatch(key, fmt::format("an integer from {} to {}", min, max));
  return *number;
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& value = expect(key, "a number");
  double result = std::nan("");
  with_number(value.type, value.bytes, 0, [&](auto number) { result = static_cast<double>(number); });
  if (!std::isfinite(result)) mismatch(key, "a finite number");
  return result;
}

bool GgufFile::boolean(std::string_view key) const {
  const GgufValue& value = expect(key, "true or false");
  if (value.type != GgufType::boolean) mismatch(key, "true or false");
  return value.bytes[0] != std::byte{0};
}

std::string_view GgufFile::string(std::string_view key) const {
  const GgufValue& value = expect(key, "a string");
  if (value.type != GgufType::string) mismatch(key, "a string");
  return text_of(value.bytes.subspan(sizeof(std::uint64_t)));
}

std::int64_t GgufFile::integer_or(std::string_view key, std::int64_t fallback, std::int64_t min,
                                  std::int64_t max) const {
  return has(key) ? integer(key, min, max) : fallback;
}
double GgufFile::number_or(std::string_view key, double fallback) const {
  return has(key) ? number(key) : fallback;
}
bool GgufFile::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}
std::string GgufFile::string_or(std::string_view key, const std::string& fallback) const {
  return has(key) ? std::string(string(key)) : fallback;
}

std::vector<std::string_view> GgufFile::strings(std::string_view key) const {
  const GgufValue& value = expect(key, "an array of strings");
  if (value.type != GgufType::array || (value.element != GgufType::string && value.count != 0))
    mismatch(key, "an array of strings");
  std::vector<std::string_view> result;
  result.reserve(value.count);  // open() has walked over all of them
  gguf::Cursor cursor(value.bytes, where());
  for (std::uint64_t i = 0; i < value.count; ++i) result.push_back(cursor.string());
  return result;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  constexpr const char* kExpected = "an array of integers";
  const GgufValue& value = expect(key, kExpected);
  if (value.type != GgufType::array || (!is_integer(value.element) && value.count != 0)) mismatch(key, kExpected);
  std::vector<std::int64_t> result;
  result.reserve(value.count);
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto number = integer_at(value.element, value.bytes, i);
    if (!number) mismatch(key, "an array of integers below 2^63");
    result.push_back(*number);
  }
  return result;
}

std::vector<float> GgufFile::numbers(std::string_view key) const {
  constexpr const char* kExpected = "an array of numbers";
  const GgufValue& value = expect(key, kExpected);
  if (value.type != GgufType::array || (!is_number(value.element) && value.count != 0)) mismatch(key, kExpected);
  std::vector<float> result;
  result.reserve(value.count);
  for (std::uint64_t i = 0; i < value.count; ++i)
    with_number(value.element, value.bytes, i, [&](auto number) { result.push_back(static_cast<float>(number)); });
  return result;
}

std::vector<bool> GgufFile::booleans(std::string_view key) const {
  constexpr const char* kExpected = "an array of booleans";
  const GgufValue& value = expect(key, kExpected);
  if (value.type != GgufType::array || (value.element != GgufType::boolean && value.count != 0))
    mismatch(key, kExpected);
  std::vector<bool> result;
  result.reserve(value.count);
  for (std::uint64_t i = 0; i < value.count; ++i) result.push_back(value.bytes[i] != std::byte{0});
  return result;
}

std::vector<GgufValue> GgufFile::arrays(std::string_view key) const {
  constexpr const char* kExpected = "an array of arrays";
  const GgufValue& value = expect(key, kExpected);
  if (value.type != GgufType::array || (value.element != GgufType::array && value.count != 0)) mismatch(key, kExpected);
  std::vector<GgufValue> result;
  result.reserve(value.count);
  gguf::Cursor cursor(value.bytes, where());
  for (std::uint64_t i = 0; i < value.count; ++i) result.push_back(cursor.value_of(GgufType::array));
  return result;
}

std::string GgufFile::without_tensors() const {
  std::string file = "GGUF";
  const auto put = [&](const auto& number) { file.append(reinterpret_cast<const char*>(&number), sizeof number); };
  put(version_);
  put(std::uint64_t{0});
  put(static_cast<std::uint64_t>(keys_.size()));
  if (keys_.empty()) return file;
  // Keys and values lie one after another; each key has its length before it.
  const char* const begin = keys_.front().data() - sizeof(std::uint64_t);
  const std::span<const std::byte> last = find(keys_.back())->bytes;
  file.append(begin, reinterpret_cast<const char*>(last.data() + last.size()));
  return file;
}

}  // namespace torpor
