#include "engine/decode/neuron_major.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/large_memory.h"
#include "engine/models/neuron_rows.h"

namespace torpor {
namespace {

/// The format of the rows that a down projection becomes.
NumberFormat row_format(NumberFormat format) {
  if (traits(format).quantised) return NumberFormat::q8_0;
  return format == NumberFormat::f64 ? NumberFormat::f32 : format;
}

NumberFormat down_format(const FfnWeights& ffn) {
  return ffn.down_rows.empty() ? row_format(ffn.down.format) : ffn.down_rows.format;
}

/// What a neuron takes: of a gated layer its row of up and then that of down, else that of down alone; of a whole
/// one its rows of gate, up and down.
struct Record {
  std::int64_t stride;
  std::int64_t gate_bytes, up_bytes;
};

Record record_of(const Model& model, const FfnWeights& ffn, bool whole) {
  constexpr std::int64_t kLine = 64;
  const auto down = static_cast<std::int64_t>(bytes_of(down_format(ffn), model.config().d_model));
  if (ffn.gate.empty() && !whole) return {down, 0, 0};
  const std::int64_t gate = whole && !ffn.gate.empty() ? ffn.gate.row_bytes() : 0, up = ffn.up.row_bytes();
  return {(gate + up + down + kLine - 1) / kLine * kLine, gate, up};
}

/// Whether the rows of down are used where a packed model has them.
bool used_as_is(const FfnWeights& ffn, bool whole) {
  return ffn.gate.empty() && !ffn.down_rows.empty() && !whole;
}

/// Column i of w at rows + i * stride, for the columns [begin, end), through f32: exact where the format stays. begin:
/// a multiple of turned_at_once.
void turn(const WeightMatrix& w, NumberFormat format, std::int64_t begin, std::int64_t end, std::byte* rows,
          std::int64_t stride) {
  const std::int64_t step = turned_at_once(w.format);
  std::vector<float> turned(static_cast<std::size_t>(w.out * step));
  for (std::int64_t from = begin; from < end; from += step) {
    const std::int64_t to = std::min(end, from + step);
    turned_rows(w, from, to, turned.data());
    for (std::int64_t i = from; i < to; ++i)
      from_f32({turned.data() + (i - from) * w.out, static_cast<std::size_t>(w.out)}, format, rows + i * stride);
  }
}

/// The rows of w at to + i * stride.
void copy_rows(const WeightMatrix& w, std::byte* to, std::int64_t stride, ThreadPool& pool) {
  const std::int64_t row = w.row_bytes();
  pool.parallel_for(w.out, std::max<std::int64_t>(1, (1 << 20) / row), [&](long begin, long end, int) {
    for (long i = begin; i < end; ++i) std::memcpy(to + i * stride, w.row(i), static_cast<std::size_t>(row));
  });
}

}  // namespace

std::int64_t NeuronMajorWeights::bytes_needed(const Model& model, std::span<const Arranged> wanted) {
  std::int64_t bytes = 0;
  for (std::size_t l = 0; l < model.layers().size(); ++l) {
    const FfnWeights& ffn = model.layers()[l].ffn;
    const Arranged arranged = wanted.empty() ? Arranged::rows : wanted[l];
    const bool whole = arranged == Arranged::whole;
    if (arranged == Arranged::nothing) continue;
    if (used_as_is(ffn, whole)) continue;
    const NumberFormat format = down_format(ffn);
    if (traits(format).quantised && model.config().d_model % traits(format).block_values != 0) continue;  // refused
    bytes += record_of(model, ffn, whole).stride * model.config().d_ff;
  }
  return bytes;
}

std::shared_ptr<const NeuronMajorWeights> NeuronMajorWeights::pack(const std::shared_ptr<const Model>& model,
                                                                   ThreadPool& pool, const Progress& progress,
                                                                   std::span<const Arranged> wanted) {
  if (!wanted.empty() && wanted.size() != model->layers().size())
    throw InvalidArgument("[NeuronMajorWeights] expected what is wanted of {} layers, got {}", model->layers().size(),
                          wanted.size());
  const auto start = std::chrono::steady_clock::now();
  std::shared_ptr<NeuronMajorWeights> packed(new NeuronMajorWeights);
  packed->model_ = model;
  const auto allocate = [&](std::int64_t bytes, const char* what) {
    auto memory = allocate_large(static_cast<std::size_t>(bytes), fmt::format("{} by neuron", what));
    packed->owned_.push_back(memory);
    packed->bytes_ += bytes;
    return memory.get();
  };
  for (const LayerWeights& layer : model->layers()) {
    check_interrupt();
    const Arranged arranged = wanted.empty() ? Arranged::rows : wanted[packed->layers_.size()];
    if (arranged == Arranged::nothing) {
      packed->layers_.emplace_back();
      continue;
    }
    const FfnWeights& ffn = layer.ffn;
    const bool turned = !ffn.down_rows.empty();  // a packed model
    const NumberFormat format = down_format(ffn);
    if (traits(format).quantised && model->config().d_model % traits(format).block_values != 0)
      throw BadInput(
          "{}: expected a model width that is a multiple of {} to arrange {} weights by neuron, found {}. Run it "
          "without skipping",
          model->path().string(), traits(format).block_values, traits(ffn.stored_down().format).name,
          model->config().d_model);
    NeuronMajorLayer by_neuron{ffn.gate, ffn.up, {format, nullptr, model->config().d_ff, model->config().d_model}};
    WeightMatrix& down = by_neuron.down;
    const bool whole = arranged == Arranged::whole;
    if (used_as_is(ffn, whole)) {
      down = ffn.down_rows;
    } else {
      const Record record = record_of(*model, ffn, whole);
      const std::int64_t stride = record.stride, gate_bytes = record.gate_bytes, up_bytes = record.up_bytes;
      std::byte* const rows =
          allocate(stride * down.out, up_bytes == 0 ? "the down projections" : "up and down projections");
      const auto copy = [&](const WeightMatrix& from, std::byte* to, WeightMatrix& result) {
        copy_rows(from, to, stride, pool);
        result = {from.format, to, from.out, from.in, stride, from.interleaved};
      };
      if (gate_bytes > 0) copy(ffn.gate, rows, by_neuron.gate);
      if (up_bytes > 0) copy(ffn.up, rows + gate_bytes, by_neuron.up);
      std::byte* const down_rows = rows + gate_bytes + up_bytes;
      down.data = down_rows;
      down.stride = stride;
      if (turned)
        copy_rows(ffn.down_rows, down_rows, stride, pool);
      else
        pool.parallel_for(ffn.down.in, turned_at_once(ffn.down.format),
                          [&](long begin, long end, int) { turn(ffn.down, format, begin, end, down_rows, stride); });
    }
    packed->layers_.push_back(by_neuron);
    if (progress) progress(static_cast<int>(packed->layers_.size()));
  }
  packed->seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return packed;
}

}  // namespace torpor
