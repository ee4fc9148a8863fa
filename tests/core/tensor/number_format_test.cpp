// Oracles: the definitions of the formats in double arithmetic (slow), torch's conversions as check sums, and the
// dequantisation of the PyPI package gguf (tests/golden/tensor/make.py).
#include "core/tensor/number_format.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/gguf.h"
#include "core/tensor/half_float.h"
#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

// IEEE 754: (-1)^s 2^(e - bias) (1 + m / 2^p), subnormal for e = 0, infinity or NaN for the largest e.
double value_of(unsigned bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = std::ldexp(static_cast<double>(bits & ((1U << fraction_bits) - 1)), -fraction_bits);
  const double sign = (bits >> (exponent_bits + fraction_bits)) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

// Round to nearest, ties to even, by searching the neighbours among all patterns of the format.
unsigned nearest(double value, int exponent_bits, int fraction_bits) {
  const unsigned infinity = ((1U << exponent_bits) - 1) << fraction_bits;
  const unsigned sign = std::signbit(value) ? 1U << (exponent_bits + fraction_bits) : 0;
  const double magnitude = std::fabs(value);
  unsigned low = 0, high = infinity;  // value_of(low) <= magnitude < value_of(high)
  if (magnitude == INFINITY) return sign | infinity;
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (value_of(middle, exponent_bits, fraction_bits) <= magnitude ? low : high) = middle;
  }
  // What infinity would be if the exponents went on: the value that decides overflow.
  const double above =
      high == infinity ? std::ldexp(1.0, 1 << (exponent_bits - 1)) : value_of(high, exponent_bits, fraction_bits);
  const double down = magnitude - value_of(low, exponent_bits, fraction_bits), up = above - magnitude;
  return sign | (down < up || (down == up && low % 2 == 0) ? low : high);
}

std::uint32_t crc32(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0U;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
  }
  return ~crc;
}

std::vector<std::uint16_t> every_pattern() {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  return all;
}

std::vector<float> widened(NumberFormat format, std::span<const std::uint16_t> bits) {
  std::vector<float> values(bits.size());
  to_f32(format, reinterpret_cast<const std::byte*>(bits.data()), values);
  return values;
}

std::vector<std::uint16_t> narrowed(std::span<const float> values, NumberFormat format) {
  std::vector<std::uint16_t> bits(values.size());
  from_f32(values, format, reinterpret_cast<std::byte*>(bits.data()));
  return bits;
}

// The patterns of make.py.
std::vector<float> f32_patterns() {
  std::vector<float> values;
  std::vector<std::uint32_t> spread;
  for (std::uint64_t i = 0; i < 1U << 20; ++i) spread.push_back(static_cast<std::uint32_t>(i * 2654435761U));
  for (const auto bits : spread) values.push_back(std::bit_cast<float>(bits));
  for (std::size_t i = 0; i < 1U << 19; ++i)
    values.push_back(std::bit_cast<float>((spread[i] & 0xFFFFE000U) | 0x1000U));
  for (std::size_t i = 1U << 19; i < 1U << 20; ++i)
    values.push_back(std::bit_cast<float>((spread[i] & 0xFFFF0000U) | 0x8000U));
  return values;
}

struct HalfCase {
  NumberFormat format;
  int exponent_bits, fraction_bits;
};
class HalfFormats : public ::testing::TestWithParam<HalfCase> {};

TEST_P(HalfFormats, WidenEveryPatternExactly) {
  const auto [format, exponent_bits, fraction_bits] = GetParam();
  const auto bits = every_pattern();
  const auto values = widened(format, bits);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const double expected = value_of(bits[i], exponent_bits, fraction_bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(values[i])) << i;
    } else {
      ASSERT_EQ(values[i], expected) << i;
    }
    ASSERT_EQ(std::signbit(values[i]), (bits[i] >> 15) != 0) << i;
  }
}

