// Choosing the next token from logits. The filters mean what Hugging Face's logits warpers of the same names mean.
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
  int top_k = 0;          // 0: off; tokens equal to the k-th stay too
  float top_p = 1;        // 1: off; keeps a token while the tokens before it sum to less than p (the first always)
  float min_p = 0;        // 0: off; keeps tokens with p >= min_p * max p
  std::uint64_t seed = 0;
};

/// One token that may be drawn. The probabilities of all of them sum to 1.
struct TokenProbability {
  TokenId token = 0;
  double probability = 0;
};

/// One stream of draws. Not thread-safe.
class Sampler {
 public:
  /// Throws UsageError for values outside their range (temperature < 0, top_k < 0, top_p outside (0, 1], min_p outside
  /// [0, 1]).
  explicit Sampler(const SamplingOptions& options);

  /// logits: [vocab]; -inf excludes a token. Throws BadInput if they hold NaN or +inf, or no finite value.
  TokenId sample(std::span<const float> logits);

  /// What `sample` draws from: the tokens that the filters keep, most probable first where a filter had to sort them,
  /// else by token. Valid until the next call. Throws as `sample`.
  std::span<const TokenProbability> distribution(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;  // (logit - largest) / temperature, so the largest is 0
    TokenId token;
  };

  void keep_top_k();
  void keep_top_p();

  SamplingOptions options_;
  Random random_;
  std::vector<Candidate> candidates_;
  std::vector<TokenProbability> distribution_;
};

}  // namespace torpor
