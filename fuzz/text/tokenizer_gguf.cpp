// GGUF files of arbitrary bytes: BadInput, or a tokenizer that works.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor/gguf.h"
#include "core/text/formats.h"
#include "fuzz/text/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  const auto copy = std::make_shared<std::vector<std::byte>>(bytes, bytes + size);
  try {
    torpor::exercise(*torpor::text::tokenizer_from_gguf(torpor::GgufFile::parse(*copy, copy, "t.gguf")),
                     torpor::kExerciseText);
  } catch (const torpor::BadInput&) {
  }
  return 0;
}
