#include "core/activity/plan.h"

#include <algorithm>
#include <cmath>

#include "core/base/atomic_file.h"

namespace torpor {

namespace {

constexpr std::int64_t kMaxLayers = 100000, kMaxWidth = std::int64_t{1} << 30, kMaxTokens = std::int64_t{1} << 50;

void only_fields(const JsonReader& reader, std::initializer_list<std::string_view> keys) {
  for (const auto& [key, value] : reader.json().items())
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      throw BadInput("{}: unknown field \"{}\"; was it written by a newer version?", reader.where(), key);
}

double number_in(const JsonReader& reader, std::string_view key, double low, double high) {
  const double x = reader.number(key);
  if (!(x >= low && x <= high))
    throw BadInput("{}: expected \"{}\" in [{:g}, {:g}], found {}", reader.where(), key, low, high, x);
  return x;
}

ModelFacts model_from_json(const JsonReader& reader) {
  only_fields(reader, {"name", "fingerprint", "model_type", "n_layers", "d_model", "d_ff", "activation", "gated"});
  ModelFacts facts;
  facts.name = reader.string("name");
  facts.fingerprint = reader.string("fingerprint");
  if (facts.fingerprint.empty()) throw BadInput("{}: expected a \"fingerprint\" that is not empty", reader.where());
  facts.model_type = reader.string("model_type");
  facts.n_layers = static_cast<int>(reader.integer("n_layers", 1, kMaxLayers));
  facts.d_model = static_cast<int>(reader.integer("d_model", 1, kMaxWidth));
  facts.neurons = static_cast<int>(reader.integer("d_ff", 1, kMaxWidth));
  facts.activation = reader.string("activation");
  facts.gated = reader.boolean("gated");
  return facts;
}

/// Each neuron once.
std::vector<std::int32_t> order_from_json(const Json& json, int neurons, const std::string& where) {
  std::vector<std::int32_t> order;
  std::vector<bool> seen(static_cast<std::size_t>(neurons));
  bool good = json.is_array() && json.size() == seen.size();
  for (std::size_t i = 0; good && i < json.size(); ++i) {
    good = json[i].is_number_integer() && json[i].get<std::int64_t>() >= 0 && json[i].get<std::int64_t>() < neurons &&
           !seen[json[i].get<std::size_t>()];
    if (!good) break;
    seen[json[i].get<std::size_t>()] = true;
    order.push_back(json[i].get<std::int32_t>());
  }
  if (!good)
    throw BadInput("{}: expected \"order\" to name each of {} neurons once, found something else at {}", where, neurons,
                   order.size());
  return order;
}

}  // namespace

Json to_json(const SparsityPlan& plan) {
  Json json;
  json["schema"] = kPlanSchema;
  json["model"] = {{"name", plan.model.name},
                   {"fingerprint", plan.model.fingerprint},
                   {"model_type", plan.model.model_type},
                   {"n_layers", plan.model.n_layers},
                   {"d_model", plan.model.d_model},
                   {"d_ff", plan.model.neurons},
                   {"activation", plan.model.activation},
                   {"gated", plan.model.gated}};
  json["text"] = {{"source", plan.text_source},
                  {"fingerprint", plan.text_fingerprint},
                  {"calibration_tokens", plan.calibration_tokens},
                  {"held_out_tokens", plan.held_out_tokens},
                  {"window", plan.window}};
  json["target"] = {{"kind", plan.target_kind}, {"value", plan.target_value}};
  Json measured = {{"cett", plan.cett},
                   {"density", plan.density},
                   {"loss_dense_nats_per_token", plan.loss_dense_nats_per_token},
                   {"loss_nats_per_token", plan.loss_nats_per_token},
                   {"perplexity_ratio", plan.perplexity_ratio}};
  if (plan.perplexity_ratio_ci95)
    measured["perplexity_ratio_ci95"] = *plan.perplexity_ratio_ci95;
  else
    measured["perplexity_ratio_ci95"] = nullptr;
  json["measured"] = measured;
  json["layers"] = Json::array();
  for (const auto& layer : plan.layers) {
    json["layers"].push_back({{"layer", layer.layer},
                              {"rule", to_json(layer.rule)},
                              {"density", layer.density},
                              {"cett", layer.cett},
                              {"skippable", layer.skippable},
                              {"reason", layer.reason}});
    if (!layer.order.empty()) json["layers"].back()["order"] = layer.order;
  }
  return json;
}

SparsityPlan plan_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) throw BadInput("{}: expected a plan (a JSON object), found {}", where, json.type_name());
  const JsonReader reader(json, where);
  const std::string schema = reader.string("schema");
  if (schema != kPlanSchema)
    throw BadInput("{}: expected \"schema\": \"{}\", found \"{}\"; make the plan again with this version", where,
                   kPlanSchema, schema);
  only_fields(reader, {"schema", "model", "text", "target", "measured", "layers"});
  SparsityPlan plan;
  plan.model = model_from_json(reader.object("model"));

  const JsonReader text = reader.object("text");
  only_fields(text, {"source", "fingerprint", "calibration_tokens", "held_out_tokens", "window"});
  plan.text_source = text.string("source");
  plan.text_fingerprint = text.string("fingerprint");
  plan.calibration_tokens = text.integer("calibration_tokens", 0, kMaxTokens);
  plan.held_out_tokens = text.integer("held_out_tokens", 0, kMaxTokens);
  plan.window = text.integer("window", 1, kMaxTokens);

  const JsonReader target = reader.object("target");
  only_fields(target, {"kind", "value"});
  plan.target_kind = target.string("kind");
  if (plan.target_kind != "budget" && plan.target_kind != "cett" && plan.target_kind != "sparsity")
    throw BadInput("{}: expected \"kind\" to be budget, cett or sparsity, found \"{}\"", target.where(),
                   plan.target_kind);
  plan.target_value = number_in(target, "value", 0, 1e9);

  const JsonReader measured = reader.object("measured");
  only_fields(measured, {"cett", "density", "loss_dense_nats_per_token", "loss_nats_per_token", "perplexity_ratio",
                         "perplexity_ratio_ci95"});
  plan.cett = number_in(measured, "cett", 0, 1e9);
  plan.density = number_in(measured, "density", 0, 1);
  plan.loss_dense_nats_per_token = number_in(measured, "loss_dense_nats_per_token", 0, 1e9);
  plan.loss_nats_per_token = number_in(measured, "loss_nats_per_token", 0, 1e9);
  plan.perplexity_ratio = number_in(measured, "perplexity_ratio", 0, 1e300);
  if (measured.has("perplexity_ratio_ci95")) {
    const Json& ci = measured.at("perplexity_ratio_ci95");
    if (!ci.is_array() || ci.size() != 2 || !ci[0].is_number() || !ci[1].is_number() ||
        !(ci[0].get<double>() <= ci[1].get<double>()))
      throw BadInput("{}: expected \"perplexity_ratio_ci95\" to be [low, high] or null", measured.where());
    plan.perplexity_ratio_ci95 = {ci[0].get<double>(), ci[1].get<double>()};
  }

  const Json& layers = reader.at("layers");
  if (!layers.is_array() || layers.size() != static_cast<std::size_t>(plan.model.n_layers))
    throw BadInput("{}: expected \"layers\" to be an array of {} entries (n_layers), found {}", where,
                   plan.model.n_layers, layers.is_array() ? fmt::format("{}", layers.size()) : layers.type_name());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string here = fmt::format("{}: layers[{}]", where, i);
    if (!layers[i].is_object()) throw BadInput("{}: expected an object, found {}", here, layers[i].type_name());
    const JsonReader entry(layers[i], here);
    only_fields(entry, {"layer", "rule", "density", "cett", "skippable", "reason", "order"});
    PlanLayer layer;
    layer.layer = static_cast<int>(entry.integer("layer", 0, kMaxLayers));
    if (layer.layer != static_cast<int>(i))
      throw BadInput("{}: expected \"layer\": {} (all layers, in order), found {}", here, i, layer.layer);
    layer.rule = rule_from_json(entry.at("rule"), plan.model.neurons, here + ".rule");
    layer.density = number_in(entry, "density", 0, 1);
    layer.cett = number_in(entry, "cett", 0, 1e9);
    layer.skippable = entry.boolean("skippable");
    layer.reason = entry.string("reason");
    if (entry.has("order")) layer.order = order_from_json(entry.at("order"), plan.model.neurons, here);
    plan.layers.push_back(std::move(layer));
  }
  return plan;
}

