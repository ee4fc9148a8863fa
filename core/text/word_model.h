// From a word (a pre-token) to its token ids.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/text/merge.h"
#include "core/text/vocabulary.h"
#include "core/text/word_cache.h"

namespace torpor::text {

/// Token ids being written: a vector that grows without being cleared first, one bound check a word.
class IdSink {
 public:
  explicit IdSink(std::size_t expected) { ids_.resize(expected + WordCache::kMaxTokens); }

  void push(TokenId id) {
    if (size_ + WordCache::kMaxTokens > ids_.size()) grow();
    ids_[size_++] = id;
  }
  void push(const WordCache::Slot& slot) {
    if (size_ + WordCache::kMaxTokens > ids_.size()) grow();
    std::memcpy(ids_.data() + size_, slot.ids, sizeof(slot.ids));
    size_ += static_cast<std::size_t>(slot.count());
  }
  std::size_t size() const { return size_; }
  const TokenId* data() const { return ids_.data(); }
  std::vector<TokenId> take() {
    ids_.resize(size_);
    return std::move(ids_);
  }

 private:
  void grow() { ids_.resize(ids_.size() + ids_.size() / 2 + 64); }

  std::vector<TokenId> ids_;
  std::size_t size_ = 0;
};

/// What one thread needs while it encodes.
struct EncodeScratch {
  WordCache cache;
  std::vector<Symbol> symbols;
  MergeBuffers merging;
};

/// Immutable; const methods may run at once, each with its own scratch.
class WordModel {
 public:
  virtual ~WordModel() = default;
  /// Appends the ids of `word`, which is not empty.
  virtual void encode(std::string_view word, EncodeScratch& scratch, IdSink& out) const = 0;
  /// A character before which a word may be cut wherever another one precedes, since no merge crosses there; or empty.
  /// It makes words of the whole text that SentencePiece models see as one.
  virtual std::string_view cut_before() const { return {}; }
};

/// Flat hash from a pair of ids to its merge; open addressing, at most half full.
class MergeTable {
 public:
  void reserve(std::size_t merges);
  /// Later ones replace earlier ones if `replace`.
  void insert(TokenId left, TokenId right, Merge merge, bool replace);
  Merge find(TokenId left, TokenId right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = hash_of(key) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].merge;
      if (slots_[at].key == kEmpty) return {};
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Merge merge;
  };
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  static std::uint64_t hash_of(std::uint64_t key) {
    key ^= key >> 32;
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key << 29;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(2);
  int shift_ = 63;
};

struct BpeSettings {
  bool byte_level = false;     // symbols are bytes, else characters
  bool byte_fallback = false;  // a character that is no token becomes its bytes' tokens <0xNN>, if all are tokens
  bool fuse_unknown = false;
  bool ignore_merges = false;     // a word that is a token is that token, merges or not
  bool first_merge_wins = false;  // of repeated pairs (llama.cpp), else the last (Hugging Face)
  TokenId unknown = kNoToken;
  std::string where;  // file and field, for errors
};

/// BPE by rank, as in the `tokenizers` package. Source: Sennrich et al. 2016, section 3.2; Radford et al. 2019,
/// section 2.2.
class BpeModel : public WordModel {
 public:
  /// Throws BadInput for a merge of or into something that is no token. `vocabulary` must outlive the model.
  BpeModel(const Vocabulary& vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
           BpeSettings settings);
  void encode(std::string_view word, EncodeScratch& scratch, IdSink& out) const override;
  std::string_view cut_before() const override { return cut_before_; }

 private:
  void add_characters(std::string_view word, std::vector<Symbol>& symbols) const;

  const Vocabulary& vocabulary_;
  BpeSettings settings_;
  MergeTable merges_;
  std::array<TokenId, 256> byte_ids_;               // of the byte's symbol (byte level) or of <0xNN>
  std::unordered_map<std::string, TokenId> words_;  // bytes -> id, for ignore_merges at byte level
  std::string cut_before_;
};

/// BPE by score, as in SentencePiece, llama.cpp's "llama" vocabularies and llama2.c: any two neighbours merge whose
/// joint text is a token, the highest score first, the leftmost of equals. What is no token then becomes its bytes.
class SpmModel : public WordModel {
 public:
  struct Piece {
    std::string text;  // with spaces as ' '
    float score = 0;
    TokenId id = 0;
  };
  /// pieces: those that text may become. byte_ids: -1 where there is none; `unknown` then stands in.
  /// Throws BadInput for scores that are no number. Of pieces with equal texts the last counts.
  SpmModel(std::vector<Piece> pieces, const std::array<TokenId, 256>& byte_ids, TokenId unknown,
           const std::string& where);
  void encode(std::string_view word, EncodeScratch& scratch, IdSink& out) const override;
  std::string_view cut_before() const override { return cut_before_; }

 private:
  std::vector<Piece> pieces_;
  std::unordered_map<std::string_view, Merge> by_text_;  // rank: the order of falling scores
  std::array<TokenId, 256> byte_ids_;
  TokenId unknown_;
  std::size_t longest_ = 0;
  std::string cut_before_;
};

}  // namespace torpor::text
