#include "lab/study/study.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <numbers>
#include <numeric>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "lab/train/presets.h"

namespace torpor::lab {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kTwentieths = 20;

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::string seeds_text(std::size_t seeds) {
  return fmt::format("{} seed{}", seeds, seeds == 1 ? "" : "s");
}

Json to_json(const Training& training) {
  return {{"bits_per_byte", training.bits_per_byte},
          {"training_bits_per_token", training.training_bits},
          {"seconds_per_step", training.seconds_per_step}};
}

Training training_from_json(const Json& json) {
  return {json.at("bits_per_byte").get<double>(), json.at("training_bits_per_token").get<std::vector<double>>(),
          json.at("seconds_per_step").get<double>()};
}

TrainedTransformer train_network(const ModelConfig& config, const TrainOptions& options, const fs::path& folder,
                                 const StudyTexts& texts,
                                 const std::function<void(const StepReport&, TransformerImpl&)>& after_step) {
  TrainedTransformer out;
  Trainer trainer(config, options, folder, texts.text, texts.held_out, false);
  out.model = trainer.model();
  std::vector<double> seconds, bits;
  auto start = std::chrono::steady_clock::now();
  trainer.run([&](const StepReport& now) {
    const auto stop = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(stop - start).count());
    bits.push_back(now.loss_nats_per_token / std::numbers::ln2);
    if (now.held_out_bits_per_byte) out.training.bits_per_byte = *now.held_out_bits_per_byte;
    after_step(now, *out.model);
    start = std::chrono::steady_clock::now();
  });
  if (seconds.size() > 1) seconds.pop_back();  // evaluates and writes the checkpoint
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  out.training.seconds_per_step = *middle;
  const std::size_t parts = std::min(kTwentieths, bits.size());
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t from = i * bits.size() / parts, to = (i + 1) * bits.size() / parts;
    out.training.training_bits.push_back(mean_of(std::span(bits).subspan(from, to - from)));
  }
  out.checkpoint = trainer.newest_checkpoint();
  return out;
}

TrainOptions train_options(const StudyOptions& options, std::uint64_t seed) {
  TrainOptions train = options.train;
  const Preset& defaults = preset("relu2-" + options.size);  // those of one size agree in both
  train.batch = defaults.batch;
  train.learning_rate = defaults.learning_rate;
  train.seed = seed;
  train.checkpoint_every = train.evaluate_every = 0;
  return train;
}

Json identity_of(const std::string& variant, const ModelConfig& config, const TrainOptions& options,
                 const StudyTexts& texts) {
  return {{"variant", variant},
          {"config", canonical_text(config)},
          {"options", to_json(options)},
          {"window", texts.text->window()},
          {"text_fingerprint", texts.text->fingerprint()},
          {"held_out_fingerprint", texts.held_out->fingerprint()},
          {"held_out_windows", options.held_out_windows}};
}

Json stored_run(const fs::path& folder, const Json& identity, const std::function<Json()>& make) {
  const fs::path result = folder / "result.json";
  if (fs::exists(result)) {
    Json found = read_json(result);
    if (!found.is_object() || found.value("of", Json()) != identity)
      throw BadInput("{}: is of a run with other options or another text. Choose another folder with -o",
                     result.string());
    return found.value("run", Json());
  }
  fs::remove_all(folder);
  Json run = make();
  write_file_atomically(result, Json{{"of", identity}, {"run", run}}.dump(1) + "\n");
  return run;
}

Json to_json(const std::vector<Claim>& claims) {
  Json out = Json::array();
  for (const Claim& claim : claims)
    out.push_back({{"claim", claim.name}, {"held", claim.held}, {"detail", claim.detail}});
  return out;
}

Table claims_table(const std::vector<Claim>& claims) {
  Table out{"What the paper leads one to expect, and what these runs show.", {{"claim"}, {"held"}, {"numbers"}}, {}};
  for (const Claim& claim : claims) out.rows.push_back({{claim.name}, {claim.held ? "yes" : "no"}, {claim.detail}});
  return out;
}

std::string claims_markdown(const std::vector<Claim>& claims) {
  std::string out = "| claim | held | numbers |\n|---|---|---|\n";
  for (const Claim& claim : claims)
    out += fmt::format("| {} | {} | {} |\n", claim.name, claim.held ? "yes" : "**no**", claim.detail);
  return out;
}

Spread spread_of(std::span<const double> values) {
  if (values.empty()) throw InvalidArgument("[study] expected a run of each network with the same seeds");
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return {mean_of(values), *least, *most};
}

std::string percent(const Spread& spread) {
  return fmt::format("{:.1f} % ({:.1f} to {:.1f})", 100 * spread.mean, 100 * spread.least, 100 * spread.most);
}

std::string with_range(const Spread& spread, int digits) {
  if (spread.least == spread.most) return fmt::format("{:.{}f}", spread.mean, digits);
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", spread.mean, digits, spread.least, digits, spread.most, digits);
}

void throw_no_run(const std::string& variant) {
  throw InvalidArgument("[study] expected a run of each network, {} has none", variant);
}

Chart training_chart(const std::vector<std::pair<std::string, std::vector<double>>>& lines, std::int64_t steps) {
  LineChart chart{{"step", NumberStyle::count}, {"training loss, bits a token"}, {}, {}};
  for (const auto& [name, bits] : lines) {
    LineSeries series{name, {}, true, {}};
    for (std::size_t i = 0; i < bits.size(); ++i)
      series.points.push_back(
          {static_cast<double>(steps) * (static_cast<double>(i) + 0.5) / static_cast<double>(bits.size()), bits[i]});
    chart.series.push_back(std::move(series));
  }
  return {"Training", "The mean of the seeds over each twentieth of the steps.",
          "Training loss of each network over the steps.", std::move(chart)};
}

}  // namespace torpor::lab