SparsityPlan parse_plan(std::string_view text, const std::string& where) {
  return plan_from_json(parse_json(text, where), where);
}

void write_plan(const SparsityPlan& plan, const std::filesystem::path& path) {
  write_file_atomically(path, to_json(plan).dump(2) + "\n");
}

SparsityPlan read_plan(const std::filesystem::path& path) {
  return parse_plan(read_file(path, std::size_t{64} << 20), path.string());
}

Expected<PlanFits> plan_fits(const SparsityPlan& plan, const ModelFacts& model) {
  std::string differs;
  const auto compare = [&](const char* what, const auto& expected, const auto& found) {
    if (expected == found) return;
    differs += fmt::format("{}{} {} in the plan, {} in the model", differs.empty() ? "" : "; ", what, expected, found);
  };
  compare("model_type", plan.model.model_type, model.model_type);
  compare("layers", plan.model.n_layers, model.n_layers);
  compare("d_model", plan.model.d_model, model.d_model);
  compare("neurons a layer", plan.model.neurons, model.neurons);
  compare("activation", plan.model.activation, model.activation);
  compare("gated", plan.model.gated, model.gated);
  compare("fingerprint of the weights", plan.model.fingerprint, model.fingerprint);
  if (differs.empty() && plan.layers.size() != static_cast<std::size_t>(model.n_layers))
    differs =
        fmt::format("rules for {} layers in the plan, {} layers in the model", plan.layers.size(), model.n_layers);
  if (differs.empty()) return PlanFits{};
  return Unavailable{fmt::format("the plan was made for another model ({}): {}; run `torpor profile` on this one",
                                 plan.model.name, differs)};
}

}  // namespace torpor
