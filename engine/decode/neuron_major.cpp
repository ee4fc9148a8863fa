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

/// rows[i] = column i of w, for the columns [begin, end), through f32: exact where the format stays. begin: a multiple
/// of turned_at_once.
void turn(const WeightMatrix& w, NumberFormat format, std::int64_t begin, std::int64_t end, std::byte* rows) {
  const std::int64_t step = turned_at_once(w.format);
  const auto row_bytes = static_cast<std::int64_t>(bytes_of(format, w.out));
  std::vector<float> turned(static_cast<std::size_t>(w.out * step));
  for (std::int64_t from = begin; from < end; from += step) {
    const std::int64_t to = std::min(end, from + step);
    turned_rows(w, from, to, turned.data());
    for (std::int64_t i = from; i < to; ++i)
      from_f32({turned.data() + (i - from) * w.out, static_cast<std::size_t>(w.out)}, format, rows + i * row_bytes);
  }
}

}  // namespace

std::shared_ptr<const NeuronMajorWeights> NeuronMajorWeights::pack(const std::shared_ptr<const Model>& model,
                                                                   ThreadPool& pool, const Progress& progress) {
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
    const FfnWeights& ffn = layer.ffn;
    if (!ffn.down_rows.empty()) {  // a packed model
      packed->layers_.push_back({ffn.gate, ffn.up, ffn.down_rows});
      if (progress) progress(static_cast<int>(packed->layers_.size()));
      continue;
    }
    const NumberFormat format = row_format(ffn.down.format);
    if (traits(format).quantised && ffn.down.out % traits(format).block_values != 0)
      throw BadInput(
          "{}: expected a model width that is a multiple of {} to arrange {} weights by neuron, found {}. Run it "
          "without skipping",
          model->path().string(), traits(format).block_values, traits(ffn.down.format).name, ffn.down.out);
    NeuronMajorLayer by_neuron{ffn.gate, ffn.up, {format, nullptr, ffn.down.in, ffn.down.out}};
    std::byte* const down = allocate(by_neuron.down.row_bytes() * ffn.down.in, "the down projections");
    by_neuron.down.data = down;
    pool.parallel_for(ffn.down.in, turned_at_once(ffn.down.format),
                      [&](long begin, long end, int) { turn(ffn.down, format, begin, end, down); });
    if (!ffn.gate.empty()) {
      const std::int64_t bytes = ffn.up.bytes();
      std::byte* const up = allocate(bytes, "the up projections");
      by_neuron.up.data = up;
      pool.parallel_for(bytes, 1 << 20, [&](long begin, long end, int) {
        std::memcpy(up + begin, ffn.up.data + begin, static_cast<std::size_t>(end - begin));
      });
    }
    packed->layers_.push_back(by_neuron);
    if (progress) progress(static_cast<int>(packed->layers_.size()));
  }
  packed->seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return packed;
}

}  // namespace torpor
