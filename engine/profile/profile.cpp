#include "engine/profile/profile.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "core/base/error.h"
#include "core/base/progress.h"

namespace torpor {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kCettLevels[] = {0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5};
constexpr double kCettStep = 0.001;            // the search ends when CETT is known so closely
constexpr std::int64_t kMinCettTokens = 1024;  // sampled for CETT where the text has them …
constexpr std::int64_t kMinCettStride = 8;  // … and beyond them, no more than every eighth: the rest costs too much
constexpr double kNotWorthIt = 0.95;        // density from which reading the rest one by one cannot pay

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

using Rules = std::vector<SelectionRule>;

/// Everything the steps share.
class Profiler {
 public:
  Profiler(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer, const TextCorpus& corpus,
           const ProfileOptions& options, ThreadPool& pool)
      : model_(model),
        options_(options),
        pool_(pool),
        layers_(model->config().n_layers),
        neurons_(model->config().d_ff) {
    check_target();
    choose_windows(tokenizer, corpus);
    session_.emplace(evaluation_session(model_, pool_, profile_.window));
    facts_ = neuron_layers(*model_);
  }

  Profile run() {
    const auto start = std::chrono::steady_clock::now();
    evaluate_dense();
    collect_statistics();
    const auto search_start = std::chrono::steady_clock::now();
    measure_levels();
    choose_cett();
    measure_chosen();
    measure_baselines();
    sort_curve();
    profile_.seconds_search = seconds_since(search_start);
    count_bytes();
    explain();
    profile_.seconds_total = seconds_since(start);
    return std::move(profile_);
  }

 private:
  void check_target() const {
    const auto [kind, value] = options_.target;
    if (kind == ProfileTarget::Kind::budget && !(value >= 0 && value <= 10))
      throw UsageError("--budget: expected a rise of perplexity from 0 % to 1000 %, found {}", value);
    if (kind == ProfileTarget::Kind::cett && !(value >= 0 && value <= 1))
      throw UsageError("--cett: expected a number from 0 to 1, found {}", value);
    if (kind == ProfileTarget::Kind::sparsity && !(value >= 0 && value < 1))
      throw UsageError("--sparsity: expected a share from 0 to below 1, found {}", value);
  }

  void choose_windows(const Tokenizer& tokenizer, const TextCorpus& corpus) {
    const ModelConfig& config = model_->config();
    const std::int64_t context = config.context_length > 0 ? config.context_length : 512;
    const std::int64_t window = options_.window > 0 ? options_.window : std::min<std::int64_t>(512, context);
    if (window > context)
      throw UsageError("--window: expected at most the model's context of {} tokens, found {}", context, window);
    if (window < options_.skipped_first_tokens + 2)
      throw UsageError("--window: expected at least {} tokens, found {}", options_.skipped_first_tokens + 2, window);
    const std::int64_t calibration = std::max<std::int64_t>(1, options_.calibration_tokens / window);
    const std::int64_t held_out = std::max<std::int64_t>(1, options_.held_out_tokens / window);
    const auto windows = sample_windows(corpus, tokenizer, config.vocab_size, window, calibration + held_out);

    // Held-out windows are spread among the calibration windows in the asked proportion: both see the whole text.
    const auto total = static_cast<std::int64_t>(windows.size());
    const std::int64_t wanted = std::clamp<std::int64_t>(total * held_out / (calibration + held_out), 1, total - 1);
    for (std::int64_t i = 0; i < total; ++i) {
      const bool hold = (i + 1) * wanted / total != i * wanted / total;
      (hold ? held_out_ : calibration_).push_back(windows[static_cast<std::size_t>(i)]);
    }
    profile_.options = options_;
    profile_.window = window;
    profile_.text_source = corpus.source();
    profile_.text_fingerprint = corpus.fingerprint();
    profile_.text_bytes = corpus.bytes();
    profile_.model = facts_of(*model_);
    for (const TextWindow& w : calibration_) profile_.calibration_tokens += w.predicted();
    for (const TextWindow& w : held_out_) profile_.held_out_tokens += w.predicted();
    if (held_out_.size() < 8)
      profile_.warnings.push_back(
          fmt::format("only {} held-out windows: the confidence interval of the price is wide. A longer text or a "
                      "smaller window helps",
                      held_out_.size()));
  }

  Evaluation evaluate_held_out(const std::string& title) {
    Progress progress(title, profile_.held_out_tokens, "tokens", options_.show_progress);
    return evaluate(*session_, pool_, held_out_, [&](std::int64_t done) { progress.update(done); });
  }

