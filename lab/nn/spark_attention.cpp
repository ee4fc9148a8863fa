#include "lab/nn/spark_attention.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/base/error.h"
#include "lab/nn/gemm.h"
#include "lab/nn/score_rows.h"

namespace torpor::lab {
namespace {

constexpr std::int64_t kBlock = 128;  // queries whose scores are made at once: with 512 keys a quarter of a megabyte

using detail::gemm;
using detail::MatrixView;
using detail::Op;

/// The queries [begin, end) of one head, against the keys [from, end) that any of them sees.
struct Block {
  Block(std::int64_t begin_in, std::int64_t positions, std::int64_t window)
      : begin(begin_in),
        end(std::min(begin_in + kBlock, positions)),
        from(window > 0 ? std::max<std::int64_t>(0, begin_in + 1 - window) : 0) {}

  std::int64_t queries() const { return end - begin; }
  std::int64_t keys() const { return end - from; }

  std::int64_t begin, end, from;
};

struct Shape {
  Shape(const at::Tensor& q, const at::Tensor& k, const SparkAttentionOptions& options)
      : sequences(q.size(0)),
        heads(q.size(1)),
        kv_heads(k.size(1)),
        positions(q.size(2)),
        width(q.size(3)),
        scored(options.predictor > 0 ? options.predictor : width),
        rest(width - scored) {}

  std::int64_t group() const { return heads / kv_heads; }
  std::int64_t head_size() const { return positions * width; }

  std::int64_t sequences, heads, kv_heads, positions, width;
  std::int64_t scored, rest;  // values of a head that score keys; that weigh them
};

/// Stored: the type of q, k and v. Rows are worked on, and products summed, in Sum.
template <typename Stored>
using SumType = std::conditional_t<std::is_same_v<Stored, double>, double, float>;

/// The scores of one block, and which keys they keep. Buffers are reused from block to block.
template <typename Stored>
class BlockScores {
 public:
  using Sum = SumType<Stored>;

  BlockScores(const Shape& shape, const SparkAttentionOptions& options, const std::vector<double>& quantiles)
      : shape_(shape),
        options_(options),
        quantiles_(quantiles),
        scores_(static_cast<std::size_t>(kBlock * shape.positions)),
        others_(shape.rest > 0 ? scores_.size() : 0) {}

  /// q, k: of the head, [positions, width].
  void make(const Stored* q, const Stored* k, const Block& block) {
    const auto product = [&](std::int64_t from, std::int64_t size, std::vector<Sum>& to) {
      gemm(block.queries(), block.keys(), size, static_cast<Sum>(options_.scale),
           MatrixView<Stored>{q + block.begin * shape_.width + from, shape_.width},
           MatrixView<Stored>{k + block.from * shape_.width + from, shape_.width, Op::transposed}, Sum{0}, to.data(),
           block.keys());
    };
    product(0, shape_.scored, scores_);
    if (shape_.rest > 0) product(shape_.scored, shape_.rest, others_);
  }

  /// Calls f(where the row's first visible key lies in a matrix [queries, keys], kept) for each row.
  template <typename Function>
  void each_row(const Block& block, Function f) {
    for (std::int64_t row = 0; row < block.queries(); ++row) {
      const std::int64_t position = block.begin + row;
      const std::int64_t first =
          options_.window > 0 ? std::max(block.from, position + 1 - options_.window) : block.from;
      const std::int64_t visible = position + 1 - first, at = row * block.keys() + first - block.from;
      kept_.choose(scores_.data() + at, shape_.rest > 0 ? others_.data() + at : nullptr, visible,
                   quantiles_[static_cast<std::size_t>(visible)]);
      f(at, kept_);
    }
  }

 private:
  const Shape& shape_;
  const SparkAttentionOptions& options_;
  const std::vector<double>& quantiles_;
  std::vector<Sum> scores_, others_;
  detail::KeptKeys<Sum> kept_;
};

/// A matrix [queries, keys] of a block, zero but where it is written.
template <typename Stored>
class BlockMatrix {
 public:
  BlockMatrix(const Shape& shape, bool needed)
      : values_(needed ? static_cast<std::size_t>(kBlock * shape.positions) : 0) {}
  Stored* clear(const Block& block) {
    std::fill_n(values_.begin(), block.queries() * block.keys(), Stored(0));
    return values_.data();
  }
  MatrixView<Stored> view(const Block& block, Op op = Op::plain) const { return {values_.data(), block.keys(), op}; }

