// Words that were seen before: nearly every word of a text is. A table of fixed size without allocation: a word has the
// slot that its hash names, and the neighbour in the same cache line for when another comes; a third one pushes the
// older out. Against one slot a word, the share of merging in the time falls from 30 to 25 % (bench/text, English
// novels).
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/text/tokenizer.h"

namespace torpor::text {

/// One thread at a time.
class WordCache {
 public:
  static constexpr std::size_t kMaxBytes = 15;  // longer words are rare (0.3 % of English novels' bytes in words)
  static constexpr std::size_t kMaxTokens = 4;
  // 2^16 slots = 2 MB: the 98 novels have 10^5 distinct words, few of them frequent.
  static constexpr int kSlotBits = 16;

  /// A word's bytes and length in 16 bytes; the length (1 … 15) stands in the last.
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Key key;
    TokenId ids[kMaxTokens];  // unused ones are -1
    int count() const { return 1 + (ids[1] >= 0) + (ids[2] >= 0) + (ids[3] >= 0); }
  };

  WordCache() : lines_(std::size_t{1} << (kSlotBits - 1)) {}

  /// 0 < word.size() <= kMaxBytes. `readable`: bytes that may be read from word.data() on.
  static Key key_of(std::string_view word, std::size_t readable) {
    Key key;
    if (readable >= 16) [[likely]] {
      std::memcpy(&key, word.data(), 16);
      const auto bits = 8 * word.size();
      if (bits < 64) {
        key.low &= (std::uint64_t{1} << bits) - 1;
        key.high = 0;
      } else {
        key.high &= (std::uint64_t{1} << (bits - 64)) - 1;
      }
    } else {
      std::memcpy(&key, word.data(), word.size());
    }
    key.high |= std::uint64_t{word.size()} << 56;
    return key;
  }

  Slot& slot(const Key& key) {
    std::uint64_t hash = (key.low ^ (key.high >> 29 | key.high << 35)) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ hash >> 32 ^ key.high) * 0xD6E8FEB86659FD93u;
    const std::size_t at = hash >> (64 - kSlotBits);
    return lines_[at / 2].slots[at % 2];
  }

  /// The other slot of the same cache line: where the word that was in `slot` before goes.
  static Slot& neighbour(Slot& slot) {
    return *reinterpret_cast<Slot*>(reinterpret_cast<std::uintptr_t>(&slot) ^ sizeof(Slot));
  }

 private:
  // Slots in pairs that fill a cache line.
  struct alignas(64) Line {
    Slot slots[2];
  };
  std::vector<Line> lines_;
};

}  // namespace torpor::text
