#include "core/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"

extern char** environ;

namespace torpor {
namespace {

struct Pipe {
  int read = -1, write = -1;

  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw IoError("cannot make a pipe: {}", std::strerror(errno));
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    if (read >= 0) ::close(read);
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  void close_write() {
    if (write >= 0) ::close(write);
    write = -1;
  }
};

/// Reads both until both are closed.
void drain(const Pipe& output, const Pipe& error, ProcessOutput& result) {
  pollfd sources[] = {{output.read, POLLIN, 0}, {error.read, POLLIN, 0}};
  std::string* const targets[] = {&result.output, &result.error};
  char buffer[65536];
  for (int open = 2; open > 0;) {
    if (::poll(sources, 2, -1) < 0 && errno != EINTR) throw IoError("cannot read a program: {}", std::strerror(errno));
    for (int i = 0; i < 2; ++i) {
      if (sources[i].fd < 0 || sources[i].revents == 0) continue;
      const ssize_t got = ::read(sources[i].fd, buffer, sizeof buffer);
      if (got > 0) targets[i]->append(buffer, static_cast<std::size_t>(got));
      if (got > 0 || (got < 0 && errno == EINTR)) continue;
      sources[i].fd = -1;  // poll leaves it out
      --open;
    }
  }
}

}  // namespace

ProcessOutput run_process(const std::vector<std::string>& arguments) {
  if (arguments.empty()) throw InvalidArgument("[run_process] expected a program, got none");
  std::vector<char*> words;
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  Pipe output, error;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.write, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, error.write, STDERR_FILENO);
  pid_t child = 0;
  const int failure = ::posix_spawnp(&child, words.front(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw IoError("{}: cannot be started: {}", arguments.front(), std::strerror(failure));
  output.close_write();
  error.close_write();
  ProcessOutput result;
  drain(output, error, result);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw IoError("{}: cannot be waited for: {}", arguments.front(), std::strerror(errno));
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace torpor
