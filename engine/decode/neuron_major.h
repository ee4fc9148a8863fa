// The feed-forward weights of a model with all that belongs to a neuron in one row of each matrix: what sparse_ffn
// reads. Files hold the down projection the other way round, so that it is turned here; what is read row by row is
// copied to large pages.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/models/model.h"

namespace torpor {

/// What of a layer is arranged by neuron.
enum class Arranged : std::uint8_t {
  rows,     // what is read of active neurons after all were scored: down, and up of a gated layer
  whole,    // all of a neuron: of layers of which a predictor names the neurons and nothing else is read
  nothing,  // the layer is computed in full
};

/// Empty where nothing was wanted.
struct NeuronMajorLayer {
  WeightMatrix gate;  // [d_ff, d_model or Spark's predictor]; empty if not gated. The model's own unless whole
  WeightMatrix up;    // [d_ff, d_model or what Spark's predictor leaves]. The model's own unless gated or whole
  WeightMatrix down;  // [d_ff, d_model]. Of a gated layer row i lies right behind row i of up: one stream of bytes for
                      // two rows, where the machine fetches ahead beyond an end half as often (q8_0: 1.18x).
                      // Whole: a neuron's rows of all two or three matrices lie together, in this order
};

/// Immutable, shared by sessions; const methods may run at once.
class NeuronMajorWeights {
 public:
  /// Called with the layers done so far, on the calling thread.
  using Progress = std::function<void(int layers)>;

  /// f32, f16 and bf16 stay what they are; quantised down projections, whose blocks run along the neurons, are rounded
  /// again to q8_0 with blocks along d_model (relative error of a weight about 0.3 %). f64 becomes f32. A packed
  /// model's down projections are used as they are, unless gated. Takes about the memory of the down projections, and
  /// of the up projections of gated models. `wanted`: of each layer; empty: rows of all. Throws IoError (out of
  /// memory), BadInput where d_model is no multiple of 32 and the weights are quantised.
  static std::shared_ptr<const NeuronMajorWeights> pack(const std::shared_ptr<const Model>& model, ThreadPool& pool,
                                                        const Progress& progress = {},
                                                        std::span<const Arranged> wanted = {});

  /// Bytes of memory that pack() will take.
  static std::int64_t bytes_needed(const Model& model, std::span<const Arranged> wanted = {});

  std::span<const NeuronMajorLayer> layers() const { return layers_; }
  std::int64_t bytes() const { return bytes_; }  // that packing took
  double seconds() const { return seconds_; }    // that packing took

 private:
  NeuronMajorWeights() = default;

  std::shared_ptr<const Model> model_;  // owns what was not copied
  std::vector<NeuronMajorLayer> layers_;
  std::vector<std::shared_ptr<const std::byte>> owned_;
  std::int64_t bytes_ = 0;
  double seconds_ = 0;
};

}  // namespace torpor
