// What the dense kernels reach beside what the machine gives, both measured in turn in one run.
//   bench_kernels [decode|prefill|change|rounded|attention|sparse]... [--threads N] [--rounds N] [--megabytes N]
//   [--width N]
// decode:    GB/s of one-row linear layers beside plain reading. The weights are above four times the last-level cache.
// prefill:   GFLOP/s of 512-row linear layers beside oneDNN's sgemm on f32 and beside multiply-adds in registers.
// change:    the row count from which oneDNN is faster than dot products (many_rows.cpp).
// attention: GFLOP/s of prefill beside multiply-adds in registers, GB/s of decode beside plain reading.
// sparse:    sparse feed-forward layers over dense ones; sparse.cpp.
// Ratios are of measurements made one after the other; printed are their minimum, median and maximum.
#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/kernels/machine.h"
#include "bench/kernels/sparse.h"
#include "core/base/cpu.h"
#include "core/base/large_memory.h"
#include "engine/kernels/dense.h"
#include "engine/kernels/interleaved.h"
#include "engine/kernels/many_rows.h"
#include "engine/kernels/simd/simd.h"
#include "tests/engine/kernels/kernel_test_support.h"

extern "C" void omp_set_num_threads(int threads);

namespace torpor::bench {
namespace {

using torpor::testing::normal_values;
using torpor::testing::random_weights;

struct Options {
  int threads = 0;
  int rounds = 9;
  int megabytes = 0;
  int width = 4096;  // of decode's rows
};

double time_of(const std::function<void()>& work) {
  const double start = seconds();
  work();
  return seconds() - start;
}

void decode(const Options& options, ThreadPool& pool) {
  const std::int64_t cache = std::max<std::int64_t>(cpu_info().last_level_cache_bytes, 8 << 20);
  fmt::print("decode: one row, {} threads, weights of {:.0f} MB (cache {:.0f} MB)\n", pool.threads(),
             static_cast<double>(cache) * 4.5e-6, static_cast<double>(cache) * 1e-6);
  fmt::print("  {:5}  {:>9}  {:>9}  share of read bandwidth, min median max\n", "", "read GB/s", "GB/s");
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0,
                                    NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    const std::int64_t in = options.width;
    const std::int64_t out = cache * 9 / 2 / static_cast<std::int64_t>(bytes_of(format, in));
    // One row of random numbers, repeated: random bytes for all would take longer than the measurement.
    const std::int64_t some = 64;
    const auto pattern = random_weights(format, some, in, 1);
    const std::size_t size = bytes_of(format, in) * static_cast<std::size_t>(out);
    const auto memory = allocate_large(size, "weights");
    const std::span<std::byte> bytes(memory.get(), size);
    for (std::size_t at = 0; at < size; at += pattern.size())
      std::memcpy(bytes.data() + at, pattern.data(), std::min(pattern.size(), size - at));
    WeightMatrix w{format, bytes.data(), out, in};
    choose_order(w);  // the bytes stay as they are and mean other numbers: their time is the same
    const auto x = normal_values(in, 2);
    std::vector<float> y(static_cast<std::size_t>(out));
    std::vector<double> reads, rates, shares;
    for (int r = 0; r < options.rounds + 1; ++r) {
      const double read = memory_read_rate(bytes, pool);
      const double rate =
          static_cast<double>(bytes.size()) / time_of([&] { linear(w, x.data(), 1, {}, y.data(), pool); });
      const double read_after = memory_read_rate(bytes, pool);
      if (r == 0) continue;
      reads.push_back(std::max(read, read_after) * 1e-9);
      rates.push_back(rate * 1e-9);
      shares.push_back(rates.back() / reads.back());
    }
    fmt::print("  {:5}  {:9.1f}  {:9.1f}  {}\n", traits(format).name, spread(reads).middle, spread(rates).middle,
               text(spread(shares)));
  }
}

void prefill(const Options& options, ThreadPool& pool) {
  const std::int64_t rows = 512;
  fmt::print("prefill: {} rows, {} threads\n", rows, pool.threads());
  fmt::print("  {:5} {:>12}  {:>8}  over plain sgemm, min median max   over peak multiply-add\n", "", "out x in",
             "GFLOP/s");
  omp_set_num_threads(pool.threads());
  for (const auto& [out, in] : {std::pair<std::int64_t, std::int64_t>{2048, 2048}, {5632, 2048}, {2048, 5632}}) {
    for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_k}) {
      const auto bytes = random_weights(format, out, in, 1);
      const auto x = normal_values(rows * in, 2);
      std::vector<float> plain(static_cast<std::size_t>(out * in)), y(static_cast<std::size_t>(rows * out));
      to_f32(format, bytes.data(), plain);
      const WeightMatrix w{format, bytes.data(), out, in};
      const double operations = 2.0 * static_cast<double>(rows * out) * static_cast<double>(in);
      std::vector<double> rates, over_sgemm, over_peak;
      for (int r = 0; r < options.rounds + 1; ++r) {
        const double peak = multiply_add_rate(pool);
        const double ours = time_of([&] { linear(w, x.data(), rows, {}, y.data(), pool); });
        const double theirs = time_of(
            [&] { dnnl_sgemm('N', 'T', rows, out, in, 1.0F, x.data(), in, plain.data(), in, 0.0F, y.data(), out); });
        if (r == 0) continue;
        rates.push_back(operations / ours * 1e-9);
        over_sgemm.push_back(theirs / ours);
        over_peak.push_back(operations / ours / peak);
      }
      fmt::print("  {:5} {:5} x {:4}  {:8.1f}  {}              {}\n", traits(format).name, out, in,
                 spread(rates).middle, text(spread(over_sgemm)), text(spread(over_peak)));
    }
  }
}

