// torpor profile: the main job. Measures, chooses, writes the plan and the report, and says in five lines what came
// out.
#include "engine/profile/profile.h"

#include <algorithm>
#include <optional>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/samples.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/report/numbers.h"
#include "engine/profile/report/profile_report.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLayersShown = 16;

struct ProfileArguments {
  ModelOptions model;
  fs::path text;
  std::optional<double> budget, cett, sparsity;
  bool no_baselines = false, hot_first = false;
  ProfileOptions options;
};

void add_options(CLI::App& app, ProfileArguments& a) {
  add_model_options(app, a.model, false);
  app.add_option("--text", a.text, "The text to measure on: a file, a folder of .txt files, or - for standard input")
      ->type_name("FILE");

  const std::string target = "What to aim at (one of)";
  CLI::Option* budget = add_share_option(app, "--budget", a.budget, "How much perplexity may rise (1%)");
  CLI::Option* cett = add_share_option(app, "--cett", a.cett, "The error that truncating each layer's output may make");
  CLI::Option* sparsity = add_share_option(app, "--sparsity", a.sparsity, "The share of neurons to leave out");
  budget->group(target)->excludes(cett)->excludes(sparsity);
  cett->group(target)->excludes(sparsity);
  sparsity->group(target);

  const std::string method = "How to measure";
  ProfileOptions& o = a.options;
  add_integer_option(app, "--window", o.window, 2, INT32_MAX,
                     "Tokens that the model sees at once (512, or its context)")
      ->group(method);
  add_integer_option(app, "--calibration-tokens", o.calibration_tokens, 1, INT64_MAX / 4,
                     fmt::format("Tokens to take statistics from ({})", o.calibration_tokens))
      ->group(method);
  add_integer_option(app, "--held-out-tokens", o.held_out_tokens, 1, INT64_MAX / 4,
                     fmt::format("Tokens to measure perplexity on ({})", o.held_out_tokens))
      ->group(method);
  app.add_flag(
      "--hot-first", a.hot_first,
      "Also put an order of each layer's neurons into the plan, most often active first: torpor pack writes them so");
  app.add_flag("--no-baselines", a.no_baselines, "Do not also measure other rules (top-k, FAT, CATS) to compare with")
      ->group(method);
}

ProfileTarget target_of(const ProfileArguments& a) {
  if (a.cett) return {ProfileTarget::Kind::cett, *a.cett};
  if (a.sparsity) return {ProfileTarget::Kind::sparsity, *a.sparsity};
  return {ProfileTarget::Kind::budget, a.budget.value_or(0.01)};
}

std::string interval_text(const Interval& interval) {
  if (!interval.has_bounds()) return "";
  return fmt::format(" ({} to {})", format_change(interval.low - 1), format_change(interval.high - 1));
}

std::string layers_table(const Profile& profile) {
  TextTable table({"layer", "exact zeros", "left out", "threshold", "CETT", "never active", ""});
  const std::size_t n = profile.layers.size();
  for (std::size_t i = 0; i < n; ++i) {
    if (n > kLayersShown && i == kLayersShown / 2) {
      i = n - kLayersShown / 2;
      table.add({"…", "", "", "", "", "", ""});
    }
    const LayerProfile& layer = profile.layers[i];
    const auto dead = std::count(layer.frequency.begin(), layer.frequency.end(), 0.0);
    table.add({std::to_string(layer.layer), format_share(layer.activity.zero_fraction.mean),
               format_share(1 - layer.density.mean), format_number(layer.threshold.epsilon, 3),
               format_number(layer.threshold.cett, 3),
               format_share(static_cast<double>(dead) / std::max(1, layer.neurons)),
               layer.skippable ? "" : "not worth skipping"});
  }
  return table.text();
}

std::string target_text(const ProfileTarget& target) {
  switch (target.kind) {
    case ProfileTarget::Kind::budget:
      return fmt::format("budget {}", format_change(target.value));
    case ProfileTarget::Kind::cett:
      return fmt::format("CETT {}", format_number(target.value));
    case ProfileTarget::Kind::sparsity:
      return fmt::format("sparsity {}", format_share(target.value));
  }
  return {};
}

