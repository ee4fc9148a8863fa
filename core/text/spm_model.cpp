#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/text/quote.h"
#include "core/text/unicode.h"
#include "core/text/word_model.h"

namespace torpor::text {

SpmModel::SpmModel(std::vector<Piece> pieces, const std::array<TokenId, 256>& byte_ids, TokenId unknown,
                   const std::string& where)
    : pieces_(std::move(pieces)), byte_ids_(byte_ids), unknown_(unknown) {
  std::vector<std::uint32_t> order(pieces_.size());
  std::iota(order.begin(), order.end(), 0u);
  for (const Piece& piece : pieces_)
    if (std::isnan(piece.score))
      throw BadInput("{}: expected a score for the token {}, found NaN", where, quote(piece.text));
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return pieces_[a].score > pieces_[b].score; });
  // Equal scores share a rank, so that position decides between them.
  std::vector<std::uint32_t> ranks(pieces_.size());
  for (std::uint32_t i = 0; i < order.size(); ++i)
    ranks[order[i]] = i > 0 && pieces_[order[i]].score == pieces_[order[i - 1]].score ? ranks[order[i - 1]] : i;
  bool space_joins_left = false;
  by_text_.reserve(pieces_.size());
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const std::string& text = pieces_[i].text;
    if (text.empty()) continue;
    by_text_[text] = {ranks[i], pieces_[i].id};
    longest_ = std::max(longest_, text.size());
    for (std::size_t at = 1; at < text.size(); ++at) space_joins_left |= text[at] == ' ' && text[at - 1] != ' ';
  }
  if (!space_joins_left) cut_before_ = " ";
}

void SpmModel::encode(std::string_view word, EncodeScratch& scratch, IdSink& out) const {
  if (word.size() >= kNoRank)
    throw InvalidArgument("[encode] expected words shorter than 4 GB, got {} bytes", word.size());
  const auto lookup = [&](std::uint32_t begin, std::uint32_t end) -> Merge {
    if (end - begin > longest_) return {};
    const auto found = by_text_.find(word.substr(begin, end - begin));
    return found == by_text_.end() ? Merge{} : found->second;
  };
  auto& symbols = scratch.symbols;
  symbols.clear();
  for (std::uint32_t at = 0; at < word.size();) {
    const Char c = next_char(word.data() + at, word.data() + word.size());
    const std::uint32_t end = at + (c.valid ? c.bytes : 1u);
    symbols.push_back({lookup(at, end).id, at, end});
    at = end;
  }
  merge_symbols(
      symbols, [&](const Symbol& left, const Symbol& right) { return lookup(left.begin, right.end); }, scratch.merging);
  for (const Symbol& symbol : symbols) {
    if (symbol.id >= 0) {
      out.push(symbol.id);
      continue;
    }
    bool as_bytes = true;
    for (std::uint32_t i = symbol.begin; i < symbol.end; ++i)
      as_bytes &= byte_ids_[static_cast<unsigned char>(word[i])] >= 0;
    if (!as_bytes) {
      if (unknown_ >= 0) out.push(unknown_);
      continue;
    }
    for (std::uint32_t i = symbol.begin; i < symbol.end; ++i) out.push(byte_ids_[static_cast<unsigned char>(word[i])]);
  }
}

}  // namespace torpor::text
