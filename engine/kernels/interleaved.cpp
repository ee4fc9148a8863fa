#include "engine/kernels/interleaved.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/simd/vnni.h"

namespace torpor {
namespace {

constexpr std::int64_t kLanes = 16, kPiece = 4, kScale = 2;

bool of_256(NumberFormat format) {
  return format == NumberFormat::q4_k || format == NumberFormat::q6_k;
}

/// move(plain offset, interleaved offset, bytes) for every piece of a row of q8_0 or q4_0.
template <class Move>
void for_pieces(NumberFormat format, std::int64_t in, const Move& move) {
  const auto block = static_cast<std::int64_t>(bytes_of(format, 32)), blocks = in / 32;
  const std::int64_t pieces = (block - kScale) / kPiece;
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

// Four bytes at once: byte k of a word is number k, as little-endian processors load it.
std::uint32_t load(const std::byte* p) {
  std::uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}
void store(std::uint32_t word, std::byte* p) {
  std::memcpy(p, &word, sizeof word);
}
constexpr std::uint32_t kNibbles = 0x0F0F0F0FU, kPairs = 0x03030303U;

/// One block of 256 of a group: `lanes` of it 8 or 16, this block's 8 from `lane` on (0 or 8).
struct Place {
  std::int64_t lanes, lane;
  std::int64_t nibbles(std::int64_t piece, std::int64_t block) const { return (piece * lanes + lane + block) * kPiece; }
  std::int64_t pairs(std::int64_t piece, std::int64_t block) const { return 16 * lanes + nibbles(piece, block); }
  std::int64_t half(std::int64_t after, std::int64_t number) const {  // f16 `number` of this block's kind
    return after + number * (lanes / 4) + lane / 4;
  }
};

Place place_of(std::int64_t block, std::int64_t blocks) {
  const std::int64_t first = block / 2 * 2;
  return {8 * std::min<std::int64_t>(2, blocks - first), 8 * (block - first)};
}

// q4_k: scales and minima of its 12 bytes as 8 bytes each, in two words; and back.
struct Scales {
  std::uint32_t scale[2], minimum[2];
};
Scales scales_of(const std::byte* p) {
  const std::uint32_t a = load(p), b = load(p + 4), c = load(p + 8);
  return {{a & 0x3F3F3F3FU, (c & kNibbles) | (a >> 6 & kPairs) << 4},
          {b & 0x3F3F3F3FU, (c >> 4 & kNibbles) | (b >> 6 & kPairs) << 4}};
}
void store_scales(const Scales& s, std::byte* p) {
  store(s.scale[0] | (s.scale[1] >> 4 & kPairs) << 6, p);
  store(s.minimum[0] | (s.minimum[1] >> 4 & kPairs) << 6, p + 4);
  store((s.scale[1] & kNibbles) | (s.minimum[1] & kNibbles) << 4, p + 8);
}
/// The lower nibbles of a word's bytes side by side, 16 bits; and back.
std::uint32_t squeeze(std::uint32_t word) {
  return (word & 15) | (word >> 4 & 0xF0) | (word >> 8 & 0xF00) | (word >> 12 & 0xF000);
}
std::uint32_t spread(std::uint32_t bits) {
  return (bits & 15) | (bits & 0xF0) << 4 | (bits & 0xF00) << 8 | (bits & 0xF000) << 12;
}

void interleave_q4_k(const std::byte* from, const Place& at, std::byte* to) {
  for (std::int64_t b = 0; b < 8; ++b)
    for (std::int64_t c = 0; c < 4; ++c) {
      const std::byte* const p = from + 16 + b / 2 * 32 + c * 4;
      const int shift = b % 2 == 0 ? 0 : 4;
      store((load(p) >> shift & kNibbles) | (load(p + 16) >> shift & kNibbles) << 4, to + at.nibbles(c, b));
    }
  const Scales s = scales_of(from + 4);
  std::byte* const low = to + 16 * at.lanes + at.lane;
  std::byte* const high = to + 17 * at.lanes + at.lane / 2;
  for (int word = 0; word < 2; ++word) {
    store((s.scale[word] & kNibbles) | (s.minimum[word] & kNibbles) << 4, low + 4 * word);
    const std::uint32_t upper = squeeze((s.scale[word] >> 4 & kPairs) | (s.minimum[word] >> 4 & kPairs) << 2);
    std::memcpy(high + 2 * word, &upper, 2);
  }
  const std::int64_t after = 17 * at.lanes + at.lanes / 2;
  std::memcpy(to + at.half(after, 0), from, 2);
  std::memcpy(to + at.half(after, 1), from + 2, 2);
}

void plain_q4_k(const std::byte* from, const Place& at, std::byte* to) {
  for (std::int64_t g = 0; g < 4; ++g)
    for (std::int64_t c = 0; c < 4; ++c) {
      const std::uint32_t even = load(from + at.nibbles(c, 2 * g)), odd = load(from + at.nibbles(c, 2 * g + 1));
      store((even & kNibbles) | (odd & kNibbles) << 4, to + 16 + g * 32 + c * 4);
      store((even >> 4 & kNibbles) | (odd & ~kNibbles), to + 16 + g * 32 + 16 + c * 4);
    }
  Scales s;
  const std::byte* const low = from + 16 * at.lanes + at.lane;
  const std::byte* const high = from + 17 * at.lanes + at.lane / 2;
  for (int word = 0; word < 2; ++word) {
    std::uint32_t upper = 0;
    std::memcpy(&upper, high + 2 * word, 2);
    upper = spread(upper);
    s.scale[word] = (load(low + 4 * word) & kNibbles) | (upper & kPairs) << 4;
    s.minimum[word] = (load(low + 4 * word) >> 4 & kNibbles) | (upper >> 2 & kPairs) << 4;
  }
  store_scales(s, to + 4);
  const std::int64_t after = 17 * at.lanes + at.lanes / 2;
  std::memcpy(to, from + at.half(after, 0), 2);
  std::memcpy(to + 2, from + at.half(after, 1), 2);
}

// q6_k. Of its two halves, each has 64 bytes of low nibbles and 32 of bit pairs: its blocks 0 and 2 are the nibbles of
// the first 32 bytes, 1 and 3 of the last; its block b has the pairs 2b and 2b + 1 of each byte.
void interleave_q6_k(const std::byte* from, const Place& at, std::byte* to) {
  for (std::int64_t b = 0; b < 8; ++b) {
    const std::byte* const low = from + b / 4 * 64 + b % 2 * 32;
    const std::byte* const high = from + 128 + b / 4 * 32;
    const std::int64_t nibble = b % 4 / 2 * 4, pair = b % 4 * 2;
    for (std::int64_t c = 0; c < 4; ++c)
      store((load(low + 4 * c) >> nibble & kNibbles) | (load(low + 16 + 4 * c) >> nibble & kNibbles) << 4,
            to + at.nibbles(c, b));
    for (std::int64_t piece = 0; piece < 2; ++piece) {
      std::uint32_t pairs = 0;
      for (std::int64_t field = 0; field < 4; ++field)
        pairs |= (load(high + field % 2 * 16 + piece * 8 + field / 2 * 4) >> pair & kPairs) << (2 * field);
      store(pairs, to + at.pairs(piece, b));
    }
    to[24 * at.lanes + at.lane + b] = from[192 + 2 * b];
    to[25 * at.lanes + at.lane + b] = from[192 + 2 * b + 1];
  }
  std::memcpy(to + at.half(26 * at.lanes, 0), from + 208, 2);
}

void plain_q6_k(const std::byte* from, const Place& at, std::byte* to) {
  for (std::int64_t half = 0; half < 2; ++half) {
    for (std::int64_t second = 0; second < 2; ++second)
      for (std::int64_t c = 0; c < 4; ++c) {
        const std::uint32_t a = load(from + at.nibbles(c, 4 * half + second));
        const std::uint32_t b = load(from + at.nibbles(c, 4 * half + second + 2));
        std::byte* const p = to + half * 64 + second * 32 + c * 4;
        store((a & kNibbles) | (b & kNibbles) << 4, p);
        store((a >> 4 & kNibbles) | (b & ~kNibbles), p + 16);
      }
    for (std::int64_t piece = 0; piece < 2; ++piece)
      for (std::int64_t field = 0; field < 4; ++field) {
        std::uint32_t pairs = 0;
        for (std::int64_t b = 0; b < 4; ++b)
          pairs |= (load(from + at.pairs(piece, 4 * half + b)) >> (2 * field) & kPairs) << (2 * b);
        store(pairs, to + 128 + half * 32 + field % 2 * 16 + piece * 8 + field / 2 * 4);
      }
  }
  for (std::int64_t b = 0; b < 8; ++b) {
    to[192 + 2 * b] = from[24 * at.lanes + at.lane + b];
    to[192 + 2 * b + 1] = from[25 * at.lanes + at.lane + b];
  }
  std::memcpy(to + 208, from + at.half(26 * at.lanes, 0), 2);
}

/// work(plain offset, offset of the group, place in it) for every block of 256 of a row.
template <class Work>
void for_blocks_of_256(NumberFormat format, std::int64_t in, const Work& work) {
  const auto bytes = static_cast<std::int64_t>(bytes_of(format, 256));
  const std::int64_t blocks = in / 256;
  for (std::int64_t b = 0; b < blocks; ++b) {
    work(b * bytes, b / 2 * 2 * bytes, place_of(b, blocks));
  }
}

void check_format(NumberFormat format, std::int64_t in) {
  if (format != NumberFormat::q8_0 && format != NumberFormat::q4_0 && !of_256(format))
    throw InvalidArgument("[interleave] expected q8_0, q4_0, q4_k or q6_k, got {}", traits(format).name);
  static_cast<void>(bytes_of(format, in));  // throws if `in` is no multiple of the block
}

}  // namespace

bool interleaving_pays(NumberFormat format, std::int64_t in) {
  return (format == NumberFormat::q8_0 || format == NumberFormat::q4_0 || of_256(format)) && in >= 32 * kLanes &&
         simd::vnni::available();
}

void interleave_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to) {
  check_format(format, in);
  if (of_256(format))
    return for_blocks_of_256(format, in, [&](std::int64_t plain, std::int64_t group, const Place& at) {
      (format == NumberFormat::q4_k ? interleave_q4_k : interleave_q6_k)(from + plain, at, to + group);
    });
  for_pieces(format, in, [&](std::int64_t plain, std::int64_t interleaved, std::int64_t bytes) {
    std::memcpy(to + interleaved, from + plain, static_cast<std::size_t>(bytes));
  });
}

void plain_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to) {
  check_format(format, in);
  if (of_256(format))
    return for_blocks_of_256(format, in, [&](std::int64_t plain, std::int64_t group, const Place& at) {
      (format == NumberFormat::q4_k ? plain_q4_k : plain_q6_k)(from + group, at, to + plain);
    });
  for_pieces(format, in, [&](std::int64_t plain, std::int64_t interleaved, std::int64_t bytes) {
    std::memcpy(to + plain, from + interleaved, static_cast<std::size_t>(bytes));
  });
}

std::vector<std::int32_t> row_order(NumberFormat format, std::int64_t in) {
  std::vector<std::int32_t> order;
  order.reserve(static_cast<std::size_t>(in));
  // A piece of nibbles has its bytes' lower ones, values of a block's first half, and then their upper ones.
  const std::int64_t halves = format == NumberFormat::q8_0 ? 1 : 2, pieces = 8 / halves, blocks = in / 32;
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
  if (of_256(w.format)) {
    std::byte plain[210];
    const auto bytes = static_cast<std::int64_t>(bytes_of(w.format, 256));
    for (std::size_t done = 0; done < values.size(); done += 256) {
      const std::int64_t b = (from + static_cast<std::int64_t>(done)) / 256;
      (w.format == NumberFormat::q4_k ? plain_q4_k : plain_q6_k)(w.row(row) + b / 2 * 2 * bytes,
                                                                 place_of(b, w.in / 256), plain);
      to_f32(w.format, plain, values.subspan(done, 256));
    }
    return;
  }
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