  void evaluate_dense() {
    const auto start = std::chrono::steady_clock::now();
    profile_.dense = evaluate_held_out("evaluating the dense model");
    profile_.seconds_dense = seconds_since(start);
  }

  std::int64_t cett_stride() const {
    const std::int64_t tokens = profile_.calibration_tokens;
    return std::max({std::int64_t{1}, std::min(kMinCettStride, tokens / kMinCettTokens),
                     tokens / std::max<std::int64_t>(1, options_.cett_tokens)});
  }

  void collect_statistics() {
    std::vector<ActivityAccumulator> accumulators;
    const std::int64_t stride = cett_stride();
    for (int l = 0; l < layers_; ++l) {
      auto layer = std::make_shared<const NeuronLayer>(neuron_layer(*model_, l, true));
      accumulators.emplace_back(
          ActivityOptions{
              .neurons = neurons_, .width = layer->width, .cett_stride = stride, .block_tokens = profile_.window},
          layer);
    }
    std::vector<std::uint8_t> excluded;
    double in_statistics = 0;
    session_->set_ffn_hook([&](const FfnActivations& a) {
      const auto hook_start = std::chrono::steady_clock::now();
      excluded.assign(static_cast<std::size_t>(a.rows), 0);
      for (std::size_t r = 0; r < excluded.size(); ++r) excluded[r] = a.position[r] < options_.skipped_first_tokens;
      accumulators[static_cast<std::size_t>(a.layer)].add(
          {.values = {a.values, static_cast<std::size_t>(a.rows * a.neurons)},
           .sequence = a.sequence,
           .position = a.position,
           .excluded = excluded},
          &pool_);
      in_statistics += seconds_since(hook_start);
    });
    const auto start = std::chrono::steady_clock::now();
    {
      Progress progress("measuring activity", profile_.calibration_tokens, "tokens", options_.show_progress);
      run_windows(*session_, calibration_, [&](std::int64_t done) { progress.update(done); });
    }
    profile_.seconds_statistics = seconds_since(start);
    session_->set_ffn_hook({});
    // This pass makes no logits, so its total time would flatter: count what the statistics add to an evaluation.
    profile_.statistics_overhead = 1 + (in_statistics / static_cast<double>(profile_.calibration_tokens)) /
                                           (profile_.seconds_dense / static_cast<double>(profile_.held_out_tokens));
    for (int l = 0; l < layers_; ++l) {
      LayerProfile layer;
      layer.layer = l;
      layer.neurons = neurons_;
      layer.name = fmt::format("layer {}", l);
      layer.activity = accumulators[static_cast<std::size_t>(l)].statistics();
      for (const double level : kCettLevels)
        layer.by_cett.emplace_back(level, layer.activity.cett.threshold_for(level));
      profile_.cett_tokens = layer.activity.cett_tokens;
      profile_.tokens_with_tiny_output += layer.activity.tokens_with_tiny_output;
      profile_.exact_zero_sparsity += layer.activity.zero_fraction.mean / layers_;
      profile_.layers.push_back(std::move(layer));
    }
  }

  std::vector<float> epsilons_for(double cett) const {
    std::vector<float> epsilons;
    for (const LayerProfile& layer : profile_.layers)
      epsilons.push_back(layer.activity.cett.threshold_for(cett).epsilon);
    return epsilons;
  }

  Rules rules_for(double cett) const {
    Rules rules;
    for (const float epsilon : epsilons_for(cett)) rules.emplace_back(OutputThreshold{epsilon});
    return rules;
  }

  double calibration_sparsity(double cett) const {
    double sum = 0;
    for (const LayerProfile& layer : profile_.layers) sum += layer.activity.cett.threshold_for(cett).sparsity;
    return sum / layers_;
  }

  CurvePoint measure(const std::string& rule, double parameter, double cett, const Rules& rules) {
    RuleMask mask(facts_, rules, pool_, options_.skipped_first_tokens);
    session_->set_ffn_hook(mask.hook());
    const Evaluation masked = evaluate_held_out(fmt::format("evaluating {} {:.3g}", rule, parameter));
    session_->set_ffn_hook({});
    return {.rule = rule,
            .parameter = parameter,
            .cett = cett,
            .sparsity = 1 - mask.density(),
            .loss_nats_per_token = masked.loss_nats_per_token(),
            .perplexity_ratio = perplexity_ratio(profile_.dense, masked)};
  }

  /// Points of the curve that the reader wants whatever is chosen.
  void measure_levels() {
    for (const double level : kCettLevels)
      profile_.curve.push_back(measure(level == 0 ? "exact_zeros" : "cett", level, level, rules_for(level)));
  }

