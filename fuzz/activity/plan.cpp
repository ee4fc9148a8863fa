// parse_plan on arbitrary bytes: BadInput, or a plan that written and read again is the same, fits the model it names
// and no other, and whose rules run or are refused.
#include "core/activity/plan.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/base/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void run_rule(const torpor::PlanLayer& layer, int neurons) {
  torpor::NeuronLayer shape;
  shape.index = layer.layer;
  shape.neurons = neurons;
  shape.outgoing_norms.assign(static_cast<std::size_t>(neurons), 0.5F);
  std::vector<float> row(static_cast<std::size_t>(neurons));
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = i % 3 == 0 ? 0.F : static_cast<float>(i) - 7.F;
  try {
    const torpor::RowSelector selector(layer.rule, shape);
    const torpor::NeuronMask active = selector.select(row);
    for (std::size_t i = 0; i < row.size(); ++i) require(row[i] != 0 || !active.test(static_cast<int>(i)));
    require(selector.keep_active(row) == active.count());
  } catch (const torpor::BadInput&) {
    require(std::holds_alternative<torpor::Predictor>(layer.rule) ||
            std::holds_alternative<torpor::GaussianTopK>(layer.rule));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  torpor::SparsityPlan plan;
  try {
    plan = torpor::parse_plan(text, "fuzz.json");
  } catch (const torpor::BadInput&) {
    return 0;
  }
  require(torpor::parse_plan(torpor::to_json(plan).dump(), "written.json") == plan);
  require(static_cast<bool>(torpor::plan_fits(plan, plan.model)));
  torpor::ModelFacts other = plan.model;
  other.fingerprint += "0";
  require(!torpor::plan_fits(plan, other));
  if (plan.model.neurons <= 4096)  // what a plan claims is no reason to allocate
    for (const torpor::PlanLayer& layer : plan.layers) run_rule(layer, plan.model.neurons);
  return 0;
}
