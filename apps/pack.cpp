// torpor pack: a model as decoding reads it.
#include <cmath>
#include <optional>
#include <set>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/report/numbers.h"
#include "core/tensor/safetensors.h"
#include "engine/models/pack.h"
#include "engine/models/packed.h"
#include "engine/profile/corpus.h"
#include "engine/profile/evaluate.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

struct PackOptions {
  ModelOptions model;
  std::string type = "bf16";
  fs::path plan, check;
  std::int64_t max_tokens = 32768;
};

/// The files of predictors that a plan names.
std::set<std::string> predictor_files(const SparsityPlan& plan) {
  std::set<std::string> files;
  for (const PlanLayer& layer : plan.layers)
    if (const Predictor* const rule = std::get_if<Predictor>(&layer.rule)) files.insert(rule->file);
  return files;
}

NeuronOrder order_of(const SparsityPlan& plan) {
  NeuronOrder order;
  bool any = false;
  for (const PlanLayer& layer : plan.layers) {
    order.push_back(layer.order);
    any = any || !layer.order.empty();
  }
  return any ? order : NeuronOrder{};
}

/// Copies a file of predictors; what belongs to neurons goes where they go.
void copy_predictor(const PlanInFolder& plan, const std::string& file, const fs::path& folder) {
  const TensorArchive archive = open_safetensors(plan.folder / file);
  std::vector<std::vector<std::byte>> moved;
  std::vector<TensorView> tensors;
  for (const TensorView& tensor : archive.tensors()) {
    tensors.push_back(tensor);
    for (const PlanLayer& layer : plan.plan.layers) {
      const std::string prefix = "layers." + std::to_string(layer.layer) + ".fc2.";
      if (layer.order.empty() || !tensor.name.starts_with(prefix)) continue;
      const std::size_t row = tensor.bytes.size() / layer.order.size();
      std::vector<std::byte>& bytes = moved.emplace_back(tensor.bytes.begin(), tensor.bytes.end());
      for (std::size_t i = 0; i < layer.order.size(); ++i)
        std::copy_n(tensor.bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(layer.order[i]) * row),
                    row, bytes.begin() + static_cast<std::ptrdiff_t>(i * row));
      tensors.back().bytes = bytes;
    }
  }
  write_safetensors(folder / file, tensors, {archive.metadata().begin(), archive.metadata().end()});
}

/// How the packed model predicts a text beside its source.
struct Check {
  Evaluation source, packed;
  std::optional<Evaluation> planned;
};

Check check_text(const std::shared_ptr<const Model>& source, const PackOptions& options, const fs::path& folder,
                 ThreadPool& pool, bool show) {
  const auto packed = Model::load(folder);
  const TextCorpus corpus = TextCorpus::open(options.check);
  const auto tokenizer = load_tokenizer_for(*source, options.model);
  const std::int64_t window = std::min<std::int64_t>(512, source->config().context_length);
  const auto windows = sample_windows(corpus, *tokenizer, source->config().vocab_size, window,
                                      std::max<std::int64_t>(2, options.max_tokens / window));
  if (windows.empty())
    throw BadInput("{}: expected a text of at least two tokens, found less than one window", corpus.source());
  const auto mask = options.plan.empty() ? nullptr : load_masks(packed, folder / "plan.json", pool);
  Session of_source = evaluation_session(source, pool, window), of_packed = evaluation_session(packed, pool, window);
  Check check;
  if (mask) check.planned.emplace();
  const auto append = [](Evaluation& all, const Evaluation& some) {
    for (const WindowLoss& loss : some.windows()) all.add(loss);
  };
  Progress progress("checking", std::ssize(windows), "windows", show);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const std::span one = std::span(windows).subspan(i, 1);
    append(check.source, evaluate(of_source, pool, one));
    of_packed.set_sparse_ffn(nullptr);
    append(check.packed, evaluate(of_packed, pool, one));
    if (mask) {
      of_packed.set_sparse_ffn(mask);
      append(*check.planned, evaluate(of_packed, pool, one));
    }
    progress.update(static_cast<std::int64_t>(i) + 1);
  }
  return check;
}

