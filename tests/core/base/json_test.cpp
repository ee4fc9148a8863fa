#include "core/base/json.h"

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

// What the error says, always BadInput (exit code 3).
template <typename F>
std::string complaint(F action) {
  try {
    action();
  } catch (const BadInput& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no exception";
}

TEST(ParseJson, KeepsOrderAndValues) {
  const Json json = parse_json(R"({"z": 1, "a": [true, null, "é", -2.5]})", "x.json");
  EXPECT_EQ(json.dump(), R"({"z":1,"a":[true,null,"é",-2.5]})");
}

TEST(ParseJson, ComplaintsNameFilePlaceAndReason) {
  struct Case {
    std::string text, expected;
  };
  const std::vector<Case> cases = {
      {"", "c.json: expected JSON, found an error at line 1, column 1"},
      {"{\"a\": 1,\n \"b\": }", "c.json: expected JSON, found an error at line 2, column 7"},
      {"{\"a\": 1} x", "line 1, column 10"},
      {"[1, 2", "line 1, column 6"},
      {"{\"a\": 1, \"b\": 2, \"a\": 3}", "c.json: the key \"a\" appears twice in one object"},
      {"[{\"a\": 1}, {\"b\": {\"c\": 1, \"c\": 1}}]", "the key \"c\" appears twice"},
      {"[1e999]", "c.json: expected JSON"},
      {"[\"\xff\"]", "c.json: expected JSON"},
      {"[NaN]", "c.json: expected JSON"},
      {std::string("[1\0]", 4), "c.json: expected JSON"},
      {std::string(300, '[') + std::string(300, ']'), "c.json: expected nesting of at most 256, found more"},
      {std::string(2000000, '['), "c.json: expected nesting of at most 256, found more"},
  };
  for (const Case& c : cases) {
    const std::string found = complaint([&] { parse_json(c.text, "c.json"); });
    EXPECT_THAT(found, HasSubstr(c.expected)) << c.text.substr(0, 60);
    EXPECT_EQ(found.find('\n'), std::string::npos) << "more than one line: " << found;
  }
}

TEST(ParseJson, RefusesWhatFollowsANul) {
  try {
    parse_json(std::string_view("{}\0{", 4), "file");
    FAIL() << "took it";
  } catch (const BadInput& error) {
    EXPECT_STREQ(error.what(), "file: expected JSON, found a NUL at byte 2 of it");
  }
}

TEST(ParseJson, TakesTheSameKeyInDifferentObjectsAndTheDeepestNestingAllowed) {
  EXPECT_NO_THROW(parse_json(R"([{"a": 1}, {"a": {"a": 1}}])", "x"));
  EXPECT_NO_THROW(parse_json(std::string(250, '[') + std::string(250, ']'), "x"));
}

TEST(ReadJson, NamesTheFile) {
  const torpor::testing::TemporaryFolder folder;
  write_file_atomically(folder / "bad.json", "{");
  EXPECT_THAT(complaint([&] { read_json(folder / "bad.json"); }), HasSubstr((folder / "bad.json").string()));
  EXPECT_THAT(complaint([&] { read_json(folder / "absent.json"); }), HasSubstr("cannot be read"));
}

class JsonReaderTest : public ::testing::Test {
 protected:
  const Json json_ = parse_json(R"({"size": 64, "eps": 1e-5, "whole": 2.0, "tied": true, "act": "silu", "null": null,
    "big": 18446744073709551615, "negative": -1, "rope": {"theta": 10000, "type": 3}, "long": ")" +
                                    std::string(100, 'x') + "\"}",
                                "config.json");
  const JsonReader reader_{json_, "config.json"};
};

TEST_F(JsonReaderTest, ReadsEachKind) {
  EXPECT_EQ(reader_.integer("size", 1, 64), 64);
  EXPECT_EQ(reader_.integer("negative", -1, 64), -1);
  EXPECT_EQ(reader_.number("eps"), 1e-5);
  EXPECT_EQ(reader_.number("size"), 64.0);
  EXPECT_TRUE(reader_.boolean("tied"));
  EXPECT_EQ(reader_.string("act"), "silu");
  EXPECT_EQ(reader_.object("rope").integer("theta", 0, 1 << 20), 10000);
  EXPECT_EQ(reader_.at("size"), 64);
}

TEST_F(JsonReaderTest, TreatsNullAndMissingAlikeWhereThereIsAFallback) {
  for (const char* key : {"null", "missing"}) {
    EXPECT_FALSE(reader_.has(key));
    EXPECT_EQ(reader_.integer_or(key, 7, 0, 10), 7);
    EXPECT_EQ(reader_.number_or(key, 0.5), 0.5);
    EXPECT_TRUE(reader_.boolean_or(key, true));
    EXPECT_EQ(reader_.string_or(key, "x"), "x");
  }
  EXPECT_EQ(reader_.integer_or("size", 7, 0, 100), 64);
}

TEST_F(JsonReaderTest, ComplaintsSayExpectedFoundAndWhere) {
  EXPECT_EQ(complaint([&] { reader_.integer("act", 0, 9); }),
            "config.json: expected an integer from 0 to 9 at \"act\", found \"silu\"");
  EXPECT_EQ(complaint([&] { reader_.integer("size", 0, 63); }),
            "config.json: expected an integer from 0 to 63 at \"size\", found 64");
  EXPECT_EQ(complaint([&] { reader_.integer("size", 65, 100); }),
            "config.json: expected an integer from 65 to 100 at \"size\", found 64");
  EXPECT_THAT(complaint([&] { reader_.integer("whole", 0, 9); }), HasSubstr("found 2.0"));
  EXPECT_THAT(complaint([&] { reader_.integer("big", 0, INT64_MAX); }), HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(complaint([&] { reader_.integer("missing", 0, 9); }), HasSubstr("at \"missing\", found nothing"));
  EXPECT_THAT(complaint([&] { reader_.number("tied"); }), HasSubstr("expected a number at \"tied\", found true"));
  EXPECT_THAT(complaint([&] { reader_.boolean("size"); }), HasSubstr("expected true or false"));
  EXPECT_THAT(complaint([&] { reader_.string("size"); }), HasSubstr("expected a string"));
  EXPECT_THAT(complaint([&] { reader_.object("size"); }), HasSubstr("expected an object at \"size\", found 64"));
  EXPECT_THAT(complaint([&] { static_cast<void>(reader_.at("missing")); }),
              HasSubstr("expected a value at \"missing\""));
  EXPECT_THAT(complaint([&] { reader_.object("rope").string("type"); }),
              HasSubstr("config.json: rope: expected a string at \"type\", found 3"));
  EXPECT_THAT(complaint([&] { reader_.boolean("long"); }), ::testing::EndsWith("xxx...")) << "long values are cut";
  EXPECT_THAT(complaint([&] { reader_.integer_or("act", 1, 0, 9); }), HasSubstr("found \"silu\""))
      << "a fallback hides no fault";
}

TEST(JsonReader, RefusesWhatIsNoObject) {
  const Json array = Json::array();
  EXPECT_EQ(complaint([&] { JsonReader(array, "x.json"); }), "x.json: expected a JSON object, found array");
}

}  // namespace
}  // namespace torpor
