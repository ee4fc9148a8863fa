#include "lab/study/spark_study.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "lab/train/presets.h"

namespace torpor::lab {
namespace fs = std::filesystem;
namespace {

constexpr int kProbes = 10;
constexpr std::int64_t kProbedWindows = 8;

int share_of(int whole) {
  return std::max(1, static_cast<int>(std::lround(0.08 * whole)));
}

/// Shares of non-zero activations by layer, on windows spread over the text, and what Spark attention attended to.
struct Probe {
  std::vector<double> nonzero;
  SparkAttentionCounts keys;
};

Probe probe(TransformerImpl& model, const Windows& text, std::int64_t windows) {
  const at::NoGradGuard no_gradient;
  Probe out;
  out.nonzero.resize(static_cast<std::size_t>(model.config().n_layers));
  model.take_attention_counts();
  const std::int64_t count = std::min(windows, text.size());
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t place = i * text.size() / count;
    model.set_activation_hook([&](int layer, const at::Tensor& a) {
      out.nonzero[static_cast<std::size_t>(layer)] +=
          static_cast<double>(a.count_nonzero().item<std::int64_t>()) / static_cast<double>(a.numel() * count);
      return a;
    });
    model.forward(text.at({&place, 1}).narrow(1, 0, text.window()).contiguous());
  }
  model.set_activation_hook({});
  out.keys = model.take_attention_counts();
  return out;
}

}  // namespace

std::vector<SparkVariant> spark_variants(const std::string& size) {
  const ModelConfig dense = preset("geglu-" + size).config, full = preset("spark-" + size).config;
  std::vector<SparkVariant> out;
  out.push_back({"dense", "GeGLU, dense attention", dense});
  for (const auto& [name, activation] : {std::pair("relu", Activation::relu), std::pair("relu2", Activation::relu2)}) {
    ModelConfig c = dense;
    c.activation = activation;
    out.push_back({name, std::string(activation == Activation::relu ? "ReLU" : "ReLU²") + " gate, dense attention", c});
  }
  ModelConfig top_k = full;  // model_type spark, whose gate scores the neurons
  top_k.d_ff = dense.d_ff;
  top_k.spark = {.ffn_active = share_of(top_k.d_ff)};
  out.push_back({"top_k", "statistical top-k before GELU, no predictor, dense attention", top_k});
  ModelConfig ffn = full;
  ffn.spark.attention_active = ffn.spark.attention_predictor = 0;
  out.push_back({"spark_ffn", "Spark FFN, dense attention", ffn});
  out.push_back({"spark", "Spark FFN and Spark attention", full});
  ModelConfig neither = top_k;
  neither.spark.attention_active = full.spark.attention_active;
  out.push_back({"no_predictor", "statistical top-k in both, no predictors", neither});
  return out;
}

double flops_per_token(const ModelConfig& c, double active, double keys) {
  const double d = c.d_model, neurons = c.d_ff, width = c.query_width();
  const double visible = (c.context_length + 1) / 2.0;
  double layer = 4 * d * width + 4 * d * c.kv_width();  // projections
  if (c.spark.attention()) {
    const double scored = c.spark.attention_predictor > 0 ? c.spark.attention_predictor : c.head_dim;
    const double share = scored / c.head_dim;
    layer += 2 * width * share * visible + (2 * width * (1 - share) + 2 * width) * keys;
  } else {
    layer += 4 * width * visible;
  }
  const double scoring = c.spark.ffn_predictor > 0 ? c.spark.ffn_predictor : d;
  const double rest = c.spark.ffn_predictor > 0 ? d - c.spark.ffn_predictor : d;
  layer += 2 * scoring * neurons + (2 * rest + 2 * d) * neurons * active;
  return layer * c.n_layers;
}

Json to_json(const SparkRun& run) {
  Json activity = Json::array();
  for (const ActivityAtStep& at : run.activity) activity.push_back({{"step", at.step}, {"nonzero", at.nonzero}});
  return {{"variant", run.variant},
          {"seed", run.seed},
          {"training", to_json(run.training)},
          {"activity", activity},
          {"keys", run.keys},
          {"keys_of_all_queries", run.keys_of_all},
          {"most_keys", run.most_keys},
          {"empty_rows", run.empty_rows},
          {"attention_rows", run.attention_rows}};
}

SparkRun spark_run_from_json(const Json& json, const std::string& where) {
  try {
    SparkRun run;
    run.variant = json.at("variant").get<std::string>();
    run.seed = json.at("seed").get<std::uint64_t>();
    run.training = training_from_json(json.at("training"));
    for (const Json& at : json.at("activity"))
      run.activity.push_back({at.at("step").get<std::int64_t>(), at.at("nonzero").get<std::vector<double>>()});
    run.keys = json.at("keys").get<double>();
    run.keys_of_all = json.at("keys_of_all_queries").get<double>();
    run.most_keys = json.at("most_keys").get<std::int64_t>();
    run.empty_rows = json.at("empty_rows").get<std::int64_t>();
    run.attention_rows = json.at("attention_rows").get<std::int64_t>();
    return run;
  } catch (const Json::exception& error) {
    throw BadInput("{}: expected the result of a run of this study: {}. Remove the file to run it again", where,
                   error.what());
  }
}

