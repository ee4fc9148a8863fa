// A profile as files: profile.json, the plan, tables.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activity/scores.h"
#include "core/report/csv.h"
#include "engine/profile/profile.h"

namespace torpor {
namespace {

constexpr std::size_t kListed = 20;    // hottest and deadest neurons named a layer
constexpr double kDormantTau = 0.025;  // ReDo's default for its DQN experiments

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json bounds(const Interval& interval) {
  if (!interval.has_bounds() || !std::isfinite(interval.low) || !std::isfinite(interval.high)) return nullptr;
  return Json::array({interval.low, interval.high});
}

Json bounds_of_share(Interval interval) {
  interval.low = std::max(0.0, interval.low);
  interval.high = std::min(1.0, interval.high);
  return bounds(interval);
}

/// Neuron numbers ordered by frequency, hottest first.
std::vector<std::size_t> by_frequency(const std::vector<double>& frequency) {
  std::vector<std::size_t> order(frequency.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return frequency[a] > frequency[b]; });
  return order;
}

Json neuron_list(const std::vector<double>& frequency, std::vector<std::size_t> order) {
  if (order.size() > kListed) order.resize(kListed);
  Json list = Json::array();
  for (const std::size_t i : order) list.push_back({{"neuron", i}, {"frequency", frequency[i]}});
  return list;
}

Json frequency_histogram(const std::vector<double>& frequency) {
  constexpr int kBins = 20;
  std::vector<double> share(kBins), edges;
  for (int b = 0; b <= kBins; ++b) edges.push_back(static_cast<double>(b) / kBins);
  for (const double f : frequency)
    share[static_cast<std::size_t>(std::clamp(static_cast<int>(f * kBins), 0, kBins - 1))] +=
        1.0 / static_cast<double>(frequency.size());
  return {{"edges", edges}, {"share", share}};
}

Json histogram(const MagnitudeHistogram& h) {
  const auto n = static_cast<int>(h.share.size());
  std::vector<double> edges, share(h.share.rbegin(), h.share.rend());
  for (int e = -n; e <= 0; ++e) edges.push_back(e);
  return {{"log2_edges", edges}, {"share", share}, {"exact_zero_share", h.exact_zero_share}};
}

/// Where nothing but exact zeros may go, the plan says so: that rule costs nothing and needs no threshold.
SelectionRule rule_of(const LayerProfile& layer) {
  if (layer.threshold.epsilon == 0) return ExactZeros{};
  return OutputThreshold{layer.threshold.epsilon};
}

Json layer_json(const LayerProfile& layer) {
  const ActivityStatistics& activity = layer.activity;
  auto order = by_frequency(layer.frequency);
  const auto dead = std::count(layer.frequency.begin(), layer.frequency.end(), 0.0);
  const auto hot = std::count_if(layer.frequency.begin(), layer.frequency.end(), [](double f) { return f >= 0.5; });
  Json levels = Json::array();
  for (const auto& [cett, threshold] : layer.by_cett)
    levels.push_back({{"cett", cett}, {"sparsity", threshold.sparsity}, {"threshold", threshold.epsilon}});
  const auto& reuse = layer.reuse;
  const auto& pairs = layer.coactivation;
  const Json hottest = neuron_list(layer.frequency, order);
  std::reverse(order.begin(), order.end());
  return {{"layer", layer.layer},
          {"name", layer.name},
          {"neurons", layer.neurons},
          {"skippable", layer.skippable},
          {"reason", layer.reason},
          {"rule", name_of(rule_of(layer))},
          {"threshold", layer.threshold.epsilon},
          {"cett", layer.threshold.cett},
          {"density", layer.density.mean},
          {"density_ci95", bounds_of_share(layer.density)},
          {"sparsity", 1 - layer.density.mean},
          {"zero_fraction", activity.zero_fraction.mean},
          {"zero_fraction_ci95", bounds_of_share(activity.zero_fraction)},
          {"by_cett", levels},
          {"magnitude_histogram", histogram(activity.histogram)},
          {"mass_share",
           {{"top_5", activity.mass_share[0]},
            {"top_10", activity.mass_share[1]},
            {"top_20", activity.mass_share[2]},
            {"top_50", activity.mass_share[3]}}},
          {"dead_neurons", dead},
          {"hot_neurons", hot},
          {"dormant_neurons_redo_0_025", dormant_count(activity.redo_score, kDormantTau)},
          {"hottest", hottest},
          {"deadest", neuron_list(layer.frequency, order)},
          {"frequency_histogram", frequency_histogram(layer.frequency)},
          {"reuse",
           {{"tokens", reuse.tokens},
            {"r1", number(reuse.reuse[0].mean)},
            {"r1_ci95", bounds_of_share(reuse.reuse[0])},
            {"r1_chance", number(reuse.chance[0])},
            {"r2", number(reuse.reuse[1].mean)},
            {"r2_chance", number(reuse.chance[1])},
            {"r5", number(reuse.reuse[2].mean)},
            {"r5_chance", number(reuse.chance[2])}}},
          {"coactivation",
           {{"neurons_sampled", pairs.neurons},
            {"tokens", pairs.tokens},
            {"top", number(pairs.top)},
            {"average", number(pairs.average)},
            {"gap", number(pairs.gap)},
            {"gap_without_hottest", number(pairs.gap_without_hottest)},
            {"chance_gap", number(pairs.chance_gap)}}}};
}

}  // namespace