  void choose_cett() {
    const double value = options_.target.value;
    if (options_.target.kind == ProfileTarget::Kind::cett) {
      profile_.cett = value;
    } else if (options_.target.kind == ProfileTarget::Kind::sparsity) {
      double low = 0, high = 1;
      while (high - low > kCettStep * kCettStep) {
        const double middle = (low + high) / 2;
        (calibration_sparsity(middle) < value ? low : high) = middle;
      }
      profile_.cett = high;
    } else {
      search_budget(1 + value);
    }
  }

  /// The largest CETT whose perplexity is within the budget: above the last level that fits (perplexity is not quite
  /// monotone in CETT: a level may fit where a smaller one does not), halved until it is known closely.
  void search_budget(double most) {
    double low = 0, high = 1;
    std::map<std::vector<float>, bool> fits;  // by thresholds: targets that are close may choose the same
    for (const CurvePoint& point : profile_.curve) {
      const bool within = point.perplexity_ratio.mean <= most;
      fits[epsilons_for(point.cett)] = within;
      if (within)
        low = point.cett, high = 1;
      else
        high = std::min(high, point.cett);
    }
    while (high - low > kCettStep) {
      const double middle = (low + high) / 2;
      const auto [tried, is_new] = fits.try_emplace(epsilons_for(middle));
      if (is_new) {
        CurvePoint point = measure("cett", middle, middle, rules_for(middle));
        tried->second = point.perplexity_ratio.mean <= most;
        profile_.curve.push_back(std::move(point));
      }
      (tried->second ? low : high) = middle;
    }
    profile_.cett = low;
  }

  /// The masked run whose numbers are the result.
  void measure_chosen() {
    const Rules rules = rules_for(profile_.cett);
    RuleMask mask(facts_, rules, pool_, options_.skipped_first_tokens);
    struct Count {
      std::int64_t active = 0, tokens = 0;
    };
    struct LayerState {
      explicit LayerState(int neurons, std::uint64_t seed)
          : reuse(neurons),
            pairs(neurons, 512, 8192, seed),
            active(neurons),
            fired(static_cast<std::size_t>(neurons)) {}
      ReuseCounter reuse;
      CoactivationCounter pairs;
      NeuronMask active;
      std::vector<std::uint64_t> fired;
      std::int64_t tokens = 0;
      BatchMeans density;
      std::vector<Count> open;  // [sequence] the window in progress
    };
    std::vector<LayerState> states;
    for (int l = 0; l < layers_; ++l) states.emplace_back(neurons_, options_.seed);
    BatchMeans all;               // of all layers together: their densities in one window are no independent samples
    std::vector<Count> all_open;  // [sequence]
    const auto close = [&](BatchMeans& means, Count& open, int layers) {
      means.add_block(static_cast<double>(open.active) / neurons_ / layers, open.tokens);
      open = {};
    };
    session_->set_ffn_hook([&](const FfnActivations& a) {
      LayerState& state = states[static_cast<std::size_t>(a.layer)];
      const RowSelector& selector = mask.selector(a.layer);
      for (std::int64_t r = 0; r < a.rows; ++r) {
        const auto at = static_cast<std::size_t>(r);
        if (a.position[at] < options_.skipped_first_tokens) continue;
        selector.select({a.values + r * a.neurons, static_cast<std::size_t>(a.neurons)}, state.active);
        state.active.for_each([&](int i) { ++state.fired[static_cast<std::size_t>(i)]; });
        state.reuse.add(state.active, a.sequence[at], a.position[at]);
        if (!state.pairs.full()) state.pairs.add(state.active);
        ++state.tokens;
        const auto sequence = static_cast<std::size_t>(a.sequence[at]);
        if (state.open.size() <= sequence) state.open.resize(sequence + 1);
        if (all_open.size() <= sequence) all_open.resize(sequence + 1);
        if (a.position[at] == options_.skipped_first_tokens) {  // a new window; layer 0 sees it before the others do
          close(state.density, state.open[sequence], 1);
          if (a.layer == 0) close(all, all_open[sequence], layers_);
        }
        const int active = state.active.count();
        state.open[sequence].active += active;
        all_open[sequence].active += active;
        ++state.open[sequence].tokens;
        if (a.layer == 0) ++all_open[sequence].tokens;
      }
      mask.apply(a);
    });
    profile_.masked = evaluate_held_out("evaluating the chosen thresholds");
    session_->set_ffn_hook({});

    profile_.ratio = perplexity_ratio(profile_.dense, profile_.masked);
    profile_.sparsity = 1 - mask.density();
    for (int l = 0; l < layers_; ++l) {
      LayerState& state = states[static_cast<std::size_t>(l)];
      for (Count& open : state.open) close(state.density, open, 1);
      LayerProfile& layer = profile_.layers[static_cast<std::size_t>(l)];
      layer.threshold = layer.activity.cett.threshold_for(profile_.cett);
      layer.density = state.density.interval();
      layer.frequency.resize(static_cast<std::size_t>(neurons_));
      for (std::size_t i = 0; i < layer.frequency.size(); ++i)
        layer.frequency[i] =
            static_cast<double>(state.fired[i]) / static_cast<double>(std::max<std::int64_t>(1, state.tokens));
      layer.reuse = state.reuse.statistics();
      layer.coactivation = state.pairs.statistics();
    }
    for (Count& open : all_open) close(all, open, layers_);
    const Interval density = all.interval();
    profile_.sparsity_interval = {1 - density.mean, 1 - density.high, 1 - density.low, density.blocks};
    profile_.curve.push_back({.rule = "cett",
                              .parameter = profile_.cett,
                              .cett = profile_.cett,
                              .sparsity = profile_.sparsity,
                              .loss_nats_per_token = profile_.masked.loss_nats_per_token(),
                              .perplexity_ratio = profile_.ratio,
                              .chosen = true});
    if (options_.target.kind == ProfileTarget::Kind::budget) {
      const double most = 1 + options_.target.value;
      profile_.budget_met = profile_.ratio.mean <= most;
      if (!profile_.budget_met)
        profile_.note = "even skipping only exact zeros raised perplexity above the budget";
      else if (profile_.ratio.has_bounds() && profile_.ratio.high > most)
        profile_.note = fmt::format(
            "the measured rise is within the budget, its 95 % interval is not (up to {:+.2f} %): more held-out "
            "tokens (--held-out-tokens) make it narrower",
            100 * (profile_.ratio.high - 1));
    } else if (options_.target.kind == ProfileTarget::Kind::sparsity &&
               profile_.sparsity < options_.target.value - 0.02) {
      profile_.note = fmt::format("{:.1f} % was asked for; on held-out text the thresholds leave out {:.1f} %",
                                  100 * options_.target.value, 100 * profile_.sparsity);
    }
  }

