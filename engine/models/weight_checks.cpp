#include "engine/models/weight_checks.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace torpor {
namespace {

constexpr std::size_t kPiece = 16384, kSampledPieces = 16;

/// Where a block keeps its f16 scales, in bytes from its start (GGUF's layouts, number_format.h).
struct ScalePlaces {
  std::array<int, 2> offsets;
  int count;
};
ScalePlaces scales_of(NumberFormat format) {
  switch (format) {
    case NumberFormat::q4_k:
      return {{0, 2}, 2};
    case NumberFormat::q6_k:
      return {{208, 0}, 1};
    default:
      return {{0, 0}, 1};
  }
}

bool f16_is_finite(const std::byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return (bits & 0x7C00U) != 0x7C00U;
}

/// All ones in the exponent: infinity or NaN. Branch-free over the piece, so that it runs at the speed of memory.
template <typename Bits>
bool any_non_finite(const std::byte* data, std::size_t count, Bits exponent) {
  Bits found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
    found = static_cast<Bits>(found | static_cast<Bits>((bits & exponent) == exponent));
  }
  return found != 0;
}

/// First non-finite value in blocks [begin, end).
template <typename Bits>
std::optional<std::int64_t> scan_plain(const std::byte* data, std::size_t begin, std::size_t end, Bits exponent) {
  if (!any_non_finite<Bits>(data + begin * sizeof(Bits), end - begin, exponent)) return std::nullopt;
  for (std::size_t i = begin; i < end; ++i)
    if (any_non_finite<Bits>(data + i * sizeof(Bits), 1, exponent)) return static_cast<std::int64_t>(i);
  return std::nullopt;
}

std::optional<std::int64_t> scan(const TensorView& tensor, std::size_t begin, std::size_t end) {
  const std::byte* data = tensor.bytes.data();
  switch (tensor.format) {
    case NumberFormat::f32:
      return scan_plain<std::uint32_t>(data, begin, end, 0x7F800000U);
    case NumberFormat::f16:
      return scan_plain<std::uint16_t>(data, begin, end, 0x7C00U);
    case NumberFormat::bf16:
      return scan_plain<std::uint16_t>(data, begin, end, 0x7F80U);
    default:
      break;
  }
  const auto& format = traits(tensor.format);
  if (!format.quantised) return std::nullopt;
  const auto places = scales_of(tensor.format);
  for (std::size_t block = begin; block < end; ++block)
    for (int i = 0; i < places.count; ++i)
      if (!f16_is_finite(data + block * static_cast<std::size_t>(format.block_bytes) +
                         places.offsets[static_cast<std::size_t>(i)]))
        return static_cast<std::int64_t>(block) * format.block_values;
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> find_non_finite(const TensorView& tensor, bool sample) {
  const auto block_bytes = static_cast<std::size_t>(traits(tensor.format).block_bytes);
  const std::size_t blocks = tensor.bytes.size() / block_bytes;
  const std::size_t piece = std::max<std::size_t>(1, kPiece / block_bytes);
  const std::size_t pieces = (blocks + piece - 1) / piece;
  const std::size_t looked_at = sample ? std::min(pieces, kSampledPieces) : pieces;
  for (std::size_t i = 0; i < looked_at; ++i) {
    // Evenly spaced, the first and the last piece included.
    const std::size_t at = looked_at == pieces ? i : i * (pieces - 1) / (looked_at - 1);
    if (auto found = scan(tensor, at * piece, std::min(blocks, (at + 1) * piece))) return found;
  }
  return std::nullopt;
}

}  // namespace torpor
