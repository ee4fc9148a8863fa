// Encoding speed on a folder of text files (*.txt, or without an extension), one call a file, one thread. compare.py
// runs it beside other packages.
//   bench_text TOKENIZER FOLDER [ROUNDS [IDS_FILE]]
// Prints one line a round: megabytes (10^6 bytes) a CPU second, CPU seconds, wall seconds, bytes, tokens. IDS_FILE gets
// all ids as int32.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/text/tokenizer.h"

namespace {

int run(int argc, char** argv) {
  if (argc < 3 || argc > 5) throw torpor::UsageError("expected: bench_text TOKENIZER FOLDER [ROUNDS [IDS_FILE]]");
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 5;
  const auto tokenizer = torpor::load_tokenizer(argv[1]);
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[2]))
    if (entry.is_regular_file() && (!entry.path().has_extension() || entry.path().extension() == ".txt"))
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  std::size_t bytes = 0;
  for (const auto& path : paths) {
    texts.push_back(torpor::read_file(path));
    bytes += texts.back().size();
  }
  for (int round = 0; round < rounds; ++round) {
    std::size_t tokens = 0;
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    for (const std::string& text : texts) tokens += tokenizer->encode(text, {false, false}).size();
    const double cpu = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{:.1f} MB/s {:.4f} s CPU {:.4f} s wall {} bytes {} tokens\n", static_cast<double>(bytes) / cpu / 1e6,
               cpu, wall, bytes, tokens);
  }
  if (argc > 4) {
    std::ofstream out(argv[4], std::ios::binary);
    for (const std::string& text : texts) {
      const auto ids = tokenizer->encode(text, {false, false});
      out.write(reinterpret_cast<const char*>(ids.data()), static_cast<std::streamsize>(ids.size() * sizeof(ids[0])));
    }
    if (!out.flush()) throw torpor::IoError("{}: cannot be written", argv[4]);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const torpor::Error& error) {
    fmt::print(stderr, "bench_text: {}\n", error.what());
    return error.exit_code();
  }
}
