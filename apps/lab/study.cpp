// torpor study: the small-scale studies of docs/results, as commands. Part of the program torpor-lab.
#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/progress.h"
#include "core/report/csv.h"
#include "core/report/html.h"
#include "core/report/page.h"
#include "lab/study/activation_study.h"
#include "lab/study/agent_study.h"
#include "lab/study/reshuffle_study.h"
#include "lab/study/spark_study.h"
#include "lab/train/presets.h"

namespace torpor::apps {

namespace fs = std::filesystem;

namespace {

/// What all studies have in common on the command line and in their folder.
struct Study {
  lab::StudyOptions options;
  lab::StudyTexts texts;
  lab::ReshuffleOptions reshuffle;
  lab::AgentStudyOptions agent;
  fs::path folder;  // of the result
  std::string name, command;
  bool quiet = false;
};

/// What a study leaves behind.
struct Outcome {
  Json json;
  std::string csv, markdown;
  ReportPage page;
  std::vector<lab::Claim> claims;
};

/// Runs every network with every seed: seed by seed, so that what is compared ran one after the other.
template <typename Run, typename Variant, typename RunOne>
std::vector<Run> run_all(const Study& study, const std::vector<Variant>& variants, RunOne run_one) {
  std::vector<Run> runs;
  const std::int64_t steps = study.options.train.steps;
  Progress progress(study.name, steps * static_cast<std::int64_t>(study.options.seeds.size() * variants.size()),
                    "steps", !study.quiet);
  for (const std::uint64_t seed : study.options.seeds)
    for (const Variant& variant : variants) {
      const std::int64_t before = steps * static_cast<std::int64_t>(runs.size());
      const std::string label = fmt::format("{}-seed{}", variant.name, seed);
      runs.push_back(run_one(
          variant, seed, study.folder / "runs" / label,
          [&](const lab::StepReport& now) {
            progress.update(before + now.step, fmt::format("{} loss {:.3f}", label, now.loss_nats_per_token));
          },
          [&](const std::string& what) {
            progress.update(before + steps, fmt::format("{} measuring {}", label, what));
          }));
    }
  return runs;
}

Outcome study_spark(const Study& study) {
  lab::SparkStudy result{study.options, {}, study.command};
  result.runs = run_all<lab::SparkRun>(
      study, lab::spark_variants(study.options.size),
      [&](const lab::SparkVariant& variant, std::uint64_t seed, const fs::path& folder, const auto& progress,
          const auto&) { return lab::run_spark_variant(variant, seed, study.options, folder, study.texts, progress); });
  CsvWriter csv({"variant", "seed", "bits_per_byte", "keys", "most_keys", "empty_rows", "seconds_per_step"});
  for (const lab::SparkRun& run : result.runs)
    csv.text(run.variant)
        .integer(static_cast<std::int64_t>(run.seed))
        .number(run.training.bits_per_byte)
        .number(run.keys)
        .integer(run.most_keys)
        .integer(run.empty_rows)
        .number(run.training.seconds_per_step)
        .end_row();
  return {to_json(result), csv.str(), markdown_of(result), page_of(result),
          lab::spark_claims(result.runs, study.options.size)};
}

Outcome study_activations(const Study& study) {
  lab::ActivationStudy result{study.options, {}, study.command};
  result.runs = run_all<lab::ActivationRun>(study, lab::activation_variants(study.options.size),
                                            [&](const lab::ActivationVariant& variant, std::uint64_t seed,
                                                const fs::path& folder, const auto& progress, const auto& note) {
                                              return lab::run_activation(variant, seed, study.options, folder,
                                                                         study.texts, progress, note);
                                            });
  CsvWriter csv({"variant", "seed", "bits_per_byte", "loss_nats_per_token", "rule", "cett", "sparsity", "loss_rise"});
  for (const lab::ActivationRun& run : result.runs) {
    const auto row = [&](const std::string& rule, const lab::CettLevel& level) {
      csv.text(run.variant)
          .integer(static_cast<std::int64_t>(run.seed))
          .number(run.training.bits_per_byte)
          .number(run.loss_nats_per_token)
          .text(rule)
          .number(level.cett)
          .number(level.sparsity)
          .number(level.loss_rise)
          .end_row();
    };
    for (const lab::CettLevel& level : run.levels) row("cett", level);
    row("perplexity +1 %", run.budget);
    for (const lab::OperatingPoint& point : run.points) row(point.name, point.level);
  }
  return {to_json(result), csv.str(), markdown_of(result), page_of(result), lab::activation_claims(result.runs)};
}

Outcome study_reshuffle(const Study& study) {
  lab::ReshuffleStudy result{study.reshuffle, {}, study.command};
  const std::vector<lab::ReshuffleArm> arms = lab::reshuffle_arms(result.options);
  Progress progress(study.name,
                    result.options.epochs * static_cast<std::int64_t>(result.options.seeds.size() * arms.size()),
                    "epochs", !study.quiet);
  for (const std::uint64_t seed : result.options.seeds)
    for (const lab::ReshuffleArm& arm : arms) {
      const std::int64_t before = result.options.epochs * static_cast<std::int64_t>(result.runs.size());
      const std::string label = fmt::format("{}-seed{}", arm.name, seed);
      result.runs.push_back(
          lab::run_reshuffle_arm(arm, seed, result.options, study.folder / "runs" / label,
                                 [&](std::int64_t epoch) { progress.update(before + epoch, label); }));
    }
  CsvWriter csv({"arm", "seed", "epoch", "dormant", "dormant_tenth", "overlap"});
  for (const lab::ReshuffleRun& run : result.runs)
    for (std::size_t e = 0; e < run.dormant.size(); ++e)
      csv.text(run.variant)
          .integer(static_cast<std::int64_t>(run.seed))
          .integer(static_cast<std::int64_t>(e))
          .number(run.dormant[e])
          .number(run.dormant_tenth[e])
          .number(run.overlap[e])
          .end_row();
  return {to_json(result), csv.str(), markdown_of(result), page_of(result), lab::reshuffle_claims(result)};
}

Outcome study_agent(const Study& study) {
  lab::AgentStudy result{study.agent, {}, study.command};
  const auto seeds = static_cast<std::int64_t>(study.agent.seeds.size());
  Progress progress(study.name, 1000 * seeds, "thousandths of a seed", !study.quiet);
  for (std::int64_t i = 0; i < seeds; ++i) {
    const std::uint64_t seed = study.agent.seeds[static_cast<std::size_t>(i)];
    const std::string label = fmt::format("seed{}", seed);
    for (lab::AgentArmRun& run : lab::run_agent_arms(
             seed, study.agent, study.folder / "runs" / label,
             [&](double done) { progress.update(1000 * i + static_cast<std::int64_t>(1000 * done), label); }))
      result.runs.push_back(std::move(run));
  }
  CsvWriter csv({"arm", "seed", "log", "loss", "dormant", "dormant_tenth"});
  for (const lab::AgentArmRun& run : result.runs)
    for (std::size_t i = 0; i < run.loss.size(); ++i)
      csv.text(run.variant)
          .integer(static_cast<std::int64_t>(run.seed))
          .integer(static_cast<std::int64_t>(i + 1))
          .number(run.loss[i])
          .number(run.dormant[i + 1])
          .number(run.dormant_tenth[i + 1])
          .end_row();
  return {to_json(result), csv.str(), markdown_of(result), page_of(result), lab::agent_claims(result)};
}

}  // namespace

int study(std::span<const std::string> arguments) {
  VerbOptions verb(
      "study",
      "Train small networks that differ in one thing, several seeds each, and check what a paper leads one "
      "to expect. `spark`: the Spark Transformer against its dense twin and against other ways to a sparse "
      "FFN. `activations`: ReLU, ReLU², ReGLU and SwiGLU: how many neurons each can leave out, at what price, how "
      "predictably. `reshuffle`: how neurons of a network whose labels change die, and what recycling them (ReDo) and "
      "its "
      "variants do about it. `offline`: dormant neurons of a DQN that learns from a replay that no longer changes, by "
      "targets that move or stay. `fitting`: what a DQN that has learnt for long can still learn, against a fresh one. "
      "The last three need no text. A study that was stopped goes on where it was, run by run.",
      "STUDY [--text FILE --held-out FILE] [options]",
      {"torpor study spark --text novels/ --held-out last-novels/ -o out/spark",
       "torpor study activations --text novels/ --held-out last-novels/ -o out/activations",
       "torpor study reshuffle -o out/reshuffle",
       "torpor study reshuffle --images cifar-10-batches-bin/data_batch_1.bin",
       "torpor study offline --env asterix-mini -o out/offline",
       "torpor study spark --text book.txt --held-out other.txt --size tiny --steps 50 --seeds 2"});
  Study study;
  lab::StudyOptions& options = study.options;
  fs::path text_path, held_out_path;
  options.train.steps = 600;
  options.train.held_out_windows = 128;
  std::int64_t seeds = 0;
  std::optional<std::int64_t> steps, epochs, samples;
  fs::path images;
  std::string aged_by = "agent";
  CLI::App& app = verb.app();
  app.add_option("STUDY", study.name, "spark, activations, reshuffle, offline or fitting")
      ->required()
      ->check(CLI::IsMember({"spark", "activations", "reshuffle", "offline", "fitting"}).description(""));
  app.add_option("--text", text_path, "The text to train on: a file, or a folder of .txt files")->type_name("FILE");
  app.add_option("--held-out", held_out_path, "The text to measure on")->type_name("FILE");
  app.add_option("--size", options.size, "Of the presets: 5m, 1m, tiny")
      ->check(CLI::IsMember({"5m", "1m", "tiny"}).description(""))
      ->capture_default_str();
  add_integer_option(app, "--steps", steps, 10, 1'000'000'000,
                     "Optimizer steps of each run (600); of offline and fitting: of the DQN that plays (100000)");
  add_integer_option(app, "--warm-up", options.train.warm_up, 0, 1'000'000'000,
                     "Steps of a growing learning rate (50)");
  add_integer_option(app, "--seeds", seeds, 1, 1000, "How many: 1, 2, … (3; without texts 5)");
  add_integer_option(app, "--updates", study.agent.updates, 10, 1'000'000'000,
                     "Of each arm of offline, fitting (50000)");
  app.add_option("--env", study.agent.environment, "The environment of offline and fitting, as of torpor rl")
      ->type_name("NAME")
      ->capture_default_str();
  add_integer_option(app, "--epochs", epochs, 1, 1'000'000,
                     "Of each run of reshuffle (160; with --images 100), of aging by labels (160)");
  app.add_option("--aged-by", aged_by,
                 "What ages the network of fitting: agent, a DQN; or labels that are reshuffled, as in reshuffle")
      ->check(CLI::IsMember({"agent", "labels"}).description(""))
      ->capture_default_str();
  app.add_option("--images", images, "CIFAR-10 in its binary form (data_batch_1.bin), for reshuffle")
      ->type_name("FILE");
  add_integer_option(app, "--samples", samples, 10, 1'000'000, "Images of reshuffle (2000; with --images 10000)");
  add_number_option(app, "--scale", study.reshuffle.scale, "With --images: times the network's maps and neurons (1)");
  add_integer_option(app, "--held-out-windows", options.train.held_out_windows, 1, 1'000'000,
                     "Windows to measure on, evenly spread (128)");
  if (!verb.parse(arguments)) return 0;
  CommonOptions& common = verb.common();
  if (common.output.empty()) common.output = "study-" + study.name;
  const bool reads_text = study.name == "spark" || study.name == "activations";
  if (steps) options.train.steps = study.agent.steps = *steps;
  if (study.name == "fitting") study.agent.kind = lab::AgentStudyKind::fitting;
  if (aged_by == "labels") study.agent.aged_by = lab::AgedBy::labels;
  if (epochs) study.agent.aged_epochs = *epochs;
  study.agent.aged_steps = std::max<std::int64_t>(1, study.agent.steps * 3 / 10);
  study.agent.logs = std::min(study.agent.logs, study.agent.updates);
  if (study.name == "offline" || study.name == "fitting") lab::check(study.agent);
  if (reads_text && (text_path.empty() || held_out_path.empty()))
    throw UsageError("torpor study {}: expected --text and --held-out, texts to train and to measure on", study.name);
  if (!images.empty()) {
    const double scale = study.reshuffle.scale;
    study.reshuffle = lab::cifar_options(images);
    study.reshuffle.scale = scale;
  }
  if (!(study.reshuffle.scale > 0)) throw UsageError("torpor study: expected --scale above 0");
  if (epochs) study.reshuffle.epochs = *epochs;
  if (samples) study.reshuffle.samples = *samples;
  if (study.name == "reshuffle" && study.reshuffle.epochs % study.reshuffle.epochs_per_task != 0)
    throw UsageError("torpor study reshuffle: expected --epochs to be a multiple of {}, got {}",
                     study.reshuffle.epochs_per_task, study.reshuffle.epochs);
  if (seeds == 0) seeds = reads_text ? 3 : 5;
  options.seeds.clear();
  for (std::int64_t i = 1; i <= seeds; ++i) options.seeds.push_back(static_cast<std::uint64_t>(i));
  study.reshuffle.seeds = study.agent.seeds = options.seeds;
  // Networks this small are slower on several threads.
  if (common.threads > 0 || !reads_text) at::set_num_threads(std::max(1, common.threads));
  const int threads = at::get_num_threads();

  Result result("study", arguments, common);
  const int window = lab::preset("relu2-" + options.size).config.context_length;  // as of all presets of the size
  const auto open = [&](const char* role, const fs::path& path) {
    TextCorpus corpus = TextCorpus::open(path);
    result.add_input({role, corpus.source(), corpus.bytes(), corpus.fingerprint()});
    return std::make_shared<lab::ByteWindows>(std::move(corpus), window);
  };
  if (reads_text) study.texts = {open("text", text_path), open("held_out", held_out_path)};
  if (!images.empty() && study.name == "reshuffle") {
    const std::string content = read_file(images);
    result.add_input({"images", images, static_cast<std::int64_t>(content.size()), fingerprint_of(content)});
  }
  study.folder = result.folder();
  study.quiet = common.quiet;
  study.command = "torpor study";
  for (const std::string& word : arguments) study.command += " " + shell_word(word);

  const Outcome outcome = study.name == "spark"         ? study_spark(study)
                          : study.name == "activations" ? study_activations(study)
                          : study.name == "reshuffle"   ? study_reshuffle(study)
                                                        : study_agent(study);
  result.add_file("runs", "runs.csv", outcome.csv);
  result.add_file("summary", "summary.md", outcome.markdown);
  result.add_file("report", "report.html", render_page(outcome.page));
  if (!common.json) {
    for (const lab::Claim& claim : outcome.claims)
      print(fmt::format("{}  {}: {}\n", claim.held ? "held    " : bold("NOT held"), claim.name, claim.detail));
    print(fmt::format("\nreport  {}\n", (result.folder() / "report.html").string()));
  }
  result.finish(outcome.json, threads);
  return 0;
}

}  // namespace torpor::apps
