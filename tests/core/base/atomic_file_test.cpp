#include "core/base/atomic_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <vector>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using torpor::testing::TemporaryFolder;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

template <typename E>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// Runs `action` in a child process with its own limits; 0 if every expectation in it held.
int in_child(const std::function<bool()>& action) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(action() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(AtomicFile, WritesWhatWasAppendedAndNothingElseRemains) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "plan.json");
  file.append("{\"a\"");
  file.append("");
  file.append(": 1}");
  EXPECT_FALSE(fs::exists(folder / "plan.json")) << "visible before commit";
  file.commit();
  EXPECT_EQ(read_file(folder / "plan.json"), "{\"a\": 1}");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"plan.json"});
}

TEST(AtomicFile, LeavesTheOldFileWhenNotCommitted) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.append("new");
    EXPECT_EQ(read_file(folder / "a"), "old");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"a"});
}

TEST(AtomicFile, ReplacesTheOldFileAtCommit) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old and longer");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a"), "new");
}

TEST(AtomicFile, CreatesMissingFoldersAndHonoursTheUmask) {
  const TemporaryFolder folder;
  const mode_t before = ::umask(027);
  write_file_atomically(folder / "x/y/z.bin", std::string("\0\xff", 2));
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "x/y/z.bin").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  EXPECT_EQ(read_file(folder / "x/y/z.bin"), std::string("\0\xff", 2));
}

TEST(AtomicFile, WritesRelativeNamesIntoTheWorkingFolder) {
  const TemporaryFolder folder;
  EXPECT_EQ(in_child([&] {
              if (::chdir(folder.path().c_str()) != 0) return false;
              write_file_atomically("here.txt", "x");
              return read_file("here.txt") == "x";
            }),
            0);
}

TEST(AtomicFile, SaysWhenTheNameIsAFolder) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(folder.path(), "x"); }), HasSubstr("found a folder"));
}

TEST(AtomicFile, SaysWhenTheParentIsAFile) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "file", "x");
  EXPECT_THAT(message_of<IoError>([&] { write_file_atomically(folder / "file/below", "x"); }),
              ::testing::AllOf(HasSubstr("cannot create the folder"), HasSubstr("Not a directory")));
}

TEST(AtomicFile, KeepsTheOldFileAndNoRemainsWhenTheDiskIsFull) {
  // A limit on the file size makes write() fail after 100 KB, as a full disk does.
  const TemporaryFolder folder;
  write_file_atomically(folder / "result", "old");
  const int outcome = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message =
        message_of<IoError>([&] { write_file_atomically(folder / "result", std::string(300000, 'x')); });
    return message.find("result: cannot write: File too large") != std::string::npos;
  });
  EXPECT_EQ(outcome, 0);
  EXPECT_EQ(read_file(folder / "result"), "old");
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"result"});
}

TEST(AtomicFile, SaysWhatToDoOnAFullDevice) {
  const TemporaryFolder folder;
  // Needs a file system that can be full: a small tmpfs in a mount namespace of our own, where the system allows one.
  write_file_atomically(folder / "mount/keep", "");
  const std::string command =
      "unshare --user --map-root-user --mount true 2>/dev/null || unshare --mount true 2>/dev/null";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "this system allows no mount namespaces";
  const std::string probe =
      "u=--mount; unshare --mount true 2>/dev/null || u='--user --map-root-user --mount'; unshare $u sh -c '"
      "mount -t tmpfs -o size=64k tmpfs \"" +
      (folder / "mount").string() + "\" && \"" BASE_PROBE "\" write \"" + (folder / "mount/big").string() +
      "\" 1000000; echo code=$?; ls -A \"" + (folder / "mount").string() + "\"' > \"" + (folder / "out").string() +
      "\" 2>&1";
  if (std::system(probe.c_str()) != 0) GTEST_SKIP() << "tmpfs cannot be mounted here: " << read_file(folder / "out");
  const std::string out = read_file(folder / "out");
  EXPECT_THAT(out, HasSubstr("big: cannot write: No space left on device. Free some space"));
  EXPECT_THAT(out, ::testing::EndsWith("code=1\n")) << "the folder should be empty afterwards";
}

TEST(AtomicFile, RefusesFoldersWithoutPermission) {
  // Root may do everything, so the child becomes nobody.
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_all | fs::perms::others_exec);
  fs::create_directory(folder / "read-only");
  fs::permissions(folder / "read-only", fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_exec);
  fs::create_directory(folder / "closed");
  fs::permissions(folder / "closed", fs::perms::none);
  const int outcome = in_child([&] {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return false;
    for (const char* name : {"read-only", "closed"}) {
      const auto says = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
      const fs::path inside = folder / name;
      if (!says(message_of<IoError>([&] { write_file_atomically(inside / "a", "x"); }), "Permission denied"))
        return false;
      if (!says(message_of<IoError>([&] { make_writable_folder(inside); }), "Choose another with -o")) return false;
    }
    return message_of<BadInput>([&] { read_file(folder / "closed/a"); }).find("Permission denied") != std::string::npos;
  });
  EXPECT_EQ(outcome, 0);
  fs::permissions(folder / "closed", fs::perms::owner_all);
  EXPECT_TRUE(names_in(folder / "closed").empty());
  EXPECT_TRUE(names_in(folder / "read-only").empty());
}

TEST(MakeWritableFolder, MakesParentsAndLeavesNoProbe) {
  const TemporaryFolder folder;
  make_writable_folder(folder / "a/b");
  make_writable_folder(folder / "a/b");
  EXPECT_TRUE(names_in(folder / "a/b").empty());
}

TEST(MakeWritableFolder, SaysWhenAFileIsInTheWay) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "x");
  EXPECT_THAT(message_of<IoError>([&] { make_writable_folder(folder / "a"); }), HasSubstr("cannot create this folder"));
}

TEST(ReadFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "ten", "0123456789");
  EXPECT_THAT(message_of<BadInput>([&] { read_file(folder / "absent"); }),
              HasSubstr("absent: cannot be read: No such file"));
  EXPECT_THAT(message_of<BadInput>([&] { read_file(folder.path()); }), HasSubstr("expected a file, found a folder"));
  EXPECT_THAT(message_of<BadInput>([&] { read_file(folder / "ten", 9); }), HasSubstr("expected at most 9 bytes"));
  EXPECT_EQ(read_file(folder / "ten", 10), "0123456789");
}

TEST(ReadFile, StopsAtItsLimitOnEndlessFiles) {
  EXPECT_THAT(message_of<BadInput>([] { read_file("/dev/zero", 1 << 20); }),
              HasSubstr("expected at most 1048576 bytes"));
}

TEST(ReadFile, ReadsFilesLargerThanItsBuffer) {
  const TemporaryFolder folder;
  std::string content(200001, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 % 251);
  write_file_atomically(folder / "large", content);
  EXPECT_EQ(read_file(folder / "large"), content);
}

}  // namespace
}  // namespace torpor
