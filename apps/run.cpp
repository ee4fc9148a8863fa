// torpor run: write text with a model. The text goes to standard output as it is made, and nothing else does.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <iterator>
#include <optional>
#include <vector>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/skipping.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/thread_pool.h"
#include "core/report/numbers.h"
#include "core/text/unicode.h"
#include "engine/decode/sampling.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct RunOptions {
  ModelOptions model;
  std::string prompt;
  fs::path prompt_file, plan;
  bool greedy = false, stats = false, no_prompt_echo = false, dense = false, force = false, no_plan = false,
       exact = false;
  SamplingOptions sampling;
  std::int64_t max_tokens = 0;  // 0: until the context is full
  NumberFormat cache = NumberFormat::f32;
};

struct Generated {
  std::string text;  // as shown: the prompt (if echoed) and what follows
  std::int64_t prompt_tokens = 0, tokens = 0;
  const char* stop_reason = "";
  double prefill_seconds = 0, decode_seconds = 0;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Ratio for a rate; 0 where there was no time to measure.
double per_second(std::int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::string prompt_of(const RunOptions& options) {
  const fs::path& file = options.prompt_file;
  std::string prompt = file.empty()  ? options.prompt
                       : file == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                     : read_file(file);
  check_interrupt();
  text::check_utf8(prompt, file.empty() ? "--prompt" : file == "-" ? "standard input" : file.string());
  return prompt;
}

/// The tokens to start from; a text that starts from nothing starts from the token that begins every text.
std::vector<TokenId> start_tokens(const Tokenizer& tokenizer, const Model& model, const std::string& prompt) {
  std::vector<TokenId> tokens;
  if (!prompt.empty()) tokens = tokenizer.encode(prompt);
  if (!tokens.empty()) return tokens;
  if (const auto bos = tokenizer.bos()) return {*bos};
  if (model.config().bos >= 0) return {static_cast<TokenId>(model.config().bos)};
  throw BadInput("{}: this model names no token that begins a text, so it needs a --prompt", model.path().string());
}

/// skipped: what the status line of --stats tells of, or null.
Generated generate(Session& session, const Tokenizer& tokenizer, const std::vector<TokenId>& start,
                   const RunOptions& options, bool stream, const SparseFfn* skipped) {
  const ModelConfig& config = session.model().config();
  const std::int64_t room = session.context() - static_cast<std::int64_t>(start.size());
  if (room < 0)
    throw BadInput("the prompt has {} tokens, the model's context {}. Shorten the prompt", start.size(),
                   session.context());

  Generated made;
  made.prompt_tokens = static_cast<std::int64_t>(start.size());
  StreamingDetokenizer detokenizer(tokenizer);
  const auto show = [&](const std::string& piece) {
    if (piece.empty()) return;
    made.text += piece;
    if (stream) {
      print(piece);
      flush_output();
    }
  };
  for (const TokenId id : start) {
    const std::string piece = tokenizer.is_special(id) ? std::string() : detokenizer.push(id);
    if (!options.no_prompt_echo) show(piece);
  }

  Sampler sampler(options.sampling);
  const auto prefill_start = Clock::now();
  std::span<const float> logits = session.forward(start);
  made.prefill_seconds = seconds_since(prefill_start);

  StatusLine status(stream && options.stats);
  const auto decode_start = Clock::now();
  for (;;) {
    status.update([&] {
      const std::string neurons = skipped != nullptr ? live_text(*skipped, session.model()) : std::string();
      return fmt::format("{} tokens, {} tokens/s{}{}", made.tokens,
                         format_rate(per_second(made.tokens, seconds_since(decode_start))), neurons.empty() ? "" : "; ",
                         neurons);
    });
    if (interrupted()) throw Interrupted(fmt::format("interrupted after {} tokens", made.tokens));
    if (options.max_tokens > 0 && made.tokens == options.max_tokens) {
      made.stop_reason = "max_tokens";
      break;
    }
    const TokenId next = sampler.sample(logits);
    if (std::find(config.stop_ids.begin(), config.stop_ids.end(), next) != config.stop_ids.end() ||
        next == tokenizer.eos()) {
      made.stop_reason = "end_of_text";
      break;
    }
    if (next >= tokenizer.vocab_size())
      throw BadInput(
          "the model chose token {}, the tokenizer knows {}: it is not this model's. Name another with --tokenizer",
          next, tokenizer.vocab_size());
    ++made.tokens;
    show(detokenizer.push(next));
    if (session.position(0) >= session.context()) {
      made.stop_reason = "context_full";
      break;
    }
    logits = session.forward(std::span(&next, 1));
  }
  made.decode_seconds = seconds_since(decode_start);
  show(detokenizer.finish());
  return made;
}

Skip skip_of(const RunOptions& options) {
  return options.dense ? Skip::never : options.force ? Skip::always : Skip::where_it_pays;
}

/// What was skipped and what not, for people.
void tell_skipping(const Skipping& skipping, const Model& model) {
  if (!skipping.ffn) return note(fmt::format("neurons   all computed: {}", skipping.reason));
  const SparseFfn& ffn = *skipping.ffn;
  if (!skipping.reason.empty()) {
    note(fmt::format("neurons   all computed: {}", skipping.reason));
  } else {
    note(fmt::format("neurons   {} active; {} of {} of feed-forward weights read for a token",
                     format_share(ffn.density()), format_bytes(ffn.bytes_per_token()),
                     format_bytes(static_cast<double>(ffn.dense_bytes_per_token()))));
    note(layer_table(skipping, model));
  }
  if (const NeuronMajorWeights* const weights = ffn.weights())
    note(fmt::format("packing   {} arranged by neuron in {}", format_bytes(static_cast<double>(weights->bytes())),
                     format_seconds(weights->seconds())));
}

Json result_json(const Generated& made, const std::string& prompt, const RunOptions& options, const Model& model,
                 const Skipping& skipping, int threads) {
  const SamplingOptions& sampling = options.sampling;
  return {{"model", options.model.model.string()},
          {"model_fingerprint", model.fingerprint()},
          {"plan", options.plan.empty() ? Json(nullptr) : Json(options.plan.string())},
          {"density", skipping.ffn && skipping.reason.empty() ? Json(skipping.ffn->density()) : Json(nullptr)},
          {"skipping", skipping_json(skipping, model)},
          {"dense_reason", skipping.reason.empty() ? Json(nullptr) : Json(skipping.reason)},
          {"prompt", prompt},
          {"text", made.text},
          {"prompt_tokens", made.prompt_tokens},
          {"generated_tokens", made.tokens},
          {"stop_reason", made.stop_reason},
          {"seed", sampling.seed},
          {"temperature", sampling.temperature},
          {"top_k", sampling.top_k},
          {"top_p", sampling.top_p},
          {"min_p", sampling.min_p},
          {"threads", threads},
          {"prefill_seconds", made.prefill_seconds},
          {"prefill_tokens_per_second", per_second(made.prompt_tokens, made.prefill_seconds)},
          {"decode_seconds", made.decode_seconds},
          {"tokens_per_second", per_second(made.tokens, made.decode_seconds)}};
}

}  // namespace

int run(std::span<const std::string> arguments) {
  RunOptions options;
  VerbOptions verb("run",
                   "Write text with a language model. The text streams to standard output, and nothing else does.",
                   "MODEL [--prompt TEXT] [options]",
                   {"torpor run stories260K.bin --tokenizer tok512.bin --greedy --max-tokens 200",
                    "torpor run MODEL --prompt \"Once upon a time\" --temperature 0.8 --seed 7 --stats",
                    "torpor run MODEL --plan results/plan.json --prompt-file question.txt --json"});
  CLI::App& app = verb.app();
  options.sampling.temperature = 0.8F;
  add_model_options(app, options.model);
  CLI::Option* prompt =
      app.add_option("--prompt", options.prompt, "Text to continue; without one it starts from nothing");
  prompt->type_name("TEXT");
  app.add_option("--prompt-file", options.prompt_file, "The same from a file, or - for standard input")
      ->type_name("FILE")
      ->excludes(prompt);
  app.add_flag("--no-prompt-echo", options.no_prompt_echo, "Write only what follows the prompt");
  add_integer_option(app, "--max-tokens", options.max_tokens, 1, INT32_MAX,
                     "Stop after so many tokens (when the context is full)");
  CLI::Option* plan_option =
      app.add_option("--plan", options.plan,
                     "Skip what this plan of `torpor profile` says (plan.json of a packed model, if it has one)");
  plan_option->type_name("FILE");
  app.add_flag("--no-plan", options.no_plan, "Leave the plan of a packed model out")->excludes(plan_option);
  CLI::Option* dense =
      app.add_flag("--dense", options.dense, "Compute all neurons; what a plan leaves out is set to zero, not skipped");
  app.add_flag("--force", options.force, "Skip also where it was measured not to pay on this machine")->excludes(dense);
  add_mapped_option(app, options.model);
  add_cache_option(app, options.cache);
  app.add_flag(
      "--exact", options.exact,
      "Read the prompt without rounding to bf16: slower, and the same on processors that do not multiply bf16");
  app.add_flag("--stats", options.stats, "Tell times, rates and the active neurons of each layer on standard error");

  const std::string sampling = "Sampling";
  CLI::Option* greedy = app.add_flag("--greedy", options.greedy, "Always the most likely token (temperature 0)");
  greedy->group(sampling);
  add_number_option(app, "--temperature", options.sampling.temperature, "Below 1 more predictable, above 1 less (0.8)")
      ->group(sampling)
      ->excludes(greedy);
  add_integer_option(app, "--top-k", options.sampling.top_k, 0, INT32_MAX, "Only the K most likely tokens; 0: off (0)")
      ->group(sampling)
      ->excludes(greedy);
  add_number_option(app, "--top-p", options.sampling.top_p,
                    "Only the most likely tokens that hold this probability; 1: off (1)")
      ->group(sampling)
      ->excludes(greedy);
  add_number_option(app, "--min-p", options.sampling.min_p,
                    "Only tokens at least this share as likely as the best; 0: off (0)")
      ->group(sampling)
      ->excludes(greedy);
  if (!verb.parse(arguments)) return 0;
  const CommonOptions& common = verb.common();
  options.sampling.seed = common.seed;
  if (options.greedy) options.sampling.temperature = 0;
  Sampler{options.sampling};  // refuses impossible settings before anything is loaded
  Result result("run", arguments, common);

  const std::shared_ptr<const Model> model = Model::load(options.model.model, options.model.load_to_decode());
  const auto tokenizer = load_tokenizer_for(*model, options.model);
  const std::string given = prompt_of(options);
  ThreadPool pool(common.threads);
  Session session(model, pool,
                  {.cache_format = options.cache, .products = options.exact ? Products::exact : Products::rounded});
  std::optional<PlanInFolder> plan;
  if (options.plan.empty() && !options.no_plan) options.plan = packed_plan(options.model.model);
  if (!options.plan.empty()) plan = read_plan_for(*model, options.plan);
  Skipping skipping;
  {
    Progress progress("arranging the weights by neuron", model->config().n_layers, "layers",
                      !common.quiet && !common.json);
    skipping = prepare_skipping(model, plan ? &*plan : nullptr, skip_of(options), pool,
                                [&](int layers) { progress.update(layers); });
  }
  session.set_sparse_ffn(skipping.ffn);

  const Generated made =
      generate(session, *tokenizer, start_tokens(*tokenizer, *model, given), options, !common.json, skipping.ffn.get());
  if (!common.json && isatty(STDOUT_FILENO) != 0 && !made.text.ends_with('\n')) print("\n");
  if (options.stats && !common.quiet) {
    note(fmt::format("prompt    {} tokens in {}, {} tokens/s", made.prompt_tokens, format_seconds(made.prefill_seconds),
                     format_rate(per_second(made.prompt_tokens, made.prefill_seconds))));
    note(fmt::format("text      {} tokens in {}, {} tokens/s; stopped: {}", made.tokens,
                     format_seconds(made.decode_seconds), format_rate(per_second(made.tokens, made.decode_seconds)),
                     made.stop_reason));
    note(fmt::format("weights   {}, {} parameters; {} threads",
                     format_bytes(static_cast<double>(model->weight_bytes())),
                     format_count(static_cast<double>(model->parameters())), pool.threads()));
    tell_skipping(skipping, *model);
  }
  result.add_input({"model", options.model.model.string(), model->weight_bytes(), model->fingerprint()});
  result.finish(result_json(made, given, options, *model, skipping, pool.threads()), pool.threads());
  return 0;
}

}  // namespace torpor::apps
