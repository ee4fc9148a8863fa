// Text as training sees it: one stream of bytes, cut into packed windows, in an order drawn anew for each pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/profile/corpus.h"

namespace torpor::lab {

/// Each byte is a token (ids 0 to 255). Window w holds the stream's bytes from w * window on, window + 1 of them: all
/// but the first are predicted, and windows share one byte. The files stay mapped; nothing is copied but what is asked
/// for. Const methods may run at once.
class ByteWindows {
 public:
  /// Throws BadInput where the text does not fill one window (says how many bytes there are).
  ByteWindows(TextCorpus corpus, std::int64_t window);

  std::int64_t size() const { return count_; }
  std::int64_t window() const { return window_; }
  std::int64_t bytes() const { return corpus_.bytes(); }
  const TextCorpus& corpus() const { return corpus_; }

  /// [windows, window + 1] int64.
  at::Tensor at(std::span<const std::int64_t> windows) const;

 private:
  TextCorpus corpus_;
  std::vector<std::int64_t> starts_;  // of each document in the stream
  std::int64_t window_, count_;
};

/// tokenizer.json of a byte-level vocabulary without merges, so that id b is byte b.
std::string byte_tokenizer_json();

/// Which window comes at place `position` (0, 1, …) of training: every window once a pass, each pass in another order,
/// a function of (seed, position) alone. One thread at a time.
class WindowOrder {
 public:
  WindowOrder(std::int64_t windows, std::uint64_t seed);
  std::int64_t operator()(std::int64_t position);

 private:
  std::uint64_t seed_;
  std::int64_t pass_ = -1;
  std::vector<std::int64_t> order_;
};

}  // namespace torpor::lab
