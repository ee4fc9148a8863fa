// Texts, tokenizers, prompts, plans and places to write to that are no good: one line that says what was expected,
// found and where, the right exit code, and no half-written result. Models: bad_model_test.cpp.
#include <cstring>

#include "tests/apps/files.h"
#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

TEST(BadInput, TextsThatCannotBeMeasuredAreRefused) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny"), results = folder / "results";
  const auto refused = [&](const fs::path& text, const std::vector<std::string>& words, const std::string& input = {}) {
    SCOPED_TRACE(text.string());
    Surroundings surroundings;
    surroundings.input = input;
    expect_refused(torpor({"eval", model, "--text", text, "-o", results}, surroundings), 3, words, results);
    expect_refused(torpor({"profile", model, "--text", text, "-o", results}, surroundings), 3, words, results);
  };
  refused(folder / "absent.txt", {"absent.txt"});
  write_all(folder / "empty.txt", "");
  refused(folder / "empty.txt", {"empty.txt", "empty"});
  refused("-", {"standard input", "found none"});
  fs::create_directory(folder / "no-files");
  refused(folder / "no-files", {"no-files"});
  write_all(folder / "latin1.txt", std::string(400, 'a') + "caf\xE9 au lait");
  refused(folder / "latin1.txt", {"latin1.txt", "UTF-8", "403"});
  refused("/dev/null", {"/dev/null"});
  write_all(folder / "blank.txt", "   \n\n  ");
  expect_refused(torpor({"profile", model, "--text", folder / "blank.txt", "-o", results}), 3, {"blank.txt", "window"},
                 results);
  for (const std::string verb : {"eval", "profile"})
    expect_refused(torpor({verb, model, "--text", tiny_text(), "--window", "65", "-o", results}), 2,
                   {"--window", "64", "65"}, results);
  write_all(folder / "short.txt", "Too short.");  // eval takes what there is
  expect_refused(torpor({"profile", model, "--text", folder / "short.txt", "-o", results}), 3, {"short.txt", "window"},
                 results);
}

TEST(BadInput, ATokenizerOfAnotherModelIsRefused) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  edit_json(folder / "model" / "tokenizer.json", [](Json& t) { t["model"]["vocab"]["another"] = 320; });
  fs::copy_file(model / "tokenizer.json", folder / "other.json");
  const std::string results = folder / "results", other = folder / "other.json";
  for (const std::string verb : {"eval", "profile"})
    expect_refused(torpor({verb, golden("apps/tiny"), "--text", tiny_text(), "--tokenizer", other, "-o", results}), 3,
                   {"other.json", "321", "320"}, results);
  expect_refused(torpor({"run", golden("apps/tiny"), "--tokenizer", other}), 3, {"other.json", "321", "320"}, results);
}

TEST(BadInput, PromptsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny");
  expect_refused(torpor({"run", model, "--prompt-file", folder / "absent"}), 3, {"absent"}, folder / "none");
  expect_refused(torpor({"run", model, "--prompt-file", tiny_text()}), 3, {"prompt", "64"}, folder / "none");
  expect_refused(torpor({"run", model, "--prompt", "caf\xE9"}), 3, {"--prompt", "UTF-8", "0xe9", "3"}, folder / "none");
  write_all(folder / "latin1.txt", "caf\xE9");
  expect_refused(torpor({"run", model, "--prompt-file", folder / "latin1.txt"}), 3, {"latin1.txt", "UTF-8"},
                 folder / "none");
  Surroundings surroundings;
  surroundings.input = "caf\xE9";
  expect_refused(torpor({"run", model, "--prompt-file", "-"}, surroundings), 3, {"standard input", "UTF-8"},
                 folder / "none");
}

// ---------------------------------------------------------------------------------------------------------------------
// Places to write to

TEST(BadInput, AFolderThatCannotBeWrittenIsNamedBeforeAnyWork) {
  const TemporaryFolder folder;
  write_all(folder / "file", "not a folder");
  const std::string model = golden("apps/tiny");
  for (const std::string& place :
       {(folder / "file").string(), (folder / "file" / "below").string(), std::string("/proc/results")}) {
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"profile", model, "--text", tiny_text(), "-o", place},
          {"eval", model, "--text", tiny_text(), "-o", place},
          {"inspect", model, "-o", place},
          {"run", model, "-o", place}}) {
      const Outcome outcome = torpor(arguments);
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.out, IsEmpty());
      EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
      EXPECT_THAT(outcome.err, HasSubstr(place));
      EXPECT_LT(outcome.seconds, 2);
    }
  }
  EXPECT_EQ(read_all(folder / "file"), "not a folder");
}

TEST(BadInput, AResultOfSomethingElseIsNotOverwritten) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny"), results = folder / "results";
  const auto refused = [&](const std::vector<std::string>& words) {
    const auto names = names_in(results);
    const std::string manifest = read_all(fs::path(results) / "manifest.json");
    const Outcome outcome = torpor({"eval", model, "--text", tiny_text(), "-o", results, "--quiet"});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
    for (const std::string& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
    EXPECT_EQ(names_in(results), names);
    EXPECT_EQ(read_all(fs::path(results) / "manifest.json"), manifest);
  };
  ASSERT_EQ(torpor({"inspect", model, "-o", results}).exit_code, 0);
  EXPECT_EQ(torpor({"inspect", model, "-o", results}).exit_code, 0) << "the same verb replaces its own";
  refused({results, "torpor inspect", "torpor eval"});
  for (const std::string other : {"{\"manifest_version\": 3}", "[1, 2]", "not JSON", ""}) {
    write_all(fs::path(results) / "manifest.json", other);
    refused({results, "not of torpor"});
  }
}

