#include "engine/profile/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "engine/kernels/dense.h"

namespace torpor {
namespace {

// Rows of one forward pass. Enough for the matrix products to run at full speed; more only costs memory.
constexpr std::int64_t kRowsPerBatch = 1024;

/// Calls run(batch) for groups of windows that fit the session's sequences.
template <typename Run>
void for_each_batch(Session& session, std::span<const TextWindow> windows, int sequences, const Run& run,
                    const std::function<void(std::int64_t)>& progress) {
  std::int64_t tokens = 0;
  for (std::size_t first = 0; first < windows.size(); first += static_cast<std::size_t>(sequences)) {
    check_interrupt();
    const auto group = windows.subspan(first, std::min(static_cast<std::size_t>(sequences), windows.size() - first));
    std::vector<SequenceTokens> batch;
    for (std::size_t s = 0; s < group.size(); ++s) {
      session.clear(static_cast<int>(s));
      // The last token is only predicted: its own prediction has no target.
      const std::span<const TokenId> tokens_in(group[s].tokens.data(), group[s].tokens.size() - 1);
      batch.push_back({static_cast<int>(s), tokens_in});
      tokens += group[s].predicted();
    }
    run(group, batch);
    if (progress) progress(tokens);
  }
}

}  // namespace

std::int64_t Evaluation::tokens() const {
  std::int64_t sum = 0;
  for (const WindowLoss& window : windows_) sum += window.tokens;
  return sum;
}

std::int64_t Evaluation::bytes() const {
  std::int64_t sum = 0;
  for (const WindowLoss& window : windows_) sum += window.bytes;
  return sum;
}

double Evaluation::loss_nats_per_token() const {
  return loss_interval().mean;
}
double Evaluation::perplexity() const {
  return std::exp(loss_nats_per_token());
}

double Evaluation::bits_per_byte() const {
  const std::int64_t size = bytes();
  if (size == 0) return 0;
  return loss_nats_per_token() * static_cast<double>(tokens()) / (std::numbers::ln2 * static_cast<double>(size));
}

Interval Evaluation::loss_interval() const {
  BatchMeans means;
  for (const WindowLoss& window : windows_) means.add_block(window.nats, window.tokens);
  return means.interval();
}

Interval perplexity_ratio(const Evaluation& a, const Evaluation& b) {
  const auto first = a.windows(), second = b.windows();
  if (first.size() != second.size())
    throw InvalidArgument("[perplexity_ratio] expected runs over the same windows, got {} and {}", first.size(),
                          second.size());
  BatchMeans difference;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (first[i].tokens != second[i].tokens)
      throw InvalidArgument("[perplexity_ratio] expected runs over the same windows, window {} has {} and {} tokens", i,
                            first[i].tokens, second[i].tokens);
    difference.add_block(second[i].nats - first[i].nats, first[i].tokens);
  }
  Interval ratio = difference.interval();
  ratio.mean = std::exp(ratio.mean);
  ratio.low = std::exp(ratio.low);
  ratio.high = std::exp(ratio.high);
  return ratio;
}

Session evaluation_session(const std::shared_ptr<const Model>& model, ThreadPool& pool, std::int64_t window,
                           NumberFormat cache) {
  const int sequences =
      static_cast<int>(std::clamp<std::int64_t>(kRowsPerBatch / std::max<std::int64_t>(window, 1), 1, 64));
  return Session(model, pool,
                 {.sequences = sequences, .context = window, .cache_format = cache, .rows_per_pass = kRowsPerBatch});
}