 private:
  std::vector<Stored> values_;
};

std::vector<double> quantiles_of(std::int64_t positions, std::int64_t active) {
  std::vector<double> out(static_cast<std::size_t>(positions) + 1);
  for (std::int64_t n = 1; n <= positions; ++n)
    out[static_cast<std::size_t>(n)] = detail::threshold_quantile(n, active);
  return out;
}

template <typename Function>
void in_type(at::ScalarType type, Function f) {
  if (type == at::kDouble)
    f(double{});
  else if (type == at::kBFloat16)
    f(at::BFloat16{});
  else
    f(float{});
}

class SparkAttentionFunction : public torch::autograd::Function<SparkAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q_in, const at::Tensor& k_in,
                            const at::Tensor& v_in, const SparkAttentionOptions& options,
                            SparkAttentionCounts* counts) {
    const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    at::Tensor out;
    in_type(q.scalar_type(),
            [&](auto stored) { out = attend<decltype(stored)>(q, k, v, options, *counts).to(q.scalar_type()); });
    context->save_for_backward({q, k, v});
    context->saved_data["predictor"] = options.predictor;
    context->saved_data["active"] = options.active;
    context->saved_data["window"] = options.window;
    context->saved_data["scale"] = options.scale;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    if (at::GradMode::is_enabled())
      throw InvalidArgument("[spark_attention] expected a first derivative, a second one was asked for");
    const auto saved = context->get_saved_variables();
    const SparkAttentionOptions options{context->saved_data["predictor"].toInt(), context->saved_data["active"].toInt(),
                                        context->saved_data["window"].toInt(), context->saved_data["scale"].toDouble()};
    torch::autograd::variable_list out;
    in_type(saved[0].scalar_type(), [&](auto stored) {
      out = differentiate<decltype(stored)>(saved[0], saved[1], saved[2], gradients[0].contiguous(), options);
    });
    for (at::Tensor& gradient : out) gradient = gradient.to(saved[0].scalar_type());
    out.resize(5);
    return out;
  }

 private:
  template <typename Stored>
  static at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const SparkAttentionOptions& options, SparkAttentionCounts& counts) {
    using Sum = SumType<Stored>;
    const Shape shape(q, k, options);
    const std::vector<double> quantiles = quantiles_of(shape.positions, options.active);
    at::Tensor out = at::empty(q.sizes(), q.options().dtype(c10::CppTypeToScalarType<Sum>::value));
    const auto *const all_q = q.const_data_ptr<Stored>(), *const all_k = k.const_data_ptr<Stored>(),
                      *const all_v = v.const_data_ptr<Stored>();
    auto* const all_out = out.template mutable_data_ptr<Sum>();
    std::mutex counting;
    at::parallel_for(0, shape.sequences * shape.heads, 1, [&](std::int64_t begin, std::int64_t end) {
      SparkAttentionCounts here;
      BlockScores<Stored> scores(shape, options, quantiles);
      BlockMatrix<Stored> weights(shape, true);
      for (std::int64_t head = begin; head < end; ++head) {
        const std::int64_t of_q = head * shape.head_size(), of_k = head / shape.group() * shape.head_size();
        for (std::int64_t at = 0; at < shape.positions; at += kBlock) {
          const Block block(at, shape.positions, options.window);
          scores.make(all_q + of_q, all_k + of_k, block);
          Stored* const w = weights.clear(block);
          scores.each_row(block, [&](std::int64_t row, const detail::KeptKeys<Sum>& kept) {
            for (std::int64_t i = 0; i < kept.size(); ++i) w[row + kept.place(i)] = static_cast<Stored>(kept.weight(i));
            ++here.rows;
            here.kept += kept.size();
            here.most = std::max(here.most, kept.size());
            here.empty_rows += kept.empty() ? 1 : 0;
          });
          gemm(block.queries(), shape.width, block.keys(), Sum{1}, weights.view(block),
               MatrixView<Stored>{all_v + of_k + block.from * shape.width, shape.width}, Sum{0},
               all_out + of_q + block.begin * shape.width, shape.width);
        }
      }
      const std::lock_guard lock(counting);
      counts.rows += here.rows;
      counts.kept += here.kept;
      counts.most = std::max(counts.most, here.most);
      counts.empty_rows += here.empty_rows;
    });
    return out;
  }

  // For a row with kept keys j, shares p = softmax(s1), factors f = softplus(s2), w = p f and g the gradient of out:
  //   dw_j = g.v_j    ds1_j = p_j (dw_j f_j - sum_i dw_i w_i)    ds2_j = dw_j p_j sigmoid(s2_j)    dv_j += w_j g
  template <typename Stored>
  static torch::autograd::variable_list differentiate(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      const at::Tensor& g, const SparkAttentionOptions& options) {
    using Sum = SumType<Stored>;
    const Shape shape(q, k, options);
    const std::vector<double> quantiles = quantiles_of(shape.positions, options.active);
    const auto sums = q.options().dtype(c10::CppTypeToScalarType<Sum>::value);
    at::Tensor dq = at::empty(q.sizes(), sums), dk = at::zeros(k.sizes(), sums), dv = at::zeros(v.sizes(), sums);
    const auto *const all_q = q.const_data_ptr<Stored>(), *const all_k = k.const_data_ptr<Stored>(),
                      *const all_v = v.const_data_ptr<Stored>(), *const all_g = g.const_data_ptr<Stored>();
    auto *const all_dq = dq.template mutable_data_ptr<Sum>(), *const all_dk = dk.template mutable_data_ptr<Sum>(),
                *const all_dv = dv.template mutable_data_ptr<Sum>();
    const std::int64_t width = shape.width;
    // A task is a head of keys with all queries that look at it: no two tasks add to the same gradient.
    at::parallel_for(0, shape.sequences * shape.kv_heads, 1, [&](std::int64_t begin, std::int64_t end) {
      BlockScores<Stored> scores(shape, options, quantiles);
      BlockMatrix<Stored> weights(shape, true), ds1(shape, true), ds2(shape, shape.rest > 0);
      std::vector<Sum> dw(static_cast<std::size_t>(kBlock * shape.positions));
      for (std::int64_t task = begin * shape.group(); task < end * shape.group(); ++task) {
        const std::int64_t of_q = task * shape.head_size(), of_k = task / shape.group() * shape.head_size();
        for (std::int64_t at = 0; at < shape.positions; at += kBlock) {
          const Block block(at, shape.positions, options.window);
          const std::int64_t queries = of_q + block.begin * width, keys = of_k + block.from * width;
          scores.make(all_q + of_q, all_k + of_k, block);
          gemm(block.queries(), block.keys(), width, Sum{1}, MatrixView<Stored>{all_g + queries, width},
               MatrixView<Stored>{all_v + keys, width, Op::transposed}, Sum{0}, dw.data(), block.keys());
          Stored* const w = weights.clear(block);
          Stored* const d1 = ds1.clear(block);
          Stored* const d2 = shape.rest > 0 ? ds2.clear(block) : nullptr;
          scores.each_row(block, [&](std::int64_t row, const detail::KeptKeys<Sum>& kept) {
            const Sum* const gradient = dw.data() + row;
            Sum sum = 0;
            for (std::int64_t i = 0; i < kept.size(); ++i) sum += gradient[kept.place(i)] * kept.weight(i);
            for (std::int64_t i = 0; i < kept.size(); ++i) {
              const std::int64_t j = kept.place(i);
              w[row + j] = static_cast<Stored>(kept.weight(i));
              d1[row + j] = static_cast<Stored>(kept.share(i) * (gradient[j] * kept.factor(i) - sum));
              if (d2 != nullptr) d2[row + j] = static_cast<Stored>(gradient[j] * kept.share(i) * kept.slope(i));
            }
          });
          gemm(block.keys(), width, block.queries(), Sum{1}, weights.view(block, Op::transposed),
               MatrixView<Stored>{all_g + queries, width}, Sum{1}, all_dv + keys, width);
          const auto through = [&](const BlockMatrix<Stored>& ds, std::int64_t from, std::int64_t size) {
            const auto scale = static_cast<Sum>(options.scale);
            gemm(block.queries(), size, block.keys(), scale, ds.view(block),
                 MatrixView<Stored>{all_k + keys + from, width}, Sum{0}, all_dq + queries + from, width);
            gemm(block.keys(), size, block.queries(), scale, ds.view(block, Op::transposed),
                 MatrixView<Stored>{all_q + queries + from, width}, Sum{1}, all_dk + keys + from, width);
          };
          through(ds1, 0, shape.scored);
          if (shape.rest > 0) through(ds2, shape.scored, shape.rest);
        }
      }
    });
    return {dq, dk, dv};
  }
};

}  // namespace

