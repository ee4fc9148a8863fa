// What GGUF's "llama" vocabularies and llama2.c's have in common: text becomes pieces by score, a space is put in
// front, the first space is dropped again when decoding.
#pragma once

#include <array>

#include "core/text/byte_token.h"
#include "core/text/pipeline.h"

namespace torpor::text {

inline std::array<TokenId, 256> no_byte_ids() {
  std::array<TokenId, 256> ids;
  ids.fill(kNoToken);
  return ids;
}

/// Adds the normalizer step and the strip that a dummy prefix means.
inline void add_dummy_prefix(std::vector<NormalizerStep>& steps, PipelineParts& parts) {
  steps.push_back(PrependText{" "});
  parts.decoder = Decoder({}, {Decoder::Strip{" ", 1}});
}

}  // namespace torpor::text