Json to_json(const Profile& profile) {
  Json curve = Json::array(), layers = Json::array();
  for (const CurvePoint& point : profile.curve)
    curve.push_back({{"rule", point.rule},
                     {"parameter", point.parameter},
                     {"cett", number(point.cett)},
                     {"sparsity", point.sparsity},
                     {"loss_nats_per_token", point.loss_nats_per_token},
                     {"perplexity_ratio", point.perplexity_ratio.mean},
                     {"perplexity_ratio_ci95", bounds(point.perplexity_ratio)},
                     {"chosen", point.chosen}});
  for (const LayerProfile& layer : profile.layers) layers.push_back(layer_json(layer));
  const TokenBytes& bytes = profile.bytes;
  return {{"schema", "torpor.profile/1"},
          {"model", profile.model_summary},
          {"text",
           {{"source", profile.text_source},
            {"bytes", profile.text_bytes},
            {"tokens", profile.calibration_tokens + profile.held_out_tokens},
            {"fingerprint", profile.text_fingerprint},
            {"calibration_tokens", profile.calibration_tokens},
            {"cett_tokens", profile.cett_tokens},
            {"held_out_tokens", profile.held_out_tokens},
            {"window", profile.window},
            {"skipped_first_tokens", profile.options.skipped_first_tokens},
            {"tokens_with_tiny_output", profile.tokens_with_tiny_output}}},
          {"target", {{"kind", name_of(profile.options.target.kind)}, {"value", profile.options.target.value}}},
          {"dense",
           {{"loss_nats_per_token", profile.dense.loss_nats_per_token()},
            {"loss_nats_per_token_ci95", bounds(profile.dense.loss_interval())},
            {"perplexity", profile.dense.perplexity()},
            {"bits_per_byte", profile.dense.bits_per_byte()}}},
          {"chosen",
           {{"cett", profile.cett},
            {"sparsity", profile.sparsity},
            {"sparsity_ci95", bounds_of_share(profile.sparsity_interval)},
            {"exact_zero_sparsity", profile.exact_zero_sparsity},
            {"loss_nats_per_token", profile.masked.loss_nats_per_token()},
            {"perplexity", profile.masked.perplexity()},
            {"perplexity_ratio", profile.ratio.mean},
            {"perplexity_ratio_ci95", bounds(profile.ratio)},
            {"bytes_per_token_dense", bytes.dense},
            {"bytes_per_token_known_set", bytes.known_set},
            {"bytes_per_token_no_predictor", bytes.no_predictor},
            {"ffn_bytes_per_token_dense", bytes.ffn_dense},
            {"speedup_byte_limit_known_set", number(bytes.dense / bytes.known_set)},
            {"speedup_byte_limit_no_predictor", number(bytes.dense / bytes.no_predictor)},
            {"budget_met", profile.budget_met},
            {"note", profile.note}}},
          {"curve", curve},
          {"layers", layers},
          {"seconds",
           {{"statistics", profile.seconds_statistics},
            {"evaluation_dense", profile.seconds_dense},
            {"search", profile.seconds_search},
            {"total", profile.seconds_total},
            {"statistics_overhead", profile.statistics_overhead}}},
          {"warnings", profile.warnings}};
}

