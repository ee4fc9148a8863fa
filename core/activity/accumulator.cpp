#include "core/activity/accumulator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activity/row_kernels.h"
#include "core/activity/scores.h"
#include "core/base/error.h"

namespace torpor {

namespace {

constexpr double kTinyOutput = 1e-6;  // of the layer's mean output norm (relu2.md 2.4)

std::shared_ptr<const NeuronLayer> layer_of(const ActivityOptions& options, std::span<const float> outgoing) {
  if (options.neurons < 1 || options.width < 0)
    throw InvalidArgument("[ActivityAccumulator] expected neurons >= 1 and width >= 0, got {} and {}", options.neurons,
                          options.width);
  auto layer = std::make_shared<NeuronLayer>();
  layer->neurons = options.neurons;
  layer->width = options.width;
  if (options.width > 0) {
    layer->outgoing_norms = row_norms(outgoing, options.neurons, options.width);
    layer->outgoing_rows.assign(outgoing.begin(), outgoing.end());
  } else {
    layer->outgoing_norms.assign(outgoing.begin(), outgoing.end());
  }
  return layer;
}

}  // namespace

ActivityAccumulator::ActivityAccumulator(const ActivityOptions& options, std::span<const float> outgoing)
    : ActivityAccumulator(options, layer_of(options, outgoing)) {}

ActivityAccumulator::ActivityAccumulator(const ActivityOptions& options, std::shared_ptr<const NeuronLayer> layer)
    : options_(options), layer_(std::move(layer)) {
  const auto n = static_cast<std::size_t>(std::max(options_.neurons, 0));
  if (layer_ == nullptr || n == 0 || layer_->neurons != options_.neurons || layer_->outgoing_norms.size() != n)
    throw InvalidArgument("[ActivityAccumulator] expected norms of the outgoing weights of {} neurons, got {}",
                          options_.neurons, layer_ == nullptr ? 0 : layer_->outgoing_norms.size());
  if (layer_->outgoing_rows.empty()) options_.width = 0;
  if (options_.width > 0 && layer_->outgoing_rows.size() != n * static_cast<std::size_t>(options_.width))
    throw InvalidArgument("[ActivityAccumulator] expected outgoing rows {} x {}, got {} values", n, options_.width,
                          layer_->outgoing_rows.size());
  if (!(options_.epsilon >= 0) || options_.cett_stride < 0 || options_.block_tokens < 1)
    throw InvalidArgument(
        "[ActivityAccumulator] expected epsilon >= 0, cett_stride >= 0 and block_tokens >= 1, got {}, {} and {}",
        options_.epsilon, options_.cett_stride, options_.block_tokens);
  cuts_.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const float norm = layer_->outgoing_norms[i];
    if (!(norm >= 0) || !std::isfinite(norm))
      throw BadInput("outgoing norm of neuron {}: expected a finite number >= 0, found {}", i, norm);
    cuts_[i] = activation_cut(options_.epsilon, norm);
  }
  magnitude_sum_.assign(n, 0);
  active_count_.assign(n, 0);
  octaves_.assign(detail::kOctaves + 1, 0);
  cett_step_.assign(MagnitudeGrid::kBuckets, 0);
  magnitude_count_.assign(MagnitudeGrid::kBuckets, 0);
  activation_count_.assign(MagnitudeGrid::kBuckets, 0);
}

void ActivityAccumulator::add(std::span<const float> values) {
  add(ActivityRows{values, {}, {}, {}});
}

