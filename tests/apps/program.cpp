#include "tests/apps/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/test_support.h"

namespace torpor::testing {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void redirect(const std::filesystem::path& path, int flags, int descriptor) {
  const int opened = ::open(path.c_str(), flags, 0600);
  if (opened < 0) _exit(126);
  ::dup2(opened, descriptor);
  ::close(opened);
}

/// A pipe without a reader, as standard output.
void closed_pipe() {
  int ends[2];
  if (::pipe(ends) != 0) _exit(126);
  ::dup2(ends[1], STDOUT_FILENO);
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace

Outcome torpor(const std::vector<std::string>& arguments, const Surroundings& surroundings) {
  const TemporaryFolder streams;
  const std::filesystem::path in = streams / "in", out = streams / "out", err = streams / "err",
                              here = streams / "here";
  std::filesystem::create_directory(here);
  std::ofstream(in, std::ios::binary) << surroundings.input;

  std::vector<std::string> words = arguments;
  const std::string program = surroundings.program.empty() ? TORPOR_PROGRAM : surroundings.program.string();
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGPIPE, SIG_DFL);
    std::signal(SIGINT, SIG_DFL);
    redirect(in, O_RDONLY, STDIN_FILENO);
    redirect(err, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    if (surroundings.close_out_early)
      closed_pipe();
    else if (!surroundings.out_to.empty())
      redirect(surroundings.out_to, O_WRONLY, STDOUT_FILENO);
    else
      redirect(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    if (::chdir((surroundings.folder.empty() ? here : surroundings.folder).c_str()) != 0) _exit(126);
    for (const auto& [name, value] : surroundings.environment) ::setenv(name.c_str(), value.c_str(), 1);
    if (surroundings.file_size_limit >= 0) {
      const auto limit = static_cast<rlim_t>(surroundings.file_size_limit);
      const rlimit limits{limit, limit};
      ::setrlimit(RLIMIT_FSIZE, &limits);
      std::signal(SIGXFSZ, SIG_IGN);  // write() then fails with EFBIG
    }
    ::execv(program.c_str(), argv.data());
    _exit(127);
  }

  Outcome outcome;
  bool asked_to_stop = false;
  for (;;) {
    int status = 0;
    rusage usage{};
    const pid_t ended = ::wait4(child, &status, WNOHANG, &usage);
    const auto elapsed = std::chrono::steady_clock::now() - start;
    outcome.seconds = std::chrono::duration<double>(elapsed).count();
    if (ended == child) {
      outcome.peak_kilobytes = usage.ru_maxrss;
      outcome.page_faults = usage.ru_minflt + usage.ru_majflt;
      outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      break;
    }
    if (elapsed > surroundings.time_limit) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      break;
    }
    if (!asked_to_stop && surroundings.interrupt_when && surroundings.interrupt_when()) {
      ::kill(child, SIGINT);
      asked_to_stop = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  outcome.out = content(out);
  outcome.err = content(err);
  return outcome;
}

void expect_refused(const Outcome& outcome, int exit_code, const std::vector<std::string>& words,
                    const std::filesystem::path& results) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_THAT(outcome.out, ::testing::IsEmpty());
  EXPECT_THAT(outcome.err, ::testing::MatchesRegex("torpor: [^\n]+\n"));
  for (const std::string& word : words) EXPECT_THAT(outcome.err, ::testing::HasSubstr(word));
  EXPECT_FALSE(std::filesystem::exists(results)) << "left behind: " << results;
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(folder, code)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace torpor::testing
