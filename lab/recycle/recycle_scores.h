// Which neurons of a layer do the least, by the scores that have been proposed for it. All divided by the layer's mean,
// so that scores average to 1 and a threshold of 0.1 means a tenth of the layer's average.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lab/recycle/recyclable_layer.h"

namespace torpor::lab {

enum class RecycleScore : std::uint8_t {
  activation,           // ReDo: mean |h| (Sokar et al. 2023, Def. 3.1)
  mean_subtracted,      // mean |h - mean h|                                    (option sub_mean_score)
  activation_gradient,  // mean |h dL/dh|
  gradient,             // GraMa: mean |dL/dh| (Liu et al. 2025)
  connected_weights,    // sum |w_in| sum |w_out|
  contribution,         // continual backprop's utility, of one batch: mean |h - mean h| sum |w_out| / sum |w_in|
};

/// "activation", "mean_subtracted", …; and back: throws InvalidArgument listing them.
std::string_view name_of(RecycleScore score);
RecycleScore recycle_score_of(std::string_view name);
std::vector<std::string> recycle_score_names();
/// Whether it needs gradients of the loss by the activations.
bool needs_gradient(RecycleScore score);

/// Values of a layer on a probe batch: [batch, neurons] or [batch, neurons, H, W], behind the activation function.
/// gradient: of a loss by them, or undefined.
struct ProbeValues {
  at::Tensor values, gradient;
};

/// [neurons], f32, mean 1, or all 0 where nothing in the layer is active. A feature map is one neuron. Throws
/// InvalidArgument for values of another size or a missing gradient.
at::Tensor recycle_scores(RecycleScore score, const RecyclableLayer& layer, const ProbeValues& probe);

/// [neurons]: the mean over all but the neurons of [batch, neurons] or [batch, neurons, H, W].
at::Tensor by_neuron(const at::Tensor& values);

/// [neurons]: the sum of |w| over all weights that read each.
at::Tensor outgoing_size(const RecyclableLayer& layer);

/// Share of neurons with a score of at most tau, pooled over layers; and the layers' own.
struct Dormancy {
  double all = 0;
  std::vector<double> layers;
};
Dormancy dormancy(const std::vector<at::Tensor>& scores, double tau);

/// |x and y| / the smaller of |x| and |y|; 0 where one is empty. Bool masks of a size.
double overlap_coefficient(const at::Tensor& x, const at::Tensor& y);

/// Least k whose largest singular values sum to 1 - delta of all: srank of features [batch, neurons].
std::int64_t effective_rank(const at::Tensor& features, double delta = 0.01);

}  // namespace torpor::lab
