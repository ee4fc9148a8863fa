// What comes from a file may stand in a page: nothing of it is ever markup. Oracles: the characters that HTML 5 and
// JSON define, and a parser of JSON that reads back what was written.
#include "core/report/html.h"

#include "core/base/error.h"
#include "core/report/csv.h"
#include "core/report/manifest.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(Html, EscapesEveryCharacterThatMeansSomething) {
  EXPECT_EQ(escape_html(R"(<script>"a" & 'b'</script>)"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
  EXPECT_EQ(escape_html("Über 漢字 😀"), "Über 漢字 😀");
}

TEST(Html, ReplacesWhatIsNoTextOrReordersIt) {
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(escape_html("a\xFF"
                        "b"),
            "a" + replacement + "b");
  EXPECT_EQ(escape_html("\xC0\xAF"), replacement + replacement);     // overlong "/"
  EXPECT_EQ(escape_html("\xED\xA0\x80").substr(0, 3), replacement);  // half of a surrogate pair
  EXPECT_EQ(escape_html("a\xE2\x80\xAE"
                        "b"),
            "a" + replacement + "b");  // right-to-left override
  EXPECT_EQ(escape_html("a\x01"
                        "b\n"),
            "a" + replacement + "b\n");
}

TEST(Html, ProseKnowsFourMarksAndNoMarkup) {
  EXPECT_EQ(prose_to_html("**a** and *b*, `c`, x_{i}"),
            "<strong>a</strong> and <em>b</em>, <code>c</code>, x<sub>i</sub>");
  EXPECT_EQ(prose_to_html("**<b>**"), "<strong>&lt;b&gt;</strong>");
  EXPECT_EQ(prose_to_html("2 * 3 without an end"), "2 * 3 without an end");
}

TEST(Html, LiteralTextInProseComesOutAsItIs) {
  for (const std::string text : {"a**b**c", "`x`", "p_{1}", R"(back\slash)", "***", "_", "a*b"})
    EXPECT_EQ(prose_to_html(literal(text)), escape_html(text)) << text;
}

TEST(Html, JsonInAScriptCannotEndTheScriptAndReadsBackTheSame) {
  const Json value = {{"</script><script>alert(1)</script>", "<!--"},
                      {"line",
                       "a\xE2\x80\xA8"
                       "b\xE2\x80\xA9"},
                      {"and", "]]>&"}};
  const std::string text = json_for_script(value);
  EXPECT_EQ(text.find_first_of("<>&"), std::string::npos);
  EXPECT_EQ(text.find("\xE2\x80"), std::string::npos);
  EXPECT_EQ(Json::parse(text), value);
}

TEST(Html, ShellWordsAreWhatAShellReadsBack) {
  EXPECT_EQ(shell_word("plain-1.0/file"), "plain-1.0/file");
  EXPECT_EQ(shell_word("it's"), R"('it'\''s')");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("$(rm)"), "'$(rm)'");
}

TEST(Csv, QuotesAsRfc4180Says) {
  CsvWriter csv({"name", "value"});
  csv.text("a,b").number(0.1).end_row();
  csv.text("say \"x\"").number(std::nan("")).end_row();
  csv.text("two\nlines").integer(-3).end_row();
  csv.text(" blank").number(1e300).end_row();
  EXPECT_EQ(csv.str(), "name,value\r\n\"a,b\",0.1\r\n\"say \"\"x\"\"\",\r\n\"two\nlines\",-3\r\n\" blank\",1e+300\r\n");
}

TEST(Csv, ATableIsGoneOnWithButNotOneOfAnotherHeader) {
  CsvWriter whole({"a", "b"}), part({"a", "b"});
  for (CsvWriter* csv : {&whole, &part}) csv->integer(1).number(0.5).end_row();
  CsvWriter rest({"a", "b"}, part.str());
  for (CsvWriter* csv : {&whole, &rest}) csv->integer(2).text("x").end_row();
  EXPECT_EQ(rest.str(), whole.str());
  EXPECT_THROW(CsvWriter({"a", "c"}, part.str()), InvalidArgument);
}

TEST(Csv, RefusesRowsOfAnotherWidth) {
  CsvWriter csv({"a", "b"});
  csv.text("x");
  EXPECT_THROW(csv.end_row(), InvalidArgument);
  EXPECT_THROW(csv.str(), InvalidArgument);
}

TEST(Manifest, SaysWhatMadeTheResult) {
  Manifest manifest;
  manifest.command = {"torpor", "profile", "my model"};
  manifest.seed = 7;
  manifest.threads = 2;
  manifest.inputs = {{"model", "my model", 12, "ab"}, {"text", "-", -1, "cd"}};
  manifest.outputs = {{"plan", "plan.json"}};
  manifest.started = std::chrono::system_clock::from_time_t(1772366400);
  manifest.finished = manifest.started + std::chrono::seconds(61);
  manifest.seconds = 61;
  const Json json = manifest_json(manifest);
  EXPECT_EQ(json.at("schema"), "torpor.manifest/1");
  EXPECT_EQ(json.at("command_line"), "torpor profile 'my model'");
  EXPECT_EQ(json.at("started"), "2026-03-01T12:00:00Z");  // date -u -d @1772366400
  EXPECT_EQ(json.at("finished"), "2026-03-01T12:01:01Z");
  EXPECT_EQ(json.at("inputs").at(0).at("bytes"), 12);
  EXPECT_TRUE(json.at("inputs").at(1).at("bytes").is_null());
  EXPECT_EQ(json.at("outputs").at(0).at("path"), "plan.json");
}

TEST(Manifest, WritesNoNumberThatJsonLacks) {
  const testing::TemporaryFolder folder;
  write_json(folder / "x.json", {{"nan", std::nan("")}, {"text", "\xFF"}});
  const Json back = read_json(folder / "x.json");
  EXPECT_TRUE(back.at("nan").is_null());
  EXPECT_EQ(back.at("text"), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace torpor
