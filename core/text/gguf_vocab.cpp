// Vocabularies inside GGUF files: tokenizer.ggml.* keys, as llama.cpp reads them.
#include <algorithm>

#include "core/base/error.h"
#include "core/tensor/gguf.h"
#include "core/text/byte_level.h"
#include "core/text/formats.h"
#include "core/text/quote.h"
#include "core/text/spm_parts.h"

namespace torpor::text {
namespace {

// Token types, the numbers are the format's.
enum class TokenType : std::int64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Entries {
  std::string where;
  std::vector<std::string_view> tokens;
  std::vector<TokenType> types;
};

Entries read_entries(const GgufFile& file) {
  Entries entries{file.where(), file.strings("tokenizer.ggml.tokens"), {}};
  if (entries.tokens.empty()) throw BadInput("{}: expected tokens in tokenizer.ggml.tokens, found none", file.where());
  entries.types.assign(entries.tokens.size(), TokenType::normal);
  if (!file.has("tokenizer.ggml.token_type")) return entries;
  const auto types = file.integers("tokenizer.ggml.token_type");
  if (types.size() != entries.tokens.size())
    throw BadInput("{}: expected {} elements in tokenizer.ggml.token_type, one a token, found {}", file.where(),
                   entries.tokens.size(), types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] < 1 || types[i] > 6)
      throw BadInput("{}: expected token types from 1 to 6 in tokenizer.ggml.token_type, found {} for token {}",
                     file.where(), types[i], i);
    entries.types[i] = static_cast<TokenType>(types[i]);
  }
  return entries;
}

std::optional<TokenId> id_at(const GgufFile& file, const char* key, std::size_t count) {
  if (!file.has(key)) return std::nullopt;
  // Converters write 2^32 - 1 for "none".
  const std::int64_t id = file.integer(key, -1, 0xFFFFFFFF);
  if (id == -1 || id == 0xFFFFFFFF) return std::nullopt;
  if (id >= static_cast<std::int64_t>(count))
    throw BadInput("{}: expected a token id below {} at \"{}\", found {}", file.where(), count, key, id);
  return static_cast<TokenId>(id);
}

// BOS, EOS, the frame, and the tokens that are found as they are written.
void add_specials(const GgufFile& file, const Entries& entries, bool add_bos, bool right_strip, PipelineParts& parts) {
  const std::size_t count = entries.tokens.size();
  parts.bos = id_at(file, "tokenizer.ggml.bos_token_id", count);
  parts.eos = id_at(file, "tokenizer.ggml.eos_token_id", count);
  if (file.boolean_or("tokenizer.ggml.add_bos_token", add_bos)) {
    if (!parts.bos) throw BadInput("{}: expected tokenizer.ggml.bos_token_id, since BOS is to be added", file.where());
    parts.before.push_back(*parts.bos);
  }
  if (file.boolean_or("tokenizer.ggml.add_eos_token", false)) {
    if (!parts.eos) throw BadInput("{}: expected tokenizer.ggml.eos_token_id, since EOS is to be added", file.where());
    parts.after.push_back(*parts.eos);
  }
  parts.special.resize(count);
  std::vector<AddedToken> added;
  std::vector<std::string> contents;
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<TokenId>(i);
    const TokenType type = entries.types[i];
    parts.special[i] = type == TokenType::control || parts.bos == id || parts.eos == id;
    if (!parts.special[i] && type != TokenType::user_defined && type != TokenType::unknown) continue;
    if (entries.tokens[i].empty()) continue;
    AddedToken token;
    token.id = id;
    token.content = std::string(entries.tokens[i]);
    token.special = parts.special[i] || type == TokenType::unknown;  // both are found only when asked for
    token.right_strip =
        right_strip && token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
    parts.bytes[i] = token.content;
    contents.push_back(token.content);
    added.push_back(std::move(token));
  }
  parts.added = AddedTokenFinder(std::move(added), contents);
}

struct KnownPattern {
  std::string_view name;  // tokenizer.ggml.pre
  WordPattern pattern;
  bool ignore_merges;
  bool add_bos;
};
constexpr KnownPattern kKnownPatterns[] = {
    {"gpt-2", WordPattern::gpt2, false, false},     {"phi-2", WordPattern::gpt2, false, false},
    {"olmo", WordPattern::gpt2, false, false},      {"mpt", WordPattern::gpt2, false, false},
    {"llama-bpe", WordPattern::llama3, true, true}, {"llama3", WordPattern::llama3, true, true},
    {"llama-v3", WordPattern::llama3, true, true},  {"qwen2", WordPattern::qwen2, false, false},
};

