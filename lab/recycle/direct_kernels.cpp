#include "lab/recycle/direct_kernels.h"

#include <algorithm>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lab/recycle/direct_kernels.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::lab::detail {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;

/// Sums of n products of kRows rows of x with three of w, which lie `width` apart, in the registers of any instruction
/// set: sums[r * 3 + c] = x[r] . w[c].
template <int kRows>
HWY_INLINE void DotTile(std::int64_t n, std::int64_t width, const float* const* x, const float* w, std::int64_t columns,
                        float* sums) {
  const Tag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  Vector sum[kRows][3];
  for (auto& row : sum)
    for (Vector& s : row) s = hn::Zero(d);
  const float* const w1 = w + (columns > 1 ? width : 0);
  const float* const w2 = w + (columns > 2 ? 2 * width : 0);
  std::int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const Vector a = hn::LoadU(d, w + k), b = hn::LoadU(d, w1 + k), c = hn::LoadU(d, w2 + k);
    for (int r = 0; r < kRows; ++r) {
      const Vector row = hn::LoadU(d, x[r] + k);
      sum[r][0] = hn::MulAdd(row, a, sum[r][0]);
      sum[r][1] = hn::MulAdd(row, b, sum[r][1]);
      sum[r][2] = hn::MulAdd(row, c, sum[r][2]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 3; ++c) sums[r * 3 + c] = hn::GetLane(hn::SumOfLanes(d, sum[r][c]));
    for (std::int64_t t = k; t < n; ++t) {
      sums[r * 3] += x[r][t] * w[t];
      sums[r * 3 + 1] += x[r][t] * w1[t];
      sums[r * 3 + 2] += x[r][t] * w2[t];
    }
  }
}

/// Rows of `width` numbers side by side, `n` numbers of each from `at` on: rows whose distance is a power of two would
/// push each other out of the first cache.
HWY_INLINE void Gather(std::int64_t rows, std::int64_t width, const float* from, std::int64_t at, std::int64_t n,
                       std::vector<float>& to) {
  to.resize(static_cast<std::size_t>(rows * n));
  for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from + r * width + at, n, to.data() + r * n);
}

void DenseForward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                  const float* bias, bool relu, float* y) {
  // By blocks of inputs: those of all rows stay in the first cache while each weight is read once. Few rows stay there
  // anyway, and whole rows of weights are read ahead best.
  const std::int64_t size = batch <= 4 ? in : 512;
  thread_local std::vector<float> block;
  for (std::int64_t b = 0; b < batch; ++b) std::copy_n(bias, out, y + b * out);
  for (std::int64_t at = 0; at < in; at += size) {
    const std::int64_t n = std::min(size, in - at);
    Gather(batch, in, x, at, n, block);
    for (std::int64_t o = 0; o < out; o += 3) {
      const std::int64_t columns = std::min<std::int64_t>(3, out - o);
      if (batch > 4)
        for (std::int64_t next = o + 3; next < std::min(out, o + 6); ++next)
          for (std::int64_t k = 0; k < n; k += 16) hwy::Prefetch(w + next * in + at + k);
      for (std::int64_t b = 0; b < batch; b += 4) {
        const std::int64_t rows = std::min<std::int64_t>(4, batch - b);
        const float* row[4];
        for (std::int64_t r = 0; r < 4; ++r) row[r] = block.data() + (b + std::min(r, rows - 1)) * n;
        float sums[12];
        if (rows == 1)
          DotTile<1>(n, in, row, w + o * in + at, columns, sums);
        else
          DotTile<4>(n, in, row, w + o * in + at, columns, sums);
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t c = 0; c < columns; ++c) y[(b + r) * out + o + c] += sums[r * 3 + c];
      }
    }
  }
  if (relu)
    for (std::int64_t i = 0; i < batch * out; ++i) y[i] = std::max(0.0F, y[i]);
}

void Transpose(std::int64_t rows, std::int64_t columns, const float* HWY_RESTRICT from, float* HWY_RESTRICT to) {
  // Squares of a cache line's width: what is read and what is written stays in the first cache.
  constexpr std::int64_t kSide = 16;
  for (std::int64_t r = 0; r < rows; r += kSide)
    for (std::int64_t c = 0; c < columns; c += kSide) {
      const std::int64_t r_end = std::min(rows, r + kSide), c_end = std::min(columns, c + kSide);
      for (std::int64_t i = c; i < c_end; ++i)
        for (std::int64_t j = r; j < r_end; ++j) to[i * rows + j] = from[j * columns + i];
    }
}

