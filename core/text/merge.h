// The merging loop of byte-pair encoding: of all neighbours that may merge, the pair of the lowest rank does, the
// leftmost of equals; again until none may. What may merge is the caller's (`Pairing`): pairs of ids for BPE by rank,
// concatenated text for SentencePiece's BPE by score.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/text/tokenizer.h"

namespace torpor::text {

/// A part of a word, [begin, end) in bytes. id: kNoToken if the part is not in the vocabulary.
struct Symbol {
  TokenId id = -1;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

inline constexpr TokenId kNoToken = -1;
inline constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

/// What two neighbours become; rank kNoRank: they may not merge.
struct Merge {
  std::uint32_t rank = kNoRank;
  TokenId id = kNoToken;
};

/// Buffers for long words, kept between calls.
struct MergeBuffers {
  std::vector<std::uint32_t> previous;
  std::vector<std::uint32_t> next;
  std::vector<std::uint32_t> ranks;
  std::vector<std::uint64_t> heap;
};

// From here on the heap wins; below, moving a few symbols up costs less than its bookkeeping.
inline constexpr std::size_t kShortWord = 48;

/// Quadratic in the count, which is small: no heap, no links.
template <typename Pairing>
void merge_short(std::vector<Symbol>& symbols, const Pairing& pairing) {
  std::uint32_t ranks[kShortWord] = {};
  std::size_t n = symbols.size();
  for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = pairing(symbols[i], symbols[i + 1]).rank;
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    symbols[best] = {pairing(symbols[best], symbols[best + 1]).id, symbols[best].begin, symbols[best + 1].end};
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
    }
    --n;
    if (best > 0) ranks[best - 1] = pairing(symbols[best - 1], symbols[best]).rank;
    if (best + 1 < n) ranks[best] = pairing(symbols[best], symbols[best + 1]).rank;
  }
  symbols.resize(n);
}

/// O(n log n): a heap of (rank, position) and a linked list. An entry is stale when the rank noted for its position has
/// changed since.
template <typename Pairing>
void merge_long(std::vector<Symbol>& symbols, const Pairing& pairing, MergeBuffers& buffers) {
  const auto n = static_cast<std::uint32_t>(symbols.size());
  // Named one by one: clang 14 does not let a lambda capture a structured binding.
  auto& previous = buffers.previous;
  auto& next = buffers.next;
  auto& ranks = buffers.ranks;
  auto& heap = buffers.heap;
  previous.resize(n);
  next.resize(n);
  ranks.assign(n, kNoRank);
  heap.clear();
  const auto entry = [](std::uint32_t rank, std::uint32_t at) { return std::uint64_t{rank} << 32 | at; };
  const std::greater<> later;
  for (std::uint32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;  // wraps at 0; never followed there
    next[i] = i + 1;
    if (i + 1 < n) ranks[i] = pairing(symbols[i], symbols[i + 1]).rank;
    if (ranks[i] != kNoRank) heap.push_back(entry(ranks[i], i));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto rank_anew = [&](std::uint32_t left, std::uint32_t right) {
    const std::uint32_t rank = pairing(symbols[left], symbols[right]).rank;
    ranks[left] = rank;
    if (rank == kNoRank) return;
    heap.push_back(entry(rank, left));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    const std::uint64_t top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    const auto left = static_cast<std::uint32_t>(top);
    if (ranks[left] != top >> 32) continue;
    const std::uint32_t right = next[left];
    symbols[left] = {pairing(symbols[left], symbols[right]).id, symbols[left].begin, symbols[right].end};
    ranks[left] = kNoRank;
    ranks[right] = kNoRank;
    next[left] = next[right];
    if (next[left] < n) {
      previous[next[left]] = left;
      rank_anew(left, next[left]);
    }
    if (left > 0) rank_anew(previous[left], left);
  }
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < n; i = next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

template <typename Pairing>
void merge_symbols(std::vector<Symbol>& symbols, const Pairing& pairing, MergeBuffers& buffers) {
  if (symbols.size() <= kShortWord)
    merge_short(symbols, pairing);
  else
    merge_long(symbols, pairing, buffers);
}

}  // namespace torpor::text
