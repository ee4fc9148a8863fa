// GGUF: the file format of llama.cpp. One file holds metadata (typed values under dotted keys: architecture, sizes, the
// tokenizer's vocabulary) and tensors, plain or quantised. Versions 2 and 3, little endian.
// Source: the GGUF specification in ggml's docs. Not read: version 1, big endian, models split over several files (each
// part opens by itself), and the quantisations that number_format.h does not name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor/tensor.h"

namespace torpor {

/// The types of metadata values; the numbers are the format's.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};
std::string_view name_of(GgufType type);  // "u32", "string", …

/// One metadata value as it lies in the file: nothing is decoded before it is asked for. Views are valid as long as the
/// GgufFile (or a copy of it).
struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;   // of an array
  std::uint64_t count = 1;           // of an array's elements; else 1
  std::span<const std::byte> bytes;  // the value, or an array's elements, as in the file

  /// "u32", "array of 32000 strings"
  std::string type_text() const;
};

/// A GGUF file. Immutable; const methods may run at once. Copies share the mapping.
///
/// Typed access follows JsonReader (core/base/json.h): every getter throws BadInput("model.gguf: expected an integer at
/// "llama.block_count", found …") for an absent key or another type. Integers of all widths are one type here, as are
/// f32 and f64. Text is returned as views into the file; it is not promised to be UTF-8 (vocabularies hold raw bytes).
class GgufFile {
 public:
  /// Maps the file and walks once over its header: about the size of the vocabulary is read, never the tensors.
  /// Throws BadInput for anything against the format; the message says where.
  static GgufFile open(const std::filesystem::path& path);
  /// The same for a file that lies in memory. `owner` keeps `file` alive; `where` names it in errors.
  static GgufFile parse(std::span<const std::byte> file, const std::shared_ptr<const void>& owner,
                        const std::string& where);

  std::uint32_t version() const { return version_; }
  std::uint32_t alignment() const { return alignment_; }
  const std::string& where() const { return tensors_.where(); }

  /// Shapes are turned round: outermost dimension first, a linear layer's weight is [out, in].
  const TensorArchive& tensors() const { return tensors_; }

  /// In file order.
  std::span<const std::string_view> keys() const { return keys_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const GgufValue* find(std::string_view key) const;

  /// The metadata alone: a GGUF file without tensors, which still holds the tokenizer.
  std::string without_tensors() const;

  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  double number(std::string_view key) const;  // integers too; finite
  bool boolean(std::string_view key) const;
  std::string_view string(std::string_view key) const;

  std::int64_t integer_or(std::string_view key, std::int64_t fallback, std::int64_t min, std::int64_t max) const;
  double number_or(std::string_view key, double fallback) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  std::string string_or(std::string_view key, const std::string& fallback) const;

  /// Arrays. Empty arrays of any element type are accepted. `integers` refuses u64 values beyond 2^63 - 1.
  std::vector<std::string_view> strings(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;  // f64 is rounded; integers are converted
  std::vector<bool> booleans(std::string_view key) const;
  /// The elements of an array of arrays.
  std::vector<GgufValue> arrays(std::string_view key) const;

 private:
  GgufFile() = default;
  const GgufValue& expect(std::string_view key, const char* expected) const;
  [[noreturn]] void mismatch(std::string_view key, std::string_view expected) const;

  std::uint32_t version_ = 0;
  std::uint32_t alignment_ = 32;
  std::vector<std::string_view> keys_;
  std::unordered_map<std::string_view, GgufValue> values_;
  std::shared_ptr<const void> owner_;
  TensorArchive tensors_;
};

}  // namespace torpor
