// What holds for the networks of every study.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "lab/nn/transformer.h"

namespace torpor::lab::testing {

/// Numbers of parameters equal to a hundredth.
template <typename Variant>
void expect_equal_parameters(const std::vector<Variant>& variants, std::size_t count) {
  std::vector<double> sizes;
  for (const Variant& v : variants) {
    double sum = 0;
    Transformer model(v.config, 1);
    for (const auto& [name, weight] : model->weights()) sum += static_cast<double>(weight.numel());
    sizes.push_back(sum);
  }
  ASSERT_EQ(sizes.size(), count);
  for (const double size : sizes) EXPECT_NEAR(size / sizes.front(), 1, 0.01);
}

}  // namespace torpor::lab::testing
