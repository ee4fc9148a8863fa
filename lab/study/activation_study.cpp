#include "lab/study/activation_study.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "engine/profile/profile.h"
#include "lab/study/active_set_predictor.h"
#include "lab/train/presets.h"

namespace torpor::lab {
namespace fs = std::filesystem;
namespace {

constexpr std::int64_t kPredictorTokens = 32768, kPredictorTestTokens = 8192;

/// Windows that together predict about `tokens` tokens, spread over the text.
std::vector<std::int64_t> spread_windows(const Windows& text, std::int64_t tokens) {
  const std::int64_t count = std::clamp<std::int64_t>(tokens / text.window(), 1, text.size());
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < count; ++i) out.push_back(i * text.size() / count);
  return out;
}

/// What each feed-forward layer reads and the magnitudes it makes of it.
std::vector<PredictorTokens> look_into(TransformerImpl& model, const Windows& text, std::int64_t tokens) {
  const at::NoGradGuard no_gradient;
  const auto layers = static_cast<std::size_t>(model.config().n_layers);
  std::vector<std::vector<at::Tensor>> x(layers), m(layers);
  std::vector<at::Tensor> norms;
  for (const NeuronLayerTensors& layer : model.neuron_layers())
    norms.push_back(layer.outgoing.detach().to(at::kDouble).square().sum(0).sqrt().to(at::kFloat));
  model.set_ffn_input_hook([&](int layer, const at::Tensor& input) {
    x[static_cast<std::size_t>(layer)].push_back(input.flatten(0, 1).clone());
  });
  model.set_activation_hook([&](int layer, const at::Tensor& a) {
    const auto l = static_cast<std::size_t>(layer);
    m[l].push_back(a.flatten(0, 1).abs() * norms[l]);
    return a;
  });
  for (const std::int64_t window : spread_windows(text, tokens))
    model.forward(text.at({&window, 1}).narrow(1, 0, text.window()).contiguous());
  model.set_ffn_input_hook({});
  model.set_activation_hook({});
  std::vector<PredictorTokens> out;
  for (std::size_t l = 0; l < layers; ++l) out.push_back({at::cat(x[l]), at::cat(m[l])});
  return out;
}

CettLevel level_of(const Profile& profile, const CurvePoint& point) {
  return {point.cett, point.sparsity, point.loss_nats_per_token - profile.dense.loss_nats_per_token()};
}

CettLevel chosen_level(const Profile& profile) {
  return {profile.cett, profile.sparsity, profile.masked.loss_nats_per_token() - profile.dense.loss_nats_per_token()};
}

/// What masks and predictors say of the chosen thresholds, the mean over the layers.
OperatingPoint operating_point(const std::string& name, const Profile& profile,
                               const std::vector<PredictorTokens>& train, const std::vector<PredictorTokens>& test) {
  OperatingPoint out{.name = name, .level = chosen_level(profile)};
  const double share = 1 / static_cast<double>(profile.layers.size());
  for (std::size_t l = 0; l < profile.layers.size(); ++l) {
    const LayerProfile& layer = profile.layers[l];
    out.reuse_1 += share * layer.reuse.reuse.front().mean;
    out.reuse_1_by_chance += share * layer.reuse.chance.front();
    out.reuse_5 += share * layer.reuse.reuse.back().mean;
    out.top += share * layer.coactivation.top;
    out.average += share * layer.coactivation.average;
    out.gap += share * layer.coactivation.gap;
    out.gap_without_hottest += share * layer.coactivation.gap_without_hottest;
    const PredictionQuality quality = train_predictor(train[l], test[l], layer.threshold.epsilon);
    out.auc += share * quality.auc;
    out.recall += share * quality.at_zero.recall;
    out.predicted_sparsity += share * quality.at_zero.predicted_sparsity;
    out.predicted_sparsity_at_95 += share * quality.at_recall_95.predicted_sparsity;
    out.predicted_sparsity_at_99 += share * quality.at_recall_99.predicted_sparsity;
    out.mass_recall_at_95 += share * quality.at_recall_95.mass_recall;
  }
  return out;
}

Json to_json(const CettLevel& level) {
  return {{"cett", level.cett}, {"sparsity", level.sparsity}, {"loss_rise", level.loss_rise}};
}

CettLevel level_from_json(const Json& json) {
  return {json.at("cett").get<double>(), json.at("sparsity").get<double>(), json.at("loss_rise").get<double>()};
}

/// The numbers of a point by their names in result.json.
constexpr std::pair<const char*, double OperatingPoint::*> kPointFields[] = {
    {"reuse_1", &OperatingPoint::reuse_1},
    {"reuse_1_by_chance", &OperatingPoint::reuse_1_by_chance},
    {"reuse_5", &OperatingPoint::reuse_5},
    {"coactivation_top", &OperatingPoint::top},
    {"coactivation_average", &OperatingPoint::average},
    {"coactivation_gap", &OperatingPoint::gap},
    {"coactivation_gap_without_hottest", &OperatingPoint::gap_without_hottest},
    {"auc", &OperatingPoint::auc},
    {"recall", &OperatingPoint::recall},
    {"predicted_sparsity", &OperatingPoint::predicted_sparsity},
    {"predicted_sparsity_at_recall_95", &OperatingPoint::predicted_sparsity_at_95},
    {"predicted_sparsity_at_recall_99", &OperatingPoint::predicted_sparsity_at_99},
    {"mass_recall_at_recall_95", &OperatingPoint::mass_recall_at_95}};

}  // namespace

