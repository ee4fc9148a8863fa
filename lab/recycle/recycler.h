// Recycling dormant neurons (ReDo: Sokar, Agarwal, Castro & Evci 2023, Algorithm 1; redo.md 3): from time to time the
// neurons that a probe batch hardly uses get fresh incoming weights and no outgoing ones, so that the network computes
// what it did and has them to learn with again. The optimizer's state always travels along.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "lab/recycle/recyclable_layer.h"
#include "lab/recycle/recycle_scores.h"
#include "lab/recycle/unit_adam.h"

namespace torpor::lab {

enum class RecycleSelection : std::uint8_t { lowest, random, highest };  // V3, V4, V5 of redo.md 3.5
enum class IncomingWeights : std::uint8_t { redrawn, rescaled };         // V2: to the norm of the others
enum class OutgoingWeights : std::uint8_t { zero, redrawn };             // V1
enum class OptimizerReset : std::uint8_t { none, moments, moments_and_tensor_step, moments_and_unit_step };

struct RecycleOptions {
  RecycleScore score = RecycleScore::activation;
  double tau = 0.1;            // neurons with a score of at most this; 0: those that are never active
  std::int64_t period = 1000;  // gradient steps
  std::int64_t begin = 0;      // steps [begin, end)
  std::int64_t end = std::numeric_limits<std::int64_t>::max();
  double fraction = 0;  // > 0: instead of tau, so many of a layer, fewer by a cosine to `end` (V3)
  RecycleSelection selection = RecycleSelection::lowest;  // by fraction; by tau lowest
  IncomingWeights incoming = IncomingWeights::redrawn;
  double incoming_scale = 1;  // of the others' mean norm, where rescaled
  OutgoingWeights outgoing = OutgoingWeights::zero;
  OptimizerReset optimizer = OptimizerReset::moments_and_unit_step;
  int first_layer = 0;          // layers before it are left alone (V17)
  bool compensate = false;      // what a neuron gave on the average moves to the next bias (not in the paper)
  bool prune = false;           // in place of a new life: silent for ever (V14)
  bool skip_obstacles = false;  // leave layers that cannot be recycled exactly alone; else they are refused
  /// As the official code, errors included: moments alone, those of biases left, the flatten's mask in the other order.
  bool paper_compatible = false;
};

/// Throws InvalidArgument saying what is out of range.
void check(const RecycleOptions& options);

struct RecycledLayer {
  std::string name = {};
  at::Tensor scores = {};    // [neurons]
  at::Tensor recycled = {};  // [neurons], bool
  std::int64_t count = 0;    // recycled
  std::int64_t again = 0;    // of those: recycled within the last two periods already
};

struct RecycleReport {
  std::int64_t step = 0;
  std::vector<RecycledLayer> layers = {};
  std::int64_t recycled = 0, again = 0;
  double dormant = 0;  // share with a score of at most tau, over all layers, before
};

/// One thread at a time. The layers' tensors must outlive it.
class Recycler {
 public:
  /// optimizer: what trains the layers' parameters, or null (then nothing of its state is reset). copies: networks of
  /// the same layers that get the same new weights (targets, averages). Throws InvalidArgument: options out of range,
  /// no layer that can be recycled, and unless skip_obstacles a layer with an obstacle, named.
  Recycler(std::vector<RecyclableLayer> layers, RecycleOptions options, UnitAdam* optimizer, std::uint64_t seed,
           std::vector<std::vector<RecyclableLayer>> copies = {});

  const RecycleOptions& options() const { return options_; }
  const std::vector<RecyclableLayer>& layers() const { return layers_; }

  /// Whether `step`, the number of gradient steps done, is one to recycle at.
  bool due(std::int64_t step) const;

  /// Scores, and what would be recycled, without a change. probe: one a layer.
  RecycleReport measure(std::int64_t step, const std::vector<ProbeValues>& probe);
  /// measure(), and then recycles: incoming weights of all layers first, then outgoing ones, so that zero wins where
  /// both are. Draws are those of `seed` and the number of calls.
  RecycleReport recycle(std::int64_t step, const std::vector<ProbeValues>& probe);
  /// Recycles the neurons of the masks, bool [neurons], one a layer, whatever their scores. values: behind the layers'
  /// activation functions, [batch, neurons, …], for compensate.
  void renew(std::int64_t step, const std::vector<at::Tensor>& masks, const std::vector<at::Tensor>& values);
  /// After each step of the optimizer where neurons are pruned: keeps them silent.
  void keep_pruned() const;

  /// For checkpoints: when each neuron was last recycled (int64 [neurons] a layer), which are pruned (bool): the
  /// tensors themselves.
  NamedTensors state() const;
  std::string random_state() const { return random_.state(); }
  void set_random_state(const std::string& state) { random_.set_state(state); }

 private:
  at::Tensor select(const at::Tensor& scores, std::int64_t step);
  at::Tensor fresh_incoming(const IncomingWeight& from, const at::Tensor& mask) const;
  static void renew_incoming(const RecyclableLayer& layer, const at::Tensor& mask,
                             const std::vector<at::Tensor>& fresh);
  void renew_outgoing(const OutgoingWeight& to, const at::Tensor& inputs, const at::Tensor& fresh) const;
  void compensate(const RecyclableLayer& layer, const at::Tensor& mask, const at::Tensor& values) const;
  void reset_optimizer(const std::vector<at::Tensor>& masks);
  at::Tensor inputs_read(const OutgoingWeight& to, const at::Tensor& mask) const;
  bool recyclable(std::size_t layer) const;

  std::vector<RecyclableLayer> layers_;
  RecycleOptions options_;
  UnitAdam* optimizer_;
  std::vector<std::vector<RecyclableLayer>> copies_;
  Random random_;
  std::vector<at::Tensor> last_;    // [neurons] step of the last recycling, or far back
  std::vector<at::Tensor> pruned_;  // [neurons] bool
};

/// What recycling promises: that outputs change only by what the removed neurons gave. Compares outputs of the network
/// before, computed without these neurons (RecyclableNetwork::forward_without), with those after. Throws Error naming
/// the largest difference. Not for outgoing weights that are redrawn, nor for compensate or paper_compatible.
void check_function_kept(const at::Tensor& without_before, const at::Tensor& after);

}  // namespace torpor::lab
