#include "core/text/pipeline.h"

#include <algorithm>

#include "core/base/error.h"

namespace torpor::text {

class PipelineTokenizer::Lease {
 public:
  explicit Lease(const PipelineTokenizer& owner) : owner_(owner) {
    {
      const std::lock_guard lock(owner_.mutex_);
      if (!owner_.idle_.empty()) {
        scratch_ = std::move(owner_.idle_.back());
        owner_.idle_.pop_back();
      }
    }
    if (!scratch_) scratch_ = std::make_unique<EncodeScratch>();
  }
  ~Lease() {
    constexpr std::size_t kMaxKept = std::size_t{1} << 16;  // do not hold on to what one huge word needed
    if (scratch_->symbols.capacity() > kMaxKept) {
      scratch_->symbols = {};
      scratch_->merging = {};
    }
    const std::lock_guard lock(owner_.mutex_);
    owner_.idle_.push_back(std::move(scratch_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  EncodeScratch& operator*() { return *scratch_; }

 private:
  const PipelineTokenizer& owner_;
  std::unique_ptr<EncodeScratch> scratch_;
};

std::vector<TokenId> PipelineTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  Lease scratch(*this);
  IdSink out(text.size() / 4 + 16);  // English has about 4.5 bytes a token
  if (options.add_special)
    for (const TokenId id : parts_.before) out.push(id);
  if (parts_.added.empty()) {
    encode_ordinary(text, true, options.parse_special, *scratch, out);
  } else {
    for (const auto& part : parts_.added.split(text, options.parse_special)) {
      if (part.id >= 0)
        out.push(part.id);
      else
        encode_ordinary(part.text, part.text.data() == text.data(), options.parse_special, *scratch, out);
    }
  }
  if (options.add_special)
    for (const TokenId id : parts_.after) out.push(id);
  return out.take();
}

void PipelineTokenizer::encode_ordinary(std::string_view text, bool at_start, bool parse_special,
                                        EncodeScratch& scratch, IdSink& out) const {
  if (parts_.normalizer.empty() && parts_.added_normalized.empty()) return encode_pieces(text, at_start, scratch, out);
  const std::string normalized = parts_.normalizer.apply(text);
  if (parts_.added_normalized.empty()) return encode_pieces(normalized, at_start, scratch, out);
  for (const auto& part : parts_.added_normalized.split(normalized, parse_special)) {
    if (part.id >= 0)
      out.push(part.id);
    else
      encode_pieces(part.text, at_start && part.text.data() == normalized.data(), scratch, out);
  }
}

void PipelineTokenizer::encode_pieces(std::string_view text, bool at_start, EncodeScratch& scratch, IdSink& out) const {
  if (parts_.pre_tokenizer.empty()) return encode_cut(text, scratch, out);
  if (const auto pattern = parts_.pre_tokenizer.only_scanner()) {
    switch (*pattern) {
      case WordPattern::gpt2:
        return encode_scanned<WordPattern::gpt2>(text, scratch, out);
      case WordPattern::llama3:
        return encode_scanned<WordPattern::llama3>(text, scratch, out);
      case WordPattern::qwen2:
        return encode_scanned<WordPattern::qwen2>(text, scratch, out);
    }
  }
  std::deque<std::string> store;
  for (const std::string_view piece : parts_.pre_tokenizer.split(text, at_start, store))
    encode_cut(piece, scratch, out);
}

template <WordPattern P>
void PipelineTokenizer::encode_scanned(std::string_view text, EncodeScratch& scratch, IdSink& out) const {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const stop = word_end<P>(at, end);
    encode_word({at, static_cast<std::size_t>(stop - at)}, static_cast<std::size_t>(end - at), scratch, out);
    at = stop;
  }
}

void PipelineTokenizer::encode_cut(std::string_view text, EncodeScratch& scratch, IdSink& out) const {
  const std::string_view marker = parts_.model->cut_before();
  while (!text.empty()) {
    std::size_t end = text.size();
    if (!marker.empty()) {
      std::size_t at = 0;
      while (text.substr(at).starts_with(marker)) at += marker.size();
      end = std::min(end, text.find(marker, at));
    }
    encode_word(text.substr(0, end), text.size(), scratch, out);
    text.remove_prefix(end);
  }
}

inline void PipelineTokenizer::encode_word(std::string_view word, std::size_t readable, EncodeScratch& scratch,
                                           IdSink& out) const {
  if (word.size() > WordCache::kMaxBytes) [[unlikely]]
    return parts_.model->encode(word, scratch, out);
  const WordCache::Key key = WordCache::key_of(word, readable);
  WordCache::Slot& slot = scratch.cache.slot(key);
  if (slot.key == key) [[likely]]
    return out.push(slot);
  WordCache::Slot& second = WordCache::neighbour(slot);
  if (second.key == key) {
    std::swap(slot, second);
    return out.push(slot);
  }
  const std::size_t before = out.size();
  parts_.model->encode(word, scratch, out);
  const std::size_t count = out.size() - before;
  if (count == 0 || count > WordCache::kMaxTokens) return;
  second = slot;
  slot.key = key;
  std::fill(std::begin(slot.ids), std::end(slot.ids), kNoToken);
  std::copy_n(out.data() + before, count, slot.ids);
}

std::string PipelineTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id >= vocab_size())
    throw InvalidArgument("[token_bytes] expected a token id from 0 to {}, got {}", vocab_size() - 1, id);
  return parts_.bytes[index(id)];
}

std::string PipelineTokenizer::decode(std::span<const TokenId> ids) const {
  std::string text;
  bool first = true;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size())
      throw InvalidArgument("[decode] expected token ids from 0 to {}, got {}", vocab_size() - 1, id);
    if (parts_.special[index(id)]) continue;
    text += first && !parts_.first_bytes.empty() ? parts_.first_bytes[index(id)] : parts_.bytes[index(id)];
    first = false;
  }
  parts_.decoder.strip(text);
  return text;
}

}  // namespace torpor::text
