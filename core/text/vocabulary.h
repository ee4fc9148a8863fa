// The token texts of a model, as its file writes them.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/text/tokenizer.h"

namespace torpor::text {

/// Ids may leave holes (files do), but not so many that a small file makes a large table.
inline constexpr std::int64_t kMaxHoles = 65536;

/// Immutable; const methods may run at once.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// entries: text and id, as read. `where` names the file in errors. Throws BadInput: negative, repeated or far too
  /// large ids, a text that appears twice, no entry at all.
  Vocabulary(std::vector<std::pair<std::string, std::int64_t>> entries, const std::string& where);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  /// Largest id + 1.
  int size() const { return static_cast<int>(present_.size()); }
  bool has(TokenId id) const { return id >= 0 && id < size() && present_[static_cast<std::size_t>(id)]; }
  /// Empty for a hole.
  std::string_view text(TokenId id) const { return texts_[static_cast<std::size_t>(id)]; }
  /// -1 if there is none.
  TokenId find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

 private:
  std::vector<std::string> texts_;
  std::vector<bool> present_;
  std::unordered_map<std::string_view, TokenId> ids_;  // keys point into texts_
};

}  // namespace torpor::text
