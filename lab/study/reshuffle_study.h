// The dormant neuron phenomenon without an agent (redo.md 6.1, after Fig. 3 of Sokar et al. 2023): a network memorises
// random labels of images, which are permuted every few epochs. Neurons die, and with them the ability to fit the next
// labels; recycling keeps both. Every variant of the method is one arm.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/page.h"
#include "lab/recycle/recycler.h"
#include "lab/recycle/sequential_network.h"
#include "lab/study/study.h"

namespace torpor::lab {

struct ReshuffleOptions {
  /// Empty: random images and labels, dense layers, Adam (redo.md 6.1). Else CIFAR-10 in its binary form, with its own
  /// labels at first, convolutions of 32, 64 and 64 maps and a dense layer of 128, all times `scale`, and SGD with
  /// momentum, as in the paper's Fig. 3 (redo.md 4.2); `side`, `width` and `layers` are then not read.
  std::filesystem::path images = {};
  double scale = 1;
  std::int64_t samples = 2000, classes = 10, side = 16;
  std::int64_t epochs = 160, epochs_per_task = 20, batch = 64;
  std::int64_t width = 256, layers = 4;
  std::int64_t probe = 64, logged = 256;  // samples that scores are measured on
  std::vector<std::uint64_t> seeds = {1, 2, 3, 4, 5};
};

/// What suits CIFAR-10: 10,000 images, 100 epochs, batches of 256.
ReshuffleOptions cifar_options(const std::filesystem::path& images);

Json to_json(const ReshuffleOptions& options);

enum class ReshuffleOptimizer : std::uint8_t { adam, sgd };

struct ReshuffleArm {
  std::string name = {};   // "redo"
  std::string title = {};  // "ReDo, moments and unit counts"
  bool reshuffles = true;
  bool recycles = false;
  RecycleOptions recycle = {};
  double eps = 1e-8, weight_decay = 0;
  NetworkActivation activation = NetworkActivation::relu;
  ReshuffleOptimizer optimizer = ReshuffleOptimizer::adam;
  double learning_rate = 1e-3;
  std::int64_t layer_reset_period = 0;  // > 0: the outputs and the last hidden layer are drawn anew so often (V8)
};

/// All of redo.md 6.1's table and more: fixed labels, none, the optimizer modes, scores, selections, baselines. Of
/// CIFAR-10 fewer: fixed labels, none, ReDo, layer resets, weight decay.
std::vector<ReshuffleArm> reshuffle_arms(const ReshuffleOptions& options);

/// Random images: noise and four bumps each, clipped at 1. [samples, side * side].
at::Tensor reshuffle_images(const ReshuffleOptions& options, std::uint64_t seed);

struct ReshuffleRun {
  std::string variant;  // the arm
  std::uint64_t seed = 0;
  std::vector<double> accuracy = {};  // of the training samples, at the end of each task
  std::vector<double> dormant = {},
                      dormant_tenth = {};  // share at tau 0 and 0.1 at the end of each epoch, before any recycling
  std::vector<std::vector<double>> layers = {};  // the same at tau 0, by layer
  std::vector<double> overlap = {};      // of the last hidden layer's dormant neurons with those an epoch before
  std::int64_t recycled = 0, again = 0;  // neurons; of those within two periods of the last time
  std::int64_t rank = 0;                 // effective rank of the last hidden layer at the end
  double seconds = 0, recycle_seconds = 0, log_seconds = 0;
};

Json to_json(const ReshuffleRun& run);
/// Throws BadInput where a field is missing.
ReshuffleRun reshuffle_run_from_json(const Json& json, const std::string& where);

/// What training one arm leaves behind.
struct ReshuffledNetwork {
  ReshuffleRun run;
  SequentialNetwork network{nullptr};
  at::Tensor images;  // what it was trained on
};
ReshuffledNetwork train_reshuffled(const ReshuffleArm& arm, std::uint64_t seed, const ReshuffleOptions& options,
                                   const std::function<void(std::int64_t epoch)>& progress);
/// A network as the arms train, drawn from LibTorch's generator.
SequentialNetwork reshuffle_network(const ReshuffleOptions& options, const ReshuffleArm& arm);

/// Trains one arm with one seed, or reads what an earlier call left in `folder` (stored_run).
ReshuffleRun run_reshuffle_arm(const ReshuffleArm& arm, std::uint64_t seed, const ReshuffleOptions& options,
                               const std::filesystem::path& folder,
                               const std::function<void(std::int64_t epoch)>& progress);

struct ReshuffleStudy {
  ReshuffleOptions options;
  std::vector<ReshuffleRun> runs;
  std::string command;
};

/// The digest's lists (redo.md 6.1, (i) to (v), and 6.3 (a)). Throws InvalidArgument where an arm has no run.
std::vector<Claim> reshuffle_claims(const ReshuffleStudy& study);

Json to_json(const ReshuffleStudy& study);
ReportPage page_of(const ReshuffleStudy& study);
/// The same for docs/results.
std::string markdown_of(const ReshuffleStudy& study);

}  // namespace torpor::lab
