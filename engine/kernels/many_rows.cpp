#include "engine/kernels/many_rows.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/onednn.h"
#include "engine/kernels/simd/bf16.h"
#include "engine/kernels/simd/simd.h"

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

}  // namespace

bool are_rounded(NumberFormat weights, Products products) {
  return products == Products::rounded && (weights == NumberFormat::bf16 || traits(weights).quantised) &&
         simd::bf16::available();
}

std::int64_t many_rows_from(const WeightMatrix& w, Products products) {
  const bool rounded = are_rounded(w.format, products);
  if (simd::on_amd() && simd::bf16::available() && !simd::bf16::has_tiles()) {  // EPYC 9005, widths of 2048 and 9216
    switch (w.format) {
      case NumberFormat::f32:
        return 20;
      case NumberFormat::f16:
        return 32;
      case NumberFormat::bf16:
        return rounded ? 8 : 32;  // of 4 rows both are as fast, but few rows are exact
      case NumberFormat::q8_0:
      case NumberFormat::q4_0:
        if (w.interleaved) return rounded ? 40 : 96;
        break;
      default:
        if (w.interleaved) return rounded ? 24 : 96;
        break;
    }
  }
  if (w.interleaved) return 20;
  switch (w.format) {  // one and two threads of a Xeon
    case NumberFormat::f32:
      return 14;
    case NumberFormat::f16:
    case NumberFormat::bf16:
    case NumberFormat::q8_0:
    case NumberFormat::q4_0:
      return 20;
    case NumberFormat::q6_k:
      return 10;
    default:
      return 8;
  }
}

std::int64_t many_turned_rows_from(const WeightMatrix& w) {
  return w.format == NumberFormat::f32 ? 14 : 20;
}

namespace {

// The outputs [first, first + count) of a layer as f32: for linear() rows of `in` values, [count, in]; turned parts of
// rows, [in, count].
struct Panel {
  const float* weights;
  std::int64_t stride;
};

void add_bias(const float* bias, std::int64_t rows, std::int64_t first, std::int64_t count, float* y,
              std::int64_t out) {
  if (bias == nullptr) return;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < count; ++o) y[r * out + first + o] += bias[first + o];
}

template <class MakePanel>
void many_rows(const WeightMatrix& w, bool turned, const float* x, std::int64_t rows, const float* bias, float* y,
               ThreadPool& pool, const MakePanel& make_panel) {
  const OneDnn& library = onednn();
  const std::int64_t in = turned ? w.out : w.in, out = turned ? w.in : w.out;
  const std::int64_t slice = slice_of(out);
  const std::int64_t slices = (out + slice - 1) / slice;
  pool.parallel_for(slices, 1, [&](long begin, long end, int) {
    const OneOmpThread one(library);
    const bool convert = w.format != NumberFormat::f32;
    const auto memory = hwy::AllocateAligned<float>(convert ? static_cast<std::size_t>(slice * in) : 1);
    for (std::int64_t s = begin; s < end; ++s) {
      const std::int64_t first = s * slice;
      const std::int64_t count = std::min(slice, out - first);
      const Panel panel = make_panel(first, count, memory.get());
      // Row-major: y[rows, count] = x[rows, in] * weights[count, in]^T, or weights[in, count]
      const dnnl_status_t status = library.sgemm('N', turned ? 'N' : 'T', rows, count, in, 1.0F, x, in, panel.weights,
                                                 panel.stride, 0.0F, y + first, out);
      if (status != dnnl_success)
        throw IoError("oneDNN refused a matrix product of {} x {} by {} (status {})", rows, in, count,
                      static_cast<int>(status));
      add_bias(bias, rows, first, count, y, out);
    }
  });
}

/// The outputs [first, first + count) of a layer in bf16, as Panel has them in f32.
struct Bf16Panel {
  const std::uint16_t* weights;
  std::int64_t stride;
};

/// Whether rows are turned to bf16 in the order in which they hold their numbers (bf16.h).
bool in_own_order(const WeightMatrix& w) {
  return w.interleaved && w.together == 1;
}

