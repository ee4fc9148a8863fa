#include "lab/train/text.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/interrupt.h"
#include "core/base/json.h"
#include "core/base/random.h"
#include "core/base/temporary_file.h"
#include "core/text/byte_level.h"

namespace torpor::lab {
namespace {

constexpr std::int64_t kSpooledTokens = 1 << 16;  // written at once

}  // namespace

void Windows::check(std::span<const std::int64_t> windows) const {
  for (const std::int64_t w : windows)
    if (w < 0 || w >= size()) throw InvalidArgument("[Windows] expected a window below {}, got {}", size(), w);
}

ByteWindows::ByteWindows(TextCorpus corpus, std::int64_t window)
    : Windows(std::move(corpus), window), count_((this->corpus().bytes() - 1) / window) {
  std::int64_t start = 0;
  for (const std::string_view document : this->corpus().documents()) {
    starts_.push_back(start);
    start += static_cast<std::int64_t>(document.size());
  }
  if (count_ < 1)
    throw BadInput("{}: expected at least {} bytes of text, one window and a byte, found {}", this->corpus().source(),
                   window + 1, this->corpus().bytes());
}

at::Tensor ByteWindows::at(std::span<const std::int64_t> windows) const {
  check(windows);
  at::Tensor out = torch::empty({static_cast<std::int64_t>(windows.size()), window() + 1}, at::kLong);
  auto* to = out.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t w : windows) {
    std::int64_t place = w * window(), left = window() + 1;
    auto document =
        static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), place) - starts_.begin() - 1);
    for (; left > 0; ++document) {
      const std::string_view text =
          corpus().documents()[document].substr(static_cast<std::size_t>(place - starts_[document]));
      const std::int64_t taken = std::min(left, static_cast<std::int64_t>(text.size()));
      for (std::int64_t i = 0; i < taken; ++i) *to++ = static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
      place += taken;
      left -= taken;
    }
  }
  return out;
}

std::int64_t ByteWindows::bytes_in(std::span<const std::int64_t> windows) const {
  check(windows);
  return static_cast<std::int64_t>(windows.size()) * window();
}

TokenWindows::TokenWindows(TextCorpus corpus, const Tokenizer& tokenizer, const std::string& tokenizer_fingerprint,
                           std::int64_t window, const std::function<void(std::int64_t tokens)>& progress)
    : Windows(std::move(corpus), window),
      fingerprint_(fingerprint_of(this->corpus().fingerprint() + tokenizer_fingerprint)),
      bos_(tokenizer.bos()) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    bytes_of_token_.push_back(tokenizer.is_special(id) ? 0
                                                       : static_cast<std::uint32_t>(tokenizer.token_bytes(id).size()));
  TemporaryFile spooled("torpor-tokens");
  std::int64_t tokens = 0;
  const std::int64_t given = bos_ ? 1 : 0;  // the BOS that for_each_window puts before each of its windows
  for_each_window(this->corpus(), tokenizer, tokenizer.vocab_size(), kSpooledTokens, [&](const TextWindow& part) {
    check_interrupt();
    spooled.append(std::as_bytes(std::span(part.tokens).subspan(static_cast<std::size_t>(given))));
    tokens += static_cast<std::int64_t>(part.tokens.size()) - given;
    if (progress) progress(tokens);
    return true;
  });
  count_ = bos_ ? tokens / window : (tokens - 1) / window;
  if (count_ < 1)
    throw BadInput("{}: expected at least {} tokens of text, one window{}, found {}", this->corpus().source(),
                   bos_ ? window : window + 1, bos_ ? "" : " and a token", tokens);
  spooled.flush();
  file_ = MappedFile::open(spooled.path());
  tokens_ = {reinterpret_cast<const TokenId*>(file_->bytes().data()), static_cast<std::size_t>(tokens)};
}

std::span<const TokenId> TokenWindows::of_window(std::int64_t w) const {
  return tokens_.subspan(static_cast<std::size_t>(w * window()), static_cast<std::size_t>(window() + (bos_ ? 0 : 1)));
}

at::Tensor TokenWindows::at(std::span<const std::int64_t> windows) const {
  check(windows);
  at::Tensor out = torch::empty({static_cast<std::int64_t>(windows.size()), window() + 1}, at::kLong);
  auto* to = out.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t w : windows) {
    if (bos_) *to++ = *bos_;
    to = std::copy(of_window(w).begin(), of_window(w).end(), to);
  }
  return out;
}

std::int64_t TokenWindows::bytes_in(std::span<const std::int64_t> windows) const {
  check(windows);
  std::int64_t sum = 0;
  for (const std::int64_t w : windows)
    for (const TokenId id : of_window(w).last(static_cast<std::size_t>(window())))
      sum += bytes_of_token_[static_cast<std::size_t>(id)];
  return sum;
}

std::string byte_tokenizer_json() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[text::byte_character(static_cast<unsigned char>(byte))] = byte;
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array()},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false},
                       {"vocab", std::move(vocabulary)},
                       {"merges", Json::array()}}}};
  return json.dump(1) + "\n";
}

WindowOrder::WindowOrder(std::int64_t windows, std::uint64_t seed)
    : seed_(seed), order_(static_cast<std::size_t>(windows)) {}

std::int64_t WindowOrder::operator()(std::int64_t position) {
  const auto size = static_cast<std::int64_t>(order_.size());
  if (const std::int64_t pass = position / size; pass != pass_) {
    pass_ = pass;
    std::iota(order_.begin(), order_.end(), 0);
    Random random(seed_, static_cast<std::uint64_t>(pass));
    for (std::size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.below(i)]);
  }
  return order_[static_cast<std::size_t>(position % size)];
}

}  // namespace torpor::lab
