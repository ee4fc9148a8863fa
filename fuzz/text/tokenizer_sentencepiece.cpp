// SentencePiece models of arbitrary bytes: BadInput, or a tokenizer that works.
#include <cstddef>
#include <cstdint>

#include "core/text/formats.h"
#include "fuzz/text/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    torpor::exercise(*torpor::text::tokenizer_from_sentencepiece(text, "t.model", {}), torpor::kExerciseText);
  } catch (const torpor::BadInput&) {
  }
  return 0;
}
