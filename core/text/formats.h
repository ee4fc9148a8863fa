// One loader a format. All throw BadInput, naming `where` and the field; nothing is guessed.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/text/tokenizer.h"

namespace torpor {

class GgufFile;

namespace text {

/// A tokenizer.json of the `tokenizers` package with a BPE model. folder: where tokenizer_config.json,
/// special_tokens_map.json and config.json are looked for, which name BOS and EOS; empty: nowhere.
std::unique_ptr<const Tokenizer> tokenizer_from_json(std::string_view json, const std::string& where,
                                                     const std::filesystem::path& folder);

/// GPT-2's vocab.json and merges.txt. "<|endoftext|>", where it is a token, is BOS, EOS and special, as in GPT-2.
std::unique_ptr<const Tokenizer> tokenizer_from_vocab_and_merges(std::string_view vocab_json,
                                                                 const std::string& vocab_where,
                                                                 std::string_view merges,
                                                                 const std::string& merges_where,
                                                                 const std::filesystem::path& folder);

/// A SentencePiece model (protocol buffer), through libsentencepiece. BOS is added where the model has one, EOS is not,
/// unless tokenizer_config.json in `folder` says otherwise. Text behind a special token or behind bytes that are no
/// UTF-8 is encoded as a text of its own, with a space in front where the model puts one.
std::unique_ptr<const Tokenizer> tokenizer_from_sentencepiece(std::string_view model, const std::string& where,
                                                              const std::filesystem::path& folder);

/// The vocabulary of a GGUF file.
std::unique_ptr<const Tokenizer> tokenizer_from_gguf(const GgufFile& file);

/// llama2.c's tokenizer.bin: the longest token's length, then score, length and bytes of each token (little endian).
std::unique_ptr<const Tokenizer> tokenizer_from_llama2c(std::string_view file, const std::string& where);

}  // namespace text
}  // namespace torpor
