// Damaged and unsupported files: each refusal names the field and what was found.
#include <cstring>
#include <functional>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/gguf.h"
#include "core/text/formats.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;
using text::tokenizer_from_json;

std::string refusal(const std::function<void()>& load) {
  try {
    load();
  } catch (const BadInput& error) {
    EXPECT_EQ(error.exit_code(), 3);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "accepted";
}

Json good() {
  return Json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<s>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                       "special_tokens": {"<s>": {"ids": [5]}}},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]}})");
}

struct BadJson {
  const char* name;
  const char* patch;     // merged over good()
  const char* expected;  // part of the message
};

class BadTokenizerJson : public ::testing::TestWithParam<BadJson> {};

TEST_P(BadTokenizerJson, IsRefusedWithTheReason) {
  Json json = good();
  ASSERT_NO_THROW(tokenizer_from_json(json.dump(), "t.json", {}));
  json.merge_patch(Json::parse(GetParam().patch));
  EXPECT_THAT(refusal([&] { tokenizer_from_json(json.dump(), "t.json", {}); }),
              ::testing::AllOf(HasSubstr("t.json"), HasSubstr(GetParam().expected)));
}

constexpr BadJson kBadJson[] = {
    {"model_type", R"({"model": {"type": "WordPiece"}})", "expected BPE at \"type\", found \"WordPiece\""},
    {"no_model", R"({"model": null})", "\"model\""},
    {"no_type", R"({"model": {"type": null, "merges": null}})", "expected BPE"},
    {"normalizer", R"({"normalizer": {"type": "Precompiled"}})", "normalizer: expected a type that is supported"},
    {"nested_normalizer",
     R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "BertNormalizer"}]}})",
     "normalizers[1]"},
    {"pre_tokenizer", R"({"pre_tokenizer": {"type": "Whitespace"}})",
     "pre_tokenizer: expected a type that is supported"},
    {"byte_level_first",
     R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false}, {"type": "Digits", "individual_digits": true}]}})",
     "ByteLevel to be the last"},
    {"behavior",
     R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd", "invert": false}})",
     "\"Odd\""},
    {"pattern",
     R"({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false}})",
     "expected a regular expression"},
    {"empty_pattern",
     R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}})",
     "not empty"},
    {"metaspace", R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "xy"}})", "one character"},
    {"scheme", R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "odd"}})", "\"odd\""},
    {"decoder", R"({"decoder": {"type": "WordPiece"}})", "decoder: expected a type that is supported"},
    {"no_decoder", R"({"decoder": null})", "expected a decoder"},
    {"strip_at_end",
     R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}]}})",
     "\"stop\""},
    {"strip_before_fuse", R"({"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}})",
     "Fuse before Strip"},
    {"post_processor", R"({"post_processor": {"type": "Odd"}})", "post_processor"},
    {"template_id", R"({"post_processor": {"special_tokens": {"<s>": {"ids": [6]}}}})", "expected ids from 0 to 5"},
    {"template_name", R"({"post_processor": {"single": [{"SpecialToken": {"id": "<x>"}}, {"Sequence": {"id": "A"}}]}})",
     "<x>"},
    {"template_without_text", R"({"post_processor": {"single": [{"SpecialToken": {"id": "<s>"}}]}})", "sequence A"},
    {"dropout", R"({"model": {"dropout": 0.1}})", "\"dropout\""},
    {"suffix", R"({"model": {"end_of_word_suffix": "</w>"}})", "\"end_of_word_suffix\""},
    {"unknown_token", R"({"model": {"unk_token": "<unk>"}})", "\"unk_token\""},
    {"vocab_array", R"({"model": {"vocab": [1]}})", "\"vocab\""},
    {"empty_vocab", R"({"model": {"vocab": {"a": null, "b": null, "ab": null, "Ġ": null}, "merges": []}})",
     "found no token"},
    {"text_id", R"({"model": {"vocab": {"a": "0"}}})", "integer id"},
    {"negative_id", R"({"model": {"vocab": {"a": -1}}})", "found -1"},
    {"huge_id", R"({"model": {"vocab": {"a": 1000000000}}})", "holes"},
    {"overflowing_id", R"({"model": {"vocab": {"a": 18446744073709551615}}})", "integer id"},
    {"duplicate_id", R"({"model": {"vocab": {"a": 1}}})", "one token for each id"},
    {"merge_of_none", R"({"model": {"merges": ["a b", "a x"]}})",
     "merge 1 of \"a\" and \"x\", but \"x\" is not in the vocabulary"},
    {"merge_into_none", R"({"model": {"merges": ["b a"]}})", "\"ba\" is not in the vocabulary"},
    {"merge_of_one", R"({"model": {"merges": ["ab"]}})", "merges[0]"},
    {"merge_of_three", R"({"model": {"merges": ["a b c"]}})", "merges[0]"},
    {"merge_number", R"({"model": {"merges": [["a", 1]]}})", "merges[0]"},
    {"merges_object", R"({"model": {"merges": {}}})", "array at \"merges\""},
    {"added_id_taken", R"({"added_tokens": [{"id": 0, "content": "<s>"}]})", "an id that is free"},
    {"added_other_id", R"({"added_tokens": [{"id": 5, "content": "a"}]})", "the id 0"},
    {"added_twice", R"({"added_tokens": [{"id": 5, "content": "x"}, {"id": 6, "content": "x"}]})", "one id for each"},
    {"added_same_id", R"({"added_tokens": [{"id": 5, "content": "x"}, {"id": 5, "content": "y"}]})", "one id for each"},
    {"added_huge_id", R"({"added_tokens": [{"id": 99999999, "content": "x"}]})", "\"id\""},
    {"added_empty", R"({"added_tokens": [{"id": 5, "content": ""}]})", "\"content\""},
    {"added_object", R"({"added_tokens": {}})", "array at \"added_tokens\""},
};
INSTANTIATE_TEST_SUITE_P(Text, BadTokenizerJson, ::testing::ValuesIn(kBadJson),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(BadJsonText, IsRefusedWithThePlace) {
  const auto load = [](const std::string& json) { return refusal([&] { tokenizer_from_json(json, "t.json", {}); }); };
  EXPECT_THAT(load("{\n\"a\": tru}"), HasSubstr("line 2"));
  EXPECT_THAT(load(R"({"model": {"vocab": {"a": 0, "a": 1}}})"), HasSubstr("\"a\" appears twice"));
  EXPECT_THAT(load(std::string(100000, '[')), HasSubstr("nesting"));
  EXPECT_THAT(load("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(load(""), HasSubstr("expected JSON"));
  EXPECT_THAT(load(good().dump() + "x"), HasSubstr("expected JSON"));
}

TEST(BadPattern, ThatBacktracksWithoutEndStops) {
  Json json = good();
  json["pre_tokenizer"] =
      Json::parse(R"({"type": "Split", "pattern": {"Regex": "(a+)+[b-c]"}, "behavior": "Isolated", "invert": false})");
  const auto tokenizer = tokenizer_from_json(json.dump(), "t.json", {});
  EXPECT_THAT(refusal([&] { tokenizer->encode(std::string(60, 'a')); }), HasSubstr("cannot be run on this text"));
}

TEST(BadPair, NamesTheLine) {
  const auto load = [](const char* vocab, const char* merges) {
    return refusal([&] { text::tokenizer_from_vocab_and_merges(vocab, "vocab.json", merges, "merges.txt", {}); });
  };
  EXPECT_THAT(load(R"({"a":0,"b":1})", "#version\na b c\n"), HasSubstr("line 2"));
  EXPECT_THAT(load(R"({"a":0,"b":1})", "a b\n"), HasSubstr("\"ab\" is not in the vocabulary"));
  EXPECT_THAT(load(R"({"a":0.5})", ""), HasSubstr("integer id"));
  EXPECT_THAT(load("{}", ""), HasSubstr("found no token"));
}

TEST(BadPath, SaysWhatIsExpected) {
  testing::TemporaryFolder folder;
  EXPECT_THAT(refusal([&] { load_tokenizer(folder / "none"); }), HasSubstr("found nothing there"));
  EXPECT_THAT(refusal([&] { load_tokenizer(folder.path()); }), HasSubstr("found none"));
  write_file_atomically(folder / "notes.txt", "x");
  EXPECT_THAT(refusal([&] { load_tokenizer(folder / "notes.txt"); }), HasSubstr("another kind of file"));
  write_file_atomically(folder / "vocab.json", "{}");
  EXPECT_THAT(refusal([&] { load_tokenizer(folder / "vocab.json"); }), HasSubstr("merges.txt"));
}

TEST(BadConfig, BesideTheTokenizer) {
  testing::TemporaryFolder folder;
  write_file_atomically(folder / "tokenizer.json", good().dump());
  const auto with = [&](const char* name, const char* content) {
    write_file_atomically(folder / name, content);
    const std::string message = refusal([&] { load_tokenizer(folder.path()); });
    std::filesystem::remove(folder / name);
    return message;
  };
  EXPECT_THAT(with("config.json", R"({"bos_token_id": 6})"), HasSubstr("belong together"));
  EXPECT_THAT(with("tokenizer_config.json", R"({"bos_token": "<none>"})"), HasSubstr("\"<none>\""));
  EXPECT_THAT(with("tokenizer_config.json", R"({"bos_token": 7})"), HasSubstr("a string at \"bos_token\""));
  EXPECT_THAT(with("special_tokens_map.json", "[]"), HasSubstr("JSON object"));
}

TEST(BadSentencePiece, ThatLoadsButCannotEncodeIsNamed) {
  const auto tokenizer =
      text::tokenizer_from_sentencepiece(read_file(testing::golden("text/inconsistent_pieces.model")), "m.model", {});
  EXPECT_THAT(
      refusal([&] { tokenizer->encode("Hello ab  aa\n\n'll 123 caf\xC3\xA9 \xE2\x96\x81\xE7\xA5\x9E <s>a</s>"); }),
      HasSubstr("m.model: SentencePiece cannot encode"));
}

TEST(BadSentencePiece, IsRefused) {
  std::string model = read_file(testing::golden("text/sentencepiece_bpe.model"));
  for (const std::string& bytes : {std::string(), std::string("abc"), model.substr(0, model.size() / 2)})
    EXPECT_THAT(refusal([&] { text::tokenizer_from_sentencepiece(bytes, "m.model", {}); }),
                HasSubstr("m.model: expected"));
}

TEST(BadSentencePiece, WithAPieceThatStartsWithNulIsRefusedThoughTheLibraryThrows) {
  // <unk>, then a piece whose text begins with NUL, which the library's trie takes for an empty key.
  using std::string_literals::operator""s;
  const std::string bytes = "\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02\x0a\x0c\x0a\x06\0m\x01\0\0\x30\x78\x30\x20\0"s;
  EXPECT_THAT(refusal([&] { text::tokenizer_from_sentencepiece(bytes, "m.model", {}); }),
              HasSubstr("m.model: expected a SentencePiece model"));
}

// A llama2.c file of 259 tokens.
std::string llama2c_file(const std::function<void(std::vector<std::pair<std::string, float>>&)>& change = {}) {
  std::vector<std::pair<std::string, float>> tokens{{"<unk>", 0.f}, {"\n<s>\n", 0.f}, {"\n</s>\n", 0.f}};
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(fmt::format("<0x{:02X}>", byte), 0.f);
  tokens.emplace_back("a", -1.f);
  if (change) change(tokens);
  std::string file("\7\0\0\0", 4);
  for (const auto& [text, score] : tokens) {
    const auto length = static_cast<std::int32_t>(text.size());
    file.append(reinterpret_cast<const char*>(&score), 4)
        .append(reinterpret_cast<const char*>(&length), 4)
        .append(text);
  }
  return file;
}

TEST(BadLlama2c, NamesTheByte) {
  const auto load = [](const std::string& file) {
    return refusal([&] { text::tokenizer_from_llama2c(file, "t.bin"); });
  };
  const std::string file = llama2c_file();
  EXPECT_EQ(load(file), "accepted");
  EXPECT_THAT(load(""), HasSubstr("end of the file"));
  EXPECT_THAT(load(file.substr(0, 4)), HasSubstr("at least 259"));
  for (std::size_t cut = 1; cut < 9; ++cut)
    EXPECT_THAT(load(file.substr(0, file.size() - cut)), HasSubstr("t.bin: expected"));
  std::string longer = file;
  longer[8] = '\x7f';
  EXPECT_THAT(load(longer), HasSubstr("expected a token's length from 0 to 7 at byte 8, found 127"));
  longer[0] = longer[1] = longer[2] = longer[3] = '\xff';
  EXPECT_THAT(load(longer), HasSubstr("found -1"));
  EXPECT_THAT(load(llama2c_file([](auto& tokens) { tokens[3].first = "<0x01>"; })),
              HasSubstr("expected the token <0x00> with id 3"));
  EXPECT_THAT(load(llama2c_file([](auto& tokens) { tokens.back().second = std::nanf(""); })), HasSubstr("found NaN"));
}

}  // namespace
}  // namespace torpor
