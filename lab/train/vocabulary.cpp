#include "lab/train/vocabulary.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/json.h"

namespace torpor::lab {
namespace {

constexpr std::int64_t kTrainingBytes = 10'000'000;
constexpr std::size_t kPart = 100'000;   // of each of the places that lines are taken from, about
constexpr std::size_t kLongest = 4'000;  // SentencePiece leaves out longer sentences than its limit

/// The lines to train on, one after the other.
class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const TextCorpus& corpus) : documents_(corpus.documents()) {
    every_ =
        static_cast<std::size_t>(std::max<std::int64_t>(1, (corpus.bytes() + kTrainingBytes - 1) / kTrainingBytes));
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (document_ < documents_.size()) {
      const std::string_view text = documents_[document_];
      if (at_ >= text.size()) {
        ++document_;
        at_ = 0;
        continue;
      }
      const std::size_t end = std::min(text.find('\n', at_), text.size());
      const std::string_view line = text.substr(at_, std::min(end - at_, kLongest));
      // Parts are counted through all documents, so that short ones come in too.
      const bool wanted = ((seen_ + at_) / kPart) % every_ == 0;
      const std::size_t taken = line.size() < kLongest ? line.size() + 1 : whole_characters(line);
      at_ += taken;
      if (at_ >= text.size()) seen_ += text.size();
      if (!wanted || line.empty()) continue;
      line_ = line.substr(0, std::min(taken, line.size()));
      return;
    }
    done_ = true;
  }

 private:
  /// Without a character that is cut at the end.
  static std::size_t whole_characters(std::string_view line) {
    std::size_t size = line.size() - 1;
    while (size > 1 && (static_cast<unsigned char>(line[size]) & 0xC0) == 0x80) --size;
    return size;
  }

  std::span<const std::string_view> documents_;
  std::size_t every_ = 1, document_ = 0, at_ = 0, seen_ = 0;
  std::string line_;
  bool done_ = false;
};

}  // namespace

std::string train_sentencepiece(const TextCorpus& corpus, int pieces) {
  check_interrupt();
  Lines lines(corpus);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>{{"model_type", "bpe"},
                                                   {"vocab_size", std::to_string(pieces)},
                                                   {"byte_fallback", "true"},
                                                   {"character_coverage", "0.9998"},
                                                   {"normalization_rule_name", "identity"},
                                                   {"remove_extra_whitespaces", "false"},
                                                   {"allow_whitespace_only_pieces", "true"},
                                                   {"split_digits", "true"},
                                                   {"max_sentence_length", std::to_string(kLongest + 100)},
                                                   {"unk_id", "0"},
                                                   {"bos_id", "1"},
                                                   {"eos_id", "-1"},
                                                   {"pad_id", "-1"},
                                                   {"num_threads", "1"},
                                                   {"minloglevel", "2"}},
      &lines, &model);
  if (!status.ok())
    throw BadInput(
        "{}: SentencePiece cannot make a vocabulary of {} pieces from this text: {}. Choose another "
        "--vocab-size",
        corpus.source(), pieces, status.ToString());
  return model;
}

std::string sentencepiece_config_json() {
  const Json json = {{"tokenizer_class", "LlamaTokenizer"},
                     {"add_bos_token", true},
                     {"add_eos_token", false},
                     {"unk_token", "<unk>"},
                     {"bos_token", "<s>"},
                     {"eos_token", nullptr},
                     {"legacy", false}};
  return json.dump(2) + "\n";
}

}  // namespace torpor::lab