std::vector<ActivationVariant> activation_variants(const std::string& size) {
  std::vector<ActivationVariant> out;
  for (const auto& [name, title] : {std::pair("relu", "ReLU"), std::pair("relu2", "ReLU²"), std::pair("reglu", "ReGLU"),
                                    std::pair("swiglu", "SwiGLU")})
    out.push_back({name, title, preset(fmt::format("{}-{}", name, size)).config});
  return out;
}

Json to_json(const ActivationRun& run) {
  Json json = {{"variant", run.variant},
               {"seed", run.seed},
               {"training", to_json(run.training)},
               {"loss_nats_per_token", run.loss_nats_per_token},
               {"exact_zeros", run.exact_zeros},
               {"budget", to_json(run.budget)}};
  for (const CettLevel& level : run.levels) json["levels"].push_back(to_json(level));
  for (const OperatingPoint& point : run.points) {
    Json fields = {{"name", point.name}, {"level", to_json(point.level)}};
    for (const auto& [name, field] : kPointFields) fields[name] = point.*field;
    json["points"].push_back(std::move(fields));
  }
  return json;
}

ActivationRun activation_run_from_json(const Json& json, const std::string& where) {
  try {
    ActivationRun run;
    run.variant = json.at("variant").get<std::string>();
    run.seed = json.at("seed").get<std::uint64_t>();
    run.training = training_from_json(json.at("training"));
    run.loss_nats_per_token = json.at("loss_nats_per_token").get<double>();
    run.exact_zeros = json.at("exact_zeros").get<double>();
    run.budget = level_from_json(json.at("budget"));
    for (const Json& level : json.at("levels")) run.levels.push_back(level_from_json(level));
    for (const Json& fields : json.at("points")) {
      OperatingPoint point{.name = fields.at("name").get<std::string>(), .level = level_from_json(fields.at("level"))};
      for (const auto& [name, field] : kPointFields) point.*field = fields.at(name).get<double>();
      run.points.push_back(std::move(point));
    }
    return run;
  } catch (const Json::exception& error) {
    throw BadInput("{}: expected the result of a run of this study: {}. Remove the file to run it again", where,
                   error.what());
  }
}

ActivationRun run_activation(const ActivationVariant& variant, std::uint64_t seed, const StudyOptions& options,
                             const fs::path& folder, const StudyTexts& texts,
                             const std::function<void(const StepReport&)>& progress,
                             const std::function<void(const std::string&)>& note) {
  const TrainOptions train = train_options(options, seed);
  const auto make = [&] {
    ActivationRun run;
    run.variant = variant.name;
    run.seed = seed;
    TrainedTransformer network =
        train_network(variant.config, train, folder, texts, [&](const StepReport& now, TransformerImpl&) {
          if (progress) progress(now);
        });
    run.training = network.training;

    const fs::path vocabulary = network.checkpoint / "tokenizer.json";
    write_file_atomically(vocabulary, byte_tokenizer_json());
    const auto tokenizer = load_tokenizer(vocabulary);
    const auto model = Model::load(network.checkpoint);
    ThreadPool pool(at::get_num_threads());
    ProfileOptions measure{.target = {},
                           .window = texts.held_out->window(),
                           .calibration_tokens = 32768,
                           .held_out_tokens = 16384,
                           .cett_tokens = 4096,
                           .baselines = false,
                           .show_progress = false,
                           .seed = seed};
    const auto profiled = [&](ProfileTarget target, const std::string& name) {
      if (note) note(name);
      measure.target = target;
      return profile_model(model, *tokenizer, texts.held_out->corpus(), measure, pool);
    };
    using Kind = ProfileTarget::Kind;
    const Profile budget = profiled({Kind::budget, 0.01}, "CETT at +1 %");
    run.loss_nats_per_token = budget.dense.loss_nats_per_token();
    run.exact_zeros = budget.exact_zero_sparsity;
    run.budget = chosen_level(budget);
    const auto train_tokens = look_into(*network.model, *texts.text, kPredictorTokens),
               test_tokens = look_into(*network.model, *texts.held_out, kPredictorTestTokens);
    for (const auto& [name, target] : {std::pair("CETT 0.2", ProfileTarget{Kind::cett, 0.2}),
                                       std::pair("80 % sparsity", ProfileTarget{Kind::sparsity, 0.8}),
                                       std::pair("90 % sparsity", ProfileTarget{Kind::sparsity, 0.9})}) {
      const Profile profile = profiled(target, name);
      run.points.push_back(operating_point(name, profile, train_tokens, test_tokens));
      if (run.levels.empty())
        for (const CurvePoint& point : profile.curve)
          if (!point.chosen) run.levels.push_back(level_of(profile, point));
    }
    return to_json(run);
  };
  return activation_run_from_json(stored_run(folder, identity_of(variant.name, variant.config, train, texts), make),
                                  (folder / "result.json").string());
}

}  // namespace torpor::lab
