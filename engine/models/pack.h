// Writing packed models (packed.h): the same weights as decoding wants to read them, and how much they lost.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/models/model_files.h"

namespace torpor {

/// What became of one tensor.
struct PackedTensor {
  std::string name;
  std::int64_t rows = 0, width = 0;  // as stored; a vector is one row
  NumberFormat from = NumberFormat::f32, to = NumberFormat::f32;
  std::int64_t bytes_from = 0, bytes_to = 0;
  double relative_error = 0;  // sqrt(sum (packed - source)^2 / sum source^2)
  double largest_error = 0;   // |packed - source|
};

struct PackReport {
  std::vector<PackedTensor> tensors;  // in the order of the file
  std::string fingerprint, source_fingerprint;
  bool lossless = true;  // every number is the source's
  std::int64_t bytes_from = 0, bytes_to = 0;
  double seconds = 0;
};

/// The neurons of each layer in the order in which they are to lie, each once; an empty layer, or none at all: as they
/// are.
using NeuronOrder = std::vector<std::vector<std::int32_t>>;

/// Writes folder/packed.safetensors and folder/config.json. type: f32, bf16, q8_0 or q4_0, for all matrices; with q8_0
/// and q4_0 a matrix whose rows are no multiple of 32 becomes bf16, and with q4_0 the embeddings q8_0. Vectors become
/// f32. A quantised matrix that needs no turning and already has its type is copied as it is. Takes the memory of the
/// largest tensor, and twice that where neurons change their places: then the fingerprint is another one too.
/// progress(bytes of the source that are done). Throws InvalidArgument for an order that does not fit; BadInput (the
/// model; already packed; a config that Hugging Face's format has no words for), InvalidArgument (another type),
/// IoError, Interrupted. A file that was there stays until the new one is whole.
PackReport pack_model(const std::filesystem::path& model, const std::string& activation_override, NumberFormat type,
                      const std::filesystem::path& folder, ThreadPool& pool,
                      const std::function<void(std::int64_t)>& progress = {}, const NeuronOrder& order = {});

}  // namespace torpor
