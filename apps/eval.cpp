// torpor eval: how well a model predicts a text, and with a plan also what leaving neurons out does to that.
#include <chrono>
#include <cmath>
#include <numbers>
#include <optional>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/skipping.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/thread_pool.h"
#include "core/report/numbers.h"
#include "engine/profile/corpus.h"
#include "engine/profile/evaluate.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kWindowsAtOnce = 64;  // held in memory; also how often a dense and a masked run alternate

struct EvalOptions {
  ModelOptions model;
  fs::path text, plan;
  bool stats = false;
  NumberFormat cache = NumberFormat::f32;
  std::int64_t window = 0, max_tokens = 0;
};

struct Measured {
  Evaluation dense;
  std::optional<Evaluation> masked;
  double density = 1, seconds = 0;
};

/// Runs windows dense and, with a mask, masked, as they come: memory does not depend on the length of the text.
class Evaluator {
 public:
  Evaluator(const std::shared_ptr<const Model>& model, ThreadPool& pool, std::int64_t window,
            std::shared_ptr<SparseFfn> mask, NumberFormat cache, std::int64_t total, bool in_tokens, bool show_progress)
      : session_(evaluation_session(model, pool, window, cache)),
        pool_(pool),
        mask_(std::move(mask)),
        in_tokens_(in_tokens),
        progress_("evaluating", total, in_tokens ? "tokens" : "bytes", show_progress) {
    if (mask_ != nullptr) measured_.masked.emplace();
  }

  void add(TextWindow window) {
    waiting_.push_back(std::move(window));
    if (waiting_.size() == kWindowsAtOnce) flush();
  }

  Measured finish() {
    flush();
    measured_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    if (mask_ != nullptr) measured_.density = mask_->masked_density();
    return std::move(measured_);
  }

 private:
  void flush() {
    if (waiting_.empty()) return;
    session_.set_sparse_ffn(nullptr);
    append(measured_.dense, evaluate(session_, pool_, waiting_));
    if (mask_ != nullptr) {
      session_.set_sparse_ffn(mask_);
      append(*measured_.masked, evaluate(session_, pool_, waiting_));
    }
    waiting_.clear();
    progress_.update(in_tokens_ ? measured_.dense.tokens() : measured_.dense.bytes(),
                     fmt::format("perplexity {}{}", format_number(measured_.dense.perplexity()),
                                 mask_ != nullptr ? "; " + live_text(*mask_, session_.model()) : std::string()));
  }

  static void append(Evaluation& all, const Evaluation& some) {
    for (const WindowLoss& window : some.windows()) all.add(window);
  }

  Session session_;
  ThreadPool& pool_;
  std::shared_ptr<SparseFfn> mask_;
  bool in_tokens_;  // what progress counts, else bytes
  Progress progress_;
  Measured measured_;
  std::vector<TextWindow> waiting_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Interval mapped(Interval interval, double (*f)(double, double), double factor) {
  return {f(interval.mean, factor), f(interval.low, factor), f(interval.high, factor), interval.blocks};
}
Interval perplexity_of(const Evaluation& e) {
  return mapped(
      e.loss_interval(), [](double loss, double) { return std::exp(loss); }, 1);
}
Interval bits_per_byte_of(const Evaluation& e) {
  const double tokens_per_byte = e.bytes() > 0 ? static_cast<double>(e.tokens()) / static_cast<double>(e.bytes()) : 0;
  return mapped(
      e.loss_interval(), [](double loss, double factor) { return loss * factor; }, tokens_per_byte / std::numbers::ln2);
}

Json bounds(const Interval& interval) {
  return interval.has_bounds() ? Json{interval.low, interval.high} : Json(nullptr);
}

Json to_json(const Evaluation& evaluation) {
  const Interval loss = evaluation.loss_interval(), bits = bits_per_byte_of(evaluation);
  return {{"loss_nats_per_token", loss.mean},
          {"loss_nats_per_token_ci95", bounds(loss)},
          {"perplexity", evaluation.perplexity()},
          {"perplexity_ci95", bounds(perplexity_of(evaluation))},
          {"bits_per_byte", bits.mean},
          {"bits_per_byte_ci95", bounds(bits)}};
}

Json to_json(const Measured& measured, const EvalOptions& options, const Model& model, const TextCorpus& corpus,
             const Skipping& masks, std::int64_t window, int threads) {
  Json json = {{"model", options.model.model.string()},
               {"model_fingerprint", model.fingerprint()},
               {"text", corpus.source()},
               {"text_fingerprint", corpus.fingerprint()},
               {"window", window},
               {"windows", measured.dense.windows().size()},
               {"tokens", measured.dense.tokens()},
               {"bytes", measured.dense.bytes()}};
  json.update(to_json(measured.dense));
  json["plan"] = nullptr;
  if (measured.masked) {
    const Interval ratio = perplexity_ratio(measured.dense, *measured.masked);
    Json masked = {{"path", options.plan.string()}, {"density", measured.density}, {"sparsity", 1 - measured.density}};
    masked.update(to_json(*measured.masked));
    masked["perplexity_ratio"] = ratio.mean;
    masked["perplexity_ratio_ci95"] = bounds(ratio);
    masked["layers"] = skipping_json(masks, model)["layers"];
    json["plan"] = std::move(masked);
  }
  json["threads"] = threads;
  json["seconds"] = measured.seconds;
  return json;
}

/// A value and its interval, as two cells.
void add_cells(std::vector<std::string>& cells, const Interval& interval, int digits) {
  cells.push_back(format_number(interval.mean, digits));
  cells.push_back(interval.has_bounds() ? fmt::format("({} to {})", format_number(interval.low, digits),
                                                      format_number(interval.high, digits))
                                        : "");
}

std::string for_people(const Measured& measured, const TextCorpus& corpus, std::int64_t window) {
  std::string text = fmt::format("{} · {} tokens in {} windows of {}\n\n", corpus.source(),
                                 format_count(static_cast<double>(measured.dense.tokens())),
                                 format_count(static_cast<double>(measured.dense.windows().size())), window);
  std::vector<std::string> header = {"", "dense", "95 % interval"};
  if (measured.masked) header.insert(header.end(), {"with the plan", "95 % interval"});
  TextTable table(header);
  const auto row = [&](const char* name, Interval (*of)(const Evaluation&), int digits) {
    std::vector<std::string> cells = {name};
    add_cells(cells, of(measured.dense), digits);
    if (measured.masked) add_cells(cells, of(*measured.masked), digits);
    table.add(std::move(cells));
  };
  row(
      "loss, nats a token", [](const Evaluation& e) { return e.loss_interval(); }, 5);
  row("perplexity", perplexity_of, 4);
  row("bits a byte", bits_per_byte_of, 4);
  text += table.text();
  if (measured.masked) {
    const Interval ratio = perplexity_ratio(measured.dense, *measured.masked);
    text += fmt::format("\nThe plan leaves out {} of the neurons; perplexity changes by {}",
                        format_share(1 - measured.density), bold(format_change(ratio.mean - 1)));
    if (ratio.has_bounds())
      text += fmt::format(" ({} to {})", format_change(ratio.low - 1), format_change(ratio.high - 1));
    text += ".\n";
  }
  if (measured.dense.windows().size() < 2) text += "One window: no intervals.\n";
  return text;
}

}  // namespace

