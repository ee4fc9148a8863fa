// Text for measuring: files in constant memory, cut into windows of tokens. A window is what the model sees at once:
// BOS (where the tokenizer has one) and then `window - 1` tokens of text; windows never overlap and never cross files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"
#include "core/text/tokenizer.h"

namespace torpor {

class Fingerprint;

/// A text on disk: one file, all *.txt files of a folder (recursive, sorted by path), or standard input ("-", spooled
/// to a temporary file). Files are mapped, not read. Const methods may run at once.
class TextCorpus {
 public:
  /// Throws BadInput: missing, no *.txt in the folder, empty, invalid UTF-8 (file and byte offset).
  static TextCorpus open(const std::filesystem::path& path);

  std::span<const std::string_view> documents() const { return documents_; }
  std::int64_t bytes() const { return bytes_; }
  const std::string& source() const { return source_; }
  /// Gives the memory of document `index` from byte `begin` to `end` back to the system; what is read again comes
  /// again.
  void release(std::size_t index, std::size_t begin, std::size_t end) const;
  /// XXH3 of all bytes.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  void add(const std::filesystem::path& file, Fingerprint& fingerprint);

  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<std::string_view> documents_;
  std::int64_t bytes_ = 0;
  std::string source_, fingerprint_;
};

/// tokens[0] is BOS or the first token of the text: it is given, all later ones are predicted.
struct TextWindow {
  std::vector<TokenId> tokens;
  std::int64_t bytes = 0;  // of text in the predicted tokens
  std::int64_t predicted() const { return static_cast<std::int64_t>(tokens.size()) - 1; }
};

/// Cuts the whole corpus into windows, in order, in constant memory; the last window of a document may be shorter (at
/// least two tokens). Stops when `visit` returns false. window >= 2. Throws BadInput if a token is outside [0,
/// vocab_size): the tokenizer does not fit the model.
void for_each_window(const TextCorpus& corpus, const Tokenizer& tokenizer, int vocab_size, std::int64_t window,
                     const std::function<bool(TextWindow)>& visit);

/// At most `count` full windows spread evenly over the whole corpus, in text order. Reads only what it returns, unless
/// the corpus is small. Throws BadInput if the text does not fill two windows.
std::vector<TextWindow> sample_windows(const TextCorpus& corpus, const Tokenizer& tokenizer, int vocab_size,
                                       std::int64_t window, std::int64_t count);

}  // namespace torpor
