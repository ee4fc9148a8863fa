// A packed model: the length of a config.json in two bytes, the config, then a safetensors file. The model runs, or
// BadInput says why not.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/safetensors.h"
#include "engine/models/config_huggingface.h"
#include "engine/models/packed.h"
#include "fuzz/models/run_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace torpor;
  if (size < 2) return 0;
  const std::size_t length = std::min<std::size_t>(data[0] + 256U * data[1], size - 2);
  const std::string_view config(reinterpret_cast<const char*>(data + 2), length);
  // A copy that is exactly as long, so that the sanitizer sees a read beyond its end.
  const auto bytes = std::make_shared<std::vector<std::byte>>(size - 2 - length);
  if (!bytes->empty()) std::memcpy(bytes->data(), data + 2 + length, bytes->size());
  try {
    const TensorArchive stored = parse_safetensors(*bytes, bytes, "fuzz.safetensors");
    run_model(
        packed_files(stored, read_huggingface_config(parse_json(config, "config.json"), "config.json"), "config.json"));
  } catch (const BadInput&) {
  }
  return 0;
}
