#include "core/activity/locality.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/base/error.h"
#include "core/base/random.h"

namespace torpor {

ReuseCounter::ReuseCounter(int neurons) : neurons_(neurons), fired_(static_cast<std::size_t>(std::max(neurons, 0)), 0) {
  if (neurons < 1) throw InvalidArgument("[ReuseCounter] expected neurons >= 1, got {}", neurons);
}

void ReuseCounter::add(const NeuronMask& active, std::int32_t sequence, std::int64_t position) {
  if (active.size() != neurons_)
    throw InvalidArgument("[ReuseCounter::add] expected a mask of {} neurons, got {}", neurons_, active.size());
  if (position < 0) throw InvalidArgument("[ReuseCounter::add] expected position >= 0, got {}", position);
  ++masks_;
  active.for_each([&](int i) { ++fired_[static_cast<std::size_t>(i)]; });

  Stream& stream = streams_[sequence];
  if (position != stream.position + 1) {
    close(stream, means_);
    stream = Stream{};
  }
  const int size = active.count();
  if (size > 0 && stream.predecessors > 0) {
    NeuronMask recent(neurons_);
    int included = 0;
    for (std::size_t w = 0; w < kReuseWindows.size() && kReuseWindows[w] <= stream.predecessors; ++w) {
      for (; included < kReuseWindows[w]; ++included)
        recent |= stream.history[static_cast<std::size_t>(position - 1 - included) % kHistory];
      stream.sum[w] += static_cast<double>(NeuronMask::count_and(active, recent)) / size;
      ++stream.tokens[w];
    }
  }
  stream.history[static_cast<std::size_t>(position) % kHistory] = active;
  stream.predecessors = std::min<int>(stream.predecessors + 1, kHistory);
  stream.position = position;
}

void ReuseCounter::close(const Stream& stream, std::array<BatchMeans, kReuseWindows.size()>& means) const {
  for (std::size_t w = 0; w < means.size(); ++w) means[w].add_block(stream.sum[w], stream.tokens[w]);
}

void ReuseCounter::merge(const ReuseCounter& other) {
  if (neurons_ != other.neurons_)
    throw InvalidArgument("[ReuseCounter::merge] expected {} neurons, got {}", neurons_, other.neurons_);
  masks_ += other.masks_;
  for (std::size_t i = 0; i < fired_.size(); ++i) fired_[i] += other.fired_[i];
  for (const auto& [sequence, stream] : streams_) close(stream, means_);
  streams_.clear();
  for (std::size_t w = 0; w < means_.size(); ++w) means_[w].merge(other.means_[w]);
  for (const auto& [sequence, stream] : other.streams_) close(stream, means_);
}

ReuseStatistics ReuseCounter::statistics() const {
  ReuseStatistics out;
  auto means = means_;
  for (const auto& [sequence, stream] : streams_) close(stream, means);
  out.tokens = means[0].tokens();
  for (std::size_t w = 0; w < means.size(); ++w) out.reuse[w] = means[w].interval();
  if (masks_ == 0) return out;
  double total = 0;
  std::array<double, kReuseWindows.size()> again{};
  for (const auto count : fired_) {
    const double p = static_cast<double>(count) / static_cast<double>(masks_);
    total += p;
    for (std::size_t w = 0; w < again.size(); ++w) again[w] += p * (1 - std::pow(1 - p, kReuseWindows[w]));
  }
  for (std::size_t w = 0; w < again.size(); ++w) out.chance[w] = total > 0 ? again[w] / total : 0;
  return out;
}

CoactivationCounter::CoactivationCounter(int neurons, int max_neurons, std::int64_t max_tokens, std::uint64_t seed)
    : neurons_(neurons), max_tokens_(max_tokens), seed_(seed) {
  if (neurons < 1 || max_neurons < 2 || max_tokens < 1)
    throw InvalidArgument(
        "[CoactivationCounter] expected neurons >= 1, max_neurons >= 2 and max_tokens >= 1, got {}, {} and {}", neurons,
        max_neurons, max_tokens);
  std::vector<std::int32_t> all(static_cast<std::size_t>(neurons));
  std::iota(all.begin(), all.end(), 0);
  if (neurons > max_neurons) {
    Random random(seed, 1);
    for (std::size_t i = 0; i < static_cast<std::size_t>(max_neurons); ++i)  // the first steps of a shuffle
      std::swap(all[i], all[i + static_cast<std::size_t>(random.below(all.size() - i))]);
    all.resize(static_cast<std::size_t>(max_neurons));
    std::sort(all.begin(), all.end());
  }
  sample_ = std::move(all);
  firings_.resize(sample_.size());
}

void CoactivationCounter::add(const NeuronMask& active) {
  if (active.size() != neurons_)
    throw InvalidArgument("[CoactivationCounter::add] expected a mask of {} neurons, got {}", neurons_, active.size());
  if (full()) return;
  const auto word = static_cast<std::size_t>(tokens_ / 64);
  for (std::size_t s = 0; s < sample_.size(); ++s) {
    if (firings_[s].size() <= word) firings_[s].resize(word + 1, 0);
    firings_[s][word] |= static_cast<std::uint64_t>(active.test(sample_[s]) ? 1 : 0) << (tokens_ % 64);
  }
  ++tokens_;
}

void CoactivationCounter::merge(const CoactivationCounter& other) {
  if (neurons_ != other.neurons_ || sample_ != other.sample_)
    throw InvalidArgument("[CoactivationCounter::merge] expected the same sampled neurons (same seed and size)");
  for (std::int64_t t = 0; t < other.tokens_ && !full(); ++t, ++tokens_) {
    const auto word = static_cast<std::size_t>(tokens_ / 64);
    for (std::size_t s = 0; s < sample_.size(); ++s) {
      if (firings_[s].size() <= word) firings_[s].resize(word + 1, 0);
      firings_[s][word] |= ((other.firings_[s][static_cast<std::size_t>(t / 64)] >> (t % 64)) & 1) << (tokens_ % 64);
    }
  }
}

namespace {

using Bits = std::vector<std::uint64_t>;

std::int64_t count_bits(const Bits& a) {
  std::int64_t n = 0;
  for (const auto w : a) n += std::popcount(w);
  return n;
}

// Bit t moves to (t + shift) mod tokens.
Bits rotated(const Bits& a, std::int64_t tokens, std::int64_t shift) {
  Bits out(a.size(), 0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t to = (t + shift) % tokens;
    out[static_cast<std::size_t>(to / 64)] |= ((a[static_cast<std::size_t>(t / 64)] >> (t % 64)) & 1) << (to % 64);
  }
  return out;
}

struct Gap {
  double top = 0, average = 0, gap = 0;
};

Gap gap_of(const std::vector<Bits>& firings, const std::vector<std::int64_t>& counts) {
  const std::size_t n = firings.size();
  if (n < 2) return {};
  std::vector<double> top(n, 0), sum(n, 0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j) {
      std::int64_t both = 0;
      for (std::size_t w = 0; w < firings[i].size(); ++w) both += std::popcount(firings[i][w] & firings[j][w]);
      const double ij = static_cast<double>(both) / static_cast<double>(counts[i]);
      const double ji = static_cast<double>(both) / static_cast<double>(counts[j]);
      top[i] = std::max(top[i], ij);
      top[j] = std::max(top[j], ji);
      sum[i] += ij;
      sum[j] += ji;
    }
  Gap out;
  for (std::size_t i = 0; i < n; ++i) {
    out.top += top[i];
    out.average += sum[i] / static_cast<double>(n - 1);
  }
  out.top /= static_cast<double>(n);
  out.average /= static_cast<double>(n);
  out.gap = out.top - out.average;
  return out;
}

}  // namespace

CoactivationStatistics CoactivationCounter::statistics(std::int64_t min_firings) const {
  CoactivationStatistics out;
  out.tokens = tokens_;
  std::vector<Bits> firings;
  std::vector<std::int64_t> counts;
  for (const auto& bits : firings_)
    if (const auto count = count_bits(bits); count >= std::max<std::int64_t>(min_firings, 1)) {
      firings.push_back(bits);
      counts.push_back(count);
    }
  out.neurons = static_cast<std::int64_t>(firings.size());
  const Gap gap = gap_of(firings, counts);
  out.top = gap.top;
  out.average = gap.average;
  out.gap = gap.gap;
  if (firings.size() < 2) return out;

  std::vector<Bits> shifted;
  Random random(seed_, 2);
  for (const auto& bits : firings)
    shifted.push_back(
        rotated(bits, tokens_, static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(tokens_)))));
  out.chance_gap = gap_of(shifted, counts).gap;

  std::vector<std::size_t> order(firings.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return counts[a] > counts[b]; });
  const auto hottest = static_cast<std::size_t>(std::ceil(0.05 * static_cast<double>(order.size())));
  std::vector<Bits> cool;
  std::vector<std::int64_t> cool_counts;
  for (std::size_t k = hottest; k < order.size(); ++k) {
    cool.push_back(firings[order[k]]);
    cool_counts.push_back(counts[order[k]]);
  }
  out.gap_without_hottest = gap_of(cool, cool_counts).gap;
  return out;
}

}  // namespace torpor
