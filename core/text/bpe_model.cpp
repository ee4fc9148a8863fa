#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/quote.h"
#include "core/text/unicode.h"
#include "core/text/word_model.h"

namespace torpor::text {

void MergeTable::reserve(std::size_t merges) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(2, 2 * merges + 1));
  slots_.assign(slots, Slot{});
  shift_ = 64 - std::countr_zero(slots);
}

void MergeTable::insert(TokenId left, TokenId right, Merge merge, bool replace) {
  const std::uint64_t key = key_of(left, right);
  for (std::size_t at = hash_of(key) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
    if (slots_[at].key == key && !replace) return;
    if (slots_[at].key != key && slots_[at].key != kEmpty) continue;
    slots_[at] = {key, merge};
    return;
  }
}

BpeModel::BpeModel(const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
                   BpeSettings settings)
    : vocabulary_(vocabulary), settings_(std::move(settings)) {
  byte_ids_.fill(kNoToken);
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (settings_.byte_level)
      byte_ids_[byte] = vocabulary_.find(byte_character(static_cast<unsigned char>(byte)));
    else if (settings_.byte_fallback)
      byte_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  }
  merges_.reserve(merges.size());
  bool marker_joins_left = false;  // some merge puts the space marker behind another character
  std::string joined;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    const TokenId left_id = vocabulary_.find(left);
    const TokenId right_id = vocabulary_.find(right);
    joined.assign(left).append(right);
    const TokenId id = vocabulary_.find(joined);
    if (left_id < 0 || right_id < 0 || id < 0)
      throw BadInput("{}: expected merges of tokens, found merge {} of {} and {}, but {} is not in the vocabulary",
                     settings_.where, i, quote(left), quote(right),
                     quote(left_id < 0    ? left
                           : right_id < 0 ? right
                                          : joined));
    merges_.insert(left_id, right_id, {static_cast<std::uint32_t>(i), id}, !settings_.first_merge_wins);
    marker_joins_left |= right.starts_with(kSpaceMarker) && !left.ends_with(kSpaceMarker);
  }
  const auto missing = std::count(byte_ids_.begin(), byte_ids_.end(), kNoToken);
  if (settings_.byte_level) {
    if (settings_.ignore_merges)
      for (TokenId id = 0; id < vocabulary_.size(); ++id)
        if (auto bytes = bytes_of_characters(vocabulary_.text(id)); bytes && !bytes->empty())
          words_.emplace(std::move(*bytes), id);
  } else if (!marker_joins_left && !settings_.ignore_merges && vocabulary_.find(kSpaceMarker) >= 0 &&
             (missing == 0 || missing == 256)) {
    // With the marker a token of its own, pending unknowns (see add_characters) end before it in any case; with a part
    // of the byte tokens they may not.
    cut_before_ = kSpaceMarker;
  }
}

void BpeModel::add_characters(std::string_view word, std::vector<Symbol>& symbols) const {
  // As the `tokenizers` package does it, with its quirk: an unknown character is noted and written only when the next
  // known one comes, so that byte tokens in between come first.
  Symbol unknown;
  const auto flush = [&] {
    if (unknown.id >= 0) symbols.push_back(unknown);
    unknown.id = kNoToken;
  };
  const char* const begin = word.data();
  const char* const end = begin + word.size();
  for (const char* at = begin; at < end;) {
    const Char c = next_char(at, end);
    const std::string_view text(at, c.valid ? c.bytes : 1);
    const auto from = static_cast<std::uint32_t>(at - begin);
    const auto to = from + static_cast<std::uint32_t>(text.size());
    at += text.size();
    const TokenId id = c.valid ? vocabulary_.find(text) : kNoToken;
    if (id >= 0) {
      flush();
      symbols.push_back({id, from, to});
      continue;
    }
    const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (settings_.byte_fallback && std::all_of(text.begin(), text.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (std::uint32_t i = from; i < to; ++i) symbols.push_back({byte_id(begin[i]), i, i + 1});
      continue;
    }
    if (settings_.unknown < 0) continue;
    if (unknown.id >= 0 && settings_.fuse_unknown) {
      unknown.end = to;
    } else {
      flush();
      unknown = {settings_.unknown, from, to};
    }
  }
  flush();
}

void BpeModel::encode(std::string_view word, EncodeScratch& scratch, IdSink& out) const {
  if (word.size() >= kNoRank)
    throw InvalidArgument("[encode] expected words shorter than 4 GB, got {} bytes", word.size());
  if (settings_.ignore_merges) {
    if (settings_.byte_level) {
      if (const auto found = words_.find(std::string(word)); found != words_.end()) return out.push(found->second);
    } else if (const TokenId id = vocabulary_.find(word); id >= 0) {
      return out.push(id);
    }
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  if (settings_.byte_level) {
    for (std::uint32_t i = 0; i < word.size(); ++i) {
      TokenId id = byte_ids_[static_cast<unsigned char>(word[i])];
      if (id >= 0) {
        symbols.push_back({id, i, i + 1});
      } else if (settings_.unknown >= 0) {
        if (settings_.fuse_unknown && !symbols.empty() && symbols.back().id == settings_.unknown &&
            symbols.back().end == i)
          symbols.back().end = i + 1;
        else
          symbols.push_back({settings_.unknown, i, i + 1});
      }
    }
  } else {
    add_characters(word, symbols);
  }
  merge_symbols(
      symbols, [&](const Symbol& left, const Symbol& right) { return merges_.find(left.id, right.id); },
      scratch.merging);
  for (const Symbol& symbol : symbols) out.push(symbol.id);
}

}  // namespace torpor::text
