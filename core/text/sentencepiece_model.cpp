// SentencePiece's own models (unigram and BPE), through its library.
#include <sentencepiece_processor.h>

#include <array>
#include <limits>

#include "core/base/error.h"
#include "core/text/added_tokens.h"
#include "core/text/byte_token.h"
#include "core/text/formats.h"
#include "core/text/named_tokens.h"
#include "core/text/quote.h"
#include "core/text/unicode.h"

namespace torpor::text {
namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model, const std::string& where, const std::filesystem::path& folder)
      : where_(where) {
    load(model, where);
    const int size = processor_.GetPieceSize();
    if (size <= 0) throw BadInput("{}: expected a vocabulary, found no token", where);
    byte_ids_.fill(-1);
    std::vector<AddedToken> controls;
    std::vector<std::string> contents;
    for (TokenId id = 0; id < size; ++id) {
      const std::string& piece = processor_.IdToPiece(id);
      is_byte_.push_back(processor_.IsByte(id));
      special_.push_back(processor_.IsControl(id));
      std::string& bytes = bytes_.emplace_back();
      if (is_byte_.back()) {
        const auto byte = byte_of_token(piece);
        if (!byte)
          throw BadInput("{}: expected <0x00> to <0xFF> as the byte token {}, found {}", where, id, quote(piece));
        byte_ids_[*byte] = id;
        bytes.assign(1, static_cast<char>(*byte));
      } else if (processor_.IsUnknown(id)) {
        if (const auto status = processor_.Decode(std::vector<int>{id}, &bytes); !status.ok()) bytes = piece;
      } else if (special_.back()) {
        bytes = piece;
        if (piece.empty()) continue;
        AddedToken token;
        token.id = id;
        token.content = piece;
        token.special = true;
        contents.push_back(piece);
        controls.push_back(std::move(token));
      } else {
        bytes = replace_all(piece, kSpaceMarker, " ");
      }
    }
    controls_ = AddedTokenFinder(std::move(controls), contents);
    const auto optional_id = [&](int id) { return id >= 0 && id < size ? std::optional(id) : std::nullopt; };
    bos_ = optional_id(processor_.bos_id());
    eos_ = optional_id(processor_.eos_id());
    unknown_ = optional_id(processor_.unk_id());
    const NamedTokens flags = frame_flags(folder);
    add_bos_ = flags.add_bos.value_or(true);
    add_eos_ = flags.add_eos.value_or(false);
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
      throw InvalidArgument("[encode] expected at most 2 GB of text at once, got {} bytes", text.size());
    std::vector<TokenId> ids;
    if (options.add_special && add_bos_ && bos_) ids.push_back(*bos_);
    for (const auto& part : controls_.split(text, options.parse_special)) {
      if (part.id >= 0)
        ids.push_back(part.id);
      else
        encode_ordinary(part.text, ids);
    }
    if (options.add_special && add_eos_ && eos_) ids.push_back(*eos_);
    return ids;
  }

  std::string token_bytes(TokenId id) const override {
    if (id < 0 || id >= vocab_size())
      throw InvalidArgument("[token_bytes] expected a token id from 0 to {}, got {}", vocab_size() - 1, id);
    return bytes_[static_cast<std::size_t>(id)];
  }

  // The library decides how a text begins. What follows is the tokens' bytes, also where they are no UTF-8 (the library
  // has U+FFFD there).
  std::string decode(std::span<const TokenId> ids) const override {
    std::string text;
    std::vector<int> run;  // ordinary tokens while nothing has been printed
    const auto flush = [&] {
      if (run.empty()) return;
      if (const auto status = processor_.Decode(run, &text); !status.ok())
        throw InvalidArgument("[decode] SentencePiece: {}", status.ToString());
      run.clear();
    };
    bool begun = false;
    for (const TokenId id : ids) {
      if (id < 0 || id >= vocab_size())
        throw InvalidArgument("[decode] expected token ids from 0 to {}, got {}", vocab_size() - 1, id);
      const auto at = static_cast<std::size_t>(id);
      if (special_[at]) continue;
      if (!begun && !is_byte_[at]) {
        run.push_back(id);
        // More than spaces is printed for certain, and ends the beginning.
        if (bytes_[at].find_first_not_of(' ') == std::string::npos) continue;
      }
      if (!begun) flush();
      if (begun || is_byte_[at]) text += bytes_[at];
      begun = true;
    }
    if (!begun) flush();
    return text;
  }

  int vocab_size() const override { return static_cast<int>(bytes_.size()); }
  bool is_special(TokenId id) const override {
    return id >= 0 && id < vocab_size() && special_[static_cast<std::size_t>(id)];
  }
  std::optional<TokenId> bos() const override { return bos_; }
  std::optional<TokenId> eos() const override { return eos_; }
  std::string description() const override { return "SentencePiece (tokenizer.model)"; }

 private:
  /// The library reports most of what is wrong by its status, and some (an empty piece) by throwing.
  void load(std::string_view model, const std::string& where) {
    std::string reason;
    try {
      const auto status = processor_.LoadFromSerializedProto(model);
      if (status.ok()) return;
      reason = status.ToString();
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      reason = error.what();
    }
    throw BadInput("{}: expected a SentencePiece model, found {} bytes that are none: {}", where, model.size(), reason);
  }

  void encode_ordinary(std::string_view text, std::vector<TokenId>& ids) const {
    while (!text.empty()) {
      const std::size_t valid = valid_prefix(text);
      if (valid > 0) {
        std::vector<int> part;
        if (const auto status = processor_.Encode(text.substr(0, valid), &part); !status.ok())
          throw BadInput("{}: SentencePiece cannot encode a text with this vocabulary: {}. Is the file damaged?",
                         where_, status.ToString());
        ids.insert(ids.end(), part.begin(), part.end());
      }
      text.remove_prefix(valid);
      if (text.empty()) break;
      const auto id = byte_ids_[static_cast<unsigned char>(text.front())];
      if (id >= 0)
        ids.push_back(id);
      else if (unknown_)
        ids.push_back(*unknown_);
      text.remove_prefix(1);
    }
  }

  std::string where_;
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> bytes_;
  std::vector<bool> special_;
  std::vector<bool> is_byte_;
  std::array<TokenId, 256> byte_ids_;
  AddedTokenFinder controls_;
  std::optional<TokenId> bos_;
  std::optional<TokenId> eos_;
  std::optional<TokenId> unknown_;
  bool add_bos_ = true;
  bool add_eos_ = false;
};

}  // namespace

std::unique_ptr<const Tokenizer> tokenizer_from_sentencepiece(std::string_view model, const std::string& where,
                                                              const std::filesystem::path& folder) {
  return std::make_unique<SentencePieceTokenizer>(model, where, folder);
}

}  // namespace torpor::text