Json to_json(const Interval& interval) {
  return {{"mean", interval.mean}, {"ci95", interval.has_bounds() ? Json{interval.low, interval.high} : Json(nullptr)}};
}

Json to_json(const Check& check, const PackOptions& options) {
  Json json = {{"text", options.check.string()},
               {"tokens", check.source.tokens()},
               {"perplexity_source", check.source.perplexity()},
               {"perplexity_packed", check.packed.perplexity()},
               {"perplexity_ratio", to_json(perplexity_ratio(check.source, check.packed))},
               {"perplexity_ratio_with_plan", nullptr}};
  if (check.planned) json["perplexity_ratio_with_plan"] = to_json(perplexity_ratio(check.source, *check.planned));
  return json;
}

Json to_json(const PackReport& report) {
  Json tensors = Json::array();
  for (const PackedTensor& t : report.tensors)
    tensors.push_back({{"name", t.name},
                       {"rows", t.rows},
                       {"width", t.width},
                       {"from", traits(t.from).name},
                       {"to", traits(t.to).name},
                       {"bytes_from", t.bytes_from},
                       {"bytes_to", t.bytes_to},
                       {"relative_error", t.relative_error},
                       {"largest_error", t.largest_error}});
  return {{"layout", kPackedLayout},
          {"fingerprint", report.fingerprint},
          {"source_fingerprint", report.source_fingerprint},
          {"lossless", report.lossless},
          {"bytes_from", report.bytes_from},
          {"bytes_to", report.bytes_to},
          {"seconds", report.seconds},
          {"tensors", std::move(tensors)}};
}

/// Of the matrices that were rounded: for each kind of matrix the largest error of its layers.
std::string errors_text(const PackReport& report) {
  struct Kind {
    std::string name, to;
    double relative = 0;
    int count = 0;
  };
  std::vector<Kind> kinds;
  for (const PackedTensor& t : report.tensors) {
    if (t.relative_error == 0) continue;
    std::string name = t.name;  // "model.layers.3.mlp.up_proj.weight": without its number
    if (const auto at = name.find_first_of("0123456789"); at != std::string::npos)
      if (const auto dot = name.find('.', at); dot != std::string::npos) name.replace(at, dot - at, "*");
    const std::string to(traits(t.to).name);
    auto kind = std::find_if(kinds.begin(), kinds.end(), [&](const Kind& k) { return k.name == name && k.to == to; });
    if (kind == kinds.end()) kind = kinds.insert(kinds.end(), Kind{name, to});
    kind->relative = std::max(kind->relative, t.relative_error);
    ++kind->count;
  }
  if (kinds.empty()) return "  every number is the source's\n";
  TextTable table({"rounded", "tensors", "to", "relative error, the largest"});
  for (const Kind& kind : kinds)
    table.add({kind.name, std::to_string(kind.count), kind.to, format_share(kind.relative)});
  return table.text();
}

std::string change_text(const Interval& ratio) {
  std::string text = format_change(ratio.mean - 1);
  if (ratio.has_bounds())
    text += fmt::format(" ({} to {})", format_change(ratio.low - 1), format_change(ratio.high - 1));
  return text;
}

}  // namespace

