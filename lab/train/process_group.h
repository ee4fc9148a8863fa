// Processes that train one network together: c10d over Gloo, found through the variables that torchrun, Slurm and
// Kubernetes set ("env://"). Every process calls the same functions in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace torpor::lab {

/// One thread at a time. Where another process is lost, every function throws Error that says so; the group is of no
/// use after that.
class ProcessGroup {
 public:
  /// Of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; null where WORLD_SIZE is not set or 1. Waits until all processes
  /// are there. Throws UsageError for a variable that is missing or no number in its range, Error where the others did
  /// not come within `timeout`, which is also how long any later call waits.
  static std::shared_ptr<ProcessGroup> from_environment(std::chrono::seconds timeout = std::chrono::minutes(30));
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool first() const { return rank_ == 0; }

  /// In place; contiguous tensors of one shape and type in all processes.
  void sum(at::Tensor tensor) const;
  /// What the first process has.
  void broadcast(at::Tensor tensor) const;
  std::string broadcast(const std::string& text) const;

  /// Runs `f`; what it throws because another process is gone becomes the Error of this class.
  void guard(const std::function<void()>& f) const;

 private:
  friend class GradientReducer;
  struct Parts;
  ProcessGroup(int rank, int size, std::unique_ptr<Parts> parts);

  int rank_, size_;
  std::unique_ptr<Parts> parts_;
};

/// Sums gradients over the processes while the backward pass goes on: c10d's Reducer, the core of PyTorch's
/// DistributedDataParallel. Parameters are put into buckets, the last ones first; a bucket is sent as soon as all its
/// gradients are there.
class GradientReducer {
 public:
  /// Every parameter gets a gradient in every reduced pass. bucket_bytes: of one message.
  GradientReducer(std::shared_ptr<const ProcessGroup> group, std::vector<at::Tensor> parameters,
                  std::int64_t bucket_bytes = std::int64_t{4} << 20);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Before the backward pass of `objective` whose gradients, with those gathered before it, are to be averaged over
  /// the processes; passes without this call only gather.
  void reduce_next(const at::Tensor& objective);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace torpor::lab
