// Models of random weights in memory: the time of a token does not depend on what the weights are, only on their
// shapes, their format and on how many neurons are active.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/models/model.h"

namespace torpor {

/// The names that shape_config knows.
std::vector<std::string> shape_names();

/// gemma2-2b, gemma2-2b-spark, nemotron-4b, llama2-7b, or D,FF,LAYERS[,VOCABULARY]: ungated ReLU² of these sizes with
/// heads of 128. density: of the neurons of a ReLU² shape that are to be active, by a threshold below which the
/// activation counts as zero (the scores of random weights are normal); Spark's own is 8 %, others have none.
/// Throws InvalidArgument.
ModelConfig shape_config(const std::string& shape, double density);

/// Weights of `format` (f32, bf16, f16, q8_0, q4_0; norms are f32 and 1), uniform, such that every projection of
/// normal values has deviation 1. In large pages. Throws InvalidArgument for other formats and widths that are no
/// multiple of the block, IoError (out of memory) saying how much is needed.
std::shared_ptr<const Model> random_model(const ModelConfig& config, NumberFormat format, std::uint64_t seed,
                                          ThreadPool& pool);

/// Bytes of such a model's weights.
std::int64_t random_model_bytes(const ModelConfig& config, NumberFormat format);

}  // namespace torpor
