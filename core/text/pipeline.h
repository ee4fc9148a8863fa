// The tokenizer that all formats but SentencePiece's own become: find added tokens, normalise, cut, merge, frame by BOS
// and EOS; and back.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/text/added_tokens.h"
#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"
#include "core/text/word_model.h"

namespace torpor::text {

/// What a format's loader fills in.
struct PipelineParts {
  std::unique_ptr<const Vocabulary> vocabulary;  // null if the model holds its own
  std::unique_ptr<const WordModel> model;
  AddedTokenFinder added;             // looked for in the raw text
  AddedTokenFinder added_normalized;  // looked for behind the normalizer
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<TokenId> before;  // with add_special
  std::vector<TokenId> after;
  std::vector<std::string> bytes;        // by id: token_bytes()
  std::vector<std::string> first_bytes;  // by id, of the first token of a text; empty if the same
  std::vector<bool> special;             // by id
  Decoder decoder;                       // only its strip() is used after loading
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::string description;
};

class PipelineTokenizer : public Tokenizer {
 public:
  explicit PipelineTokenizer(PipelineParts parts) : parts_(std::move(parts)) {}

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string token_bytes(TokenId id) const override;
  std::string decode(std::span<const TokenId> ids) const override;
  int vocab_size() const override { return static_cast<int>(parts_.bytes.size()); }
  bool is_special(TokenId id) const override { return id >= 0 && id < vocab_size() && parts_.special[index(id)]; }
  std::optional<TokenId> bos() const override { return parts_.bos; }
  std::optional<TokenId> eos() const override { return parts_.eos; }
  std::string description() const override { return parts_.description; }

 private:
  static std::size_t index(TokenId id) { return static_cast<std::size_t>(id); }
  void encode_ordinary(std::string_view text, bool at_start, bool parse_special, EncodeScratch& scratch,
                       IdSink& out) const;
  void encode_pieces(std::string_view text, bool at_start, EncodeScratch& scratch, IdSink& out) const;
  void encode_word(std::string_view word, std::size_t readable, EncodeScratch& scratch, IdSink& out) const;
  void encode_cut(std::string_view text, EncodeScratch& scratch, IdSink& out) const;
  template <WordPattern P>
  void encode_scanned(std::string_view text, EncodeScratch& scratch, IdSink& out) const;

  // Scratch outlives a call, so that a word cache serves many texts; each call takes one for itself.
  class Lease;

  PipelineParts parts_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<EncodeScratch>> idle_;
};

}  // namespace torpor::text