Evaluation evaluate(Session& session, ThreadPool& pool, std::span<const TextWindow> windows,
                    const std::function<void(std::int64_t)>& progress) {
  Evaluation evaluation;
  const std::int64_t vocab = session.model().config().vocab_size;
  const auto run = [&](std::span<const TextWindow> group, std::span<const SequenceTokens> batch) {
    std::vector<TokenId> targets;
    std::vector<std::size_t> owner;
    for (std::size_t s = 0; s < group.size(); ++s) {
      targets.insert(targets.end(), group[s].tokens.begin() + 1, group[s].tokens.end());
      owner.insert(owner.end(), static_cast<std::size_t>(group[s].predicted()), s);
    }
    std::vector<double> nats(targets.size());
    session.forward(batch, [&](std::int64_t first, std::int64_t rows, const float* logits) {
      pool.parallel_for(rows, 8, [&](long begin, long end, int) {
        for (long r = begin; r < end; ++r) {
          const float* row = logits + r * vocab;
          const auto at = static_cast<std::size_t>(first + r);
          nats[at] = log_sum_exp(row, vocab) - static_cast<double>(row[targets[at]]);
        }
      });
    });
    std::vector<WindowLoss> losses(group.size());
    for (std::size_t i = 0; i < nats.size(); ++i) {
      if (!std::isfinite(nats[i]))
        throw BadInput("{}: expected finite logits, found a loss of {}: the model's weights or the masks are broken",
                       session.model().path().string(), nats[i]);
      losses[owner[i]].nats += nats[i];
    }
    for (std::size_t s = 0; s < group.size(); ++s) {
      losses[s].tokens = group[s].predicted();
      losses[s].bytes = group[s].bytes;
      evaluation.add(losses[s]);
    }
  };
  for_each_batch(session, windows, session.sequences(), run, progress);
  return evaluation;
}

void run_windows(Session& session, std::span<const TextWindow> windows,
                 const std::function<void(std::int64_t)>& progress) {
  const auto run = [&](std::span<const TextWindow>, std::span<const SequenceTokens> batch) {
    session.forward(batch, Logits::none);
  };
  for_each_batch(session, windows, session.sequences(), run, progress);
}

RuleMask::RuleMask(const Model& model, std::span<const SelectionRule> rules, ThreadPool& pool)
    : RuleMask(neuron_layers(model), rules, pool) {}

RuleMask::RuleMask(std::span<const NeuronLayer> layers, std::span<const SelectionRule> rules, ThreadPool& pool,
                   std::int64_t skipped_first_tokens)
    : neurons_(layers.empty() ? 0 : layers.front().neurons), skipped_first_tokens_(skipped_first_tokens), pool_(pool) {
  if (rules.size() != layers.size())
    throw InvalidArgument("[RuleMask] expected a rule for each of {} layers, got {}", layers.size(), rules.size());
  for (std::size_t l = 0; l < layers.size(); ++l) selectors_.emplace_back(rules[l], layers[l]);
  counts_.resize(rules.size());
}

void RuleMask::apply(const FfnActivations& activations) {
  const RowSelector& selector = selectors_[static_cast<std::size_t>(activations.layer)];
  std::vector<LayerCount> parts(static_cast<std::size_t>(pool_.threads()));
  pool_.parallel_for(activations.rows, 8, [&](long begin, long end, int thread) {
    LayerCount& part = parts[static_cast<std::size_t>(thread)];
    for (long r = begin; r < end; ++r) {
      const std::int64_t active = selector.keep_active(
          {activations.values + r * activations.neurons, static_cast<std::size_t>(activations.neurons)});
      if (activations.position[static_cast<std::size_t>(r)] < skipped_first_tokens_) continue;
      ++part.rows;
      part.active += active;
    }
  });
  LayerCount& count = counts_[static_cast<std::size_t>(activations.layer)];
  for (const LayerCount& part : parts) {
    count.rows += part.rows;
    count.active += part.active;
  }
}

FfnHook RuleMask::hook() {
  return [this](const FfnActivations& activations) { apply(activations); };
}

double RuleMask::density() const {
  double sum = 0;
  for (const LayerCount& count : counts_) sum += count.density(neurons_);
  return counts_.empty() ? 0 : sum / static_cast<double>(counts_.size());
}

void RuleMask::reset_counts() {
  std::fill(counts_.begin(), counts_.end(), LayerCount{});
}

}  // namespace torpor
