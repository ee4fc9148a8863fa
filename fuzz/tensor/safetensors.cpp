// parse_safetensors on arbitrary bytes: BadInput, or an archive that is consistent.
#include "core/tensor/safetensors.h"

#include "fuzz/tensor/archive.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  try {
    torpor::fuzz::check(torpor::parse_safetensors(file, nullptr, "fuzz.safetensors"), file);
  } catch (const torpor::BadInput&) {
  }
  return 0;
}
