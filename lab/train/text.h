// Text as training sees it: one stream of tokens, cut into packed windows, in an order drawn anew for each pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"
#include "core/text/tokenizer.h"
#include "engine/profile/corpus.h"

namespace torpor::lab {

/// A text as windows of tokens: position 0 of a window is given, the `window` tokens after it are predicted. The whole
/// text is predicted once a pass, but for what does not fill a window at its end. Const methods may run at once.
class Windows {
 public:
  virtual ~Windows() = default;

  virtual std::int64_t size() const = 0;
  std::int64_t window() const { return window_; }
  virtual int vocab_size() const = 0;
  const TextCorpus& corpus() const { return corpus_; }

  /// [windows, window + 1] int64. Throws InvalidArgument for a window that is not there.
  virtual at::Tensor at(std::span<const std::int64_t> windows) const = 0;
  /// Bytes of text in the tokens that are predicted.
  virtual std::int64_t bytes_in(std::span<const std::int64_t> windows) const = 0;
  /// Of text and vocabulary.
  virtual std::string fingerprint() const = 0;

 protected:
  Windows(TextCorpus corpus, std::int64_t window) : corpus_(std::move(corpus)), window_(window) {}
  void check(std::span<const std::int64_t> windows) const;

 private:
  TextCorpus corpus_;
  std::int64_t window_;
};

/// Each byte is a token (ids 0 to 255). Window w holds the stream's bytes from w * window on, window + 1 of them, so
/// that two windows share a byte. The files stay mapped; nothing is copied but what is asked for.
class ByteWindows : public Windows {
 public:
  /// Throws BadInput where the text does not fill one window (says how many bytes there are).
  ByteWindows(TextCorpus corpus, std::int64_t window);

  std::int64_t size() const override { return count_; }
  int vocab_size() const override { return 256; }
  at::Tensor at(std::span<const std::int64_t> windows) const override;
  std::int64_t bytes_in(std::span<const std::int64_t> windows) const override;
  std::string fingerprint() const override { return corpus().fingerprint(); }

 private:
  std::vector<std::int64_t> starts_;  // of each document in the stream
  std::int64_t count_;
};

/// Tokens of a vocabulary, the files' one after the other. Each window starts with BOS, as `torpor eval` reads a text
/// and `torpor run` begins one; where the vocabulary has none, with the last token of the window before. The tokens lie
/// in a temporary file, so that memory does not grow with the text.
class TokenWindows : public Windows {
 public:
  /// Tokenises the whole text; `progress` is told how many tokens there are now and then (may be empty). Throws
  /// BadInput where the text does not fill one window, IoError (the temporary file), Interrupted.
  TokenWindows(TextCorpus corpus, const Tokenizer& tokenizer, const std::string& tokenizer_fingerprint,
               std::int64_t window, const std::function<void(std::int64_t tokens)>& progress = {});

  std::int64_t size() const override { return count_; }
  int vocab_size() const override { return static_cast<int>(bytes_of_token_.size()); }
  at::Tensor at(std::span<const std::int64_t> windows) const override;
  std::int64_t bytes_in(std::span<const std::int64_t> windows) const override;
  std::string fingerprint() const override { return fingerprint_; }

 private:
  std::span<const TokenId> of_window(std::int64_t window) const;

  std::string fingerprint_;
  std::optional<TokenId> bos_;
  std::vector<std::uint32_t> bytes_of_token_;
  std::shared_ptr<const MappedFile> file_;
  std::span<const TokenId> tokens_;
  std::int64_t count_ = 0;
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
