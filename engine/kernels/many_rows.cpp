#include "engine/kernels/many_rows.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/tensor/half_float.h"
#include "engine/kernels/onednn.h"

#include <hwy/aligned_allocator.h>

namespace torpor {
namespace {

// Outputs per call of sgemm. Chosen by the shape alone, because oneDNN adds in another order for other widths (seen
// from 512 rows on): the bits must not depend on the number of threads. A wide matrix has enough slices for the
// threads, and each call packs x anew, so they are wider there (2048 x 2048, 512 rows: 1.1x against 64; 512 and 1024 no
// better); converted weights of a slice stay in the cache.
std::int64_t slice_of(std::int64_t out) {
  return out >= 2048 ? 256 : 64;
}

constexpr std::int64_t kTilesFrom = 16;    // rows: a tile's height
constexpr std::int64_t kTilesSlice = 256;  // 1.1x against 64 (12 layers of width 768); 512 no better on two threads

/// While it lives, oneDNN calls from this thread stay on this thread: the pool has its own threads. The setting belongs
/// to the calling thread and is put back, since others may read it too.
class OneOmpThread {
 public:
  explicit OneOmpThread(const OneDnn& library) : library_(library), before_(library.max_threads()) {
    library_.set_num_threads(1);
  }
  ~OneOmpThread() { library_.set_num_threads(before_); }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  const OneDnn& library_;
  int before_;
};

// x as a sum of bf16 numbers of 8 bits each. Two keep 16 to 17 bits of the 24, an error of at most 2^-18 of each value:
// decode and prefill differ by 3e-5 of the logits. One, as other engines multiply, has 2^-9; three are exact, but no
// faster than f32 (512 rows, width 768: 0.93x, 2048: 1.1x; two: 1.24x and 1.55x).
constexpr int kParts = 2;

/// [kParts][count], the largest part first.
hwy::AlignedFreeUniquePtr<std::uint16_t[]> split_in_bf16(const float* x, std::int64_t count, ThreadPool& pool) {
  auto parts = hwy::AllocateAligned<std::uint16_t>(static_cast<std::size_t>(kParts * count));
  std::uint16_t* const out = parts.get();
  pool.parallel_for(count, 1 << 14, [&](long begin, long end, int) {
    for (long i = begin; i < end; ++i) {
      float rest = x[i];
      for (int part = 0; part < kParts; ++part) {
        const std::uint16_t bits = bf16_from_f32(rest);
        out[part * count + i] = bits;
        rest -= f32_from_bf16(bits);
      }
    }
  });
  return parts;
}

}  // namespace

std::int64_t many_rows_from(NumberFormat) {
  return 8;
}

void linear_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                      ThreadPool& pool) {
  const OneDnn& library = onednn();
  // Where the processor multiplies tiles of bf16, weights of that format are used as they are.
  const bool tiles = w.format == NumberFormat::bf16 && library.bf16_tiles && rows >= kTilesFrom;
  const auto parts = tiles ? split_in_bf16(x, rows * w.in, pool) : nullptr;
  const std::int64_t slice = tiles ? kTilesSlice : slice_of(w.out);
  const std::int64_t slices = (w.out + slice - 1) / slice;
  pool.parallel_for(slices, 1, [&](long begin, long end, int) {
    const OneOmpThread one(library);
    const bool convert = w.format != NumberFormat::f32 && !tiles;
    const auto panel = hwy::AllocateAligned<float>(convert ? static_cast<std::size_t>(slice * w.in) : 1);
    for (std::int64_t s = begin; s < end; ++s) {
      const std::int64_t first = s * slice;
      const std::int64_t count = std::min(slice, w.out - first);
      // Row-major: y[rows, count] = x[rows, in] * weights[count, in]^T
      dnnl_status_t status = dnnl_success;
      if (tiles) {
        const auto* weights = reinterpret_cast<const std::uint16_t*>(w.row(first));
        for (int part = 0; part < kParts && status == dnnl_success; ++part)
          status = library.gemm_bf16('N', 'T', rows, count, w.in, 1.0F, parts.get() + part * rows * w.in, w.in, weights,
                                     w.in, part == 0 ? 0.0F : 1.0F, y + first, w.out);
      } else {
        const auto* weights = reinterpret_cast<const float*>(w.row(first));
        if (convert) {
          to_f32(w.format, w.row(first), {panel.get(), static_cast<std::size_t>(count * w.in)});
          weights = panel.get();
        }
        status = library.sgemm('N', 'T', rows, count, w.in, 1.0F, x, w.in, weights, w.in, 0.0F, y + first, w.out);
      }
      if (status != dnnl_success)
        throw IoError("oneDNN refused a matrix product of {} x {} by {} (status {})", rows, w.in, count,
                      static_cast<int>(status));
      if (bias == nullptr) continue;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t o = 0; o < count; ++o) y[r * w.out + first + o] += bias[first + o];
    }
  });
}

}  // namespace torpor
