// tokenizer.json of the `tokenizers` package, BPE models.
#include <algorithm>
#include <unordered_map>

#include "core/base/error.h"
#include "core/text/formats.h"
#include "core/text/json_steps.h"
#include "core/text/large_json.h"
#include "core/text/named_tokens.h"
#include "core/text/pipeline.h"
#include "core/text/quote.h"

namespace torpor::text {
namespace {

Vocabulary vocabulary_from(const JsonReader& model) {
  const JsonReader vocab = model.object("vocab");
  std::vector<std::pair<std::string, std::int64_t>> entries;
  entries.reserve(vocab.json().size());
  for (const auto& [text, id] : vocab.json().items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<std::uint64_t>() > INT32_MAX))
      throw BadInput("{}: expected an integer id for the token {}, found {}", vocab.where(), quote(text),
                     id.is_primitive() ? id.dump() : id.type_name());
    entries.emplace_back(text, id.get<std::int64_t>());
  }
  return Vocabulary(std::move(entries), vocab.where());
}

// "a b" or ["a", "b"]
std::vector<std::pair<std::string, std::string>> merges_from(const JsonReader& model) {
  const Json& json = model.at("merges");
  if (!json.is_array())
    throw BadInput("{}: expected an array at \"merges\", found {}", model.where(), json.type_name());
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    const Json& merge = json[i];
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const auto space = text.find(' ');
      if (space != std::string::npos && space > 0 && space + 1 < text.size() &&
          text.find(' ', space + 1) == std::string::npos) {
        merges.emplace_back(text.substr(0, space), text.substr(space + 1));
        continue;
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    throw BadInput("{}: expected two tokens with one space between, or an array of two, at merges[{}], found {}",
                   model.where(), i, quote(merge.dump(-1, ' ', false, Json::error_handler_t::replace)));
  }
  return merges;
}

// Settings of model that change what it does in a way not done here.
void refuse_unless_absent(const JsonReader& model, const char* key) {
  const auto found = model.json().find(key);
  if (found == model.json().end() || found->is_null() || *found == "" || *found == 0.0) return;
  throw BadInput("{}: expected nothing at \"{}\", found {}, which is not supported", model.where(), key,
                 quote(found->dump(-1, ' ', false, Json::error_handler_t::replace)));
}

std::vector<AddedToken> added_tokens_from(const JsonReader& file, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  const auto found = file.json().find("added_tokens");
  if (found == file.json().end() || found->is_null()) return tokens;
  if (!found->is_array()) throw BadInput("{}: expected an array at \"added_tokens\"", file.where());
  std::unordered_map<std::string, TokenId> ids;
  std::unordered_map<TokenId, std::string> contents;
  const std::int64_t limit = vocabulary.size() + static_cast<std::int64_t>(found->size()) + kMaxHoles;
  for (std::size_t i = 0; i < found->size(); ++i) {
    const JsonReader json((*found)[i], fmt::format("{}: added_tokens[{}]", file.where(), i));
    AddedToken token;
    token.content = json.string("content");
    token.id = static_cast<TokenId>(json.integer("id", 0, limit - 1));
    token.special = json.boolean_or("special", false);
    token.single_word = json.boolean_or("single_word", false);
    token.left_strip = json.boolean_or("lstrip", false);
    token.right_strip = json.boolean_or("rstrip", false);
    token.normalized = json.boolean_or("normalized", !token.special);
    if (token.content.empty()) throw BadInput("{}: expected a text at \"content\", found nothing", json.where());
    const TokenId known = vocabulary.find(token.content);
    if (known >= 0 && known != token.id)
      throw BadInput("{}: expected the id {} that {} has in the vocabulary, found {}", json.where(), known,
                     quote(token.content), token.id);
    if (known < 0 && vocabulary.has(token.id))
      throw BadInput("{}: expected an id that is free, found {} for {}, which is {} in the vocabulary", json.where(),
                     token.id, quote(token.content), quote(vocabulary.text(token.id)));
    const auto [same_text, new_text] = ids.emplace(token.content, token.id);
    const auto [same_id, new_id] = contents.emplace(token.id, token.content);
    if (new_text != new_id || (!new_text && same_text->second != token.id))
      throw BadInput("{}: expected one id for each added token, found {} with id {}, and before {} with id {}",
                     json.where(), quote(token.content), token.id, quote(new_text ? same_id->second : token.content),
                     new_text ? token.id : same_text->second);
    if (new_text) tokens.push_back(std::move(token));
  }
  return tokens;
}

std::string pattern_name(const PreTokenizer& pre_tokenizer) {
  const auto pattern = pre_tokenizer.only_scanner();
  if (!pattern) return "";
  return *pattern == WordPattern::gpt2     ? ", GPT-2 pattern"
         : *pattern == WordPattern::llama3 ? ", Llama 3 pattern"
                                           : ", Qwen 2 pattern";
}

}  // namespace

