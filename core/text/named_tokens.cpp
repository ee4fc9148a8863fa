#include "core/text/named_tokens.h"

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/large_json.h"
#include "core/text/quote.h"

namespace torpor::text {
namespace {

constexpr std::size_t kLargestConfig = std::size_t{64} << 20;

using Find = std::function<TokenId(const std::string&)>;
using Named = std::optional<std::optional<TokenId>>;

void read_text(const Json& json, const char* key, const std::string& where, const Find& find, Named& named) {
  const auto found = json.find(key);
  if (named || found == json.end()) return;
  if (found->is_null()) {
    named.emplace(std::nullopt);
    return;
  }
  const std::string content = found->is_object() ? JsonReader(*found, where + ": " + key).string("content")
                                                 : JsonReader(json, where).string(key);
  const TokenId id = find(content);
  if (id < 0) throw BadInput("{}: expected a token of the vocabulary at \"{}\", found {}", where, key, quote(content));
  named.emplace(id);
}

void read_id(const Json& json, const char* key, const std::string& where, int vocab_size, Named& named) {
  const auto found = json.find(key);
  if (named || found == json.end() || found->is_null()) return;
  const Json& id = found->is_array() && !found->empty() ? found->front() : *found;
  if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= vocab_size)
    throw BadInput("{}: expected a token id from 0 to {} at \"{}\"; do the model and the tokenizer belong together?",
                   where, vocab_size - 1, key);
  named.emplace(id.get<TokenId>());
}

std::optional<Json> read_beside(const std::filesystem::path& folder, const char* name) {
  std::error_code error;
  if (folder.empty() || !std::filesystem::is_regular_file(folder / name, error)) return std::nullopt;
  const std::string where = (folder / name).string();
  Json json = parse_large_json(read_file(folder / name, kLargestConfig), where);
  if (!json.is_object()) throw BadInput("{}: expected a JSON object, found {}", where, json.type_name());
  return json;
}

}  // namespace

NamedTokens named_tokens(const std::filesystem::path& folder, const Find& find, int vocab_size) {
  NamedTokens result;
  if (folder.empty()) return result;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto json = read_beside(folder, name);
    if (!json) continue;
    const std::string where = (folder / name).string();
    read_text(*json, "bos_token", where, find, result.bos);
    read_text(*json, "eos_token", where, find, result.eos);
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    const auto json = read_beside(folder, name);
    if (!json) continue;
    const std::string where = (folder / name).string();
    read_id(*json, "bos_token_id", where, vocab_size, result.bos);
    read_id(*json, "eos_token_id", where, vocab_size, result.eos);
  }
  const NamedTokens flags = frame_flags(folder);
  result.add_bos = flags.add_bos;
  result.add_eos = flags.add_eos;
  return result;
}

NamedTokens frame_flags(const std::filesystem::path& folder) {
  NamedTokens result;
  const auto json = read_beside(folder, "tokenizer_config.json");
  if (!json) return result;
  const JsonReader reader(*json, (folder / "tokenizer_config.json").string());
  if (reader.has("add_bos_token")) result.add_bos = reader.boolean("add_bos_token");
  if (reader.has("add_eos_token")) result.add_eos = reader.boolean("add_eos_token");
  return result;
}

}  // namespace torpor::text
