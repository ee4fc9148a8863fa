// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "core/text/tokenizer.h"

namespace torpor {

/// Applied in this order, as in Hugging Face's generate: temperature, top_k, top_p, min_p, then a draw.
struct SamplingOptions {
  float temperature = 1;  // 0: greedy (the first of equal maxima)
  int top_k = 0;          // 0: off
  float top_p = 1;        // 1: off
  float min_p = 0;        // 0: off; keeps tokens with p >= min_p * max p
  std::uint64_t seed = 0;
};

/// One stream of draws. Not thread-safe.
class Sampler {
 public:
  /// Throws UsageError for values outside their range (temperature < 0, top_p outside (0, 1], …).
  explicit Sampler(const SamplingOptions& options);
  /// logits: [vocab]. Throws BadInput if they hold NaN or no finite value.
  TokenId sample(std::span<const float> logits);

 private:
  SamplingOptions options_;
  Random random_;
  std::vector<std::pair<float, TokenId>> candidates_;
};

}  // namespace torpor