at::Tensor spark_attention(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in,
                           const SparkAttentionOptions& options, SparkAttentionCounts& counts) {
  const auto cast = [](const at::Tensor& x) {
    return x.defined() && at::autocast::is_autocast_enabled(at::kCPU) && x.scalar_type() == at::kFloat
               ? x.to(at::autocast::get_autocast_dtype(at::kCPU))
               : x;
  };
  const at::Tensor q = cast(q_in), k = cast(k_in), v = cast(v_in);
  const auto fits = [&](const at::Tensor& x, std::int64_t heads) {
    return x.defined() && x.dim() == 4 && x.size(0) == q.size(0) && x.size(1) == heads && x.size(2) == q.size(2) &&
           x.size(3) == q.size(3) && x.scalar_type() == q.scalar_type();
  };
  if (!q.defined() || q.dim() != 4 || q.numel() == 0 || !k.defined() || k.dim() != 4 || k.size(1) < 1 ||
      q.size(1) % k.size(1) != 0 || !fits(k, k.size(1)) || !fits(v, k.size(1)))
    throw InvalidArgument(
        "[spark_attention] expected q [sequences, heads, positions, head_dim] and k, v with a divisor of the heads, "
        "all of one type");
  if (options.predictor < 0 || options.predictor >= q.size(3) || options.active < 1 || options.window < 0)
    throw InvalidArgument(
        "[spark_attention] expected a predictor of 0 to {}, at least one active key and a window of at least 0, got "
        "{}, {} and {}",
        q.size(3) - 1, options.predictor, options.active, options.window);
  if (q.scalar_type() != at::kFloat && q.scalar_type() != at::kBFloat16 && q.scalar_type() != at::kDouble)
    throw InvalidArgument("[spark_attention] expected f32, bf16 or f64, got {}", c10::toString(q.scalar_type()));
  return SparkAttentionFunction::apply(q, k, v, options, &counts);
}

}  // namespace torpor::lab
