// The merging loops against the definition: look at all neighbours, merge the leftmost of the best, start again.
#include "core/text/merge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

#include "core/text/word_model.h"

namespace torpor::text {
namespace {

using Rules = std::map<std::pair<TokenId, TokenId>, Merge>;

std::vector<TokenId> naive(std::vector<TokenId> ids, const Rules& rules) {
  for (;;) {
    Merge best;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto rule = rules.find({ids[i], ids[i + 1]});
      if (rule == rules.end() || rule->second.rank >= best.rank) continue;
      best = rule->second;
      at = i;
    }
    if (best.rank == kNoRank) return ids;
    ids[at] = best.id;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(Merging, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    Rules rules;
    MergeTable table;
    const std::size_t count = 1 + random() % 60;
    table.reserve(count);
    for (std::uint32_t rank = 0; rank < count; ++rank) {
      const auto left = static_cast<TokenId>(random() % 12);
      const auto right = static_cast<TokenId>(random() % 12);
      // Also rules that make what an earlier rule consumes, and ranks that two pairs share (equal scores).
      const Merge merge{rank / 2, static_cast<TokenId>(random() % 12)};
      rules[{left, right}] = merge;
      table.insert(left, right, merge, true);
    }
    const auto pairing = [&](const Symbol& l, const Symbol& r) { return table.find(l.id, r.id); };
    for (const std::size_t length : {0, 1, 2, 3, 7, 47, 48, 49, 150}) {
      std::vector<TokenId> ids;
      std::vector<Symbol> symbols;
      for (std::uint32_t i = 0; i < length; ++i) {
        ids.push_back(static_cast<TokenId>(random() % 4));
        symbols.push_back({ids.back(), i, i + 1});
      }
      const auto expected = naive(ids, rules);
      MergeBuffers buffers;
      std::vector<Symbol> long_way = symbols;
      merge_long(long_way, pairing, buffers);
      merge_symbols(symbols, pairing, buffers);
      std::uint32_t covered = 0;
      ASSERT_EQ(symbols.size(), expected.size());
      ASSERT_EQ(long_way.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(symbols[i].id, expected[i]) << "length " << length;
        ASSERT_EQ(long_way[i].id, expected[i]) << "length " << length;
        ASSERT_EQ(symbols[i].begin, covered);
        ASSERT_EQ(long_way[i].end, symbols[i].end);
        covered = symbols[i].end;
      }
      ASSERT_EQ(covered, length);
    }
  }
}

TEST(MergeTable, KeepsTheFirstOrTheLastOfRepeatedPairs) {
  MergeTable table;
  EXPECT_EQ(table.find(0, 0).rank, kNoRank);
  table.reserve(2);
  table.insert(1, 2, {5, 3}, false);
  table.insert(1, 2, {6, 4}, false);
  EXPECT_EQ(table.find(1, 2).id, 3);
  table.insert(1, 2, {6, 4}, true);
  EXPECT_EQ(table.find(1, 2).id, 4);
  EXPECT_EQ(table.find(2, 1).rank, kNoRank);
}

TEST(WordCache, KeysTellWordsApartAndReadNothingBeyond) {
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  for (std::size_t length = 1; length <= WordCache::kMaxBytes; ++length) {
    const auto wide = WordCache::key_of(std::string_view(text).substr(0, length), text.size());
    const std::string alone = text.substr(0, length);
    EXPECT_EQ(wide, WordCache::key_of(alone, length)) << length;
    if (length < WordCache::kMaxBytes) {
      EXPECT_FALSE(wide == WordCache::key_of(alone + '\0', length + 1)) << length;
    }
  }
}

}  // namespace
}  // namespace torpor::text