std::string for_people(const Profile& profile, const ProfileArguments& a, const fs::path& folder) {
  const ModelFacts& model = profile.model;
  std::string text =
      fmt::format("{}  {}\n{}\n\n", bold(model.name),
                  dim(fmt::format("{} layers of {} neurons, {}{}", model.n_layers, format_count(model.neurons),
                                  model.activation, model.gated ? ", gated" : "")),
                  dim(fmt::format("measured on {}: {} tokens, held out {}", profile.text_source,
                                  format_count(static_cast<double>(profile.calibration_tokens)),
                                  format_count(static_cast<double>(profile.held_out_tokens)))));
  text += fmt::format("  {} of the neurons can be left out ({})\n", bold(format_share(profile.sparsity)),
                      target_text(profile.options.target));
  text += fmt::format("  perplexity     {} → {}, {}{}\n", format_number(profile.dense.perplexity()),
                      format_number(profile.masked.perplexity()), format_change(profile.ratio.mean - 1),
                      interval_text(profile.ratio));
  text += fmt::format("  bytes a token  {} → {} if it is known which ({}), {} if not\n",
                      format_bytes(profile.bytes.dense), format_bytes(profile.bytes.known_set),
                      format_change(profile.bytes.known_set / profile.bytes.dense - 1, 1),
                      format_bytes(profile.bytes.no_predictor));
  text += profile.exact_zero_sparsity > 0 ? fmt::format("  exact zeros    {}: leaving those out changes nothing\n\n",
                                                        format_share(profile.exact_zero_sparsity))
                                          : "  exact zeros    none: whatever is left out changes the output\n\n";
  text += layers_table(profile) + "\n";
  std::vector<std::string> remarks = profile.warnings;
  if (!profile.note.empty()) remarks.push_back(profile.note);
  for (const std::string& remark : remarks) text += hanging("  !", remark, 4, kTerminalWidth);
  if (!remarks.empty()) text += "\n";
  text += fmt::format("report  {}\n", (folder / "report.html").string());
  text += fmt::format("plan    {}\n", (folder / "plan.json").string());
  text += fmt::format("next    torpor eval {} --text OTHER --plan {}\n", a.model.model.string(),
                      (folder / "plan.json").string());
  return text;
}

/// Where results go without -o: beside the user, named after the model. With --json they are on standard output
/// already.
fs::path default_folder(const fs::path& model) {
  const fs::path clean = fs::absolute(model).lexically_normal();
  const fs::path name = clean.has_filename() ? clean.filename() : clean.parent_path().filename();
  return "torpor-profile-" + name.string();
}

}  // namespace

int profile(std::span<const std::string> arguments) {
  VerbOptions verb(
      "profile",
      "Measure which neurons of a language model are inactive on a text, choose a threshold for every layer so "
      "that perplexity rises by no more than a budget, and write the plan to leave them out, with a report.",
      "[MODEL] [--text FILE] [options]",
      {"torpor profile Llama-3.2-1B/ --text book.txt --budget 1% -o results",
       "torpor profile model.gguf --text corpus/ --sparsity 50%",
       "torpor profile stories260K.bin --tokenizer tok512.bin --text stories.txt --cett 0.2 --json"});
  ProfileArguments a;
  add_options(verb.app(), a);
  if (!verb.parse(arguments)) return 0;
  CommonOptions common = verb.common();
  const bool from_samples = a.model.model.empty();
  if (from_samples || a.text.empty()) {
    const Samples samples = find_samples();
    if (from_samples) a.model.model = samples.model;
    if (a.text.empty()) a.text = samples.text;
    if (a.model.model.empty() || a.text.empty())
      throw UsageError(
          "profile: {} is required: this installation has no {} of its own ({}). See: torpor profile --help",
          from_samples ? "MODEL" : "--text FILE", from_samples ? "model" : "text", samples.looked_in);
  }
  a.options.target = target_of(a);
  a.options.baselines = !a.no_baselines;
  a.options.seed = common.seed;
  a.options.show_progress = !common.quiet;
  if (common.output.empty() && !common.json) common.output = default_folder(a.model.model);
  Result result("profile", arguments, common);

  const TextCorpus corpus = TextCorpus::open(a.text);
  const std::shared_ptr<const Model> model = Model::load(a.model.model, a.model.load());
  const auto tokenizer = load_tokenizer_for(*model, a.model);
  ThreadPool pool(common.threads);
  const Profile measured = profile_model(model, *tokenizer, corpus, a.options, pool);

  const Json json = to_json(measured);
  if (!result.folder().empty()) {
    result.add_input({"model", a.model.model.string(), model->weight_bytes(), model->fingerprint()});
    result.add_input({"text", a.text.string(), corpus.bytes(), corpus.fingerprint()});
    for (auto& [name, content] : csv_files(measured)) result.add_file("table", name, std::move(content));
    result.add_json("profile", "profile.json", json);
    const Json manifest = result.add_manifest(pool.threads(), {{"report", "report.html"}, {"plan", "plan.json"}});
    result.add_file("report", "report.html", render_profile_report(json, manifest));
    result.add_json("plan", "plan.json",
                    to_json(plan_of(measured, a.hot_first)));  // last: a plan is there only with all the rest
    result.write();
  }
  print(common.json ? json_text(json) : for_people(measured, a, result.folder()));
  return 0;
}

}  // namespace torpor::apps
