// The two JSON texts of safetensors, read as a stream of events: no tree is built, so memory stays below a small
// multiple of the text and an unexpected value stops the reading at once. Internal to core/tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tensor/number_format.h"

namespace torpor::safetensors {

/// "F32" → f32, … Throws BadInput for types that Torpor does not read, with the list of those it does.
NumberFormat format_of(std::string_view dtype, const std::string& where, const std::string& tensor);
/// f32 → "F32". Throws InvalidArgument for quantised formats.
std::string_view dtype_of(NumberFormat format);
/// The place of a format in the reference implementation's order of tensors: larger numbers come first.
int alignment_rank(NumberFormat format);

struct Entry {
  std::string name;
  NumberFormat format = NumberFormat::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // in the data
};

struct Header {
  std::vector<Entry> entries;
  std::unordered_map<std::string, std::string> metadata;
};

/// Throws BadInput for anything that is not exactly the header's grammar. Values are not yet checked against the file.
Header parse_header(std::string_view json, const std::string& where);

/// Calls `tensor(name, shard)` for each entry of an index's "weight_map". Throws BadInput.
void parse_index(std::string_view json, const std::string& where,
                 const std::function<void(const std::string& name, const std::string& shard)>& tensor);

}  // namespace torpor::safetensors
