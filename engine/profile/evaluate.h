// How well a model predicts a text, dense or with neurons left out. Losses are per window, so that two runs over the
// same windows can be compared pair by pair: the interval of their ratio is then far narrower than either's own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/activity/confidence.h"
#include "core/activity/plan.h"
#include "core/activity/selection.h"
#include "core/base/thread_pool.h"
#include "engine/decode/session.h"
#include "engine/models/neuron_layers.h"
#include "engine/profile/corpus.h"

namespace torpor {

struct WindowLoss {
  double nats = 0;  // sum of -log p over the predicted tokens
  std::int64_t tokens = 0, bytes = 0;
};

/// The losses of a run, window by window. Regular value.
class Evaluation {
 public:
  void add(const WindowLoss& window) { windows_.push_back(window); }
  std::span<const WindowLoss> windows() const { return windows_; }

  std::int64_t tokens() const;
  std::int64_t bytes() const;
  double loss_nats_per_token() const;
  double perplexity() const;
  /// Total nats / (ln 2 * bytes of the predicted tokens); 0 if no bytes are known.
  double bits_per_byte() const;
  /// 95 % interval of the loss; windows are the sampling units (confidence.h).
  Interval loss_interval() const;

 private:
  std::vector<WindowLoss> windows_;
};

/// perplexity(b) / perplexity(a) with its 95 % interval from the differences window by window.
/// Throws InvalidArgument if the runs are not over the same windows.
Interval perplexity_ratio(const Evaluation& a, const Evaluation& b);

/// A session made for evaluating windows: several sequences at once. `pool` must outlive it.
Session evaluation_session(const std::shared_ptr<const Model>& model, ThreadPool& pool, std::int64_t window,
                           NumberFormat cache = NumberFormat::f32);

/// Runs the windows through the session (its caches are cleared) and adds up losses. progress(tokens) is called after
/// every batch and may throw to stop. Throws BadInput if a logit is not finite.
Evaluation evaluate(Session& session, ThreadPool& pool, std::span<const TextWindow> windows,
                    const std::function<void(std::int64_t tokens)>& progress = {});

/// Runs the windows for what hooks see of them; no logits are made.
void run_windows(Session& session, std::span<const TextWindow> windows,
                 const std::function<void(std::int64_t tokens)>& progress = {});

/// Applies one rule a layer to activations: inactive entries become 0 and are counted. Owns its state; the hook shares
/// it, so keep the mask where it is while a session uses its hook.
class RuleMask {
 public:
  /// rules: one a layer. Rows at positions before `skipped_first_tokens` are masked but not counted. Throws like
  /// RowSelector; use plan_fits first to know that a plan's rules are for this model.
  RuleMask(const Model& model, std::span<const SelectionRule> rules, ThreadPool& pool);
  RuleMask(std::span<const NeuronLayer> layers, std::span<const SelectionRule> rules, ThreadPool& pool,
           std::int64_t skipped_first_tokens = 0);

  /// Masks rows of one layer.
  void apply(const FfnActivations& activations);
  FfnHook hook();

  struct LayerCount {
    std::int64_t rows = 0, active = 0;
    double density(int neurons) const {
      return rows == 0 ? 0 : static_cast<double>(active) / (static_cast<double>(rows) * neurons);
    }
  };
  std::span<const LayerCount> counts() const { return counts_; }
  /// Mean density over layers.
  double density() const;
  void reset_counts();
  const RowSelector& selector(int layer) const { return selectors_[static_cast<std::size_t>(layer)]; }

 private:
  std::vector<RowSelector> selectors_;
  std::vector<LayerCount> counts_;
  int neurons_ = 0;
  std::int64_t skipped_first_tokens_ = 0;
  ThreadPool& pool_;
};

}  // namespace torpor
