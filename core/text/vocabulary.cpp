#include "core/text/vocabulary.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/quote.h"

namespace torpor::text {

// NOLINTNEXTLINE(performance-unnecessary-value-param): the texts are moved out of it, through a structured binding
Vocabulary::Vocabulary(std::vector<std::pair<std::string, std::int64_t>> entries, const std::string& where) {
  if (entries.empty()) throw BadInput("{}: expected a vocabulary, found no token", where);
  const std::int64_t limit = static_cast<std::int64_t>(entries.size()) + kMaxHoles;
  std::int64_t largest = 0;
  for (const auto& [text, id] : entries) {
    if (id < 0 || id >= limit)
      throw BadInput("{}: expected ids from 0 to {} ({} tokens and at most {} holes), found {} for the token {}", where,
                     limit - 1, entries.size(), kMaxHoles, id, quote(text));
    largest = std::max(largest, id);
  }
  texts_.resize(static_cast<std::size_t>(largest) + 1);
  present_.resize(texts_.size());
  ids_.reserve(entries.size());
  for (auto& [text, id] : entries) {
    const auto at = static_cast<std::size_t>(id);
    if (present_[at])
      throw BadInput("{}: expected one token for each id, found {} and {} with id {}", where, quote(texts_[at]),
                     quote(text), id);
    present_[at] = true;
    texts_[at] = std::move(text);
    const auto [other, is_new] = ids_.emplace(texts_[at], static_cast<TokenId>(id));
    if (!is_new)
      throw BadInput("{}: expected each token once, found {} with ids {} and {}", where, quote(texts_[at]),
                     other->second, id);
  }
}

}  // namespace torpor::text
