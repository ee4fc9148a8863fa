// A tokenizer whose tokens can be written down by hand: one for each byte, modulo the vocabulary. It counts what it is
// asked to encode.
#pragma once

#include <atomic>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "core/text/tokenizer.h"
#include "tests/test_support.h"

namespace torpor::testing {

class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(int vocab_size = 256, std::optional<TokenId> bos = std::nullopt)
      : vocab_size_(vocab_size), bos_(bos) {}
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions&) const override {
    encoded_bytes += static_cast<std::int64_t>(text.size());
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) % vocab_size_);
    return ids;
  }
  std::string token_bytes(TokenId id) const override { return std::string(1, static_cast<char>(id)); }
  std::string decode(std::span<const TokenId> ids) const override {
    std::string text;
    for (const TokenId id : ids) text += token_bytes(id);
    return text;
  }
  int vocab_size() const override { return vocab_size_; }
  bool is_special(TokenId) const override { return false; }
  std::optional<TokenId> bos() const override { return bos_; }
  std::optional<TokenId> eos() const override { return std::nullopt; }
  std::string description() const override { return "bytes"; }

  mutable std::atomic<std::int64_t> encoded_bytes = 0;

 private:
  int vocab_size_;
  std::optional<TokenId> bos_;
};

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The message of the error that `work` throws, or "" and a failed test.
template <typename Error, typename Work>
std::string message_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace torpor::testing
