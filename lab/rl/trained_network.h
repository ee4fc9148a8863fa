// A network that an agent trains, with all that belongs to it: optimizer, target, what watches its neurons.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lab/recycle/continual_backprop.h"
#include "lab/recycle/recyclable_network.h"
#include "lab/rl/rl_options.h"

namespace torpor::lab {

/// One thread at a time. Stays where it is made: parts point at each other.
class TrainedNetwork {
 public:
  /// target: of the same kind, gets the weights now; or null. recycles: whether options.recycle is for this one.
  TrainedNetwork(std::string name, std::shared_ptr<RecyclableNetwork> network,
                 std::shared_ptr<RecyclableNetwork> target, const RlOptions& options, bool recycles);
  TrainedNetwork(const TrainedNetwork&) = delete;
  TrainedNetwork& operator=(const TrainedNetwork&) = delete;

  const std::string& name() const { return name_; }
  RecyclableNetwork& operator*() const { return *network_; }
  RecyclableNetwork* operator->() const { return network_.get(); }
  RecyclableNetwork& target() const { return *target_; }
  const std::vector<RecyclableLayer>& layers() const { return layers_; }
  UnitAdam& optimizer() { return optimizer_; }
  const UnitAdam& optimizer() const { return optimizer_; }

  /// A step of the optimizer on the gradients that are there, which it then forgets.
  void step(double learning_rate);
  /// The target takes over `part` of the weights.
  void update_target(double part);

  /// null where neurons are not recycled.
  Recycler* recycler() { return recycler_.get(); }
  ContinualBackprop* continual_backprop() { return continual_.get(); }

  /// Scores, none of which need gradients, and the dormant neurons of the last layer: shared with the last log.
  struct Watched {
    std::vector<at::Tensor> scores;
    double overlap = 0;
    std::int64_t rank = 0;
  };
  Watched watch(const std::vector<at::Tensor>& values);

  /// Draws the last layers anew, with their optimizer's state.
  void reset_last_layers();

  /// For checkpoints.
  NamedTensors tensors() const;
  Json state() const;
  /// After the tensors were filled. Throws Json::exception.
  void set_state(const Json& state);

 private:
  std::string name_;
  std::shared_ptr<RecyclableNetwork> network_, target_;
  std::vector<RecyclableLayer> layers_;
  UnitAdam optimizer_;
  std::unique_ptr<Recycler> recycler_;
  std::unique_ptr<ContinualBackprop> continual_;
  at::Tensor dormant_before_;  // [neurons of the last layer] bool
  bool watched_ = false;
};

/// Adds "PREFIX/NAME" for each.
void append(NamedTensors& to, const std::string& prefix, const NamedTensors& tensors);

}  // namespace torpor::lab