std::int64_t CountActive(std::int64_t n, const float* x) {
  const Tag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t active = 0, i = 0;
  for (; i + lanes <= n; i += lanes)
    active += static_cast<std::int64_t>(hn::CountTrue(d, hn::Ne(hn::LoadU(d, x + i), hn::Zero(d))));
  for (; i < n; ++i) active += x[i] != 0 ? 1 : 0;
  return active;
}

void MaskInactive(std::int64_t n, const float* HWY_RESTRICT values, float* HWY_RESTRICT gradient) {
  const Tag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto active = hn::Gt(hn::LoadU(d, values + i), hn::Zero(d));
    hn::StoreU(hn::IfThenElseZero(active, hn::LoadU(d, gradient + i)), d, gradient + i);
  }
  for (; i < n; ++i)
    if (!(values[i] > 0)) gradient[i] = 0;
}

/// A term of a sum of rows.
struct Term {
  float factor;
  std::int32_t row;
};

/// to[0, n) = the sum of factor * rows[row * n, row * n + n).
HWY_INLINE void SumOfRows(const Term* begin, const Term* end, const float* rows, std::int64_t n, float* to) {
  const Tag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + 8 * lanes <= n; i += 8 * lanes) {
    Vector s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    for (const Term* term = begin; term != end; ++term) {
      const Vector f = hn::Set(d, term->factor);
      const float* const p = rows + term->row * n + i;
      s0 = hn::MulAdd(f, hn::LoadU(d, p), s0);
      s1 = hn::MulAdd(f, hn::LoadU(d, p + lanes), s1);
      s2 = hn::MulAdd(f, hn::LoadU(d, p + 2 * lanes), s2);
      s3 = hn::MulAdd(f, hn::LoadU(d, p + 3 * lanes), s3);
      s4 = hn::MulAdd(f, hn::LoadU(d, p + 4 * lanes), s4);
      s5 = hn::MulAdd(f, hn::LoadU(d, p + 5 * lanes), s5);
      s6 = hn::MulAdd(f, hn::LoadU(d, p + 6 * lanes), s6);
      s7 = hn::MulAdd(f, hn::LoadU(d, p + 7 * lanes), s7);
    }
    hn::StoreU(s0, d, to + i);
    hn::StoreU(s1, d, to + i + lanes);
    hn::StoreU(s2, d, to + i + 2 * lanes);
    hn::StoreU(s3, d, to + i + 3 * lanes);
    hn::StoreU(s4, d, to + i + 4 * lanes);
    hn::StoreU(s5, d, to + i + 5 * lanes);
    hn::StoreU(s6, d, to + i + 6 * lanes);
    hn::StoreU(s7, d, to + i + 7 * lanes);
  }
  for (; i + lanes <= n; i += lanes) {
    Vector s = hn::Zero(d);
    for (const Term* term = begin; term != end; ++term)
      s = hn::MulAdd(hn::Set(d, term->factor), hn::LoadU(d, rows + term->row * n + i), s);
    hn::StoreU(s, d, to + i);
  }
  for (; i < n; ++i) {
    float s = 0;
    for (const Term* term = begin; term != end; ++term) s += term->factor * rows[term->row * n + i];
    to[i] = s;
  }
}

/// Terms of several sums, one after the other.
struct Sums {
  std::vector<Term> terms;
  std::vector<std::size_t> ends;

  void clear() {
    terms.clear();
    ends.assign(1, 0);
  }
  void end_sum() { ends.push_back(terms.size()); }
  void add(float factor, std::int64_t row) { terms.push_back({factor, static_cast<std::int32_t>(row)}); }
  void sum(std::int64_t number, const float* rows, std::int64_t n, float* to) const {
    const auto i = static_cast<std::size_t>(number);
    SumOfRows(terms.data() + ends[i], terms.data() + ends[i + 1], rows, n, to);
  }
};

void DenseForwardActive(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                        const float* bias, bool relu, float* y) {
  const Tag d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  thread_local Sums sums;
  sums.clear();
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t k = 0; k < in; ++k)
      if (const float value = x[b * in + k]; value != 0) sums.add(value, k);
    sums.end_sum();
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    float* const row = y + b * out;
    sums.sum(b, w, out, row);
    std::int64_t o = 0;
    for (; o + lanes <= out; o += lanes) {
      const Vector value = hn::Add(hn::LoadU(d, row + o), hn::LoadU(d, bias + o));
      hn::StoreU(relu ? hn::Max(value, hn::Zero(d)) : value, d, row + o);
    }
    for (; o < out; ++o) row[o] = relu ? std::max(0.0F, row[o] + bias[o]) : row[o] + bias[o];
  }
}