void ActivityAccumulator::add(const ActivityRows& batch, ThreadPool* pool) {
  const auto n = static_cast<std::size_t>(options_.neurons);
  if (batch.values.size() % n != 0)
    throw InvalidArgument("[ActivityAccumulator::add] expected rows of {} activations, got {} values", n,
                          batch.values.size());
  const std::size_t rows = batch.values.size() / n;
  for (const std::size_t size : {batch.sequence.size(), batch.position.size(), batch.excluded.size()})
    if (size != 0 && size != rows)
      throw InvalidArgument("[ActivityAccumulator::add] expected facts of {} rows, got {}", rows, size);

  std::vector<std::int64_t> counted;
  counted.reserve(rows);
  for (std::size_t r = 0; r < rows; ++r)
    if (batch.excluded.empty() || batch.excluded[r] == 0) counted.push_back(static_cast<std::int64_t>(r));

  // 1. Each row by itself: zeros, firings, histogram, and for the sampled rows their tails. Integers, or kept per row:
  // the split over threads leaves no trace.
  const int threads = pool == nullptr ? 1 : pool->threads();
  std::vector<RowResult> results(counted.size());
  const bool measure_tails = options_.width > 0 && options_.cett_stride > 0;
  const auto sampled = [&](std::size_t k) {
    return measure_tails && (tokens_ + static_cast<std::int64_t>(k)) % options_.cett_stride == 0;
  };
  std::vector<TokenTail> tails;
  std::vector<std::size_t> tail_of(counted.size());
  for (std::size_t k = 0; k < counted.size(); ++k)
    if (sampled(k)) {
      tail_of[k] = tails.size();
      tails.emplace_back();
    }
  std::vector<std::vector<std::uint32_t>> octaves(static_cast<std::size_t>(threads));
  std::vector<std::vector<std::uint32_t>> activations(static_cast<std::size_t>(threads));
  const auto row_work = [&](long begin, long end, int thread) {
    auto& histogram = octaves[static_cast<std::size_t>(thread)];
    histogram.assign(detail::kOctaves + 1, 0);
    auto& activation = activations[static_cast<std::size_t>(thread)];
    activation.assign(MagnitudeGrid::kBuckets, 0);
    std::vector<float> m(n);
    TailScratch scratch;
    for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
      const auto a = batch.values.subspan(static_cast<std::size_t>(counted[k]) * n, n);
      const auto summary =
          detail::summarize_row(a.data(), layer_->outgoing_norms.data(), cuts_.data(), options_.neurons, m.data());
      results[k] = {summary.zeros, summary.active, summary.finite};
      if (!summary.finite) return;
      if (summary.max_magnitude > 0)
        detail::octave_histogram(m.data(), options_.neurons, summary.max_magnitude, histogram.data());
      else
        histogram.back() += static_cast<std::uint32_t>(n);
      if (sampled(k)) {
        token_tail(a, m, layer_->outgoing_rows, options_.width, scratch, tails[tail_of[k]]);
        for (const float x : a) ++activation[static_cast<std::size_t>(MagnitudeGrid::bucket(std::fabs(x)))];
      }
    }
  };
  const auto count = static_cast<long>(counted.size());
  if (pool != nullptr)
    pool->parallel_for(count, 4, row_work);
  else if (count > 0)
    row_work(0, count, 0);
  for (std::size_t k = 0; k < counted.size(); ++k)
    if (!results[k].finite)
      throw BadInput("layer {}: expected finite activations, found infinity or NaN in row {} after {} tokens",
                     layer_->index, counted[k], tokens_);

  // 2. Each neuron by itself.
  const auto column_work = [&](long begin, long end, int) {
    detail::column_sums(batch.values.data(), options_.neurons, counted, cuts_.data(), begin, end, magnitude_sum_.data(),
                        active_count_.data());
  };
  if (pool != nullptr)
    pool->parallel_for(options_.neurons, 64, column_work);
  else
    column_work(0, options_.neurons, 0);

  // 3. In the order of the rows.
  for (const auto& part : octaves)
    for (std::size_t j = 0; j < part.size(); ++j) octaves_[j] += part[j];
  for (const auto& part : activations)
    for (std::size_t j = 0; j < part.size(); ++j) activation_count_[j] += part[j];
  for (const auto& tail : tails) commit(tail);
  for (std::size_t k = 0; k < counted.size(); ++k) {
    const auto r = static_cast<std::size_t>(counted[k]);
    Block& block = open_[batch.sequence.empty() ? 0 : batch.sequence[r]];
    const std::int64_t position = batch.position.empty() ? block.last_position + 1 : batch.position[r];
    if (position <= block.last_position || block.tokens >= options_.block_tokens) {
      close(block, zeros_, active_);
      block = Block{};
    }
    block.last_position = position;
    ++block.tokens;
    block.zeros += results[k].zeros;
    block.active += results[k].active;
  }
  tokens_ += static_cast<std::int64_t>(counted.size());
  excluded_ += static_cast<std::int64_t>(rows - counted.size());
}

void ActivityAccumulator::commit(const TokenTail& tail) {
  const bool tiny =
      tail.output_norm <= 0 ||
      (norm_tokens_ > 0 && tail.output_norm < kTinyOutput * (norm_sum_ / static_cast<double>(norm_tokens_)));
  ++norm_tokens_;
  norm_sum_ += tail.output_norm;
  ++cett_tokens_;
  magnitude_count_[0] += static_cast<std::uint64_t>(tail.zeros);
  for (const auto& step : tail.steps)
    magnitude_count_[static_cast<std::size_t>(step.bucket)] += static_cast<std::uint64_t>(step.neurons);
  if (tiny) {
    ++tiny_;
    return;
  }
  double before = 0;
  for (const auto& step : tail.steps) {
    const double ratio = step.prefix_norm / tail.output_norm;
    cett_step_[static_cast<std::size_t>(step.bucket)] += ratio - before;
    before = ratio;
  }
  for (std::size_t s = 0; s < kMassShares.size(); ++s)
    mass_sum_[s] += tail.mass_in_top(kMassShares[s], options_.neurons);
}

void ActivityAccumulator::close(const Block& block, BatchMeans& zeros, BatchMeans& active) const {
  zeros.add_block(static_cast<double>(block.zeros), block.tokens);
  active.add_block(static_cast<double>(block.active), block.tokens);
}

