#include "core/tensor/convert.h"

#include <cstring>

#include "core/tensor/half_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/tensor/convert.cpp"
#include <hwy/foreach_target.h>  // compiles this file once per instruction set
// (after foreach_target)
#include <hwy/highway.h>

// Most loops are plain: the compiler vectorises them for each target. Products and sums are not contracted to FMA (see
// CMakeLists.txt), so that every machine gives the same bits as ggml's scalar code.
HWY_BEFORE_NAMESPACE();
namespace torpor::convert::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#undef TORPOR_HARDWARE_F16  // the file is compiled several times
// Highway's conversions where they are one instruction; its emulation elsewhere does not know infinity.
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM_A64
#define TORPOR_HARDWARE_F16 1
#else
#define TORPOR_HARDWARE_F16 0
#endif

inline std::uint16_t load_u16(const std::byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

inline const std::uint8_t* as_u8(const std::byte* at) {
  return reinterpret_cast<const std::uint8_t*>(at);
}
inline const std::int8_t* as_i8(const std::byte* at) {
  return reinterpret_cast<const std::int8_t*>(at);
}

void f16_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t count) {
  std::size_t i = 0;
#if TORPOR_HARDWARE_F16
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto packed = hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(source + 2 * i));
    hn::StoreU(hn::PromoteTo(d, packed), d, values + i);
  }
#endif
  for (; i < count; ++i) values[i] = f32_from_f16(load_u16(source + 2 * i));
}

void f32_to_f16(const float* HWY_RESTRICT values, std::byte* HWY_RESTRICT destination, std::size_t count) {
  std::size_t i = 0;
#if TORPOR_HARDWARE_F16
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto packed = hn::DemoteTo(half, hn::LoadU(d, values + i));
    hn::StoreU(packed, half, reinterpret_cast<hwy::float16_t*>(destination + 2 * i));
  }
#endif
  for (; i < count; ++i) {
    const std::uint16_t bits = f16_from_f32(values[i]);
    std::memcpy(destination + 2 * i, &bits, sizeof bits);
  }
}

void bf16_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] = f32_from_bf16(load_u16(source + 2 * i));
}

void f32_to_bf16(const float* HWY_RESTRICT values, std::byte* HWY_RESTRICT destination, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t bits = bf16_from_f32(values[i]);
    std::memcpy(destination + 2 * i, &bits, sizeof bits);
  }
}

// value = d * q.  Block: f16 d, int8 q[32].
void q8_0_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, source += 34, values += 32) {
    const float d = f32_from_f16(load_u16(source));
    const std::int8_t* q = as_i8(source + 2);
    for (int i = 0; i < 32; ++i) values[i] = static_cast<float>(q[i]) * d;
  }
}

// value = d * (q - 8).  Block: f16 d, 16 bytes; the low nibbles are values 0…15, the high ones 16…31.
void q4_0_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, source += 18, values += 32) {
    const float d = f32_from_f16(load_u16(source));
    const std::uint8_t* q = as_u8(source + 2);
    for (int i = 0; i < 16; ++i) values[i] = static_cast<float>((q[i] & 15) - 8) * d;
    for (int i = 0; i < 16; ++i) values[i + 16] = static_cast<float>((q[i] >> 4) - 8) * d;
  }
}

// value = d * s_j * q - m * t_j for the 8 sub-blocks j of 32 values.
// Block: f16 d, f16 m, 12 bytes of 6-bit s and t, 128 bytes of nibbles: 32 bytes hold sub-block 2k low and 2k + 1 high.
// Bytes 0…3: s_0…s_3, bytes 4…7: t_0…t_3 (6 bits each, their upper two bits belong to s_4…s_7 and t_4…t_7);
// bytes 8…11: low nibbles of s_4…s_7, high nibbles t_4…t_7.
void q4_k_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, source += 144, values += 256) {
    const float d = f32_from_f16(load_u16(source));
    const float m = f32_from_f16(load_u16(source + 2));
    const std::uint8_t* packed = as_u8(source + 4);
    float scales[8], mins[8];
    for (int j = 0; j < 4; ++j) {
      scales[j] = d * static_cast<float>(packed[j] & 63);
      mins[j] = m * static_cast<float>(packed[j + 4] & 63);
      scales[j + 4] = d * static_cast<float>((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
      mins[j + 4] = m * static_cast<float>((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
    const std::uint8_t* q = as_u8(source + 16);
    for (int k = 0; k < 4; ++k, q += 32) {
      float* low = values + 64 * k;
      float* high = low + 32;
      for (int i = 0; i < 32; ++i) low[i] = scales[2 * k] * static_cast<float>(q[i] & 15) - mins[2 * k];
      for (int i = 0; i < 32; ++i) high[i] = scales[2 * k + 1] * static_cast<float>(q[i] >> 4) - mins[2 * k + 1];
    }
  }
}

// value = d * s_j * (q - 32) for the 16 sub-blocks j of 16 values.
// Block: 128 bytes of low nibbles, 64 bytes of upper two bits, int8 s[16], f16 d. Each half of 128 values takes 64 low
// and 32 upper bytes: values 0…31 and 64…95 are the low and high nibbles of low bytes 0…31, values 32…63 and 96…127
// those of bytes 32…63; upper byte i holds the two bits of values i, i + 32, i + 64, i + 96, lowest first.
void q6_k_to_f32(const std::byte* HWY_RESTRICT source, float* HWY_RESTRICT values, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, source += 210, values += 256) {
    const float d = f32_from_f16(load_u16(source + 208));
    const std::int8_t* s = as_i8(source + 192);
    for (int half = 0; half < 2; ++half) {
      const std::uint8_t* low = as_u8(source + 64 * half);
      const std::uint8_t* up = as_u8(source + 128 + 32 * half);
      for (int quarter = 0; quarter < 4; ++quarter) {
        const std::uint8_t* nibbles = low + 32 * (quarter & 1);
        const int nibble_shift = quarter < 2 ? 0 : 4;
        const int up_shift = 2 * quarter;
        float* out = values + 128 * half + 32 * quarter;
        for (int part = 0; part < 2; ++part) {
          const float scale = d * static_cast<float>(s[8 * half + 2 * quarter + part]);
          for (int i = 16 * part; i < 16 * part + 16; ++i) {
            const int q = ((nibbles[i] >> nibble_shift) & 15) | ((up[i] >> up_shift) & 3) << 4;
            out[i] = scale * static_cast<float>(q - 32);
          }
        }
      }
    }
  }
}

}  // namespace torpor::convert::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::convert {

#define TORPOR_DISPATCHED(name, From, To)                       \
  HWY_EXPORT(name);                                             \
  void name(From* source, To* destination, std::size_t count) { \
    HWY_DYNAMIC_DISPATCH(name)(source, destination, count);     \
  }
TORPOR_DISPATCHED(f16_to_f32, const std::byte, float)
TORPOR_DISPATCHED(bf16_to_f32, const std::byte, float)
TORPOR_DISPATCHED(f32_to_f16, const float, std::byte)
TORPOR_DISPATCHED(f32_to_bf16, const float, std::byte)
TORPOR_DISPATCHED(q8_0_to_f32, const std::byte, float)
TORPOR_DISPATCHED(q4_0_to_f32, const std::byte, float)
TORPOR_DISPATCHED(q4_k_to_f32, const std::byte, float)
TORPOR_DISPATCHED(q6_k_to_f32, const std::byte, float)

}  // namespace torpor::convert
#endif
