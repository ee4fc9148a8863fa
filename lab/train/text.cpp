#include "lab/train/text.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/random.h"
#include "core/text/byte_level.h"

namespace torpor::lab {

ByteWindows::ByteWindows(TextCorpus corpus, std::int64_t window)
    : corpus_(std::move(corpus)), window_(window), count_((corpus_.bytes() - 1) / window) {
  std::int64_t start = 0;
  for (const std::string_view document : corpus_.documents()) {
    starts_.push_back(start);
    start += static_cast<std::int64_t>(document.size());
  }
  if (count_ < 1)
    throw BadInput("{}: expected at least {} bytes of text, one window and a byte, found {}", corpus_.source(),
                   window_ + 1, bytes());
}

at::Tensor ByteWindows::at(std::span<const std::int64_t> windows) const {
  at::Tensor out = torch::empty({static_cast<std::int64_t>(windows.size()), window_ + 1}, at::kLong);
  auto* to = out.mutable_data_ptr<std::int64_t>();
  for (const std::int64_t w : windows) {
    if (w < 0 || w >= count_) throw InvalidArgument("[ByteWindows] expected a window below {}, got {}", count_, w);
    std::int64_t place = w * window_, left = window_ + 1;
    auto document =
        static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), place) - starts_.begin() - 1);
    for (; left > 0; ++document) {
      const std::string_view text =
          corpus_.documents()[document].substr(static_cast<std::size_t>(place - starts_[document]));
      const std::int64_t taken = std::min(left, static_cast<std::int64_t>(text.size()));
      for (std::int64_t i = 0; i < taken; ++i) *to++ = static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
      place += taken;
      left -= taken;
    }
  }
  return out;
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
