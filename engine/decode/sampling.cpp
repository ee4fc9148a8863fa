#include "engine/decode/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/base/error.h"

namespace torpor {
namespace {

/// The first of equal maxima. Throws for what cannot be sampled from.
std::size_t first_maximum(std::span<const float> logits) {
  std::size_t best = logits.size();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    if (std::isnan(logit) || logit == INFINITY)
      throw BadInput("expected finite logits, found {} for token {} of {}; the model's weights or input are damaged",
                     logit, i, logits.size());
    if (std::isinf(logit)) continue;
    if (best == logits.size() || logit > logits[best]) best = i;
  }
  if (best == logits.size())
    throw BadInput("expected at least one finite logit, found none among {}; nothing can be drawn", logits.size());
  return best;
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  // Written so that NaN fails.
  if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
    throw UsageError("expected a temperature of at least 0 (0: greedy), got {}", options.temperature);
  if (options.top_k < 0) throw UsageError("expected top_k of at least 0 (0: off), got {}", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw UsageError("expected top_p above 0 and at most 1 (1: off), got {}", options.top_p);
  if (!(options.min_p >= 0 && options.min_p <= 1))
    throw UsageError("expected min_p from 0 (off) to 1, got {}", options.min_p);
}

void Sampler::keep_top_k() {
  const auto k = static_cast<std::size_t>(options_.top_k);
  if (k == 0 || k >= candidates_.size()) return;
  std::vector<float> logits(candidates_.size());
  std::transform(candidates_.begin(), candidates_.end(), logits.begin(), [](const Candidate& c) { return c.logit; });
  const auto kth = logits.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(logits.begin(), kth, logits.end(), std::greater<>());
  std::erase_if(candidates_, [least = *kth](const Candidate& c) { return c.logit < least; });
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) return;
  const auto weight = [](const Candidate& c) { return std::exp(static_cast<double>(c.logit)); };
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c);
  const auto p = static_cast<double>(options_.top_p);
  // Tokens below (1 - p) / n sum to less than 1 - p and are the least probable ones: none can stay, none need sorting.
  const double never = (1 - p) * total / static_cast<double>(candidates_.size());
  std::erase_if(candidates_, [&](const Candidate& c) { return weight(c) < never; });
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
  double before = 0;
  std::size_t kept = 0;
  while (kept < candidates_.size() && (kept == 0 || before < p * total)) before += weight(candidates_[kept++]);
  candidates_.resize(kept);
}

std::span<const TokenProbability> Sampler::distribution(std::span<const float> logits) {
  const std::size_t best = first_maximum(logits);
  distribution_.clear();
  if (options_.temperature == 0) {
    distribution_.push_back({static_cast<TokenId>(best), 1});
    return distribution_;
  }
  candidates_.clear();
  // Against the maximum: a small temperature must not overflow.
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (std::isfinite(logits[i]))
      candidates_.push_back({(logits[i] - logits[best]) / options_.temperature, static_cast<TokenId>(i)});
  std::erase_if(candidates_, [](const Candidate& c) { return std::isinf(c.logit); });
  keep_top_k();
  keep_top_p();
  double total = 0;
  for (const Candidate& c : candidates_) {
    const double weight = std::exp(static_cast<double>(c.logit));
    if (weight < static_cast<double>(options_.min_p)) continue;  // the most probable token has weight 1
    total += weight;
    distribution_.push_back({c.token, weight});
  }
  for (TokenProbability& t : distribution_) t.probability /= total;
  return distribution_;
}

TokenId Sampler::sample(std::span<const float> logits) {
  const std::span<const TokenProbability> choices = distribution(logits);
  if (choices.size() == 1) return choices.front().token;
  double left = random_.uniform();
  for (const TokenProbability& choice : choices) {
    left -= choice.probability;
    if (left < 0) return choice.token;
  }
  return choices.back().token;  // the probabilities sum to a rounding error less than 1
}

}  // namespace torpor
