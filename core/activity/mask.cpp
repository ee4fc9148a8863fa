#include "core/activity/mask.h"

#include <algorithm>

namespace torpor {

namespace {
void same_size(const NeuronMask& a, const NeuronMask& b) {
  if (a.size() != b.size())
    throw InvalidArgument("[NeuronMask] expected masks of one size, got {} and {} neurons", a.size(), b.size());
}
}  // namespace

NeuronMask::NeuronMask(int neurons, bool all) : size_(neurons) {
  if (neurons < 0) throw InvalidArgument("[NeuronMask] expected neurons >= 0, got {}", neurons);
  words_.assign((static_cast<std::size_t>(neurons) + 63) / 64, all ? ~std::uint64_t{0} : 0);
  if (all && neurons % 64 != 0) words_.back() = (std::uint64_t{1} << (neurons % 64)) - 1;
}

NeuronMask NeuronMask::from_indices(int neurons, std::span<const std::int32_t> indices) {
  NeuronMask mask(neurons);
  for (const auto i : indices) {
    if (i < 0 || i >= neurons)
      throw InvalidArgument("[NeuronMask::from_indices] expected indices in [0, {}), got {}", neurons, i);
    mask.set(i);
  }
  return mask;
}

int NeuronMask::count() const {
  int n = 0;
  for (const auto w : words_) n += std::popcount(w);
  return n;
}

void NeuronMask::clear() {
  std::fill(words_.begin(), words_.end(), 0);
}

std::vector<std::int32_t> NeuronMask::indices() const {
  std::vector<std::int32_t> out;
  out.reserve(static_cast<std::size_t>(count()));
  for_each([&](int i) { out.push_back(i); });
  return out;
}

NeuronMask& NeuronMask::operator|=(const NeuronMask& other) {
  same_size(*this, other);
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] |= other.words_[w];
  return *this;
}

NeuronMask& NeuronMask::operator&=(const NeuronMask& other) {
  same_size(*this, other);
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] &= other.words_[w];
  return *this;
}

int NeuronMask::count_and(const NeuronMask& a, const NeuronMask& b) {
  same_size(a, b);
  int n = 0;
  for (std::size_t w = 0; w < a.words_.size(); ++w) n += std::popcount(a.words_[w] & b.words_[w]);
  return n;
}

}  // namespace torpor
