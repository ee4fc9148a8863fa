// What every verb shares: help, version, unknown words, exit codes, the streams, the hand-over to torpor-lab.
#include <algorithm>
#include <fstream>

#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const std::vector<std::string> kVerbs = {"profile", "inspect", "eval", "run", "bench", "pack"};

/// One line, with the program's name in front.
void expect_one_line(const std::string& err) {
  EXPECT_THAT(err, StartsWith("torpor: "));
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  EXPECT_THAT(err, EndsWith("\n"));
}

void make_script(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << "#!/bin/sh\n" << text;
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

TEST(CommandLine, ShowsHelpOnStandardOutput) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{}, {"--help"}, {"-h"}, {"help"}}) {
    const Outcome outcome = torpor(arguments);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err, IsEmpty());
    for (const std::string& verb : kVerbs) EXPECT_THAT(outcome.out, HasSubstr("\n  " + verb + " "));
    EXPECT_THAT(outcome.out, HasSubstr("Usage: torpor VERB [MODEL] [options]\n"));
  }
}

TEST(CommandLine, DoesNotAdvertiseWhatItCannotDo) {
  const std::string help = torpor({}).out;
  for (const char* verb : {"serve", "train", "predictor", "continual", "explain", "unnorm", "lens"})
    EXPECT_THAT(help, Not(HasSubstr(verb))) << verb;
}

// Its ten milliseconds are bench/apps/startup.py's to measure. What would cost them, a large library loaded or
// much set up ahead, touches pages: LibTorch alone many thousands.
TEST(CommandLine, NamesItsVersionWithLittleWork) {
  const Outcome outcome = torpor({"--version"});
  ASSERT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, AllOf(StartsWith("torpor "), HasSubstr("kernels: ")));
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(outcome.page_faults, 1500);
#endif
}

TEST(CommandLine, ShowsTheHelpOfEveryVerbWithAnExample) {
  for (const std::string& verb : kVerbs) {
    const Outcome outcome = torpor({verb, "--help"});
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.err, IsEmpty());
    EXPECT_THAT(outcome.out, HasSubstr("Usage: torpor " + verb + " "));
    EXPECT_THAT(outcome.out, HasSubstr("\nExamples:\n  torpor " + verb + " "));
    EXPECT_THAT(outcome.out,
                HasSubstr("Exit codes: 0 done, 1 the work failed, 2 the command line is wrong, 3 an input is bad."));
    for (const char* option :
         {"--json", "-o, --output DIR", "--seed", "--threads", "-q, --quiet", "-v, --verbose", "-h, --help"})
      EXPECT_THAT(outcome.out, HasSubstr(std::string("  ") + option)) << verb;
    for (const std::string& line : lines_of(outcome.out)) EXPECT_LE(line.size(), 100U) << line;
    EXPECT_EQ(torpor({"help", verb}).out, outcome.out);
  }
}

struct WrongLine {
  std::vector<std::string> arguments;
  std::string message;
};

