// Prefill speed of a model: the logits after the last of --tokens random tokens, from an empty cache.
//   bench_prefill MODEL [--tokens 512] [--threads 2] [--rounds 3] [--rows 512]
// One pass before the clock starts, then one line a round: tokens a second. compare.py runs it beside llama.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "engine/decode/session.h"

namespace {

int run(int argc, char** argv) {
  using namespace torpor;
  std::int64_t tokens = 512, rows = 0;
  int threads = 2, rounds = 3;
  if (argc < 2 || argc % 2 != 0)
    throw UsageError("expected: bench_prefill MODEL [--tokens N] [--threads N] [--rounds N] [--rows N]");
  for (int i = 2; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const int value = std::atoi(argv[i + 1]);
    if (value < 1) throw UsageError("expected a number of at least 1 after {}, got {}", name, argv[i + 1]);
    if (name == "--tokens")
      tokens = value;
    else if (name == "--threads")
      threads = value;
    else if (name == "--rounds")
      rounds = value;
    else if (name == "--rows")
      rows = value;
    else
      throw UsageError("unknown option {}", name);
  }

  const auto model = Model::load(argv[1]);
  ThreadPool pool(threads);
  SessionOptions options;
  options.context = tokens;
  if (rows > 0) options.rows_per_pass = rows;
  Session session(model, pool, options);
  std::mt19937 random(0);
  std::vector<TokenId> prompt;
  std::uniform_int_distribution<TokenId> token(0, model->config().vocab_size - 1);
  for (std::int64_t i = 0; i < tokens; ++i) prompt.push_back(token(random));
  for (int round = -1; round < rounds; ++round) {
    session.clear(0);
    const auto start = std::chrono::steady_clock::now();
    session.forward(prompt, Logits::last);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (round >= 0) fmt::print("{:.3f}\n", static_cast<double>(tokens) / seconds);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_prefill: {}\n", error.what());
    return 2;
  }
}