int pack(std::span<const std::string> arguments) {
  VerbOptions verb(
      "pack",
      "Write a model as decoding reads it: all that belongs to a neuron in rows, in bf16, f32, 8 or 4 bit. "
      "The folder is a model for every verb of torpor.",
      "MODEL -o DIR [options]",
      {"torpor pack MODEL -o packed", "torpor pack MODEL --type q8 --check book.txt -o packed-q8",
       "torpor pack MODEL --plan results/plan.json -o packed && torpor run packed"});
  PackOptions options;
  CLI::App& app = verb.app();
  add_model_options(app, options.model);
  app.add_option("--type", options.type,
                 "Format of the matrices: bf16, f32, q8 or q4, blocks of 32 with a scale (bf16)")
      ->type_name("TYPE");
  app.add_option("--plan", options.plan, "Put this plan of `torpor profile` beside the weights, for run and bench")
      ->type_name("FILE");
  app.add_option("--check", options.check, "Measure on this text what packing did to the perplexity")
      ->type_name("TEXT");
  add_integer_option(app, "--max-tokens", options.max_tokens, 2, INT64_MAX / 2,
                     "Check with about so many tokens, spread over the text (32768)");
  if (!verb.parse(arguments)) return 0;
  const CommonOptions& common = verb.common();
  const NumberFormat type = weight_type(options.type);
  if (common.output.empty()) throw UsageError("expected a folder for the packed model: -o DIR");
  if (!options.check.empty() && !fs::exists(options.check) && options.check != "-")
    throw BadInput("{}: expected a text to check with, found nothing there", options.check.string());
  const std::shared_ptr<const Model> model = Model::load(options.model.model, options.model.load());
  std::optional<PlanInFolder> plan;
  if (!options.plan.empty()) plan = read_plan_for(*model, options.plan);
  Result result("pack", arguments, common);
  const fs::path& folder = result.folder();
  const bool show = !common.quiet && !common.json;
  ThreadPool pool(common.threads);

  PackReport report;
  bool has_tokenizer = false;
  {
    Progress progress("packing", model->weight_bytes(), "bytes", show);
    report = pack_model(
        options.model.model, options.model.activation, type, folder, pool,
        [&](std::int64_t bytes) { progress.update(bytes); }, plan ? order_of(plan->plan) : NeuronOrder{});
    has_tokenizer = copy_tokenizer(*model, options.model, folder);
    result.add_input({"model", options.model.model.string(), model->weight_bytes(), model->fingerprint()});
  }
  if (plan) {
    plan->plan.model.fingerprint = report.fingerprint;
    for (const std::string& file : predictor_files(plan->plan)) copy_predictor(*plan, file, folder);
    for (PlanLayer& layer : plan->plan.layers) layer.order.clear();  // they lie so now
    write_plan(plan->plan, folder / "plan.json");
  } else {
    std::error_code code;  // of an earlier packing: it would not fit
    fs::remove(folder / "plan.json", code);
  }
  Json json = {{"model", options.model.model.string()}, {"folder", folder.string()}, {"type", options.type}};
  json.update(to_json(report));
  json["plan"] = plan ? Json("plan.json") : Json(nullptr);
  json["tokenizer"] = has_tokenizer;
  json["check"] = nullptr;
  std::optional<Check> check;
  if (!options.check.empty()) {
    check = check_text(model, options, folder, pool, show);
    json["check"] = to_json(*check, options);
  }
  if (!common.json) {
    print(fmt::format("{}\n  {} became {} in {}\n\n{}", options.model.model.string(),
                      format_bytes(static_cast<double>(report.bytes_from)),
                      format_bytes(static_cast<double>(report.bytes_to)), format_seconds(report.seconds),
                      errors_text(report)));
    if (check) {
      print(fmt::format("\nPerplexity on {} tokens of {}: {} before, {} packed, a change of {}.\n",
                        format_count(static_cast<double>(check->source.tokens())), options.check.string(),
                        format_number(check->source.perplexity(), 5), format_number(check->packed.perplexity(), 5),
                        change_text(perplexity_ratio(check->source, check->packed))));
      if (check->planned)
        print(fmt::format("With the plan too: {}.\n", change_text(perplexity_ratio(check->source, *check->planned))));
    }
    if (!has_tokenizer) print("\nNo tokenizer was found: name one with --tokenizer when you run the packed model.\n");
    print(fmt::format("\npacked  {}\n", folder.string()));
  }
  std::vector<ManifestOutput> others = {{"weights", std::string(kPackedFile)}, {"config", "config.json"}};
  if (plan) others.push_back({"plan", "plan.json"});
  result.finish(json, pool.threads(), others);
  return 0;
}

}  // namespace torpor::apps
