// One table of cases for the sparse kernels: tests and sweeps read the same.
#pragma once

#include "engine/kernels/sparse.h"

namespace torpor {

/// tolerance: of an output, relative to sqrt(sum (a w)^2); multiplied activations add theirs.
struct SparseCase {
  std::int64_t neurons, multiplier_in, width;  // multiplier_in 0: not gated
  double density;
  NumberFormat weights;
  bool bias;
  float tolerance;
  std::int64_t gate_in = 0;  // above 0: the neurons are a guess, and their activations are computed
  Activation activation = Activation::relu;
  float activation_threshold = 0;
};

// Remainders on purpose: widths one below, at and above vectors and pairs of vectors; active neurons around the passes
// of four and the groups of 32; none and all of them; one range of neurons and several.
inline constexpr SparseCase kSparseCases[] = {
    {1, 0, 1, 1, NumberFormat::f32, false, 4e-6F},
    {7, 3, 5, 0.5, NumberFormat::f32, true, 4e-6F},
    {40, 64, 63, 0, NumberFormat::f32, true, 4e-6F},
    {67, 65, 129, 1, NumberFormat::f32, true, 4e-6F},
    {300, 33, 257, 0.1, NumberFormat::f32, false, 4e-6F},
    {36, 31, 1, 1, NumberFormat::bf16, true, 4e-6F},
    {50, 17, 31, 0.7, NumberFormat::bf16, true, 4e-6F},
    {65, 100, 66, 0.3, NumberFormat::bf16, false, 4e-6F},
    {4000, 0, 515, 0.08, NumberFormat::bf16, false, 4e-6F},
    {3000, 256, 512, 0.08, NumberFormat::bf16, true, 4e-6F},
    {33, 8, 20, 0.5, NumberFormat::f16, true, 4e-6F},
    {2100, 200, 515, 0.1, NumberFormat::f16, false, 4e-6F},
    {5, 32, 32, 1, NumberFormat::q8_0, false, 2e-4F},
    {70, 96, 160, 0.5, NumberFormat::q8_0, true, 2e-4F},
    {4000, 256, 1024, 0.08, NumberFormat::q8_0, true, 2e-4F},
    {9, 32, 32, 1, NumberFormat::q4_0, false, 2e-4F},
    {71, 64, 224, 0.5, NumberFormat::q4_0, true, 2e-4F},
    {4000, 0, 2048, 0.08, NumberFormat::q4_0, false, 4e-6F},
    {67, 0, 129, 0.5, NumberFormat::f32, true, 4e-6F, 65, Activation::relu2},
    {300, 33, 257, 0.3, NumberFormat::f32, true, 4e-6F, 33, Activation::silu},
    {500, 65, 31, 0.5, NumberFormat::f32, false, 4e-6F, 65, Activation::relu, 0.8F},
    {3000, 256, 512, 0.08, NumberFormat::bf16, true, 4e-6F, 256, Activation::gelu_tanh},
    {2100, 200, 515, 0.1, NumberFormat::f16, false, 4e-6F, 200, Activation::relu},
    {4000, 256, 1024, 0.08, NumberFormat::q8_0, true, 2e-4F, 256, Activation::relu2},
    {900, 64, 224, 0.2, NumberFormat::q4_0, true, 2e-4F, 64, Activation::silu},
};

}  // namespace torpor
