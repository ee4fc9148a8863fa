#include "engine/models/neuron_rows.h"

#include <algorithm>
#include <vector>

#include "engine/kernels/interleaved.h"

namespace torpor {

std::int64_t turned_at_once(NumberFormat format) {
  return std::max<std::int64_t>(64, traits(format).block_values);
}

void turned_rows(const WeightMatrix& w, std::int64_t begin, std::int64_t end, float* out) {
  const std::int64_t step = turned_at_once(w.format), row_bytes = w.row_bytes();
  std::vector<float> piece(static_cast<std::size_t>(step));
  for (std::int64_t from = begin; from < end; from += step) {
    const std::int64_t count = std::min(step, end - from);
    const auto offset = static_cast<std::int64_t>(bytes_of(w.format, from));
    for (std::int64_t o = 0; o < w.out; ++o) {
      const std::span part(piece.data(), static_cast<std::size_t>(count));
      if (w.interleaved)
        part_to_f32(w, o, from, part);
      else
        to_f32(w.format, w.data + o * row_bytes + offset, part);
      for (std::int64_t i = 0; i < count; ++i) out[(from - begin + i) * w.out + o] = piece[static_cast<std::size_t>(i)];
    }
  }
}

}  // namespace torpor