/// Random weights as a loaded model has them: on large pages, in the order that this processor multiplies fastest.
struct LargeWeights {
  LargeWeights(NumberFormat format, std::int64_t out, std::int64_t in) {
    const auto bytes = random_weights(format, out, in, 1);
    memory = allocate_large(bytes.size(), "weights");
    std::memcpy(memory.get(), bytes.data(), bytes.size());
    matrix = {format, memory.get(), out, in};
    order_in_place(matrix, memory.get());
  }
  std::shared_ptr<std::byte> memory;
  WeightMatrix matrix;
};

void change(const Options& options, ThreadPool& pool) {
  const std::int64_t row_counts[] = {4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192};
  const std::int64_t in = options.width, out = 5632;
  for (const Products products : {Products::exact, Products::rounded}) {
    fmt::print(
        "change: time of dot products over time of oneDNN by rows (above 1: oneDNN is faster), {} products, {} "
        "threads\n",
        products == Products::exact ? "exact" : "rounded", pool.threads());
    fmt::print("  {:5}", "");
    for (const std::int64_t rows : row_counts) fmt::print(" {:5}", rows);
    fmt::print("\n");
    for (const NumberFormat format : {NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0,
                                      NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
      if (products == Products::rounded && !are_rounded(format, products)) continue;
      const LargeWeights weights(format, out, in);
      const WeightMatrix& w = weights.matrix;
      fmt::print("  {:5}", traits(format).name);
      for (const std::int64_t rows : row_counts) {
        const auto x = normal_values(rows * in, 2);
        std::vector<float> y(static_cast<std::size_t>(rows * out));
        std::vector<double> ratios;
        for (int r = 0; r < options.rounds + 1; ++r) {
          const double few = time_of([&] { simd::linear_few_rows(w, x.data(), rows, nullptr, y.data(), pool); });
          const double many = time_of([&] { linear_many_rows(w, x.data(), rows, nullptr, y.data(), pool, products); });
          if (r > 0) ratios.push_back(few / many);
        }
        fmt::print(" {:5.2f}", spread(ratios).middle);
      }
      fmt::print("\n");
    }
  }
}

void rounded(const Options& options, ThreadPool& pool) {
  fmt::print(
      "rounded: giga multiply-adds a second of products rounded to bf16, by rows; behind it as exact ones; {} "
      "threads\n",
      pool.threads());
  const std::int64_t row_counts[] = {1, 2, 3, 4, 8, 16, 24, 32, 64, 128, 512};
  fmt::print("  {:5}", "");
  for (const std::int64_t rows : row_counts) fmt::print(" {:>9}", rows);
  fmt::print("\n");
  const std::int64_t in = options.width, out = 4 * options.width;
  for (const NumberFormat format :
       {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k}) {
    const LargeWeights weights(format, out, in);
    const WeightMatrix& w = weights.matrix;
    fmt::print("  {:5}", traits(format).name);
    for (const std::int64_t rows : row_counts) {
      const auto x = normal_values(rows * in, 2);
      std::vector<float> y(static_cast<std::size_t>(rows * out));
      const auto rate = [&](Products products) {
        return static_cast<double>(rows * out) * static_cast<double>(in) * 1e-9 /
               time_of([&] { linear(w, x.data(), rows, {}, y.data(), pool, products); });
      };
      std::vector<double> rounded, exact;
      for (int r = 0; r < options.rounds + 1; ++r) {
        rounded.push_back(rate(Products::rounded));
        exact.push_back(rate(Products::exact));
      }
      fmt::print(" {:4.0f} {:4.0f}", spread(rounded).middle, spread(exact).middle);
    }
    fmt::print("\n");
  }
}

void attend(const Options& options, ThreadPool& pool) {
  const AttentionShape shapes[] = {{32, 8, 64, 0.125F, 0, 0}, {16, 16, 128, 0.088F, 0, 0}, {8, 4, 256, 0.0625F, 50, 0}};
  fmt::print("attention, {} threads\n", pool.threads());
  for (const AttentionShape& shape : shapes) {
    const std::int64_t q_width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
    const std::string name = fmt::format("{:2} heads of {:3}, {:2} kv{}", shape.heads, shape.head_dim, shape.kv_heads,
                                         shape.soft_cap > 0 ? ", capped" : "");
    for (const std::int64_t first : {0, 1536}) {
      const std::int64_t queries = 512;
      const auto q = normal_values(queries * q_width, 1);
      const auto k = normal_values((first + queries) * kv_width, 2), v = normal_values((first + queries) * kv_width, 3);
      std::vector<float> out(q.size());
      // What is needed: the pairs of a query and a key that it sees, twice.
      double pairs = 0;
      for (std::int64_t r = 0; r < queries; ++r) pairs += static_cast<double>(first + r + 1);
      const double operations = 4 * pairs * static_cast<double>(q_width);
      std::vector<double> rates, shares;
      for (int r = 0; r < options.rounds + 1; ++r) {
        const double peak = multiply_add_rate(pool);
        const double rate =
            operations / time_of([&] {
              attention(shape, q.data(), queries, first, k.data(), v.data(), kv_width, out.data(), pool);
            });
        if (r == 0) continue;
        rates.push_back(rate * 1e-9);
        shares.push_back(rate / peak);
      }
      fmt::print("  prefill {:28} 512 queries after {:4}: {:6.1f} GFLOP/s, over peak {}\n", name, first,
                 spread(rates).middle, text(spread(shares)));
    }
    const std::int64_t cache = std::max<std::int64_t>(cpu_info().last_level_cache_bytes, 8 << 20);
    const std::int64_t seen = cache * 9 / 2 / (2 * kv_width * 4);
    const auto q = normal_values(q_width, 1);
    std::vector<float> k(static_cast<std::size_t>(seen * kv_width), 0.1F), v(k.size(), 0.2F), out(q.size());
    std::vector<double> rates, shares;
    for (int r = 0; r < options.rounds + 1; ++r) {
      const double read = memory_read_rate(std::as_bytes(std::span(k)), pool);
      const double rate = 2.0 * static_cast<double>(k.size() * sizeof(float)) / time_of([&] {
                            attention(shape, q.data(), 1, seen - 1, k.data(), v.data(), kv_width, out.data(), pool);
                          });
      if (r == 0) continue;
      rates.push_back(rate * 1e-9);
      shares.push_back(rate / read);
    }
    fmt::print("  decode  {:28} context {:10}: {:6.1f} GB/s, over read bandwidth {}\n", name, seen,
               spread(rates).middle, text(spread(shares)));
  }
}

int run(int argc, char** argv) {
  Options options;
  std::vector<std::string> parts;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    int* const number = argument == "--threads"     ? &options.threads
                        : argument == "--rounds"    ? &options.rounds
                        : argument == "--megabytes" ? &options.megabytes
                        : argument == "--width"     ? &options.width
                                                    : nullptr;
    if (number != nullptr && i + 1 < argc)
      *number = std::max(1, std::atoi(argv[++i]));
    else
      parts.emplace_back(argument);
  }
  if (parts.empty()) parts = {"decode", "prefill", "change", "rounded", "attention", "sparse"};
  std::vector<int> counts = {1, available_processors()};
  if (options.threads > 0) counts = {options.threads};
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  fmt::print("{}\n", cpu_info().name);
  for (const int threads : counts) {
    ThreadPool pool(threads);
    for (const std::string& part : parts) {
      if (part == "decode") {
        decode(options, pool);
      } else if (part == "prefill") {
        prefill(options, pool);
      } else if (part == "change") {
        change(options, pool);
      } else if (part == "rounded") {
        rounded(options, pool);
      } else if (part == "attention") {
        attend(options, pool);
      } else if (part == "sparse") {
        sparse(options.rounds, options.megabytes, pool);
      } else {
        fmt::print(stderr, "expected decode, prefill, change, rounded, attention or sparse, got {}\n", part);
        return 2;
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace torpor::bench

int main(int argc, char** argv) {
  return torpor::bench::run(argc, argv);
}
