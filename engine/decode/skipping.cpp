#include "engine/decode/skipping.h"

#include "core/base/cpu.h"
#include "core/base/error.h"

namespace torpor {
namespace {

// Exact zeros of a model that no plan describes: what ReLU models have is between 3 and 15 %, and a layer where
// skipping does not pay at this density hardly has a density where it does.
constexpr double kUnknownDensity = 0.1;

double expected_density(const ModelConfig& config, const SparsityPlan* plan, int layer) {
  if (plan != nullptr) return plan->layers[static_cast<std::size_t>(layer)].density;
  if (config.spark.ffn()) return static_cast<double>(config.spark.ffn_active) / config.d_ff;
  if (const float sparsity = config.gate_sparsity_of(layer); sparsity > 0) return 1 - static_cast<double>(sparsity);
  return kUnknownDensity;
}

}  // namespace

Skipping prepare_skipping(const std::shared_ptr<const Model>& model, const PlanInFolder* plan, Skip skip,
                          ThreadPool& pool, const NeuronMajorWeights::Progress& progress) {
  const ModelConfig& config = model->config();
  Skipping result;
  if (plan == nullptr) {
    result.reason = skip == Skip::never ? "all neurons were asked for" : why_not_skippable(config);
    if (!result.reason.empty()) return result;
  }
  std::vector<SelectionRule> rules;
  std::vector<Arranged> wanted;
  if (plan != nullptr)
    for (const PlanLayer& layer : plan->plan.layers) {
      rules.push_back(layer.rule);
      wanted.push_back(std::holds_alternative<Predictor>(layer.rule) ? Arranged::whole : Arranged::rows);
    }
  else
    for (int l = 0; l < config.n_layers; ++l)
      wanted.push_back(has_exact_zeros(config, l) ? Arranged::rows : Arranged::nothing);
  const auto predictors = plan != nullptr ? LayerPredictors::load(rules, plan->folder, config) : nullptr;
  if (skip == Skip::never) {  // masked alone
    result.ffn = std::make_shared<SparseFfn>(model, nullptr, rules, predictors);
    result.reason = "all neurons were asked for";
    for (int l = 0; l < config.n_layers; ++l) result.dense.push_back({l, result.reason});
    return result;
  }
  // Before anything is taken: a machine that swaps is slower than one that computes.
  const std::int64_t needed = NeuronMajorWeights::bytes_needed(*model, wanted), available = available_memory_bytes();
  if (available > 0 && needed > available) {
    const std::string shortage = fmt::format(
        "arranging the weights by neuron needs {} MB of memory, {} MB are available", needed >> 20, available >> 20);
    if (plan != nullptr)
      throw IoError("{}: {}. A smaller model, or one packed with `torpor pack --type q8`, would fit",
                    model->path().string(), shortage);
    result.reason = shortage;
    return result;
  }
  const auto weights = NeuronMajorWeights::pack(model, pool, progress, wanted);
  result.ffn = std::make_shared<SparseFfn>(model, weights, rules, predictors);
  if (skip == Skip::where_it_pays) result.cost = measure_ffn_cost(*model, *weights, pool, predictors.get());
  if (result.cost) result.ffn->set_density_limit(result.cost->break_even());
  for (int l = 0; l < config.n_layers; ++l) {
    const double density = expected_density(config, plan != nullptr ? &plan->plan : nullptr, l);
    std::string reason;
    if (wanted[static_cast<std::size_t>(l)] == Arranged::nothing) {
      reason = fmt::format("{} leaves no neuron at exactly zero there", name_of(config.activation));
    } else if (skip == Skip::where_it_pays && result.cost->sparse(density) > result.cost->dense) {
      const double limit = result.cost->break_even();
      reason = limit <= 0
                   ? fmt::format("skipping takes longer here, {:.0f} us with no neuron active against {:.0f} us dense",
                                 result.cost->fixed * 1e6, result.cost->dense * 1e6)
                   : fmt::format("{:.1f} % of its neurons are active, skipping pays below {:.1f} %", 100 * density,
                                 100 * limit);
    }
    result.ffn->set_skips(l, reason.empty());
    if (!reason.empty()) result.dense.push_back({l, reason});
  }
  if (std::ssize(result.dense) == config.n_layers) result.reason = result.dense.front().reason;
  return result;
}

}  // namespace torpor