// A limit on the size of files stands for a full disk: writes fail halfway.
TEST(BadInput, AFullDiskLeavesNoHalfWrittenResult) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny"), results = folder / "results";
  Surroundings surroundings;
  surroundings.file_size_limit = 300;
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", model, "-o", results},
        {"eval", model, "--text", tiny_text(), "--max-tokens", "1000", "-o", results},
        {"profile", model, "--text", tiny_text(), "-o", results, "--quiet"},
        {"run", model, "-o", results, "--json", "--max-tokens", "5"}}) {
    SCOPED_TRACE(arguments[0]);
    const Outcome outcome = torpor(arguments, surroundings);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
    EXPECT_THAT(outcome.err, HasSubstr("File too large"));
    EXPECT_THAT(names_in(results), IsEmpty());
    EXPECT_FALSE(fs::exists(results));
  }
}

TEST(BadInput, AFullDiskLeavesAnOlderResultAsItWas) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny");
  const fs::path results = folder / "results";
  ASSERT_EQ(torpor({"profile", model, "--text", tiny_text(), "-o", results, "--quiet"}).exit_code, 0);
  write_all(results / "notes.txt", "mine");
  const auto names = names_in(results);
  const std::string plan = read_all(results / "plan.json");
  Surroundings surroundings;
  surroundings.file_size_limit = 2000;
  EXPECT_EQ(torpor({"profile", model, "--text", tiny_text(), "-o", results, "--quiet", "--cett", "0.5"}, surroundings)
                .exit_code,
            1);
  EXPECT_EQ(names_in(results), names);
  EXPECT_EQ(read_all(results / "plan.json"), plan);
  EXPECT_EQ(read_all(results / "notes.txt"), "mine");
}

TEST(BadInput, CtrlCEndsWithOneLineAndNoHalfWrittenResult) {
  const TemporaryFolder folder;
  const std::string text = folder / "long.txt";
  std::string many;
  for (int i = 0; i < 40; ++i) many += read_all(tiny_text());
  write_all(text, many);
  const fs::path results = folder / "results";
  for (const std::string verb : {"profile", "eval"}) {
    SCOPED_TRACE(verb);
    Surroundings surroundings;
    const auto start = std::chrono::steady_clock::now();
    surroundings.interrupt_when = [&] {
      return std::chrono::steady_clock::now() - start > std::chrono::milliseconds(400);
    };
    const Outcome outcome = torpor({verb, golden("apps/tiny"), "--text", text, "-o", results, "--quiet"}, surroundings);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, MatchesRegex("torpor: interrupted[^\n]*\n"));
    EXPECT_FALSE(fs::exists(results)) << ::testing::PrintToString(names_in(results));
    EXPECT_LT(outcome.seconds, 3) << "it stopped late";
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Plans

class Plans : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const Outcome made =
        torpor({"profile", golden("apps/tiny"), "--text", tiny_text(), "-o", *folder_ / "results", "--quiet"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() { delete folder_; }
  static fs::path plan() { return *folder_ / "results" / "plan.json"; }
  static void expect_plan_refused(const fs::path& model, const fs::path& plan, const std::vector<std::string>& words) {
    const fs::path results = *folder_ / "none";
    expect_refused(torpor({"eval", model, "--text", tiny_text(), "--plan", plan, "-o", results}), 3, words, results);
    expect_refused(torpor({"run", model, "--greedy", "--max-tokens", "3", "--plan", plan}), 3, words, results);
  }
  static TemporaryFolder* folder_;
};
TemporaryFolder* Plans::folder_ = nullptr;

TEST_F(Plans, ThatDoNotExistOrAreDamagedAreRefused) {
  const fs::path damaged = *folder_ / "damaged.json";
  expect_plan_refused(golden("apps/tiny"), *folder_ / "absent.json", {"absent.json"});
  write_all(damaged, read_all(plan()).substr(0, 300));
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json"});
  fs::copy_file(plan(), damaged, fs::copy_options::overwrite_existing);
  edit_json(damaged, [](Json& p) { p["schema"] = "torpor.plan/99"; });
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json", "torpor.plan/99"});
  fs::copy_file(plan(), damaged, fs::copy_options::overwrite_existing);
  edit_json(damaged, [](Json& p) { p["layers"].erase(1); });
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json", "layers"});
}

TEST_F(Plans, ForAnotherModelAreRefusedWithWhatDiffers) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  edit_safetensors(model / "model.safetensors", [](Json&, std::string& d) { std::memset(d.data(), 0, 4); });
  expect_plan_refused(model, plan(), {"plan.json", "fingerprint"});
  const fs::path silu = tiny_model(folder / "silu");
  edit_json(silu / "config.json", [](Json& c) { c["hidden_act"] = "silu"; });
  expect_plan_refused(silu, plan(), {"plan.json", "relu", "silu"});
}

}  // namespace
}  // namespace torpor::testing