SparkRun run_spark_variant(const SparkVariant& variant, std::uint64_t seed, const StudyOptions& options,
                           const fs::path& folder, const StudyTexts& texts,
                           const std::function<void(const StepReport&)>& progress) {
  const TrainOptions train = train_options(options, seed);
  const auto measure = [&] {
    SparkRun run;
    run.variant = variant.name;
    run.seed = seed;
    const auto look = [&](std::int64_t step, TransformerImpl& model) {
      run.activity.push_back({step, probe(model, *texts.held_out, kProbedWindows).nonzero});
    };
    look(0, *Transformer(variant.config, seed));
    TrainedTransformer network =
        train_network(variant.config, train, folder, texts, [&](const StepReport& now, TransformerImpl& model) {
          if (now.step * kProbes / train.steps != (now.step - 1) * kProbes / train.steps) look(now.step, model);
          if (progress) progress(now);
        });
    run.training = network.training;
    const Probe last = probe(*network.model, *texts.held_out, train.held_out_windows);
    run.attention_rows = last.keys.rows;
    run.most_keys = last.keys.most;
    run.empty_rows = last.keys.empty_rows;
    if (last.keys.rows > 0) {
      // The first k queries of a window see at most k keys and keep them all.
      const double k = variant.config.spark.attention_active, window = static_cast<double>(texts.held_out->window());
      const double windows = static_cast<double>(last.keys.rows) / window;  // times heads and layers
      run.keys_of_all = static_cast<double>(last.keys.kept) / static_cast<double>(last.keys.rows);
      run.keys = (static_cast<double>(last.keys.kept) - windows * k * (k + 1) / 2) / (windows * (window - k));
    }
    return to_json(run);
  };
  return spark_run_from_json(stored_run(folder, identity_of(variant.name, variant.config, train, texts), measure),
                             (folder / "result.json").string());
}

std::vector<Claim> spark_claims(const std::vector<SparkRun>& runs, const std::string& size) {
  const std::vector<SparkVariant> variants = spark_variants(size);
  std::vector<Claim> out;
  const auto ratio = [](const SparkRun& a, const SparkRun& b) {
    return a.training.bits_per_byte / b.training.bits_per_byte;
  };
  const auto percent = [](double x) { return fmt::format("{:+.2f} %", 100 * (x - 1)); };
  const auto range = [&](const Spread& s) {
    return fmt::format("{} ({} to {})", percent(s.mean), percent(s.least), percent(s.most));
  };
  const Spread to_dense = paired(runs, "spark", "dense", ratio);
  out.push_back({"Spark's bits a byte within 2 % of its dense twin's at equal steps and parameters",
                 to_dense.mean <= 1.02, range(to_dense)});
  const Spread to_control = paired(runs, "spark", "no_predictor", ratio);
  out.push_back({"Spark not worse than statistical top-k without predictors", to_control.least <= 1,
                 range(to_control) + (to_control.most <= 1 ? "" : ": a tie, the seeds differ in sign")});

  double least = 1, most = 0, trained_least = 1, trained_most = 0;
  for (const SparkRun& run : runs) {
    if (run.variant != "spark" && run.variant != "spark_ffn") continue;
    for (const double x : run.activity.front().nonzero) least = std::min(least, x), most = std::max(most, x);
    for (const double x : run.activity.back().nonzero)
      trained_least = std::min(trained_least, x), trained_most = std::max(trained_most, x);
  }
  out.push_back({"FFN activations that are not zero before training: 7.5 % to 8.5 % in each layer",
                 least >= 0.075 && most <= 0.085, fmt::format("{:.2f} % to {:.2f} %", 100 * least, 100 * most)});
  out.push_back({"the same after training: 5 % to 9 %", trained_least >= 0.05 && trained_most <= 0.09,
                 fmt::format("{:.2f} % to {:.2f} %", 100 * trained_least, 100 * trained_most)});

  const auto spark = std::find_if(variants.begin(), variants.end(), [](const auto& v) { return v.name == "spark"; });
  const double k = spark->config.spark.attention_active;
  std::vector<double> keys;
  std::int64_t most_keys = 0, empty = 0, rows = 0;
  for (const SparkRun& run : runs) {
    if (run.variant != "spark") continue;
    keys.push_back(run.keys);
    most_keys = std::max(most_keys, run.most_keys);
    empty += run.empty_rows;
    rows += run.attention_rows;
  }
  const Spread attended = spread_of(keys);
  out.push_back({fmt::format("keys attended to, where more than {:.0f} are visible, within 15 % of {:.0f}", k, k),
                 attended.least >= 0.85 * k && attended.most <= 1.15 * k,
                 fmt::format("mean {:.1f} ({:.1f} to {:.1f}), most {}; {} of {} rows had none above the threshold",
                             attended.mean, attended.least, attended.most, most_keys, empty, rows)});
  const Spread time = paired(runs, "spark", "dense", [](const SparkRun& a, const SparkRun& b) {
    return a.training.seconds_per_step / b.training.seconds_per_step;
  });
  out.push_back({"Spark's step at most 1.10x its dense twin's time", time.mean <= 1.10,
                 fmt::format("{:.2f}x ({:.2f}x to {:.2f}x)", time.mean, time.least, time.most)});
  return out;
}

}  // namespace torpor::lab