std::unique_ptr<const Tokenizer> bpe_from(const GgufFile& file) {
  const std::string& where = file.where();
  const std::string_view name = file.string("tokenizer.ggml.pre");
  const auto* const known = std::find_if(std::begin(kKnownPatterns), std::end(kKnownPatterns),
                                         [&](const auto& entry) { return entry.name == name; });
  if (known == std::end(kKnownPatterns)) {
    std::string names;
    for (const auto& entry : kKnownPatterns) names.append(names.empty() ? "" : ", ").append(entry.name);
    throw BadInput("{}: expected a pre-tokenizer that is supported at \"tokenizer.ggml.pre\" ({}), found {}", where,
                   names, quote(name));
  }
  const Entries entries = read_entries(file);
  std::vector<std::pair<std::string, std::int64_t>> vocabulary_entries;
  vocabulary_entries.reserve(entries.tokens.size());
  for (std::size_t i = 0; i < entries.tokens.size(); ++i)
    vocabulary_entries.emplace_back(entries.tokens[i], static_cast<std::int64_t>(i));
  std::vector<std::pair<std::string, std::string>> merges;
  const auto lines = file.strings("tokenizer.ggml.merges");
  merges.reserve(lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t space = lines[i].find(' ', 1);
    if (space == std::string_view::npos || space + 1 == lines[i].size())
      throw BadInput("{}: expected two tokens with one space between in tokenizer.ggml.merges[{}], found {}", where, i,
                     quote(lines[i]));
    merges.emplace_back(lines[i].substr(0, space), lines[i].substr(space + 1));
  }
  PipelineParts parts;
  auto vocabulary =
      std::make_unique<const Vocabulary>(std::move(vocabulary_entries), where + ": tokenizer.ggml.tokens");
  BpeSettings settings;
  settings.byte_level = true;
  settings.ignore_merges = known->ignore_merges;
  settings.first_merge_wins = true;
  settings.where = where + ": tokenizer.ggml.merges";
  parts.model = std::make_unique<BpeModel>(*vocabulary, merges, settings);
  std::vector<PreTokenizerStep> steps;
  if (file.boolean_or("tokenizer.ggml.add_space_prefix", false)) steps.push_back(PrefixSpace{});
  steps.push_back(ScannerSplit{known->pattern});
  parts.pre_tokenizer = PreTokenizer(std::move(steps));
  for (const std::string_view token : entries.tokens)
    parts.bytes.push_back(bytes_of_characters(token).value_or(std::string(token)));
  add_specials(file, entries, known->add_bos, false, parts);
  parts.vocabulary = std::move(vocabulary);
  parts.description = fmt::format("byte-level BPE (GGUF, {} pattern)", known->name);
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

std::unique_ptr<const Tokenizer> spm_from(const GgufFile& file) {
  const std::string& where = file.where();
  const Entries entries = read_entries(file);
  const auto scores = file.numbers("tokenizer.ggml.scores");
  if (scores.size() != entries.tokens.size())
    throw BadInput("{}: expected {} elements in tokenizer.ggml.scores, one a token, found {}", where,
                   entries.tokens.size(), scores.size());
  PipelineParts parts;
  std::vector<SpmModel::Piece> pieces;
  auto byte_ids = no_byte_ids();
  std::optional<TokenId> unknown = id_at(file, "tokenizer.ggml.unknown_token_id", entries.tokens.size());
  for (std::size_t i = 0; i < entries.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view token = entries.tokens[i];
    if (entries.types[i] == TokenType::byte) {
      const auto byte = byte_of_token(token);
      if (!byte) throw BadInput("{}: expected <0x00> to <0xFF> as the byte token {}, found {}", where, i, quote(token));
      byte_ids[*byte] = id;
      parts.bytes.emplace_back(1, static_cast<char>(*byte));
      continue;
    }
    if (entries.types[i] == TokenType::unknown && !unknown) unknown = id;
    parts.bytes.push_back(replace_all(token, kSpaceMarker, " "));
    // Text has the marker for every space, so a token with a space itself is never made by merging.
    if (token.find(' ') == std::string_view::npos) pieces.push_back({parts.bytes.back(), scores[i], id});
  }
  // llama.cpp goes by the model's name: Phi-3's special tokens take the white space behind them.
  std::string name = file.string_or("general.name", "");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const bool right_strip = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
  add_specials(file, entries, true, right_strip, parts);
  parts.model = std::make_unique<SpmModel>(std::move(pieces), byte_ids, unknown.value_or(kNoToken), where);
  std::vector<NormalizerStep> steps;
  if (file.boolean_or("tokenizer.ggml.add_space_prefix", true)) add_dummy_prefix(steps, parts);
  if (file.boolean_or("tokenizer.ggml.remove_extra_whitespaces", false))
    throw BadInput(
        "{}: expected false at \"tokenizer.ggml.remove_extra_whitespaces\" beside a llama vocabulary, found true",
        where);
  steps.push_back(ReplaceText{std::string(kSpaceMarker), " "});
  parts.normalizer = Normalizer(std::move(steps));
  parts.description = "SentencePiece BPE by score (GGUF)";
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace

std::unique_ptr<const Tokenizer> tokenizer_from_gguf(const GgufFile& file) {
  const std::string_view model = file.string("tokenizer.ggml.model");
  if (model == "gpt2") return bpe_from(file);
  if (model == "llama") return spm_from(file);
  throw BadInput(
      "{}: expected gpt2 or llama at \"tokenizer.ggml.model\", found {}; other vocabularies are not supported",
      file.where(), quote(model));
}

}  // namespace torpor::text
