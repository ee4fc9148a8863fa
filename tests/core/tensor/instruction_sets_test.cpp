// Every instruction set this machine has gives the same bits as the portable scalar formulas, for every length of the
// remainder and every misalignment.
#include <hwy/targets.h>

#include <bit>
#include <cstring>

#include "core/base/random.h"
#include "core/tensor/half_float.h"
#include "core/tensor/number_format.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

class InstructionSets : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { choose(GetParam()); }
  void TearDown() override { choose(0); }

  static void choose(std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

std::vector<std::int64_t> supported() {
  std::vector<std::int64_t> all;
  for (std::int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) all.push_back(rest & -rest);
  return all;
}

TEST_P(InstructionSets, WidenAsTheScalarFormulaDoes) {
  std::vector<std::byte> bytes(2 * (1 << 16) + 8);
  for (std::size_t shift = 0; shift < 4; ++shift) {
    for (std::uint32_t i = 0; i < 1U << 16; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      std::memcpy(bytes.data() + shift + 2 * i, &bits, 2);
    }
    for (const std::size_t count :
         {std::size_t{1} << 16, std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{31}, std::size_t{33}}) {
      std::vector<float> half(count + 1, -77.F), brain(count + 1, -77.F);
      to_f32(NumberFormat::f16, bytes.data() + shift, std::span(half).first(count));
      to_f32(NumberFormat::bf16, bytes.data() + shift, std::span(brain).first(count));
      for (std::size_t i = 0; i < count; ++i) {
        const auto bits = static_cast<std::uint16_t>(i);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(half[i]), std::bit_cast<std::uint32_t>(f32_from_f16(bits))) << i;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(brain[i]), std::bit_cast<std::uint32_t>(f32_from_bf16(bits))) << i;
      }
      EXPECT_EQ(half[count], -77.F) << "wrote past the end";
      EXPECT_EQ(brain[count], -77.F) << "wrote past the end";
    }
  }
}

TEST_P(InstructionSets, NarrowAsTheScalarFormulaDoes) {
  std::vector<float> values;
  Random random(7);
  for (int i = 0; i < 200'003; ++i) {
    auto bits = static_cast<std::uint32_t>(random.bits());
    if (i % 4 == 1) bits = (bits & 0xFFFFE000U) | 0x1000U;      // a tie for f16
    if (i % 4 == 2) bits = (bits & 0x87FFFFFFU) | 0x38000000U;  // in the range of f16
    if (i % 4 == 3) bits = (bits & 0x83FFE000U) | 0x30001000U;  // a tie around its subnormals
    values.push_back(std::bit_cast<float>(bits));
  }
  for (const std::size_t count : {values.size(), std::size_t{0}, std::size_t{1}, std::size_t{9}, std::size_t{63}}) {
    for (std::size_t shift = 0; shift < 3; ++shift) {
      std::vector<std::byte> half(2 * count + 8, std::byte{0x55}), brain(2 * count + 8, std::byte{0x55});
      const auto input = std::span(values).first(count);
      from_f32(input, NumberFormat::f16, half.data() + shift);
      from_f32(input, NumberFormat::bf16, brain.data() + shift);
      for (std::size_t i = 0; i < count; ++i) {
        std::uint16_t h, b;
        std::memcpy(&h, half.data() + shift + 2 * i, 2);
        std::memcpy(&b, brain.data() + shift + 2 * i, 2);
        ASSERT_EQ(h, f16_from_f32(values[i])) << std::bit_cast<std::uint32_t>(values[i]);
        ASSERT_EQ(b, bf16_from_f32(values[i])) << std::bit_cast<std::uint32_t>(values[i]);
      }
      for (std::size_t i = shift + 2 * count; i < half.size(); ++i) {
        EXPECT_EQ(half[i], std::byte{0x55}) << "wrote past the end";
        EXPECT_EQ(brain[i], std::byte{0x55}) << "wrote past the end";
      }
    }
  }
}

TEST_P(InstructionSets, DequantiseToTheSameBits) {
  Random random(11);
  for (const NumberFormat format : {NumberFormat::q8_0, NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    const std::int64_t count = 5 * traits(format).block_values;
    std::vector<std::byte> bytes(bytes_of(format, count) + 1);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
    std::vector<float> here(static_cast<std::size_t>(count) + 1, -77.F), first = here;
    to_f32(format, bytes.data() + 1, std::span(here).first(static_cast<std::size_t>(count)));
    choose(supported().back());  // the plainest
    to_f32(format, bytes.data() + 1, std::span(first).first(static_cast<std::size_t>(count)));
    choose(GetParam());
    for (std::size_t i = 0; i < here.size(); ++i) {
      // Random scales may be NaN; which NaN is not promised.
      if (std::isnan(here[i]) && std::isnan(first[i])) continue;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(here[i]), std::bit_cast<std::uint32_t>(first[i]))
          << traits(format).name << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, InstructionSets, ::testing::ValuesIn(supported()), [](const auto& test) {
  std::string name = hwy::TargetName(test.param);
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
});

}  // namespace
}  // namespace torpor
