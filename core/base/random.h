// Random numbers that are the same on every machine and library version (the distributions of the standard library are
// not). Generator: std::mt19937_64, whose output the standard fixes.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace torpor {

/// One stream. Not thread-safe: give each thread its own, seeded by (seed, stream).
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0);

  std::uint64_t bits() { return engine_(); }
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Uniform in [0, n). n > 0. Unbiased.
  std::uint64_t below(std::uint64_t n);
  /// Standard normal (Box-Muller, both halves used).
  double normal();

  /// All that decides what follows, as text.
  std::string state() const;
  /// Throws InvalidArgument for text that state() did not make.
  void set_state(const std::string& state);

 private:
  std::mt19937_64 engine_;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// The numbers 0 … n - 1 in random order.
std::vector<std::int64_t> permutation(std::int64_t n, Random& random);

}  // namespace torpor
