// Next-token training of a Transformer: AdamW, warm-up and cosine, clipping, accumulation, checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/csv.h"
#include "lab/nn/transformer.h"
#include "lab/recycle/recycler.h"
#include "lab/train/process_group.h"
#include "lab/train/tensorboard.h"
#include "lab/train/text.h"

namespace torpor::lab {

/// A weight that grows in stages (ProSparse's progressive regularisation, Song et al. 2024, section 3): the first
/// point's up to its step, half a sine wave from each point to the next, the last one's after it. No points: 0.
struct StagedWeight {
  struct Point {
    std::int64_t step = 0;
    double weight = 0;
  };
  std::vector<Point> points;  // steps ascend

  double at(std::int64_t step) const;
  bool zero() const;  // at every step
};

/// "0.01" or "0.01@200,0.05@600,0.1@1000" (WEIGHT@STEP). Throws UsageError that says what was expected.
StagedWeight parse_staged_weight(const std::string& text);

struct TrainOptions {
  std::int64_t steps = 1000;
  int batch = 16;        // windows of a pass forward and back
  int accumulation = 1;  // passes a step
  double learning_rate = 2e-3;
  double last_learning_rate = 0.1;  // of it, at the end of the cosine
  std::int64_t warm_up = 50;        // steps
  UnitAdamOptions adamw = {.beta2 = 0.95, .weight_decay = 0.1, .decoupled = true};
  double clip = 1;                        // joint norm of the gradients; 0: none
  StagedWeight activation_l1;             // weight of the mean |a| over neurons, tokens and layers in the loss
  bool bf16 = false;                      // autocast: matrix products in bf16, weights and optimizer in f32
  std::optional<RecycleOptions> recycle;  // of feed-forward neurons
  bool check_recycling = false;           // that the network computes the same without the neurons that go
  std::uint64_t seed = 1;
  std::int64_t checkpoint_every = 200;  // steps; 0: only at the end
  std::int64_t evaluate_every = 200;    // steps; 0: only at the end. Neurons are counted then, too
  std::int64_t held_out_windows = 256;  // of the held-out text, spread evenly; 0: all
};

/// The options that decide the losses, by name.
Json to_json(const TrainOptions& options);

/// learning_rate * (step + 1) / warm_up while step < warm_up, then half a cosine down to last_learning_rate of it.
double learning_rate_at(const TrainOptions& options, std::int64_t step);

/// The feed-forward neurons on the step's windows, after it.
struct NeuronReport {
  double dormant = 0;               // share with a score of at most tau (TrainOptions::recycle's, or 0.1)
  std::vector<double> layers = {};  // the same of each
  std::int64_t recycled = 0;        // then
  std::int64_t again = 0;           // of those: recycled within the last two periods already
};

struct StepReport {
  std::int64_t step = 0;  // steps done, this one included
  double loss_nats_per_token = 0, learning_rate = 0, gradient_norm = 0;
  std::optional<double> held_out_bits_per_byte;
  std::optional<NeuronReport> neurons;
};

/// bits per byte of `windows` of a text (0: all), no gradients, in f32. The processes of a group share the work.
double bits_per_byte(TransformerImpl& model, const Windows& text, std::int64_t windows, int batch,
                     const ProcessGroup* group = nullptr);

/// Throws UsageError where the folder holds a checkpoint of an earlier run.
void refuse_earlier_run(const std::filesystem::path& folder);

/// One run in one folder:
///   checkpoint-STEP/       config.json, model.safetensors (f32), optimizer.safetensors, trainer_state.json
///   log.csv                a row a step
///   neurons.csv            dormant and recycled neurons of each layer, a row for each and each time they are counted
///   events.out.tfevents.*  the same for TensorBoard, one file each time it runs
/// Of several processes only the first reads and writes there; each computes its share of every batch, and the losses
/// are those of one process up to the order of the sums.
/// A checkpoint is written under another name, synced and renamed, then the one before is removed: after a stop at any
/// moment the folder holds a whole one. On one thread a resumed run has the losses of an uninterrupted one, bit for
/// bit.
class Trainer {
 public:
  /// held_out may be null. Starts anew (resume false; throws UsageError where the folder holds a checkpoint), or goes
  /// on from the newest checkpoint (from the start where there is none). Throws BadInput where a checkpoint is of
  /// another network or of other options that change the losses, naming what differs; UsageError where a batch does
  /// not give each process of the group (which may be null) a window, or neurons cannot be recycled.
  Trainer(const ModelConfig& config, TrainOptions options, std::filesystem::path folder,
          std::shared_ptr<const Windows> text, std::shared_ptr<const Windows> held_out, bool resume,
          std::shared_ptr<const ProcessGroup> group = nullptr);

  /// Trains to the last step, calls `report` after each step and writes checkpoints. Throws Interrupted after a
  /// checkpoint where the user asked to stop; Error where the loss is not finite (names the step and the first layer
  /// with activations that are not finite; the last checkpoint stays), or where another process is lost; IoError.
  void run(const std::function<void(const StepReport&)>& report);

  std::int64_t step() const { return step_; }
  Transformer model() const { return model_; }
  std::int64_t parameters() const;
  /// The folder of the newest checkpoint; empty before the first.
  std::filesystem::path newest_checkpoint() const;

 private:
  bool first() const { return group_ == nullptr || group_->first(); }
  double step_once(double& gradient_norm);
  void share_state();
  void broadcast_state();
  bool stop_asked() const;
  at::Tensor loss_of(const at::Tensor& windows, at::Tensor& objective);
  at::Tensor logits_of(const at::Tensor& windows, TransformerImpl::ActivationHook hook);
  [[noreturn]] void stop_at_bad_loss(const at::Tensor& windows);
  NeuronReport watch_neurons(bool recycle);
  NamedTensors saved_state() const;
  void save_checkpoint() const;
  void load_checkpoint(const std::filesystem::path& checkpoint);
  Json state() const;
  void log(const StepReport& report, EventFile* events);

  ModelConfig config_;
  TrainOptions options_;
  std::filesystem::path folder_;
  std::shared_ptr<const Windows> text_, held_out_;
  WindowOrder order_;
  Transformer model_;
  UnitAdam optimizer_;
  std::vector<RecyclableLayer> layers_;
  std::optional<Recycler> recycler_;
  std::shared_ptr<const ProcessGroup> group_;
  std::unique_ptr<GradientReducer> reducer_;  // of the group
  std::int64_t step_ = 0;
  CsvWriter log_, neuron_log_;
};

}  // namespace torpor::lab
