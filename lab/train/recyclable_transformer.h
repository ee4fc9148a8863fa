// A transformer's feed-forward neurons as recycling sees them.
#pragma once

#include <vector>

#include "lab/nn/transformer.h"
#include "lab/recycle/recyclable_layer.h"
#include "lab/recycle/recycle_scores.h"

namespace torpor::lab {

/// One layer a block: rows of up (and gate) make its neurons, columns of down read them; fresh weights are drawn as the
/// network's own were. The tensors are the network's parameters. Spark's layers have an obstacle: which of its neurons
/// are active hangs on the scores of all.
std::vector<RecyclableLayer> recyclable_layers(const TransformerImpl& model);

/// Behind the activation functions of each layer, [sequences x positions, neurons] in f32, for tokens [sequences,
/// positions]. with_gradient: of the mean next-token loss by them, in nats, with targets [sequences x positions];
/// parameters' gradients stay what they were. Replaces the network's activation hook, and leaves none.
std::vector<ProbeValues> probe(TransformerImpl& model, const at::Tensor& tokens, const at::Tensor& targets,
                               bool with_gradient);

/// What the network would compute if the neurons of the masks, bool [neurons], one a layer, gave nothing; masks empty:
/// what it computes. Hook as probe().
at::Tensor logits_without(TransformerImpl& model, const at::Tensor& tokens, const std::vector<at::Tensor>& masks);

}  // namespace torpor::lab
