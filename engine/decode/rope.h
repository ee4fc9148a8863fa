// Rotary position embedding (Su et al. 2021), with the scalings of its users, computed in f32 as transformers does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/models/model_config.h"

namespace torpor {

/// Angle per position of each rotated pair: theta^(-2i/dims), scaled. [ceil(rope_dims / 2)]; empty for learned
/// positions. linear: divided by rope_factor. llama3: long waves divided by rope_factor, short ones kept, between them
/// a blend. Spark attention turns its predictor values and the others apart: the pairs of the first, then of the
/// second.
/// local: of layers with a window, where those have a theta of their own (rope_local_theta), without scaling.
std::vector<float> rope_frequencies(const ModelConfig& config, bool local = false);

/// Cosines and sines of `positions`: [positions, pairs] each.
void rope_angles(std::span<const float> frequencies, std::span<const std::int64_t> positions, float* cosines,
                 float* sines);

/// Which values of a head form a pair.
struct RopeLayout {
  int heads = 0, head_dim = 0, pairs = 0;
  bool interleaved = false;  // (2i, 2i + 1); else (i, i + pairs)
};

/// Rotates one row [heads, head_dim] in place by one row of angles [pairs].
void rotate(const RopeLayout& layout, const float* cosines, const float* sines, float* row);

}  // namespace torpor
