#include "core/base/random.h"

#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>
#include <sstream>
#include <utility>

#include "core/base/error.h"

namespace torpor {

Random::Random(std::uint64_t seed, std::uint64_t stream)
    : engine_(stream == 0 ? seed : seed ^ (0x9e3779b97f4a7c15ULL * (stream + 1))) {}

double Random::uniform() {
  return static_cast<double>(engine_() >> 11) * 0x1p-53;
}

std::uint64_t Random::below(std::uint64_t n) {
  if (n == 0) throw InvalidArgument("[Random::below] expected n > 0, got 0");
  const std::uint64_t limit = UINT64_MAX - UINT64_MAX % n;  // values at or above it would favour small results
  std::uint64_t value = engine_();
  while (value >= limit) value = engine_();
  return value % n;
}

double Random::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

std::string Random::state() const {
  std::ostringstream text;
  text << engine_ << ' ' << has_spare_ << ' ' << std::bit_cast<std::uint64_t>(spare_);
  return text.str();
}

void Random::set_state(const std::string& state) {
  std::istringstream text(state);
  Random read(0);
  std::uint64_t spare = 0;
  text >> read.engine_ >> read.has_spare_ >> spare;
  if (!text) throw InvalidArgument("[Random] expected the state of a generator, got other text");
  read.spare_ = std::bit_cast<double>(spare);
  *this = read;
}

std::vector<std::int64_t> permutation(std::int64_t n, Random& random) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace torpor
