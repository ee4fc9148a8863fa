// What core/base does to a whole process: signals, aborts, standard error.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "core/base/atomic_file.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using torpor::testing::TemporaryFolder;
using namespace std::chrono_literals;

// A child process; its standard output and error go to files.
class Probe {
 public:
  Probe(const TemporaryFolder& folder, std::vector<std::string> arguments)
      : out_(folder / "probe.out"), err_(folder / "probe.err") {
    child_ = ::fork();
    if (child_ != 0) return;
    const auto redirect = [](const fs::path& path, int descriptor) {
      const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (file < 0 || ::dup2(file, descriptor) < 0) ::_exit(99);
    };
    redirect(out_, STDOUT_FILENO);
    redirect(err_, STDERR_FILENO);
    arguments.insert(arguments.begin(), BASE_PROBE);
    std::vector<char*> words;
    for (std::string& word : arguments) words.push_back(word.data());
    words.push_back(nullptr);
    ::execv(BASE_PROBE, words.data());
    ::_exit(98);
  }
  void wait_until_ready() const {
    for (int i = 0; i < 1000 && output().find("ready") == std::string::npos; ++i) std::this_thread::sleep_for(10ms);
  }
  void signal(int number) const { ::kill(child_, number); }
  // Exit code, or 128 + signal.
  int end() const {
    int status = 0;
    ::waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string output() const { return fs::exists(out_) ? read_file(out_) : ""; }
  std::string error() const { return fs::exists(err_) ? read_file(err_) : ""; }

 private:
  fs::path out_, err_;
  pid_t child_ = -1;
};

TEST(Interrupt, FirstSignalUnwindsAndRemovesHalfWrittenFiles) {
  for (const int number : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const Probe probe(folder, {"wait", folder / "results/plan.json"});
    probe.wait_until_ready();
    probe.signal(number);
    EXPECT_EQ(probe.end(), 1);
    EXPECT_EQ(probe.error(), "torpor: interrupted; nothing was written\n");
    EXPECT_TRUE(fs::is_empty(folder / "results"));
  }
}

TEST(Interrupt, SecondSignalEndsAProcessThatDoesNotListen) {
  const TemporaryFolder folder;
  const Probe probe(folder, {"deaf"});
  probe.wait_until_ready();
  probe.signal(SIGINT);
  std::this_thread::sleep_for(100ms);
  const auto start = std::chrono::steady_clock::now();
  probe.signal(SIGINT);
  EXPECT_EQ(probe.end(), 128 + SIGINT);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

TEST(Assertion, NamesConditionPlaceAndValuesAndAborts) {
  const TemporaryFolder folder;
  const Probe probe(folder, {"assert", "1", "2"});
  EXPECT_EQ(probe.end(), 128 + SIGABRT);
  EXPECT_THAT(probe.error(),
              ::testing::MatchesRegex("torpor: internal error: .*base_probe.cpp:[0-9]+: first == second does not "
                                      "hold. first=1\nPlease report this.*\n"));
}

TEST(Progress, PrintsPlainLinesOnlyAfterTwoSecondsWhenNotOnATerminal) {
  const TemporaryFolder folder;
  const Probe probe(folder, {"progress", "tokens", "24000"});
  EXPECT_EQ(probe.end(), 0);
  EXPECT_THAT(probe.error(),
              ::testing::MatchesRegex("measuring \\[#+\\.+\\]  [89][0-9] %, [01] s left, [0-9]+ tokens/s, note\n"));
  EXPECT_EQ(probe.error().find('\033'), std::string::npos);
  EXPECT_EQ(probe.output(), "");
}

TEST(Progress, TheSpeedOfAResumedRunIsOfWhatItDidItself) {
  const TemporaryFolder folder;
  const Probe probe(folder, {"resumed progress", "tokens", "24000"});  // 12000 in 2.4 seconds
  EXPECT_EQ(probe.end(), 0);
  EXPECT_THAT(
      probe.error(),
      ::testing::MatchesRegex("measuring \\[#+\\.*\\]  9[0-9] %, [01] s left, [345][0-9][0-9][0-9] tokens/s, note\n"));
}

TEST(Progress, ShowsBytesAsMegabytesAndNoShareOfAnUnknownTotal) {
  const TemporaryFolder folder;
  const Probe known(folder, {"progress", "bytes", "240000000"});
  EXPECT_EQ(known.end(), 0);
  EXPECT_THAT(known.error(), HasSubstr(" MB/s"));
  const Probe unknown(folder, {"progress", "tokens", "0"});
  EXPECT_EQ(unknown.end(), 0);
  EXPECT_THAT(unknown.error(), HasSubstr("measuring 0 tokens, 0 tokens/s"));
}

TEST(Log, WritesToStandardErrorFromTheChosenLevelUp) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"quiet", ""},
      {"warning", "torpor: level warning\n"},
      {"info", "torpor: level info\ntorpor: level warning\n"},
      {"debug", "torpor: level debug\ntorpor: level info\ntorpor: level warning\n"}};
  for (const auto& [level, expected] : cases) {
    const Probe probe(folder, {"log", level});
    EXPECT_EQ(probe.end(), 0);
    EXPECT_EQ(probe.error(), expected) << level;
    EXPECT_EQ(probe.output(), "");
  }
}

}  // namespace
}  // namespace torpor
