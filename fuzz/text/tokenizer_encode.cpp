// Arbitrary bytes as text, through each of our small tokenizers: byte-level BPE gives them back, streaming gives what
// decoding gives.
#include <cstddef>
#include <cstdint>

#include "fuzz/text/exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string folder = TORPOR_SOURCE_DIR "/tests/golden/text/";
  static const auto gpt2 = torpor::load_tokenizer(folder + "byte_gpt2.json");
  static const auto llama3 = torpor::load_tokenizer(folder + "byte_llama3.json");
  static const auto mixed = torpor::load_tokenizer(folder + "byte_mixed.json");
  static const auto normalizer = torpor::load_tokenizer(folder + "llama_normalizer.json");
  static const auto metaspace = torpor::load_tokenizer(folder + "metaspace_split.json");
  static const auto pieces = torpor::load_tokenizer(folder + "sentencepiece_bpe.model");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto* tokenizer : {&gpt2, &llama3, &mixed, &normalizer, &metaspace, &pieces})
    torpor::exercise(**tokenizer, text);
  for (const auto* tokenizer : {&gpt2, &llama3})
    if ((*tokenizer)->decode((*tokenizer)->encode(text, {true, false})) != text) std::abort();
  return 0;
}
