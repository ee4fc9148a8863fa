// Text to token ids and back, for the tokenizer files that language models come with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace torpor {

using TokenId = std::int32_t;

struct EncodeOptions {
  bool add_special = true;     // put BOS / EOS where the model's own settings say so
  bool parse_special = false;  // recognise special tokens ("<|endoftext|>") written out in the text
};

/// A tokenizer. Immutable; const methods may run at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Token ids of a UTF-8 text. Bytes that are no UTF-8 are encoded as byte tokens where the vocabulary has them
  /// (byte-level BPE, SentencePiece with byte fallback), else as the unknown token.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;

  /// The bytes that one token adds to a text (leading space included). Special tokens give their text. May be a part of
  /// a UTF-8 character. Throws InvalidArgument outside [0, vocab_size).
  virtual std::string token_bytes(TokenId id) const = 0;

  /// The text of a sequence as the reference implementation prints it (SentencePiece drops the first word's space,
  /// control tokens print nothing). Bytes that are no UTF-8 stay as they are.
  virtual std::string decode(std::span<const TokenId> ids) const = 0;

  virtual int vocab_size() const = 0;
  virtual bool is_special(TokenId id) const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  /// "byte-level BPE (tokenizer.json, GPT-2 pattern)"
  virtual std::string description() const = 0;
};

/// Loads what `path` is: a model folder (tokenizer.json, tokenizer.model, vocab.json + merges.txt, in this order), one
/// of these files, a GGUF file with a vocabulary, or llama2.c's tok*.bin (whose size gives the vocabulary). Throws
/// BadInput: unknown kind, unknown pre-tokenizer, damaged file; each names the file and what was expected.
std::unique_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);

/// Turns a stream of tokens into a stream of text in which no UTF-8 character is ever cut: together the text of
/// decode(), with what is no UTF-8 in it as U+FFFD. Special tokens print nothing. One thread at a time.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer);

  /// Text that is complete after this token; may be empty.
  std::string push(TokenId id);
  /// What is left, incomplete bytes as U+FFFD. The next push begins a new text.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;         // bytes that wait for the rest of their character
  std::vector<TokenId> start_;  // tokens so far, while they print nothing
  bool first_ = true;
};

}  // namespace torpor