// Every one is answered with exit code 2, one line on standard error, and nothing on standard output.
TEST(CommandLine, AnswersWrongCommandLinesWithOneLine) {
  const std::vector<WrongLine> cases = {
      {{"profil"}, "unknown verb \"profil\". Did you mean `torpor profile`? See: torpor --help"},
      {{"inspcet"}, "Did you mean `torpor inspect`?"},
      {{"rnu"}, "Did you mean `torpor run`?"},
      {{"xyzzy"}, "unknown verb \"xyzzy\". See: torpor --help"},
      {{""}, "unknown verb \"\""},
      {{"serve"}, "unknown verb \"serve\""},
      {{"pack", "m"}, "-o DIR"},
      {{"--verbose"}, "expected a verb first, found the option --verbose"},
      {{"inspect"}, "inspect: MODEL is required"},
      {{"inspect", "m", "-o", ""}, "inspect: --output: expected a folder"},
      {{"inspect", "a", "b"}, "inspect: expected no further argument, found \"b\""},
      {{"inspect", "m", "--jsno"}, "inspect: unknown option --jsno. Did you mean --json?"},
      {{"run", "m", "--max-token", "3"}, "run: unknown option --max-token. Did you mean --max-tokens?"},
      {{"run", "m", "--seed", "-1"}, "--seed"},
      {{"run", "m", "--seed", "abc"}, "--seed"},
      {{"run", "m", "--seed"}, "--seed expects a value"},
      {{"run", "m", "--seed", "1", "--seed", "2"}, "run: --seed is given 2 times, expected once"},
      {{"run", "m", "--threads", "0"}, "--threads"},
      {{"run", "m", "--threads", "100000"}, "--threads"},
      {{"run", "m", "--quiet", "--verbose"}, "excludes"},
      {{"run", "m", "--greedy", "--temperature", "1"}, "excludes"},
      {{"run", "m", "--greedy", "--top-k", "3"}, "excludes"},
      {{"run", "m", "--prompt", "a", "--prompt-file", "b"}, "excludes"},
      {{"run", "m", "--temperature", "-1"}, "temperature"},
      {{"run", "m", "--top-p", "0"}, "top_p"},
      {{"run", "m", "--top-p", "1.5"}, "top_p"},
      {{"run", "m", "--min-p", "2"}, "min_p"},
      {{"run", "m", "--max-tokens", "0"}, "--max-tokens"},
      {{"run", "m", "--max-tokens", "99999999999999999999"}, "--max-tokens"},
      {{"eval", "m"}, "eval: --text is required"},
      {{"eval", "m", "--text", "t", "--window", "1"}, "--window"},
      {{"profile", "m", "--text", "t", "--budget", "1"}, "--budget: expected a share like 1% or 0.01, found \"1\""},
      {{"profile", "m", "--text", "t", "--budget", "-1%"}, "found \"-1%\""},
      {{"profile", "m", "--text", "t", "--budget", "x"}, "found \"x\""},
      {{"profile", "m", "--text", "t", "--budget", "nan"}, "found \"nan\""},
      {{"profile", "m", "--text", "t", "--budget", "1%", "--cett", "0.1"}, "excludes"},
      {{"profile", "m", "--text", "t", "--sparsity", "0.5", "--cett", "0.1"}, "excludes"},
  };
  for (const WrongLine& wrong : cases) {
    const Outcome outcome = torpor(wrong.arguments);
    std::string line;
    for (const std::string& word : wrong.arguments) line += " " + word;
    SCOPED_TRACE("torpor" + line);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.out, IsEmpty());
    expect_one_line(outcome.err);
    EXPECT_THAT(outcome.err, HasSubstr(wrong.message));
  }
}

TEST(CommandLine, KeepsControlCharactersOfItsInputsOffTheTerminal) {
  const Outcome outcome = torpor({"inspect", "no\x1b[31mwhere\nhere"});
  EXPECT_EQ(outcome.exit_code, 3);
  expect_one_line(outcome.err);
  EXPECT_THAT(outcome.err, Not(HasSubstr("\x1b")));
}

TEST(CommandLine, HandsLabVerbsOverWithAllArguments) {
  const TemporaryFolder folder;
  make_script(folder / "torpor-lab", "printf '%s|' \"$@\"\nexit 7\n");
  Surroundings surroundings;
  surroundings.environment["PATH"] = (folder.path().string() + ":/usr/bin:/bin");
  // A copy elsewhere, so that a torpor-lab of this build does not stand beside it.
  const std::filesystem::path elsewhere = folder / "bin";
  std::filesystem::create_directory(elsewhere);
  std::filesystem::copy_file(TORPOR_PROGRAM, elsewhere / "torpor");
  surroundings.program = elsewhere / "torpor";
  const Outcome outcome = torpor({"rl", "--env", "ant", "two words", "--json"}, surroundings);
  EXPECT_EQ(outcome.exit_code, 7);
  EXPECT_EQ(outcome.out, "rl|--env|ant|two words|--json|");

  make_script(elsewhere / "torpor-lab", "echo beside\n");
  EXPECT_EQ(torpor({"train"}, surroundings).out, "beside\n") << "the one beside the program comes first";
}

TEST(CommandLine, SaysHowToGetTheLabWhereItIsNotInstalled) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(TORPOR_PROGRAM, folder / "torpor");
  Surroundings surroundings;
  surroundings.program = folder / "torpor";
  surroundings.environment["PATH"] = "/nonexistent::/usr/bin";
  const Outcome outcome = torpor({"explain", "x"}, surroundings);
  EXPECT_EQ(outcome.exit_code, 1);
  expect_one_line(outcome.err);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("torpor-lab"), HasSubstr("PATH")));
}

TEST(CommandLine, ReportsAFullStandardOutput) {
  Surroundings surroundings;
  surroundings.out_to = "/dev/full";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"--version"}, {"run", "--help"}}) {
    const Outcome outcome = torpor(arguments, surroundings);
    EXPECT_EQ(outcome.exit_code, 1);
    expect_one_line(outcome.err);
    EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
  }
}

TEST(CommandLine, EndsQuietlyWhenItsReaderIsGone) {
  Surroundings surroundings;
  surroundings.close_out_early = true;
  const Outcome outcome = torpor({"--help"}, surroundings);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, IsEmpty());
}

}  // namespace
}  // namespace torpor::testing