void ActivityAccumulator::close_blocks() {
  for (const auto& [sequence, block] : open_) close(block, zeros_, active_);
  open_.clear();
}

void ActivityAccumulator::merge(const ActivityAccumulator& other) {
  if (options_.neurons != other.options_.neurons || options_.width != other.options_.width ||
      options_.epsilon != other.options_.epsilon)
    throw InvalidArgument(
        "[ActivityAccumulator::merge] expected {} neurons, width {} and epsilon {}, got {}, {} and {}",
        options_.neurons, options_.width, options_.epsilon, other.options_.neurons, other.options_.width,
        other.options_.epsilon);
  close_blocks();
  zeros_.merge(other.zeros_);
  active_.merge(other.active_);
  for (const auto& [sequence, block] : other.open_) close(block, zeros_, active_);
  const auto sum = [](auto& mine, const auto& theirs) {
    for (std::size_t i = 0; i < mine.size(); ++i) mine[i] += theirs[i];
  };
  tokens_ += other.tokens_;
  excluded_ += other.excluded_;
  cett_tokens_ += other.cett_tokens_;
  tiny_ += other.tiny_;
  norm_tokens_ += other.norm_tokens_;
  norm_sum_ += other.norm_sum_;
  sum(magnitude_sum_, other.magnitude_sum_);
  sum(active_count_, other.active_count_);
  sum(octaves_, other.octaves_);
  sum(cett_step_, other.cett_step_);
  sum(magnitude_count_, other.magnitude_count_);
  sum(activation_count_, other.activation_count_);
  sum(mass_sum_, other.mass_sum_);
}

ActivityStatistics ActivityAccumulator::statistics() const {
  ActivityStatistics out;
  const auto n = static_cast<std::size_t>(options_.neurons);
  out.neurons = options_.neurons;
  out.tokens = tokens_;
  out.excluded_tokens = excluded_;
  out.cett_tokens = cett_tokens_ - tiny_;
  out.tokens_with_tiny_output = tiny_;

  BatchMeans zeros = zeros_, active = active_;
  for (const auto& [sequence, block] : open_) close(block, zeros, active);
  const auto share = [&](const BatchMeans& means) {  // neurons per token -> share of neurons
    Interval x = means.interval();
    const auto width = static_cast<double>(n);
    x.mean /= width;
    x.low = std::max(0.0, x.low / width);
    x.high = std::min(1.0, x.high / width);
    if (!x.has_bounds()) x.low = x.high = std::nan("");
    return x;
  };
  out.zero_fraction = share(zeros);
  out.density = share(active);

  const double tokens = std::max<double>(1, static_cast<double>(tokens_));
  out.mean_magnitude.resize(n);
  out.frequency.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    out.mean_magnitude[i] = magnitude_sum_[i] / tokens;
    out.frequency[i] = static_cast<double>(active_count_[i]) / tokens;
  }
  out.redo_score = redo_scores(out.mean_magnitude);

  const double entries = tokens * static_cast<double>(n);
  out.histogram.share.resize(detail::kOctaves);
  for (std::size_t j = 0; j < out.histogram.share.size(); ++j)
    out.histogram.share[j] = static_cast<double>(octaves_[j]) / entries;
  out.histogram.exact_zero_share = static_cast<double>(octaves_.back()) / entries;

  if (cett_tokens_ > 0) {
    const double measured = std::max<double>(1, static_cast<double>(out.cett_tokens));
    const double sampled = static_cast<double>(cett_tokens_) * static_cast<double>(n);
    for (std::size_t s = 0; s < mass_sum_.size(); ++s) out.mass_share[s] = mass_sum_[s] / measured;
    out.cett.tokens = out.cett_tokens;
    double cett = 0;
    std::uint64_t below = 0, activations = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(MagnitudeGrid::kEdges); ++k) {
      cett += cett_step_[k];
      below += magnitude_count_[k];
      activations += activation_count_[k];
      out.cett.cett.push_back(cett / measured);
      out.cett.sparsity.push_back(static_cast<double>(below) / sampled);
      out.activation_share.push_back(static_cast<double>(activations) / sampled);
    }
  }
  return out;
}

std::int64_t ActivityStatistics::dead_neurons() const {
  return std::count(frequency.begin(), frequency.end(), 0.0);
}

std::int64_t ActivityStatistics::hot_neurons(double at_least) const {
  return std::count_if(frequency.begin(), frequency.end(), [&](double f) { return f >= at_least; });
}

std::int64_t ActivityStatistics::neurons_for_firings(double share) const {
  std::vector<double> sorted = frequency;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double total = std::accumulate(sorted.begin(), sorted.end(), 0.0);
  double sum = 0;
  std::int64_t count = 0;
  while (count < static_cast<std::int64_t>(sorted.size()) && sum < share * total)
    sum += sorted[static_cast<std::size_t>(count++)];
  return count;
}

}  // namespace torpor
