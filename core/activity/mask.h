// Which neurons of a layer are active for one token: a bit per neuron.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/error.h"

namespace torpor {

/// A set of neurons 0 … size-1. Regular value; const methods may run at once. Bits beyond size are always 0.
class NeuronMask {
 public:
  NeuronMask() = default;
  /// Empty set of `neurons` neurons, or all of them.
  explicit NeuronMask(int neurons, bool all = false);
  /// Throws InvalidArgument for an index outside [0, neurons).
  static NeuronMask from_indices(int neurons, std::span<const std::int32_t> indices);

  int size() const { return size_; }
  int count() const;
  bool test(int i) const { return ((words_[static_cast<std::size_t>(i) >> 6] >> (i & 63)) & 1) != 0; }
  void set(int i) { words_[static_cast<std::size_t>(i) >> 6] |= std::uint64_t{1} << (i & 63); }
  void reset(int i) { words_[static_cast<std::size_t>(i) >> 6] &= ~(std::uint64_t{1} << (i & 63)); }
  void clear();

  /// Active neurons in ascending order.
  std::vector<std::int32_t> indices() const;
  /// Calls f(i) for each active neuron, ascending.
  template <typename F>
  void for_each(F f) const {
    for (std::size_t w = 0; w < words_.size(); ++w)
      for (std::uint64_t bits = words_[w]; bits != 0; bits &= bits - 1)
        f(static_cast<int>(w * 64) + std::countr_zero(bits));
  }

  /// Both throw InvalidArgument for masks of different sizes.
  NeuronMask& operator|=(const NeuronMask& other);
  NeuronMask& operator&=(const NeuronMask& other);
  friend NeuronMask operator|(NeuronMask a, const NeuronMask& b) { return a |= b; }
  friend NeuronMask operator&(NeuronMask a, const NeuronMask& b) { return a &= b; }
  bool operator==(const NeuronMask&) const = default;

  /// |a ∩ b| without making it.
  static int count_and(const NeuronMask& a, const NeuronMask& b);

  /// 64 neurons a word, neuron i at bit i % 64 of word i / 64. Writers keep the bits beyond size() zero.
  std::span<const std::uint64_t> words() const { return words_; }
  std::span<std::uint64_t> words() { return words_; }

 private:
  int size_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace torpor
