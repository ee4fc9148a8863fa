// The parts of a tokenizer.json, read: each step is one this program does exactly as the `tokenizers` package, or
// BadInput that names the field.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"

namespace torpor::text {

Normalizer normalizer_from(const Json& json, const std::string& where);

struct PreTokenizerSettings {
  PreTokenizer pre_tokenizer;
  bool byte_level = false;
};
PreTokenizerSettings pre_tokenizer_from(const Json& json, const std::string& where);

Decoder decoder_from(const Json& json, const std::string& where);

/// Tokens put around a text.
struct Frame {
  bool given = false;  // the file has a template
  std::vector<TokenId> before;
  std::vector<TokenId> after;
};
/// ids must lie below `limit`.
Frame frame_from(const Json& json, const std::string& where, std::int64_t limit);

}  // namespace torpor::text
