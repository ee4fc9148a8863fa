// vocab.json and merges.txt, as GPT-2 and OPT come with.
#include <algorithm>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/formats.h"
#include "core/text/large_json.h"
#include "core/text/named_tokens.h"
#include "core/text/pipeline.h"
#include "core/text/quote.h"

namespace torpor::text {
namespace {

std::vector<std::pair<std::string, std::string>> merges_of(std::string_view text, const std::string& where) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t newline = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(std::min(newline + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos)
      throw BadInput("{}: expected two tokens with one space between in line {}, found {}", where, line_number,
                     quote(line));
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

}  // namespace

std::unique_ptr<const Tokenizer> tokenizer_from_vocab_and_merges(std::string_view vocab_json,
                                                                 const std::string& vocab_where,
                                                                 std::string_view merges,
                                                                 const std::string& merges_where,
                                                                 const std::filesystem::path& folder) {
  const Json json = parse_large_json(vocab_json, vocab_where);
  const JsonReader reader(json, vocab_where);
  std::vector<std::pair<std::string, std::int64_t>> entries;
  entries.reserve(json.size());
  for (const auto& [text, id] : json.items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<std::uint64_t>() > INT32_MAX))
      throw BadInput("{}: expected an integer id for the token {}", vocab_where, quote(text));
    entries.emplace_back(text, id.get<std::int64_t>());
  }
  PipelineParts parts;
  auto vocabulary = std::make_unique<const Vocabulary>(std::move(entries), vocab_where);
  BpeSettings settings;
  settings.byte_level = true;
  settings.where = merges_where;
  parts.model = std::make_unique<BpeModel>(*vocabulary, merges_of(merges, merges_where), settings);
  std::vector<PreTokenizerStep> steps;
  steps.push_back(ScannerSplit{WordPattern::gpt2});
  parts.pre_tokenizer = PreTokenizer(std::move(steps));

  parts.bytes.resize(static_cast<std::size_t>(vocabulary->size()));
  parts.special.resize(parts.bytes.size());
  for (TokenId id = 0; id < vocabulary->size(); ++id) {
    const std::string_view token = vocabulary->text(id);
    parts.bytes[static_cast<std::size_t>(id)] = bytes_of_characters(token).value_or(std::string(token));
  }
  const NamedTokens named = named_tokens(
      folder, [&](const std::string& token) { return vocabulary->find(token); }, vocabulary->size());
  const TokenId end_of_text = vocabulary->find("<|endoftext|>");
  const std::optional<TokenId> usual = end_of_text < 0 ? std::nullopt : std::optional(end_of_text);
  parts.bos = named.bos ? *named.bos : usual;
  parts.eos = named.eos ? *named.eos : usual;
  if (named.add_bos.value_or(false) && parts.bos) parts.before.push_back(*parts.bos);
  if (named.add_eos.value_or(false) && parts.eos) parts.after.push_back(*parts.eos);

  std::vector<AddedToken> added;
  std::vector<std::string> contents;
  for (const auto& id : {usual, parts.bos, parts.eos}) {
    if (!id || parts.special[static_cast<std::size_t>(*id)]) continue;
    parts.special[static_cast<std::size_t>(*id)] = true;
    AddedToken token;
    token.id = *id;
    token.special = true;
    token.content = parts.bytes[static_cast<std::size_t>(*id)];
    contents.push_back(token.content);
    added.push_back(std::move(token));
  }
  parts.added = AddedTokenFinder(std::move(added), contents);
  parts.description = "byte-level BPE (vocab.json and merges.txt, GPT-2 pattern)";
  parts.vocabulary = std::move(vocabulary);
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace torpor::text
