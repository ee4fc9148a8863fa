// llama2.c's tokenizer.bin. Facts from run.c: ids 0 unknown, 1 BOS, 2 EOS, 3 … 258 the bytes; spaces are spaces; text
// gets a space in front; merging by score.
#include <cstring>

#include "core/base/error.h"
#include "core/text/formats.h"
#include "core/text/quote.h"
#include "core/text/spm_parts.h"

namespace torpor::text {

std::unique_ptr<const Tokenizer> tokenizer_from_llama2c(std::string_view file, const std::string& where) {
  constexpr TokenId kUnknown = 0;
  constexpr TokenId kBos = 1;
  constexpr TokenId kEos = 2;
  constexpr int kFirstByte = 3;
  std::size_t at = 0;
  const auto read = [&](auto& value, const char* what) {
    if (file.size() - at < sizeof value)
      throw BadInput("{}: expected {} at byte {}, found the end of the file; is it llama2.c's tokenizer.bin, whole?",
                     where, what, at);
    std::memcpy(&value, file.data() + at, sizeof value);
    at += sizeof value;
  };
  std::int32_t longest = 0;
  read(longest, "the longest token's length");
  if (longest <= 0 || longest > 65536)
    throw BadInput("{}: expected the longest token's length from 1 to 65536 at byte 0, found {}", where, longest);
  PipelineParts parts;
  std::vector<SpmModel::Piece> pieces;
  auto byte_ids = no_byte_ids();
  while (at < file.size()) {
    SpmModel::Piece piece;
    std::int32_t length = 0;
    read(piece.score, "a score");
    read(length, "a token's length");
    if (length < 0 || length > longest || static_cast<std::size_t>(length) > file.size() - at)
      throw BadInput("{}: expected a token's length from 0 to {} at byte {}, found {} ({} bytes are left)", where,
                     longest, at - 4, length, file.size() - at);
    piece.text = std::string(file.substr(at, static_cast<std::size_t>(length)));
    piece.id = static_cast<TokenId>(pieces.size());
    at += static_cast<std::size_t>(length);
    const int byte = piece.id - kFirstByte;
    if (byte >= 0 && byte < 256) {
      if (byte_of_token(piece.text) != static_cast<unsigned char>(byte))
        throw BadInput("{}: expected the token <0x{:02X}> with id {}, found {}", where, byte, piece.id,
                       quote(piece.text));
      byte_ids[static_cast<std::size_t>(byte)] = piece.id;
      parts.bytes.emplace_back(1, static_cast<char>(byte));
    } else {
      parts.bytes.push_back(piece.text);
    }
    pieces.push_back(std::move(piece));
  }
  if (pieces.size() < kFirstByte + 256)
    throw BadInput("{}: expected at least 259 tokens (3 control tokens, 256 bytes), found {}", where, pieces.size());

  parts.special.resize(pieces.size());
  std::vector<AddedToken> controls;
  std::vector<std::string> contents;
  for (const auto& [id, name] : {std::pair{kUnknown, "<unk>"}, {kBos, "<s>"}, {kEos, "</s>"}}) {
    parts.bytes[static_cast<std::size_t>(id)] = name;  // the file has newlines round BOS and EOS, for printing
    parts.special[static_cast<std::size_t>(id)] = id != kUnknown;
    if (id == kUnknown) continue;
    AddedToken token;
    token.id = id;
    token.content = name;
    token.special = true;
    contents.push_back(token.content);
    controls.push_back(std::move(token));
  }
  parts.added = AddedTokenFinder(std::move(controls), contents);
  parts.model = std::make_unique<SpmModel>(std::move(pieces), byte_ids, kUnknown, where);
  std::vector<NormalizerStep> steps;
  add_dummy_prefix(steps, parts);
  parts.normalizer = Normalizer(std::move(steps));
  parts.before = {kBos};
  parts.bos = kBos;
  parts.eos = kEos;
  parts.description = "SentencePiece BPE by score (llama2.c tokenizer.bin)";
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace torpor::text
