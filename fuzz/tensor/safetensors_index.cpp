// The index of a sharded model: BadInput, or pairs of names.
#include "core/base/error.h"
#include "core/tensor/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    std::size_t bytes = 0;
    torpor::safetensors::parse_index(text, "fuzz.index.json", [&](const std::string& name, const std::string& shard) {
      bytes += name.size() + shard.size();
    });
    if (bytes > size) __builtin_trap();  // no escape makes text longer than it was
  } catch (const torpor::BadInput&) {
  }
  return 0;
}