int eval(std::span<const std::string> arguments) {
  VerbOptions verb(
      "eval", "Measure how well a language model predicts a text; with a plan, also what the plan costs.",
      "MODEL --text FILE [options]",
      {"torpor eval MODEL --text book.txt", "torpor eval MODEL --text book.txt --plan results/plan.json --json"});
  EvalOptions options;
  CLI::App& app = verb.app();
  add_model_options(app, options.model);
  app.add_option("--text", options.text, "The text: a file, a folder of .txt files, or - for standard input")
      ->type_name("FILE")
      ->required();
  app.add_option("--plan", options.plan, "Also leave out what this plan of `torpor profile` says")->type_name("FILE");
  add_cache_option(app, options.cache);
  app.add_flag("--stats", options.stats, "Tell the active neurons of each layer on standard error");
  add_integer_option(app, "--window", options.window, 2, INT32_MAX,
                     "Tokens that the model sees at once (512, or its context)");
  add_integer_option(app, "--max-tokens", options.max_tokens, 1, INT64_MAX / 2,
                     "Use about so many tokens, spread over the text (all)");
  if (!verb.parse(arguments)) return 0;
  const CommonOptions& common = verb.common();
  Result result("eval", arguments, common);

  const TextCorpus corpus = TextCorpus::open(options.text);
  const std::shared_ptr<const Model> model = Model::load(options.model.model, options.model.load());
  const auto tokenizer = load_tokenizer_for(*model, options.model);
  const std::int64_t context = model->config().context_length;
  if (options.window > context)
    throw UsageError("--window: expected at most the model's context of {} tokens, found {}", context, options.window);
  const std::int64_t window = options.window > 0 ? options.window : std::min<std::int64_t>(512, context);
  ThreadPool pool(common.threads);
  std::optional<PlanInFolder> plan;
  Skipping masks;  // all neurons are computed: what is measured does not depend on this machine
  if (!options.plan.empty()) {
    plan = read_plan_for(*model, options.plan);
    masks = prepare_skipping(model, &*plan, Skip::never, pool);
  }

  Evaluator evaluator(model, pool, window, masks.ffn, options.cache,
                      options.max_tokens > 0 ? options.max_tokens : corpus.bytes(), options.max_tokens > 0,
                      !common.quiet);
  if (options.max_tokens > 0) {
    const std::int64_t count = std::max<std::int64_t>(2, options.max_tokens / window);
    for (TextWindow& found : sample_windows(corpus, *tokenizer, model->config().vocab_size, window, count))
      evaluator.add(std::move(found));
  } else {
    for_each_window(corpus, *tokenizer, model->config().vocab_size, window, [&](TextWindow found) {
      evaluator.add(std::move(found));
      return true;
    });
  }
  const Measured measured = evaluator.finish();
  if (measured.dense.tokens() == 0)
    throw BadInput("{}: expected a text of at least two tokens, found less than one window", corpus.source());

  result.add_input({"model", options.model.model.string(), model->weight_bytes(), model->fingerprint()});
  result.add_input({"text", options.text.string(), corpus.bytes(), corpus.fingerprint()});
  result.finish(to_json(measured, options, *model, corpus, masks, window, pool.threads()), pool.threads());
  if (!common.json) print(for_people(measured, corpus, window));
  if (options.stats && !common.quiet) {
    flush_output();
    note(masks.ffn ? layer_table(masks, *model) : "neurons   no plan was given: all are computed");
  }
  return 0;
}

}  // namespace torpor::apps