TEST_P(HalfFormats, WidenAndNarrowAsTorchDoes) {
  const NumberFormat format = GetParam().format;
  const Json golden = read_json(testing::golden("tensor/conversions.json"));
  auto values = widened(format, every_pattern());
  for (float& value : values)
    if (std::isnan(value)) value = 0;
  const std::string name(traits(format).name);
  EXPECT_EQ(crc32(std::as_bytes(std::span(values))), golden[name + "_to_f32_crc32"].get<std::uint32_t>());

  const auto patterns = f32_patterns();
  auto bits = narrowed(patterns, format);
  for (std::size_t i = 0; i < bits.size(); ++i)
    if (std::isnan(patterns[i])) bits[i] = 0;
  EXPECT_EQ(crc32(std::as_bytes(std::span(bits))), golden["f32_to_" + name + "_crc32"].get<std::uint32_t>());
}

TEST_P(HalfFormats, NarrowToTheNearestAndTiesToEven) {
  const auto [format, exponent_bits, fraction_bits] = GetParam();
  // Around every number of the format: itself, the middle to the next one, and their neighbours in f32.
  std::vector<float> values = {0.0F,
                               -0.0F,
                               INFINITY,
                               -INFINITY,
                               std::numeric_limits<float>::denorm_min(),
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::lowest()};
  for (unsigned bits = 0; bits < 0x7FFF; bits += 3) {
    const double here = value_of(bits, exponent_bits, fraction_bits),
                 next = value_of(bits + 1, exponent_bits, fraction_bits);
    if (!std::isfinite(here) || !std::isfinite(next)) continue;
    for (const float base : {static_cast<float>(here), static_cast<float>((here + next) / 2)})
      for (const float value : {base, std::nextafter(base, INFINITY), std::nextafter(base, -INFINITY)})
        values.insert(values.end(), {value, -value});
  }
  const auto bits = narrowed(values, format);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(bits[i], nearest(values[i], exponent_bits, fraction_bits)) << values[i];
}

TEST_P(HalfFormats, KeepNotANumber) {
  const NumberFormat format = GetParam().format;
  std::vector<float> values;
  for (const std::uint32_t payload : {1U, 0x1FFFU, 0xFFFFU, 0x400000U, 0x7FFFFFU, 0x200001U})
    for (const std::uint32_t sign : {0U, 0x80000000U})
      values.push_back(std::bit_cast<float>(sign | 0x7F800000U | payload));
  const auto bits = narrowed(values, format);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(std::isnan(value_of(bits[i], GetParam().exponent_bits, GetParam().fraction_bits))) << i;
    EXPECT_EQ(bits[i] >> 15, std::signbit(values[i])) << i;
  }
}

TEST_P(HalfFormats, ReturnFromF32Unchanged) {
  const NumberFormat format = GetParam().format;
  const auto bits = every_pattern();
  const auto values = widened(format, bits);
  const auto back = narrowed(values, format);
  for (std::size_t i = 0; i < bits.size(); ++i)
    if (!std::isnan(values[i])) {
      ASSERT_EQ(back[i], bits[i]);
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, HalfFormats,
                         ::testing::Values(HalfCase{NumberFormat::f16, 5, 10}, HalfCase{NumberFormat::bf16, 8, 7}),
                         [](const auto& test) { return std::string(traits(test.param.format).name); });

class Blocks : public ::testing::TestWithParam<const char*> {};

TEST_P(Blocks, DequantiseToTheSameBitsAsTheGgufPackage) {
  const auto file = GgufFile::open(testing::golden("tensor/quantised.gguf"));
  const TensorView& raw = file.tensors().at(GetParam());
  const TensorView& expected = file.tensors().at(std::string(GetParam()) + ".f32");
  ASSERT_TRUE(traits(raw.format).quantised);
  ASSERT_EQ(raw.shape, expected.shape);
  const auto values = to_f32(raw), wanted = to_f32(expected);
  ASSERT_GT(values.size(), 0U);
  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(wanted[i]))
        << i << ": " << values[i] << " instead of " << wanted[i];
}