std::unique_ptr<const Tokenizer> tokenizer_from_json(std::string_view text, const std::string& where,
                                                     const std::filesystem::path& folder) {
  const Json json = parse_large_json(text, where);
  const JsonReader file(json, where);
  const auto part = [&](const char* key) -> const Json& {
    static const Json kNull;
    const auto found = json.find(key);
    return found == json.end() ? kNull : *found;
  };
  const JsonReader model = file.object("model");
  // Files from before the field existed have BPE's merges; nothing else has.
  const std::string type = model.string_or("type", model.has("merges") ? "BPE" : "");
  if (type != "BPE")
    throw BadInput("{}: expected BPE at \"type\", found {}; other models are not supported", model.where(),
                   quote(type));
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
    refuse_unless_absent(model, key);

  PipelineParts parts;
  auto vocabulary = std::make_unique<const Vocabulary>(vocabulary_from(model));
  auto [pre_tokenizer, byte_level] = pre_tokenizer_from(part("pre_tokenizer"), where + ": pre_tokenizer");
  parts.pre_tokenizer = std::move(pre_tokenizer);
  parts.normalizer = normalizer_from(part("normalizer"), where + ": normalizer");
  parts.decoder = decoder_from(part("decoder"), where + ": decoder");

  BpeSettings settings;
  settings.where = model.where();
  settings.byte_level = byte_level;
  settings.byte_fallback = model.boolean_or("byte_fallback", false);
  settings.fuse_unknown = model.boolean_or("fuse_unk", false);
  settings.ignore_merges = model.boolean_or("ignore_merges", false);
  if (const std::string unknown = model.string_or("unk_token", ""); !unknown.empty()) {
    settings.unknown = vocabulary->find(unknown);
    if (settings.unknown < 0)
      throw BadInput("{}: expected a token of the vocabulary at \"unk_token\", found {}", model.where(),
                     quote(unknown));
  }
  parts.model = std::make_unique<BpeModel>(*vocabulary, merges_from(model), settings);

  const std::vector<AddedToken> added = added_tokens_from(file, *vocabulary);
  int size = vocabulary->size();
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  std::vector<std::string> raw_contents;
  std::vector<std::string> normalized_contents;
  for (const AddedToken& token : added) {
    size = std::max(size, token.id + 1);
    (token.normalized ? normalized : raw).push_back(token);
    if (token.normalized)
      normalized_contents.push_back(parts.normalizer.apply(token.content));
    else
      raw_contents.push_back(token.content);
  }
  parts.added = AddedTokenFinder(std::move(raw), raw_contents);
  parts.added_normalized = AddedTokenFinder(std::move(normalized), normalized_contents);

  parts.bytes.resize(static_cast<std::size_t>(size));
  parts.special.resize(parts.bytes.size());
  if (parts.decoder.first_differs()) parts.first_bytes.resize(parts.bytes.size());
  const auto set_bytes = [&](TokenId id, std::string_view token) {
    const auto at = static_cast<std::size_t>(id);
    parts.bytes[at] = parts.decoder.token_bytes(token, false);
    if (!parts.first_bytes.empty()) parts.first_bytes[at] = parts.decoder.token_bytes(token, true);
  };
  for (TokenId id = 0; id < vocabulary->size(); ++id) set_bytes(id, vocabulary->text(id));
  for (const AddedToken& token : added) {
    set_bytes(token.id, token.content);
    parts.special[static_cast<std::size_t>(token.id)] = token.special;
  }

  const Frame frame = frame_from(part("post_processor"), where + ": post_processor", size);
  parts.before = frame.before;
  parts.after = frame.after;
  const auto find = [&](const std::string& token) {
    for (const AddedToken& candidate : added)
      if (candidate.content == token) return candidate.id;
    return vocabulary->find(token);
  };
  const NamedTokens named = named_tokens(folder, find, size);
  // Without a word from the files beside it, what the template puts around a text is what begins and ends one.
  parts.bos = named.bos ? *named.bos : frame.before.empty() ? std::nullopt : std::optional(frame.before.front());
  parts.eos = named.eos ? *named.eos : frame.after.empty() ? std::nullopt : std::optional(frame.after.back());
  if (!frame.given) {
    if (named.add_bos.value_or(false) && parts.bos) parts.before.push_back(*parts.bos);
    if (named.add_eos.value_or(false) && parts.eos) parts.after.push_back(*parts.eos);
  }
  parts.description = fmt::format("{} (tokenizer.json{})", byte_level ? "byte-level BPE" : "character BPE",
                                  pattern_name(parts.pre_tokenizer));
  parts.vocabulary = std::move(vocabulary);
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace torpor::text