void DenseBackward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                   const float* dy, float* dw, float* db, float* dx) {
  thread_local Sums by_out, by_row;
  by_out.clear();
  by_row.clear();
  for (std::int64_t o = 0; o < out; ++o) {
    db[o] = 0;
    for (std::int64_t b = 0; b < batch; ++b)
      if (const float gradient = dy[b * out + o]; gradient != 0) {
        db[o] += gradient;
        by_out.add(gradient, b);
      }
    by_out.end_sum();
  }
  for (std::int64_t b = 0; dx != nullptr && b < batch; ++b) {
    for (std::int64_t o = 0; o < out; ++o)
      if (const float gradient = dy[b * out + o]; gradient != 0) by_row.add(gradient, o);
    by_row.end_sum();
  }
  // By blocks of inputs that stay in the first cache.
  const auto width = static_cast<std::int64_t>(8 * hn::Lanes(Tag()));
  thread_local std::vector<float> rows_of_x, rows_of_w;
  for (std::int64_t at = 0; at < in; at += width) {
    const std::int64_t n = std::min(width, in - at);
    Gather(batch, in, x, at, n, rows_of_x);
    for (std::int64_t o = 0; o < out; ++o) by_out.sum(o, rows_of_x.data(), n, dw + o * in + at);
    if (dx == nullptr) continue;
    Gather(out, in, w, at, n, rows_of_w);
    for (std::int64_t b = 0; b < batch; ++b) by_row.sum(b, rows_of_w.data(), n, dx + b * in + at);
  }
}

HWY_INLINE void AddRow(std::int64_t n, float factor, const float* HWY_RESTRICT from, float* HWY_RESTRICT to) {
  const Tag d;
  const Vector f = hn::Set(d, factor);
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d)))
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d, from + i), hn::LoadU(d, to + i)), d, to + i);
}

/// Maps side by side, filled up to whole vectors.
std::int64_t Padded(std::int64_t maps) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag()));
  return (maps + lanes - 1) / lanes * lanes;
}

/// Calls visit(value, weight of the patch, position) for each input that is not 0 and each place of the kernel over it.
template <class Visit>
HWY_INLINE void OverActiveInputs(const ConvSizes& s, const float* x, const Visit& visit) {
  for (std::int64_t i = 0; i < s.inputs(); ++i) {
    const float value = x[i];
    if (value == 0) continue;
    const auto at = static_cast<std::size_t>(i);
    for (std::int32_t r = s.begins[at]; r < s.begins[at + 1]; ++r) {
      const ConvSizes::Reader& reader = s.readers[static_cast<std::size_t>(r)];
      visit(value, reader.weight, reader.position);
    }
  }
}

void ConvForward(std::int64_t batch, const ConvSizes& s, const float* x, const float* w, const float* bias, float* y) {
  const std::int64_t wide = Padded(s.maps), positions = s.positions();
  thread_local std::vector<float> weights, sums;
  weights.assign(static_cast<std::size_t>(s.patch() * wide), 0.0F);
  sums.assign(static_cast<std::size_t>(positions * wide), 0.0F);
  for (std::int64_t m = 0; m < s.maps; ++m)
    for (std::int64_t k = 0; k < s.patch(); ++k) weights[static_cast<std::size_t>(k * wide + m)] = w[m * s.patch() + k];
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t p = 0; p < positions; ++p) std::copy_n(bias, s.maps, sums.data() + p * wide);
    OverActiveInputs(s, x + b * s.inputs(), [&](float value, std::int64_t k, std::int64_t p) {
      AddRow(wide, value, weights.data() + k * wide, sums.data() + p * wide);
    });
    float* const to = y + b * s.maps * positions;
    for (std::int64_t m = 0; m < s.maps; ++m)
      for (std::int64_t p = 0; p < positions; ++p)
        to[m * positions + p] = std::max(0.0F, sums[static_cast<std::size_t>(p * wide + m)]);
  }
}

