#include "core/tensor/number_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/tensor/convert.h"
#include "core/tensor/half_float.h"

namespace torpor {
namespace {

// In the order of NumberFormat.
constexpr NumberFormatTraits kTraits[] = {
    {"f64", 1, 8, true, false},      {"f32", 1, 4, true, false},      {"f16", 1, 2, true, false},
    {"bf16", 1, 2, true, false},     {"i64", 1, 8, false, false},     {"i32", 1, 4, false, false},
    {"i16", 1, 2, false, false},     {"i8", 1, 1, false, false},      {"u64", 1, 8, false, false},
    {"u32", 1, 4, false, false},     {"u16", 1, 2, false, false},     {"u8", 1, 1, false, false},
    {"bool", 1, 1, false, false},    {"q8_0", 32, 34, false, true},   {"q4_0", 32, 18, false, true},
    {"q4_k", 256, 144, false, true}, {"q6_k", 256, 210, false, true},
};
static_assert(std::size(kTraits) == static_cast<std::size_t>(NumberFormat::q6_k) + 1);

constexpr std::size_t kBlock = 32;  // of q8_0 and q4_0

void put_scale(float scale, std::byte* block) {
  const std::uint16_t half = f16_from_f32(scale);
  std::memcpy(block, &half, sizeof half);
}

/// As ggml does: the largest magnitude becomes 127. It rounds by the scale before that is rounded to f16.
void quantise_q8_0(const float* x, std::byte* block) {
  float largest = 0;
  for (std::size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127;
  const float inverse = scale > 0 ? 1 / scale : 0;
  put_scale(scale, block);
  for (std::size_t i = 0; i < kBlock; ++i)
    block[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::round(x[i] * inverse)));
}

/// As ggml does: the number of the largest magnitude becomes -8, its sign goes to the scale.
void quantise_q4_0(const float* x, std::byte* block) {
  float extreme = 0;
  for (std::size_t i = 0; i < kBlock; ++i)
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  const float scale = extreme / -8;
  const float inverse = scale != 0 ? 1 / scale : 0;
  put_scale(scale, block);
  const auto nibble = [&](float v) { return std::min(15U, static_cast<unsigned>(v * inverse + 8.5F)); };
  for (std::size_t i = 0; i < kBlock / 2; ++i)
    block[2 + i] = static_cast<std::byte>(nibble(x[i]) | nibble(x[i + kBlock / 2]) << 4);
}

void quantise(std::span<const float> values, NumberFormat format, std::byte* destination) {
  static_cast<void>(bytes_of(format, static_cast<std::int64_t>(values.size())));  // whole blocks only
  const auto bytes = static_cast<std::size_t>(traits(format).block_bytes);
  const auto block = format == NumberFormat::q8_0 ? quantise_q8_0 : quantise_q4_0;
  for (std::size_t b = 0; b < values.size() / kBlock; ++b) block(values.data() + b * kBlock, destination + b * bytes);
}

}  // namespace

const NumberFormatTraits& traits(NumberFormat format) {
  const auto index = static_cast<std::size_t>(format);
  if (index >= std::size(kTraits)) throw InvalidArgument("[traits] expected a NumberFormat, got the value {}", index);
  return kTraits[index];
}

std::size_t bytes_of(NumberFormat format, std::int64_t values) {
  const NumberFormatTraits& t = traits(format);
  if (values < 0) throw InvalidArgument("[bytes_of] expected a count of at least 0, got {}", values);
  if (values % t.block_values != 0)
    throw InvalidArgument("[bytes_of] expected a multiple of {} {} values, got {}", t.block_values, t.name, values);
  const std::int64_t blocks = values / t.block_values;
  if (blocks > std::numeric_limits<std::int64_t>::max() / t.block_bytes)
    throw InvalidArgument("[bytes_of] {} {} values take more than 2^63 - 1 bytes", values, t.name);
  return static_cast<std::size_t>(blocks) * static_cast<std::size_t>(t.block_bytes);
}

void to_f32(NumberFormat format, const std::byte* source, std::span<float> values) {
  const NumberFormatTraits& t = traits(format);
  const std::size_t count = values.size();
  if (count % static_cast<std::size_t>(t.block_values) != 0)
    throw InvalidArgument("[to_f32] expected a multiple of {} {} values, got {}", t.block_values, t.name, count);
  const std::size_t blocks = count / static_cast<std::size_t>(t.block_values);
  if (count == 0 && (t.floating || t.quantised)) return;
  switch (format) {
    case NumberFormat::f64:
      for (std::size_t i = 0; i < count; ++i) {
        double value;
        std::memcpy(&value, source + i * sizeof value, sizeof value);
        values[i] = static_cast<float>(value);
      }
      return;
    case NumberFormat::f32:
      std::memcpy(values.data(), source, values.size_bytes());
      return;
    case NumberFormat::f16:
      convert::f16_to_f32(source, values.data(), count);
      return;
    case NumberFormat::bf16:
      convert::bf16_to_f32(source, values.data(), count);
      return;
    case NumberFormat::q8_0:
      convert::q8_0_to_f32(source, values.data(), blocks);
      return;
    case NumberFormat::q4_0:
      convert::q4_0_to_f32(source, values.data(), blocks);
      return;
    case NumberFormat::q4_k:
      convert::q4_k_to_f32(source, values.data(), blocks);
      return;
    case NumberFormat::q6_k:
      convert::q6_k_to_f32(source, values.data(), blocks);
      return;
    default:
      throw InvalidArgument("[to_f32] expected a floating or quantised format, got {}", t.name);
  }
}

void from_f32(std::span<const float> values, NumberFormat format, std::byte* destination) {
  switch (format) {
    case NumberFormat::f32:
      if (!values.empty()) std::memcpy(destination, values.data(), values.size_bytes());
      return;
    case NumberFormat::f16:
      convert::f32_to_f16(values.data(), destination, values.size());
      return;
    case NumberFormat::bf16:
      convert::f32_to_bf16(values.data(), destination, values.size());
      return;
    case NumberFormat::q8_0:
    case NumberFormat::q4_0:
      return quantise(values, format, destination);
    default:
      throw InvalidArgument("[from_f32] expected f32, f16, bf16, q8_0 or q4_0, got {}", traits(format).name);
  }
}

}  // namespace torpor
