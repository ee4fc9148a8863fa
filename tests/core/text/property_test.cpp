// What must hold for every text: byte-level BPE loses nothing, streaming gives what decoding gives, caches and threads
// change nothing.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <thread>

#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

const Tokenizer& committed(const std::string& name) {
  static std::map<std::string, std::unique_ptr<const Tokenizer>> loaded;
  auto& tokenizer = loaded[name];
  if (!tokenizer) tokenizer = load_tokenizer(testing::golden("text/" + name));
  return *tokenizer;
}

// Bytes of all kinds, with words and characters of our own tokenizers among them.
rc::Gen<std::string> any_text() {
  const auto piece = rc::gen::weightedOneOf<std::string>(
      {{3, rc::gen::elementOf(std::vector<std::string>{
               "neuron",    " the",  " most",        "\n",       "  ",       " ",
               "'s",        "12",    "\u795e\u7ecf", "\u00e9",   "\u2581",   "\U0001f44d",
               "<|begin|>", "<sp>",  "<extra>",      " <one> ",  "<s>",      "</s>",
               "<0x0A>",    "<unk>", "\xff",         "\xe2\x96", "\xf0\x9f", std::string(1, '\0')})},
       {1, rc::gen::container<std::string>(rc::gen::arbitrary<char>())}});
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece), [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const auto& one : pieces) text += one;
    return text;
  });
}

RC_GTEST_PROP(ByteLevelBpe, DecodingGivesTheTextBack, ()) {
  const auto text = *any_text();
  for (const char* name : {"byte_gpt2.json", "byte_llama3.json"}) {
    const auto& tokenizer = committed(name);
    RC_ASSERT(tokenizer.decode(tokenizer.encode(text, {true, false})) == text);
    std::string bytes;
    for (const TokenId id : tokenizer.encode(text, {false, false})) bytes += tokenizer.token_bytes(id);
    RC_ASSERT(bytes == text);
  }
}

RC_GTEST_PROP(Streaming, GivesWhatDecodingGives, ()) {
  for (const char* name : {"byte_gpt2.json", "byte_llama3.json", "llama_normalizer.json", "llama_metaspace.json",
                           "metaspace_split.json", "sentencepiece_unigram.model", "sentencepiece_bpe.model"}) {
    const auto& tokenizer = committed(name);
    // Ids of a text, or any ids at all.
    const bool any = *rc::gen::arbitrary<bool>();
    const auto ids = any ? *rc::gen::container<std::vector<TokenId>>(rc::gen::inRange(0, tokenizer.vocab_size()))
                         : tokenizer.encode(*any_text(), {true, true});
    StreamingDetokenizer streaming(tokenizer);
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = streaming.push(id);
      RC_ASSERT(text::valid_prefix(piece) == piece.size());
      text += piece;
    }
    text += streaming.finish();
    RC_ASSERT(text == text::replace_invalid(tokenizer.decode(ids)));
  }
}

RC_GTEST_PROP(Encoding, IsTheSameEveryTimeAndCutsSpecialsTheSame, ()) {
  const auto text = *any_text();
  for (const char* name : {"byte_gpt2.json", "byte_llama3.json", "byte_mixed.json", "llama_normalizer.json",
                           "llama_metaspace.json", "sentencepiece_bpe.model"}) {
    const auto& warm = committed(name);
    const auto cold = load_tokenizer(testing::golden(std::string("text/") + name));
    for (const bool parse : {false, true}) {
      const auto ids = warm.encode(text, {true, parse});
      RC_ASSERT(ids == cold->encode(text, {true, parse}));
      RC_ASSERT(ids == warm.encode(text, {true, parse}));
      for (const TokenId id : ids) RC_ASSERT(id >= 0 && id < warm.vocab_size());
    }
  }
}

TEST(Threads, EncodeAtOnceWhatOneEncodes) {
  const auto& tokenizer = committed("byte_gpt2.json");
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 200; ++i) {
    texts.push_back("The neurons of layer " + std::to_string(i * 7919) + " sleep, and caf\u00e9 " +
                    std::string(static_cast<std::size_t>(i), 'a'));
    expected.push_back(tokenizer.encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; round < 20; ++round)
        for (std::size_t i = 0; i < texts.size(); ++i) wrong[t] += tokenizer.encode(texts[i]) != expected[i];
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(wrong.size(), 0));
}

}  // namespace
}  // namespace torpor