/// many_rows() of numbers rounded to bf16. The weights' inputs may have another order, that in which interleaved rows
/// hold them, if x is brought into it.
template <class MakePanel>
void many_rounded_rows(const WeightMatrix& w, bool turned, const float* x, std::int64_t rows, const float* bias,
                       float* y, ThreadPool& pool, const MakePanel& make_panel) {
  const OneDnn& library = onednn();
  const std::int64_t in = turned ? w.out : w.in, out = turned ? w.in : w.out;
  const std::vector<std::int32_t> order = in_own_order(w) ? row_order(w.format, w.in) : std::vector<std::int32_t>{};
  const auto rounded = hwy::AllocateAligned<std::uint16_t>(static_cast<std::size_t>(rows * in));
  pool.parallel_for(rows, std::max<std::int64_t>(1, 65536 / in), [&](long begin, long end, int) {
    for (long r = begin; r < end; ++r)
      simd::bf16::round(x + r * in, order.empty() ? nullptr : order.data(), in, rounded.get() + r * in);
  });
  const std::int64_t slice = slice_of(out);
  pool.parallel_for((out + slice - 1) / slice, 1, [&](long begin, long end, int) {
    const OneOmpThread one(library);
    const bool convert = w.format != NumberFormat::bf16;
    // Results side by side, and copied: written where they belong, rows of y often lie a multiple of 4 KB apart and
    // drive each other out of the cache (1024 to 9216, 512 rows: 1.5x).
    const auto results = hwy::AllocateAligned<float>(static_cast<std::size_t>(rows * slice));
    const auto memory = hwy::AllocateAligned<std::uint16_t>(convert ? static_cast<std::size_t>(slice * in) : 1);
    for (std::int64_t s = begin; s < end; ++s) {
      const std::int64_t first = s * slice;
      const std::int64_t count = std::min(slice, out - first);
      const Bf16Panel panel = make_panel(first, count, memory.get());
      multiply({rows, in, count, rounded.get(), panel.weights, panel.stride, !turned, results.get(), count});
      for (std::int64_t r = 0; r < rows; ++r) {
        const float* const from = results.get() + r * count;
        float* const to = y + r * out + first;
        if (bias == nullptr)
          std::copy_n(from, count, to);
        else
          for (std::int64_t o = 0; o < count; ++o) to[o] = from[o] + bias[first + o];
      }
    }
  });
}

void linear_rounded(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                    ThreadPool& pool) {
  many_rounded_rows(w, false, x, rows, bias, y, pool,
                    [&](std::int64_t first, std::int64_t count, std::uint16_t* memory) {
                      if (w.format == NumberFormat::bf16)
                        return Bf16Panel{reinterpret_cast<const std::uint16_t*>(w.row(first)), w.in};
                      const bool in_its_order = in_own_order(w);
                      std::vector<float> row(in_its_order ? 0 : static_cast<std::size_t>(w.in));
                      for (std::int64_t o = 0; o < count; ++o) {
                        if (in_its_order) {
                          simd::bf16::interleaved_row(w, first + o, memory + o * w.in);
                          continue;
                        }
                        row_to_f32(w, first + o, row);
                        simd::bf16::round(row.data(), nullptr, w.in, memory + o * w.in);
                      }
                      return Bf16Panel{memory, w.in};
                    });
}

void linear_turned_rounded(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                           ThreadPool& pool) {
  many_rounded_rows(w, true, x, rows, bias, y, pool,
                    [&](std::int64_t first, std::int64_t count, std::uint16_t* memory) {
                      if (w.format == NumberFormat::bf16)
                        return Bf16Panel{reinterpret_cast<const std::uint16_t*>(w.data) + first, w.in};
                      std::vector<float> part(static_cast<std::size_t>(count));
                      for (std::int64_t i = 0; i < w.out; ++i) {
                        to_f32(w.format, w.row(i) + static_cast<std::int64_t>(bytes_of(w.format, first)), part);
                        simd::bf16::round(part.data(), nullptr, count, memory + i * count);
                      }
                      return Bf16Panel{memory, count};
                    });
}

}  // namespace

void linear_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                      ThreadPool& pool, Products products) {
  if (are_rounded(w.format, products)) return linear_rounded(w, x, rows, bias, y, pool);
  many_rows(w, false, x, rows, bias, y, pool, [&](std::int64_t first, std::int64_t count, float* memory) {
    if (w.format == NumberFormat::f32) return Panel{reinterpret_cast<const float*>(w.row(first)), w.in};
    if (w.interleaved)
      for (std::int64_t o = 0; o < count; ++o)
        row_to_f32(w, first + o, {memory + o * w.in, static_cast<std::size_t>(w.in)});
    else
      to_f32(w.format, w.row(first), {memory, static_cast<std::size_t>(count * w.in)});
    return Panel{memory, w.in};
  });
}

void linear_turned_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                             ThreadPool& pool, Products products) {
  if (are_rounded(w.format, products)) return linear_turned_rounded(w, x, rows, bias, y, pool);
  many_rows(w, true, x, rows, bias, y, pool, [&](std::int64_t first, std::int64_t count, float* memory) {
    if (w.format == NumberFormat::f32) return Panel{reinterpret_cast<const float*>(w.data) + first, w.in};
    const std::int64_t stride = w.row_bytes(), offset = static_cast<std::int64_t>(bytes_of(w.format, first));
    for (std::int64_t i = 0; i < w.out; ++i)
      to_f32(w.format, w.data + i * stride + offset, {memory + i * count, static_cast<std::size_t>(count)});
    return Panel{memory, count};
  });
}

}  // namespace torpor