SparsityPlan plan_of(const Profile& profile, bool hot_first) {
  SparsityPlan plan;
  plan.model = profile.model;
  plan.text_source = profile.text_source;
  plan.text_fingerprint = profile.text_fingerprint;
  plan.calibration_tokens = profile.calibration_tokens;
  plan.held_out_tokens = profile.held_out_tokens;
  plan.window = profile.window;
  plan.target_kind = name_of(profile.options.target.kind);
  plan.target_value = profile.options.target.value;
  plan.cett = profile.cett;
  plan.density = 1 - profile.sparsity;
  plan.loss_dense_nats_per_token = profile.dense.loss_nats_per_token();
  plan.loss_nats_per_token = profile.masked.loss_nats_per_token();
  plan.perplexity_ratio = profile.ratio.mean;
  if (profile.ratio.has_bounds()) plan.perplexity_ratio_ci95 = {profile.ratio.low, profile.ratio.high};
  for (const LayerProfile& layer : profile.layers) {
    plan.layers.push_back({.layer = layer.layer,
                           .rule = rule_of(layer),
                           .density = layer.density.mean,
                           .cett = layer.threshold.cett,
                           .skippable = layer.skippable,
                           .reason = layer.reason});
    if (!hot_first) continue;
    for (const std::size_t i : by_frequency(layer.frequency))
      plan.layers.back().order.push_back(static_cast<std::int32_t>(i));
  }
  return plan;
}

std::vector<std::pair<std::string, std::string>> csv_files(const Profile& profile) {
  CsvWriter layers({"layer", "neurons", "threshold", "cett", "density", "sparsity", "zero_fraction", "dead_neurons",
                    "reuse_r1", "reuse_r1_chance", "coactivation_gap", "skippable", "reason"});
  CsvWriter neurons({"layer", "neuron", "frequency", "mean_magnitude", "redo_score"});
  for (const LayerProfile& layer : profile.layers) {
    layers.integer(layer.layer).integer(layer.neurons).number(layer.threshold.epsilon).number(layer.threshold.cett);
    layers.number(layer.density.mean).number(1 - layer.density.mean).number(layer.activity.zero_fraction.mean);
    layers.integer(std::count(layer.frequency.begin(), layer.frequency.end(), 0.0));
    layers.number(layer.reuse.reuse[0].mean).number(layer.reuse.chance[0]).number(layer.coactivation.gap);
    layers.text(layer.skippable ? "true" : "false").text(layer.reason).end_row();
    for (std::size_t i = 0; i < layer.frequency.size(); ++i) {
      neurons.integer(layer.layer).integer(static_cast<std::int64_t>(i)).number(layer.frequency[i]);
      neurons.number(layer.activity.mean_magnitude[i]).number(layer.activity.redo_score[i]).end_row();
    }
  }
  CsvWriter curve({"rule", "parameter", "cett", "sparsity", "loss_nats_per_token", "perplexity_ratio",
                   "perplexity_ratio_low", "perplexity_ratio_high", "chosen"});
  for (const CurvePoint& point : profile.curve) {
    curve.text(point.rule).number(point.parameter).number(point.cett).number(point.sparsity);
    curve.number(point.loss_nats_per_token).number(point.perplexity_ratio.mean);
    curve.number(point.perplexity_ratio.low).number(point.perplexity_ratio.high);
    curve.text(point.chosen ? "true" : "false").end_row();
  }
  return {{"layers.csv", layers.str()}, {"curve.csv", curve.str()}, {"neurons.csv", neurons.str()}};
}

}  // namespace torpor
