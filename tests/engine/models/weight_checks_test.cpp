#include "engine/models/weight_checks.h"

#include <cmath>
#include <cstring>

#include "tests/test_support.h"

namespace torpor {
namespace {

TensorView view(NumberFormat format, std::vector<std::byte>& bytes, std::int64_t elements) {
  bytes.assign(bytes_of(format, elements), std::byte{0});
  return {"t", format, {elements}, bytes};
}

void put16(std::vector<std::byte>& bytes, std::size_t at, std::uint16_t bits) {
  std::memcpy(bytes.data() + at, &bits, 2);
}

TEST(FindNonFinite, NamesTheElementInPlainFormats) {
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    std::vector<std::byte> bytes;
    const auto tensor = view(NumberFormat::f32, bytes, 9001);
    EXPECT_FALSE(find_non_finite(tensor, false));
    std::memcpy(bytes.data() + 4 * 8999, &bad, 4);
    EXPECT_EQ(find_non_finite(tensor, false), 8999);
  }
  for (const auto& [format, finite, infinite] :
       {std::tuple{NumberFormat::f16, 0x7BFF, 0x7C00}, std::tuple{NumberFormat::bf16, 0x7F7F, 0xFF80}}) {
    std::vector<std::byte> bytes;
    const auto tensor = view(format, bytes, 20000);
    put16(bytes, 2 * 17000, static_cast<std::uint16_t>(finite));  // the largest number is a number
    EXPECT_FALSE(find_non_finite(tensor, false));
    put16(bytes, 2 * 17000, static_cast<std::uint16_t>(infinite));
    EXPECT_EQ(find_non_finite(tensor, false), 17000);
  }
}

TEST(FindNonFinite, LooksAtTheScalesOfQuantisedBlocks) {
  const struct {
    NumberFormat format;
    std::size_t scale;
  } cases[] = {{NumberFormat::q8_0, 0},
               {NumberFormat::q4_0, 0},
               {NumberFormat::q4_k, 0},
               {NumberFormat::q4_k, 2},
               {NumberFormat::q6_k, 208}};
  for (const auto& [format, scale] : cases) {
    std::vector<std::byte> bytes;
    const auto& block = traits(format);
    const auto tensor = view(format, bytes, 5 * block.block_values);
    bytes.assign(bytes.size(), std::byte{0x11});  // every 16 bits 0x1111: finite
    EXPECT_FALSE(find_non_finite(tensor, false));
    put16(bytes, 3 * static_cast<std::size_t>(block.block_bytes) + scale, 0x7C01);
    EXPECT_EQ(find_non_finite(tensor, false), 3 * block.block_values) << block.name << " " << scale;
  }
}

TEST(FindNonFinite, SamplesBothEndsOfLargeTensors) {
  constexpr std::int64_t kElements = 1 << 20;
  for (const std::int64_t at : {std::int64_t{0}, kElements - 1}) {
    std::vector<std::byte> bytes;
    const auto tensor = view(NumberFormat::f32, bytes, kElements);
    const float bad = NAN;
    std::memcpy(bytes.data() + 4 * at, &bad, 4);
    EXPECT_EQ(find_non_finite(tensor, true), at);
  }
}

}  // namespace
}  // namespace torpor
