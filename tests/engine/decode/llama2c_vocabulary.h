// llama2.c's tokenizer, as its run.c works: the oracle for texts here, independent of core/text.
// Source: karpathy/llama2.c, run.c (encode, decode).
#pragma once

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"

namespace torpor::testing {

class Llama2cVocabulary {
 public:
  Llama2cVocabulary(const std::filesystem::path& path, int size) {
    const std::string file = read_file(path);
    std::size_t at = 4;  // the longest token's length
    for (int id = 0; id < size; ++id) {
      float score = 0;
      std::int32_t length = 0;
      std::memcpy(&score, file.data() + at, 4);
      std::memcpy(&length, file.data() + at + 4, 4);
      pieces_.push_back(file.substr(at + 8, static_cast<std::size_t>(length)));
      scores_.push_back(score);
      ids_.emplace(pieces_.back(), id);
      at += 8 + static_cast<std::size_t>(length);
    }
  }

  /// BOS, a dummy space, characters (or bytes), then the best-scored neighbours merged until none fits.
  std::vector<std::int32_t> encode(const std::string& text) const {
    std::vector<std::int32_t> ids{1};
    if (!text.empty()) ids.push_back(ids_.at(" "));
    for (std::size_t i = 0; i < text.size();) {
      std::size_t length = 1;
      while (i + length < text.size() && (static_cast<unsigned char>(text[i + length]) & 0xC0U) == 0x80) ++length;
      const auto known = ids_.find(text.substr(i, length));
      if (known != ids_.end())
        ids.push_back(known->second);
      else
        for (std::size_t j = i; j < i + length; ++j) ids.push_back(static_cast<unsigned char>(text[j]) + 3);
      i += length;
    }
    while (merge_best(ids)) {
    }
    return ids;
  }

  std::string decode(std::int32_t previous, std::int32_t id) const {
    std::string piece = pieces_[static_cast<std::size_t>(id)];
    if (previous == 1 && piece.starts_with(' ')) piece.erase(0, 1);
    unsigned byte = 0;
    if (piece.size() == 6 && std::sscanf(piece.c_str(), "<0x%02X>", &byte) == 1)
      return std::string(1, static_cast<char>(byte));
    return piece;
  }

 private:
  bool merge_best(std::vector<std::int32_t>& ids) const {
    float best = -1e10F;
    std::size_t at = ids.size();
    std::int32_t merged = -1;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto pair =
          ids_.find(pieces_[static_cast<std::size_t>(ids[i])] + pieces_[static_cast<std::size_t>(ids[i + 1])]);
      if (pair == ids_.end() || scores_[static_cast<std::size_t>(pair->second)] <= best) continue;
      best = scores_[static_cast<std::size_t>(pair->second)];
      merged = pair->second;
      at = i;
    }
    if (merged < 0) return false;
    ids[at] = merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    return true;
  }

  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::map<std::string, std::int32_t> ids_;
};

}  // namespace torpor::testing