void ConvBackward(std::int64_t batch, const ConvSizes& s, const float* x, const float* dy, float* dw, float* db) {
  const std::int64_t wide = Padded(s.maps), positions = s.positions();
  thread_local std::vector<float> sums, gradients, bias_sums;
  bias_sums.assign(static_cast<std::size_t>(wide), 0.0F);
  sums.assign(static_cast<std::size_t>(s.patch() * wide), 0.0F);
  gradients.assign(static_cast<std::size_t>(positions * wide), 0.0F);
  for (std::int64_t b = 0; b < batch; ++b) {
    const float* const from = dy + b * s.maps * positions;
    for (std::int64_t p = 0; p < positions; ++p)
      for (std::int64_t m = 0; m < s.maps; ++m)
        gradients[static_cast<std::size_t>(p * wide + m)] = from[m * positions + p];
    for (std::int64_t p = 0; p < positions; ++p) AddRow(wide, 1, gradients.data() + p * wide, bias_sums.data());
    OverActiveInputs(s, x + b * s.inputs(), [&](float value, std::int64_t k, std::int64_t p) {
      AddRow(wide, value, gradients.data() + p * wide, sums.data() + k * wide);
    });
  }
  std::copy_n(bias_sums.begin(), s.maps, db);
  for (std::int64_t m = 0; m < s.maps; ++m)
    for (std::int64_t k = 0; k < s.patch(); ++k) dw[m * s.patch() + k] = sums[static_cast<std::size_t>(k * wide + m)];
}

}  // namespace HWY_NAMESPACE
}  // namespace torpor::lab::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::lab::detail {

ConvSizes::ConvSizes(std::int64_t in_channels, std::int64_t in_height, std::int64_t in_width, std::int64_t out_maps,
                     std::int64_t side, std::int64_t step)
    : channels(in_channels), height(in_height), width(in_width), maps(out_maps), kernel(side), stride(step) {
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t x = 0; x < width; ++x) {
        begins.push_back(static_cast<std::int32_t>(readers.size()));
        for (std::int64_t ky = 0; ky < kernel; ++ky)
          for (std::int64_t kx = 0; kx < kernel; ++kx) {
            const std::int64_t top = y - ky, left = x - kx;
            if (top < 0 || left < 0 || top % stride != 0 || left % stride != 0 || top / stride >= out_height() ||
                left / stride >= out_width())
              continue;
            readers.push_back({static_cast<std::int32_t>((c * kernel + ky) * kernel + kx),
                               static_cast<std::int32_t>(top / stride * out_width() + left / stride)});
          }
      }
  begins.push_back(static_cast<std::int32_t>(readers.size()));
}

HWY_EXPORT(DenseForward);
HWY_EXPORT(DenseForwardActive);
HWY_EXPORT(Transpose);
HWY_EXPORT(CountActive);
HWY_EXPORT(MaskInactive);
HWY_EXPORT(DenseBackward);
HWY_EXPORT(ConvForward);
HWY_EXPORT(ConvBackward);

void dense_forward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                   const float* bias, bool relu, float* y) {
  HWY_DYNAMIC_DISPATCH(DenseForward)(batch, in, out, x, w, bias, relu, y);
}
void dense_forward_active(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w_columns,
                          const float* bias, bool relu, float* y) {
  HWY_DYNAMIC_DISPATCH(DenseForwardActive)(batch, in, out, x, w_columns, bias, relu, y);
}
void transpose(std::int64_t rows, std::int64_t columns, const float* from, float* to) {
  HWY_DYNAMIC_DISPATCH(Transpose)(rows, columns, from, to);
}
std::int64_t count_active(std::int64_t n, const float* x) {
  return HWY_DYNAMIC_DISPATCH(CountActive)(n, x);
}
void mask_inactive(std::int64_t n, const float* values, float* gradient) {
  HWY_DYNAMIC_DISPATCH(MaskInactive)(n, values, gradient);
}
void dense_backward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                    const float* dy, float* dw, float* db, float* dx) {
  HWY_DYNAMIC_DISPATCH(DenseBackward)(batch, in, out, x, w, dy, dw, db, dx);
}
void conv_forward(std::int64_t batch, const ConvSizes& sizes, const float* x, const float* w, const float* bias,
                  float* y) {
  HWY_DYNAMIC_DISPATCH(ConvForward)(batch, sizes, x, w, bias, y);
}
void conv_backward(std::int64_t batch, const ConvSizes& sizes, const float* x, const float* dy, float* dw, float* db) {
  HWY_DYNAMIC_DISPATCH(ConvBackward)(batch, sizes, x, dy, dw, db);
}

}  // namespace torpor::lab::detail
#endif