  /// The rules of other papers at (nearly) the sparsities of the levels.
  void measure_baselines() {
    if (!options_.baselines) return;
    std::vector<double> sparsities;
    for (std::size_t i = 0; i < std::size(kCettLevels); ++i)  // the levels are the first points of the curve
      if (kCettLevels[i] >= 0.1) sparsities.push_back(profile_.curve[i].sparsity);
    for (const double sparsity : sparsities)
      if (sparsity > 0 && sparsity < 1) measure_baselines_at(sparsity);
  }

  void sort_curve() {
    std::stable_sort(profile_.curve.begin(), profile_.curve.end(), [](const CurvePoint& a, const CurvePoint& b) {
      const bool a_is_ours = a.rule == "cett" || a.rule == "exact_zeros",
                 b_is_ours = b.rule == "cett" || b.rule == "exact_zeros";
      if (a_is_ours != b_is_ours) return a_is_ours;
      if (!a_is_ours && a.rule != b.rule) return a.rule < b.rule;
      return a.sparsity < b.sparsity;
    });
  }

  /// TurboSparse's top-k, FAT's one threshold, CATS's per layer.
  void measure_baselines_at(double sparsity) {
    const int k = std::clamp(static_cast<int>(std::lround((1 - sparsity) * neurons_)), 1, neurons_);
    measure_baseline("top_k", sparsity, Rules(static_cast<std::size_t>(layers_), SelectionRule(TopK{k})));

    Rules cats;
    for (const LayerProfile& layer : profile_.layers)
      cats.emplace_back(
          LayerThreshold{edge_where(layer.activity.activation_share, sparsity), static_cast<float>(sparsity)});
    measure_baseline("cats", sparsity, cats);

    std::vector<double> share(MagnitudeGrid::kEdges);
    for (const LayerProfile& layer : profile_.layers)
      for (std::size_t e = 0; e < share.size() && e < layer.activity.activation_share.size(); ++e)
        share[e] += layer.activity.activation_share[e] / layers_;
    const ActivationThreshold fat{edge_where(share, sparsity)};
    measure_baseline("fat", sparsity, Rules(static_cast<std::size_t>(layers_), SelectionRule(fat)));
  }

  void measure_baseline(const std::string& rule, double sparsity, const Rules& rules) {
    profile_.curve.push_back(measure(rule, sparsity, kNone, rules));
  }

