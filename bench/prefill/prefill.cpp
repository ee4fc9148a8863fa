// Prefill speed of a model: the logits after the last of --tokens random tokens, from an empty cache.
//   bench_prefill MODEL|shape:NAME:TYPE:LAYERS [--tokens 512] [--threads 2] [--rounds 3] [--rows 512] [--exact 0]
//   [--skip 1]
// shape: random weights of a shape of `torpor bench`, in bf16, f32, q8_0 or q4_0, with so many layers.
// One pass before the clock starts, then one line a round: tokens a second (and on standard error the parts' times).
// compare.py runs it beside llama.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "engine/bench/random_model.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"

namespace {

std::shared_ptr<const torpor::Model> load(const std::string& name, torpor::ThreadPool& pool) {
  using namespace torpor;
  if (!name.starts_with("shape:")) return Model::load(name, {.activation_override = {}, .large_pages = true});
  const std::size_t type_at = name.find(':', 6), layers_at = name.find(':', type_at + 1);
  if (type_at == std::string::npos || layers_at == std::string::npos)
    throw UsageError("expected shape:NAME:TYPE:LAYERS, got {}", name);
  ModelConfig config = shape_config(name.substr(6, type_at - 6), 0.08);
  config.n_layers = std::atoi(name.c_str() + layers_at + 1);
  config.windows.resize(static_cast<std::size_t>(config.n_layers));
  const std::string type = name.substr(type_at + 1, layers_at - type_at - 1);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0})
    if (traits(format).name == type) return random_model(config, format, 0, pool);
  throw UsageError("expected a type of f32, bf16, q8_0 or q4_0, got {}", type);
}

int run(int argc, char** argv) {
  using namespace torpor;
  std::int64_t tokens = 512, rows = 0;
  int threads = 2, rounds = 3, exact = 0, skip = 1;
  if (argc < 2 || argc % 2 != 0)
    throw UsageError("expected: bench_prefill MODEL [--tokens N] [--threads N] [--rounds N] [--rows N]");
  for (int i = 2; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const int value = std::atoi(argv[i + 1]);
    if (value < 1 && name != "--exact" && name != "--skip")
      throw UsageError("expected a number of at least 1 after {}, got {}", name, argv[i + 1]);
    if (name == "--tokens")
      tokens = value;
    else if (name == "--threads")
      threads = value;
    else if (name == "--rounds")
      rounds = value;
    else if (name == "--rows")
      rows = value;
    else if (name == "--exact")
      exact = value;
    else if (name == "--skip")
      skip = value;
    else
      throw UsageError("unknown option {}", name);
  }

  ThreadPool pool(threads);
  const auto model = load(argv[1], pool);
  SessionOptions options;
  options.context = tokens;
  options.products = exact > 0 ? Products::exact : Products::rounded;
  if (rows > 0) options.rows_per_pass = rows;
  Session session(model, pool, options);
  if (skip > 0) {
    const Skipping skipping = prepare_skipping(model, nullptr, Skip::always, pool);
    if (skipping.ffn) session.set_sparse_ffn(skipping.ffn);
  }
  std::mt19937 random(0);
  std::vector<TokenId> prompt;
  std::uniform_int_distribution<TokenId> token(0, model->config().vocab_size - 1);
  for (std::int64_t i = 0; i < tokens; ++i) prompt.push_back(token(random));
  for (int round = -1; round < rounds; ++round) {
    session.clear(0);
    session.reset_times();
    const auto start = std::chrono::steady_clock::now();
    session.forward(prompt, Logits::last);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (round >= 0) fmt::print("{:.3f}\n", static_cast<double>(tokens) / seconds);
    const PartTimes& parts = session.times();
    if (round >= 0)
      fmt::print(
          stderr, "  ms: projections {:.1f}, attention {:.1f}, feed-forward {:.1f}, unembedding {:.1f}, all {:.1f}\n",
          parts.projections * 1e3, parts.attention * 1e3, parts.ffn * 1e3, parts.unembedding * 1e3, parts.all * 1e3);
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
