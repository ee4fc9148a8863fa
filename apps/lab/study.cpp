// torpor study: the small-scale studies of docs/results, as commands. Part of the program torpor-lab.
#include <ATen/Parallel.h>

#include <optional>

#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/report/csv.h"
#include "core/report/html.h"
#include "core/report/page.h"
#include "lab/study/spark_study.h"

namespace torpor::apps {

namespace fs = std::filesystem;

int study(std::span<const std::string> arguments) {
  VerbOptions verb(
      "study",
      "Train small networks that differ in one thing, several seeds each, and check what a paper leads one "
      "to expect. `spark`: the Spark Transformer against its dense twin and against other ways to a sparse "
      "FFN. A study that was stopped goes on where it was, run by run.",
      "spark --text FILE --held-out FILE [options]",
      {"torpor study spark --text novels/ --held-out last-novels/ -o out/spark",
       "torpor study spark --text book.txt --held-out other.txt --size tiny --steps 50 --seeds 2"});
  std::string name;
  fs::path text_path, held_out_path;
  lab::SparkStudyOptions options;
  options.train.steps = 600;
  options.train.held_out_windows = 128;
  std::int64_t seeds = 3;
  CLI::App& app = verb.app();
  app.add_option("STUDY", name, "spark")->required()->check(CLI::IsMember({"spark"}).description(""));
  app.add_option("--text", text_path, "The text to train on: a file, or a folder of .txt files")
      ->type_name("FILE")
      ->required();
  app.add_option("--held-out", held_out_path, "The text to measure on")->type_name("FILE")->required();
  app.add_option("--size", options.size, "Of the presets: 5m, 1m, tiny")
      ->check(CLI::IsMember({"5m", "1m", "tiny"}).description(""))
      ->capture_default_str();
  add_integer_option(app, "--steps", options.train.steps, 10, 1'000'000'000, "Optimizer steps of each run (600)");
  add_integer_option(app, "--warm-up", options.train.warm_up, 0, 1'000'000'000,
                     "Steps of a growing learning rate (50)");
  add_integer_option(app, "--seeds", seeds, 1, 1000, "How many: 1, 2, … (3)");
  add_integer_option(app, "--held-out-windows", options.train.held_out_windows, 1, 1'000'000,
                     "Windows to measure on, evenly spread (128)");
  if (!verb.parse(arguments)) return 0;
  CommonOptions& common = verb.common();
  if (common.output.empty()) common.output = "study-" + name;
  options.seeds.clear();
  for (std::int64_t i = 1; i <= seeds; ++i) options.seeds.push_back(static_cast<std::uint64_t>(i));
  if (common.threads > 0) at::set_num_threads(common.threads);
  const int threads = at::get_num_threads();

  Result result("study", arguments, common);
  const std::vector<lab::SparkVariant> variants = lab::spark_variants(options.size);
  const auto open = [&](const char* role, const fs::path& path) {
    TextCorpus corpus = TextCorpus::open(path);
    result.add_input({role, corpus.source(), corpus.bytes(), corpus.fingerprint()});
    return std::make_shared<lab::ByteWindows>(std::move(corpus), variants.front().config.context_length);
  };
  const auto text = open("text", text_path), held_out = open("held_out", held_out_path);
  const std::int64_t all = options.train.steps * seeds * static_cast<std::int64_t>(variants.size());
  std::vector<lab::SparkRun> runs;
  {
    Progress progress(name, all, "steps", !common.quiet);
    // Seed by seed, so that what is compared ran one after the other.
    for (const std::uint64_t seed : options.seeds)
      for (const lab::SparkVariant& variant : variants) {
        const std::int64_t before = options.train.steps * static_cast<std::int64_t>(runs.size());
        const std::string label = fmt::format("{}-seed{}", variant.name, seed);
        runs.push_back(lab::run_spark_variant(
            variant, seed, options, result.folder() / "runs" / label, text, held_out, [&](const lab::StepReport& now) {
              progress.update(before + now.step, fmt::format("{} loss {:.3f}", label, now.loss_nats_per_token));
            }));
      }
  }
  std::string command = "torpor study";
  for (const std::string& word : arguments) command += " " + shell_word(word);
  const Json json = lab::spark_study_json(options, runs);
  CsvWriter csv({"variant", "seed", "bits_per_byte", "keys", "most_keys", "empty_rows", "seconds_per_step"});
  for (const lab::SparkRun& run : runs)
    csv.text(run.variant)
        .integer(static_cast<std::int64_t>(run.seed))
        .number(run.bits_per_byte)
        .number(run.keys)
        .integer(run.most_keys)
        .integer(run.empty_rows)
        .number(run.seconds_per_step)
        .end_row();
  result.add_file("runs", "runs.csv", csv.str());
  result.add_file("summary", "summary.md", lab::spark_study_markdown(options, runs, command));
  result.add_file("report", "report.html", render_page(lab::spark_study_page(options, runs, command)));
  if (!common.json) {
    for (const lab::Claim& claim : lab::spark_claims(runs, options.size))
      print(fmt::format("{}  {}: {}\n", claim.held ? "held    " : bold("NOT held"), claim.name, claim.detail));
    print(fmt::format("\nreport  {}\n", (result.folder() / "report.html").string()));
  }
  result.finish(json, threads);
  return 0;
}

}  // namespace torpor::apps
