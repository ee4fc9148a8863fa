// Which tokens begin and end a text: said by the files beside a tokenizer.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "core/text/tokenizer.h"

namespace torpor::text {

struct NamedTokens {
  // Not set: no file says. Set to nothing: a file says that there is none.
  std::optional<std::optional<TokenId>> bos;
  std::optional<std::optional<TokenId>> eos;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
};

/// Reads tokenizer_config.json, special_tokens_map.json (which name tokens), generation_config.json and config.json
/// (which give ids; the first of several), the first that speaks of a token decides. find: id of a token's text, -1 if
/// there is none. Missing files are skipped. Throws BadInput for damaged ones, for a token that does not exist.
NamedTokens named_tokens(const std::filesystem::path& folder, const std::function<TokenId(const std::string&)>& find,
                         int vocab_size);

/// Only add_bos and add_eos, from tokenizer_config.json.
NamedTokens frame_flags(const std::filesystem::path& folder);

}  // namespace torpor::text
