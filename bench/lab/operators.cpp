// Operators of lab/nn beside what LibTorch has for the same place, alternately in one run: milliseconds of forward and
// backward, the least of 15, at the shapes of spark-5m and of Gemma 2 2B (spark.md 7.1).
//
//     bench_lab [THREADS [PART OF A TITLE]]
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "lab/nn/spark_attention.h"
#include "lab/nn/statistical_top_k.h"

namespace torpor::lab {
namespace {

constexpr int kRounds = 15;

struct Contender {
  std::string name;
  std::function<at::Tensor()> forward;
  std::vector<double> forward_ms = {}, both_ms = {};
};

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

std::string filter;

/// The first is the one that the others' ratios are to.
void compare(const std::string& title, std::vector<Contender> contenders) {
  if (title.find(filter) == std::string::npos) return;
  for (int round = 0; round < kRounds + 2; ++round)
    for (Contender& c : contenders) {
      at::Tensor out;
      const double forward = milliseconds([&] { out = c.forward(); });
      const at::Tensor g = at::ones_like(out);
      const double back = milliseconds([&] { out.backward(g); });
      if (round < 2) continue;
      c.forward_ms.push_back(forward);
      c.both_ms.push_back(forward + back);
    }
  fmt::print("{}\n", title);
  for (const Contender& c : contenders) {
    // Ratios of what was measured one after the other.
    std::vector<double> ratios;
    for (int i = 0; i < kRounds; ++i)
      ratios.push_back(c.both_ms[static_cast<std::size_t>(i)] / contenders[0].both_ms[static_cast<std::size_t>(i)]);
    std::sort(ratios.begin(), ratios.end());
    fmt::print("  {:<36} forward {:8.2f} ms   with backward {:8.2f} ms   ratio {:.2f} ({:.2f} to {:.2f})\n", c.name,
               *std::min_element(c.forward_ms.begin(), c.forward_ms.end()),
               *std::min_element(c.both_ms.begin(), c.both_ms.end()), ratios[kRounds / 2], ratios.front(),
               ratios.back());
  }
}

void attention(at::ScalarType type) {
  torch::manual_seed(1);
  const auto one = [&](int heads) { return torch::randn({8, heads, 512, 64}).to(type).requires_grad_(); };
  const at::Tensor q = one(4), k = one(2), v = one(2);
  SparkAttentionCounts counts;
  const auto spark = [&](int predictor) {
    return [&, predictor] {
      return spark_attention(q, k, v, {.predictor = predictor, .active = 64, .scale = 0.125}, counts);
    };
  };
  compare(fmt::format("attention, 8 x 4 heads (2) x 512 x 64, {}", c10::toString(type)),
          {{"scaled_dot_product_attention",
            [&] {
              return at::scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), {}, 0,
                                                      true, 0.125);
            }},
           {"spark_attention, r = 32, k = 64", spark(32)}});
}

void top_k(std::int64_t rows, std::int64_t n, at::ScalarType type) {
  torch::manual_seed(1);
  const at::Tensor x = torch::randn({rows, n}).to(type).requires_grad_();
  const auto k = static_cast<std::int64_t>(std::lround(0.08 * static_cast<double>(n)));
  compare(fmt::format("top-k, {} rows of {}, k = {}, {}", rows, n, k, c10::toString(type)),
          {{"statistical_top_k", [&] { return statistical_top_k(x, k); }},
           {"torch::topk and scatter",
            [&] {
              const auto [values, places] = at::topk(x, k, -1, true, false);
              return at::zeros_like(x).scatter(-1, places, values);
            }},
           {"torch::topk alone", [&] { return std::get<0>(at::topk(x, k, -1, true, false)); }},
           {"torch::relu", [&] { return at::relu(x); }}});
}

}  // namespace
}  // namespace torpor::lab

int main(int argc, char** argv) {
  if (argc > 1) at::set_num_threads(std::stoi(argv[1]));
  if (argc > 2) torpor::lab::filter = argv[2];
  fmt::print("{} threads, the least of {} rounds; ratios: median (min to max) of forward and backward to the first\n",
             at::get_num_threads(), torpor::lab::kRounds);
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    torpor::lab::top_k(64, 13824, type);
    torpor::lab::top_k(4096, 1152, type);
    torpor::lab::attention(type);
  }
  return 0;
}
