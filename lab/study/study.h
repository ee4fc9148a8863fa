// What the small-scale studies share: networks trained with several seeds, runs that are kept, claims that are checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/page.h"
#include "engine/models/model_config.h"
#include "lab/train/trainer.h"

namespace torpor::lab {

struct StudyOptions {
  std::string size = "1m";  // of the presets
  TrainOptions train;       // but for the seed, batch and learning rate, which are the preset's
  std::vector<std::uint64_t> seeds = {1, 2, 3};
};

/// "3 seeds".
std::string seeds_text(std::size_t seeds);

struct StudyTexts {
  std::shared_ptr<const Windows> text, held_out;
};

/// How a network of a study trained.
struct Training {
  double bits_per_byte = 0;           // of the held-out text, at the end
  std::vector<double> training_bits;  // mean over each twentieth of the steps, bits a token
  double seconds_per_step = 0;        // the median
};

Json to_json(const Training& training);
/// Throws Json::exception where a field is missing.
Training training_from_json(const Json& json);

/// One network of a study, as trained.
struct TrainedTransformer {
  Training training;
  Transformer model{nullptr};
  std::filesystem::path checkpoint;  // a Hugging Face folder without a tokenizer
};

/// Trains in `folder`, from the start. `after_step` may look at the model. Throws as Trainer.
TrainedTransformer train_network(const ModelConfig& config, const TrainOptions& options,
                                 const std::filesystem::path& folder, const StudyTexts& texts,
                                 const std::function<void(const StepReport&, TransformerImpl&)>& after_step);

/// options.train with the batch and learning rate of the size's presets, no evaluation before the end.
TrainOptions train_options(const StudyOptions& options, std::uint64_t seed);

/// What decides a run's numbers.
Json identity_of(const std::string& variant, const ModelConfig& config, const TrainOptions& options,
                 const StudyTexts& texts);

/// folder/result.json where it is of `identity`, else what `make` returns, which is then written there. `make` starts
/// with the folder gone. So a study that was stopped goes on run by run. Throws BadInput where the result is of other
/// options or another text.
Json stored_run(const std::filesystem::path& folder, const Json& identity, const std::function<Json()>& make);

struct Claim {
  std::string name;  // "Spark within 2 % of its dense twin"
  bool held = false;
  std::string detail;  // the numbers
};

Json to_json(const std::vector<Claim>& claims);
Table claims_table(const std::vector<Claim>& claims);
std::string claims_markdown(const std::vector<Claim>& claims);

/// Of the seeds.
struct Spread {
  double mean = 0, least = 0, most = 0;
};
/// Throws InvalidArgument for no values.
Spread spread_of(std::span<const double> values);
/// "1.234 (1.230 to 1.241)", or "1.234" where all agree.
std::string with_range(const Spread& spread, int digits);
/// Of shares: "12.3 % (10.0 to 14.1)".
std::string percent(const Spread& spread);

[[noreturn]] void throw_no_run(const std::string& variant);

/// The runs of one network, in the order given. Throws InvalidArgument where there is none.
template <typename Run>
std::vector<const Run*> runs_of(const std::vector<Run>& runs, const std::string& variant) {
  std::vector<const Run*> out;
  for (const Run& run : runs)
    if (run.variant == variant) out.push_back(&run);
  if (out.empty()) throw_no_run(variant);
  return out;
}
/// f of two networks' runs with the same seed.
template <typename Run, typename Function>
Spread paired(const std::vector<Run>& runs, const std::string& a, const std::string& b, Function f) {
  std::vector<double> out;
  for (const Run* x : runs_of(runs, a))
    for (const Run* y : runs_of(runs, b))
      if (x->seed == y->seed) out.push_back(f(*x, *y));
  return spread_of(out);
}

/// Training loss over the steps, a line a network: the means of its seeds. lines: name and curve (Training).
Chart training_chart(const std::vector<std::pair<std::string, std::vector<double>>>& lines, std::int64_t steps);

}  // namespace torpor::lab
