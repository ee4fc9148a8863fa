#include "engine/kernels/many_rows.h"

#include <algorithm>

#include "core/base/error.h"
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

std::int64_t many_rows_from(NumberFormat format) {
  switch (format) {  // `bench_kernels change`, one and two threads of a Xeon: where the two are as fast
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

namespace {

// The outputs [first, first + count) of a layer as f32: for linear() rows of `in` values, [count, in]; turned parts of
// rows, [in, count].
struct Panel {
  const float* weights;
  std::int64_t stride;
};

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
      if (bias == nullptr) continue;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t o = 0; o < count; ++o) y[r * out + first + o] += bias[first + o];
    }
  });
}

}  // namespace

// bf16 weights are converted although a processor with AMX multiplies bf16: x would have to be rounded to it, 2^-9 of
// each value. As a sum of two bf16 numbers it was 1.24x (12 layers of width 768) to 1.55x (2048) as fast, and logits
// moved by up to 9e-5, another result than on other processors; as three, exact, 0.93x and 1.1x.
void linear_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                      ThreadPool& pool) {
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
                             ThreadPool& pool) {
  many_rows(w, true, x, rows, bias, y, pool, [&](std::int64_t first, std::int64_t count, float* memory) {
    if (w.format == NumberFormat::f32) return Panel{reinterpret_cast<const float*>(w.data) + first, w.in};
    const std::int64_t stride = w.row_bytes(), offset = static_cast<std::int64_t>(bytes_of(w.format, first));
    for (std::int64_t i = 0; i < w.out; ++i)
      to_f32(w.format, w.data + i * stride + offset, {memory + i * count, static_cast<std::size_t>(count)});
    return Panel{memory, count};
  });
}

}  // namespace torpor