INSTANTIATE_TEST_SUITE_P(Formats, Blocks,
                         ::testing::Values("q8_0", "q4_0", "q4_k", "q6_k", "normal.q8_0", "normal.q4_0"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(NumberFormat, ConvertsF64AndF32) {
  const double wide[] = {0.1, -2.5, 1e300};
  float values[3];
  to_f32(NumberFormat::f64, reinterpret_cast<const std::byte*>(wide), values);
  EXPECT_THAT(values, ::testing::ElementsAre(0.1F, -2.5F, INFINITY));
  float copy[3];
  to_f32(NumberFormat::f32, reinterpret_cast<const std::byte*>(values), copy);
  EXPECT_EQ(std::memcmp(copy, values, sizeof copy), 0);
}

TEST(NumberFormat, CountsBytesOfBlocks) {
  EXPECT_EQ(bytes_of(NumberFormat::f64, 3), 24U);
  EXPECT_EQ(bytes_of(NumberFormat::bf16, 3), 6U);
  EXPECT_EQ(bytes_of(NumberFormat::boolean, 3), 3U);
  EXPECT_EQ(bytes_of(NumberFormat::q8_0, 64), 68U);
  EXPECT_EQ(bytes_of(NumberFormat::q4_0, 64), 36U);
  EXPECT_EQ(bytes_of(NumberFormat::q4_k, 512), 288U);
  EXPECT_EQ(bytes_of(NumberFormat::q6_k, 512), 420U);
  EXPECT_EQ(bytes_of(NumberFormat::q6_k, 0), 0U);
}

TEST(NumberFormat, BlocksAreRoundedAsGgmlDoes) {
  const Json golden = read_json(testing::golden("tensor/conversions.json"));
  std::vector<float> values(1 << 18);  // block_patterns() of make.py
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = static_cast<std::uint32_t>(i * 2654435761U);
    values[i] =
        std::ldexp(static_cast<float>(static_cast<std::int32_t>(bits)), -31 + static_cast<int>(i / 32 % 11) - 5);
  }
  std::fill(values.end() - 32, values.end(), 0.0F);
  for (const NumberFormat format : {NumberFormat::q8_0, NumberFormat::q4_0}) {
    std::vector<std::byte> bytes(bytes_of(format, static_cast<std::int64_t>(values.size())));
    from_f32(values, format, bytes.data());
    EXPECT_EQ(crc32(bytes), golden[fmt::format("f32_to_{}_crc32", traits(format).name)].get<std::uint32_t>())
        << traits(format).name;
  }
}

TEST(NumberFormat, RefusesWhatItCannotDo) {
  float values[32] = {};
  std::byte bytes[128] = {};
  EXPECT_THROW(bytes_of(NumberFormat::f32, -1), InvalidArgument);
  EXPECT_THROW(bytes_of(NumberFormat::q8_0, 33), InvalidArgument);
  EXPECT_THROW(bytes_of(NumberFormat::f32, INT64_MAX / 4 + 1), InvalidArgument);
  EXPECT_NO_THROW(bytes_of(NumberFormat::f32, INT64_MAX / 4));
  EXPECT_THROW(to_f32(NumberFormat::i32, bytes, values), InvalidArgument);
  EXPECT_THROW(to_f32(NumberFormat::boolean, bytes, {}), InvalidArgument);
  EXPECT_THROW(to_f32(NumberFormat::q4_k, bytes, values), InvalidArgument);
  EXPECT_THROW(from_f32(values, NumberFormat::q4_k, bytes), InvalidArgument);
  EXPECT_THROW(from_f32(std::span(values).first(31), NumberFormat::q8_0, bytes), InvalidArgument);
  EXPECT_THROW(from_f32(values, NumberFormat::f64, bytes), InvalidArgument);
  EXPECT_NO_THROW(to_f32(NumberFormat::f16, nullptr, {}));
}

}  // namespace
}  // namespace torpor
