// A layer of neurons as every act of Torpor sees it: how many, what they do, and what each adds to the layer's output.
// FFN(x) = sum_i a_i * w_i with w_i row i of the outgoing weights (a column of the down projection); a bias after the
// down projection is no neuron and never skipped (ReLU² Wins, section 2.1 of docs/papers/relu2.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace torpor {

/// Facts of one layer. Plain value; const use from several threads.
struct NeuronLayer {
  int index = 0;
  std::string name;        // "model.layers.3.mlp", for people
  int neurons = 0;         // d_ff
  int width = 0;           // d_model: length of an outgoing row
  std::string activation;  // "relu2"
  bool gated = false;
  std::vector<float> outgoing_norms;  // [neurons] ||w_i||
  std::vector<float> outgoing_rows;   // [neurons, width] or empty where only magnitudes are wanted
};

/// ||w_i|| of each row, summed in double, rounded to f32. rows: [neurons, width].
/// Throws InvalidArgument if the sizes disagree, BadInput for a row that is not finite.
std::vector<float> row_norms(std::span<const float> rows, int neurons, int width);

}  // namespace torpor
