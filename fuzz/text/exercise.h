// What is done to every tokenizer that loads, however odd: it must not crash, and must keep its promises.
#pragma once

#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"

namespace torpor {

inline void exercise(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse : {false, true}) {
    std::vector<TokenId> ids;
    try {
      ids = tokenizer.encode(text, {true, parse});
    } catch (const BadInput&) {  // a pattern that takes too many steps
      continue;
    }
    StreamingDetokenizer streaming(tokenizer);
    std::string streamed;
    for (const TokenId id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
      tokenizer.token_bytes(id);
      streamed += streaming.push(id);
    }
    streamed += streaming.finish();
    if (streamed != text::replace_invalid(tokenizer.decode(ids))) std::abort();
  }
  for (const auto& id : {tokenizer.bos(), tokenizer.eos()})
    if (id && (*id < 0 || *id >= tokenizer.vocab_size())) std::abort();
}

inline constexpr std::string_view kExerciseText =
    "Hello ab  aa\n\n'll 123 caf\xC3\xA9 \xE2\x96\x81\xE7\xA5\x9E <s>a</s> \xFF\xE2\x96 \xF0\x9F\x91\x8D";

}  // namespace torpor