  /// The edge whose share is nearest to `sparsity`.
  static float edge_where(std::span<const double> share, double sparsity) {
    const auto above = std::lower_bound(share.begin(), share.end(), sparsity);
    auto best = static_cast<int>(std::min<std::ptrdiff_t>(above - share.begin(), MagnitudeGrid::kEdges - 1));
    if (best > 0 && sparsity - share[static_cast<std::size_t>(best - 1)] <
                        std::abs(share[static_cast<std::size_t>(best)] - sparsity))
      --best;
    return MagnitudeGrid::edge(best);
  }

  void count_bytes() {
    TokenBytes& bytes = profile_.bytes;
    const auto size = [](const WeightMatrix& w) { return static_cast<double>(w.bytes()); };
    const auto all_but_one_row = [&](const WeightMatrix& w) {
      return w.empty() ? 0.0 : size(w) - static_cast<double>(w.row_bytes());
    };
    // A token reads one row of the embeddings and everything else; tied embeddings are read whole, to make the logits.
    bytes.dense = static_cast<double>(model_->weight_bytes()) - all_but_one_row(model_->altup().layer_embedding);
    bytes.dense -= all_but_one_row(model_->position_embedding());
    if (model_->unembedding().data != model_->token_embedding().data)
      bytes.dense -= all_but_one_row(model_->token_embedding());
    double known = 0, scanned = 0;
    for (int l = 0; l < layers_; ++l) {
      const FfnWeights& ffn = model_->layers()[static_cast<std::size_t>(l)].ffn;
      const double density = profile_.layers[static_cast<std::size_t>(l)].density.mean;
      const double gate = size(ffn.gate), up = size(ffn.up), down = size(ffn.stored_down());
      bytes.ffn_dense += gate + up + down;
      known += density * (gate + up + down);
      scanned += model_->config().gated ? gate + density * (up + down) : up + density * down;
    }
    bytes.known_set = bytes.dense - bytes.ffn_dense + known;
    bytes.no_predictor = bytes.dense - bytes.ffn_dense + scanned;

    const ModelConfig& config = model_->config();
    const NumberFormat up_format = model_->layers().front().ffn.up.format;
    const bool uniform = std::all_of(model_->layers().begin(), model_->layers().end(), [&](const LayerWeights& layer) {
      return layer.ffn.up.format == up_format && layer.ffn.stored_down().format == up_format &&
             (layer.ffn.gate.empty() || layer.ffn.gate.format == up_format);
    });
    const std::string format(uniform ? traits(up_format).name : "mixed");
    profile_.model_summary = {{"name", profile_.model.name},
                              {"model_type", config.model_type},
                              {"parameters", model_->parameters()},
                              {"weight_bytes", model_->weight_bytes()},
                              {"fingerprint", model_->fingerprint()},
                              {"n_layers", config.n_layers},
                              {"d_model", config.d_model},
                              {"d_ff", config.d_ff},
                              {"n_heads", config.n_heads},
                              {"n_kv_heads", config.n_kv_heads},
                              {"vocab_size", config.vocab_size},
                              {"activation", profile_.model.activation},
                              {"gated", config.gated},
                              {"number_format", format}};
  }

  void explain() {
    for (LayerProfile& layer : profile_.layers) {
      if (layer.density.mean < kNotWorthIt) continue;
      layer.skippable = false;
      layer.reason =
          layer.threshold.epsilon == 0 && layer.activity.zero_fraction.mean == 0
              ? fmt::format("its activation has no exact zeros and no neuron's output is small enough at CETT {:.3f}",
                            profile_.cett)
              : fmt::format("{:.1f} % of its neurons must be computed: skipping the rest cannot pay",
                            100 * layer.density.mean);
    }
  }

  std::shared_ptr<const Model> model_;
  ProfileOptions options_;
  ThreadPool& pool_;
  int layers_, neurons_;
  std::vector<TextWindow> calibration_, held_out_;
  std::vector<NeuronLayer> facts_;  // norms of every layer, no rows
  std::optional<Session> session_;
  Profile profile_;
};

}  // namespace

std::string_view name_of(ProfileTarget::Kind kind) {
  switch (kind) {
    case ProfileTarget::Kind::budget:
      return "budget";
    case ProfileTarget::Kind::cett:
      return "cett";
    case ProfileTarget::Kind::sparsity:
      return "sparsity";
  }
  return "budget";
}

Profile profile_model(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer, const TextCorpus& corpus,
                      const ProfileOptions& options, ThreadPool& pool) {
  return Profiler(model, tokenizer, corpus, options, pool).run();
}

}  // namespace torpor
