#include "engine/kernels/interleaved.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/simd/vnni.h"

namespace torpor {
namespace {

constexpr std::int64_t kLanes = 16, kPiece = 4, kScale = 2;

/// move(plain offset, interleaved offset, bytes) for every piece of a row.
template <class Move>
void for_pieces(NumberFormat format, std::int64_t in, const Move& move) {
  if (format != NumberFormat::q8_0 && format != NumberFormat::q4_0)
    throw InvalidArgument("[interleave] expected q8_0 or q4_0, got {}", traits(format).name);
  const auto block = static_cast<std::int64_t>(bytes_of(format, 32)), blocks = in / 32;
  const std::int64_t pieces = (block - kScale) / kPiece;
  static_cast<void>(bytes_of(format, in));  // throws if `in` is no multiple of the block
  for (std::int64_t first = 0; first < blocks; first += kLanes) {
    const std::int64_t lanes = std::min(kLanes, blocks - first), group = first * block;
    for (std::int64_t b = 0; b < lanes; ++b) {
      const std::int64_t plain = (first + b) * block;
      for (std::int64_t c = 0; c < pieces; ++c)
        move(plain + kScale + c * kPiece, group + (c * lanes + b) * kPiece, kPiece);
      move(plain, group + pieces * lanes * kPiece + b * kScale, kScale);
    }
  }
}

}  // namespace

bool interleaving_pays(NumberFormat format, std::int64_t in) {
  return (format == NumberFormat::q8_0 || format == NumberFormat::q4_0) && in >= 32 * kLanes && simd::vnni::available();
}

void interleave_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to) {
  for_pieces(format, in, [&](std::int64_t plain, std::int64_t interleaved, std::int64_t bytes) {
    std::memcpy(to + interleaved, from + plain, static_cast<std::size_t>(bytes));
  });
}

void plain_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to) {
  for_pieces(format, in, [&](std::int64_t plain, std::int64_t interleaved, std::int64_t bytes) {
    std::memcpy(to + plain, from + interleaved, static_cast<std::size_t>(bytes));
  });
}

std::vector<std::int32_t> row_order(NumberFormat format, std::int64_t in) {
  std::vector<std::int32_t> order;
  order.reserve(static_cast<std::size_t>(in));
  // A piece of q4_0 has its bytes' lower nibbles, values of a block's first half, and then their upper ones.
  const std::int64_t halves = format == NumberFormat::q4_0 ? 2 : 1, pieces = 8 / halves, blocks = in / 32;
  for (std::int64_t first = 0; first < blocks; first += kLanes) {
    const std::int64_t lanes = std::min(kLanes, blocks - first);
    for (std::int64_t c = 0; c < pieces; ++c)
      for (std::int64_t half = 0; half < halves; ++half)
        for (std::int64_t b = 0; b < lanes; ++b)
          for (std::int64_t i = 0; i < kPiece; ++i)
            order.push_back(static_cast<std::int32_t>((first + b) * 32 + half * 16 + c * kPiece + i));
  }
  return order;
}

void part_to_f32(const WeightMatrix& w, std::int64_t row, std::int64_t from, std::span<float> values) {
  const auto block = static_cast<std::int64_t>(bytes_of(w.format, 32)), blocks = w.in / 32;
  const std::int64_t pieces = (block - kScale) / kPiece;
  std::byte plain[34];
  for (std::size_t at = 0; at < values.size(); at += 32) {
    const std::int64_t b = (from + static_cast<std::int64_t>(at)) / 32, first = b / kLanes * kLanes;
    const std::int64_t lanes = std::min(kLanes, blocks - first);
    const std::byte* const group = w.row(row) + first * block;
    for (std::int64_t c = 0; c < pieces; ++c)
      std::memcpy(plain + kScale + c * kPiece, group + (c * lanes + b - first) * kPiece, kPiece);
    std::memcpy(plain, group + pieces * lanes * kPiece + (b - first) * kScale, kScale);
    to_f32(w.format, plain, values.subspan(at, 32));
  }
}

void interleave_in_place(WeightMatrix& w, std::byte* rows, ThreadPool* pool) {
  const auto bytes = static_cast<std::size_t>(w.row_bytes());
  const std::int64_t stride = w.row_stride();
  const auto job = [&](long begin, long end, int) {
    std::vector<std::byte> row(bytes);
    for (long i = begin; i < end; ++i) {
      std::memcpy(row.data(), rows + i * stride, bytes);
      interleave_row(w.format, w.in, row.data(), rows + i * stride);
    }
  };
  if (pool != nullptr)
    pool->parallel_for(w.out, std::max<std::int64_t>(1, (1 << 18) / static_cast<std::int64_t>(bytes)), job);
  else
    job(0, w.out, 0);
  w.interleaved = true;
}

int rows_together(NumberFormat format, std::int64_t out, std::int64_t in) {
  const std::int64_t blocks = in / 32;
  if (format != NumberFormat::q8_0 || in % 32 != 0 || blocks < 1 || blocks >= kLanes || kLanes % blocks != 0) return 1;
  return out % (kLanes / blocks) == 0 ? static_cast<int>(kLanes / blocks) : 1;
}

void choose_order(WeightMatrix& w) {
  w.together = simd::vnni::available() ? rows_together(w.format, w.out, w.in) : 1;
  w.interleaved = w.together > 1 || interleaving_pays(w.format, w.in);
}

void order_in_place(WeightMatrix& w, std::byte* rows) {
  choose_order(w);
  if (!w.interleaved) return;
  WeightMatrix joined{w.format, rows, w.out / w.together, w.in * w.together};
  interleave_in_place(joined, rows, nullptr);
}

}  // namespace torpor
