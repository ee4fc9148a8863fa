// A GGUF file as a model: metadata, tensors, weights. The model runs, or BadInput says why not.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/models/config_gguf.h"
#include "fuzz/models/run_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace torpor;
  // A copy that is exactly as long, so that the sanitizer sees a read beyond its end.
  const auto bytes = std::make_shared<std::vector<std::byte>>(size);
  if (size > 0) std::memcpy(bytes->data(), data, size);
  try {
    const GgufFile file = GgufFile::parse(*bytes, bytes, "fuzz.gguf");
    ModelFiles files;
    files.format = ModelFormat::gguf;
    files.path = files.config_where = "fuzz.gguf";
    files.config = read_gguf_config(file);
    files.archive = file.tensors();
    run_model(files);
  } catch (const BadInput&) {
  }
  return 0;
}
