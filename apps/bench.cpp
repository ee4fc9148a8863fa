// torpor bench: how fast a model decodes here, dense and skipping in turn, and how far that is from what memory allows.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/skipping.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/temporary_file.h"
#include "core/report/numbers.h"
#include "engine/bench/decode_bench.h"
#include "engine/bench/decode_report.h"
#include "engine/bench/kernel_bench.h"
#include "engine/bench/llama_cpp.h"
#include "engine/bench/random_model.h"
#include "engine/bench/spread.h"
#include "engine/kernels/dense.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

struct BenchOptions {
  ModelOptions model;
  std::string shape, type = "bf16";
  fs::path plan;
  double density = 0.08;
  fs::path against;
  bool dense = false, kernels = false;
  std::int64_t megabytes = 0;
  DecodeBenchOptions decode;
  std::vector<int> batches;
};

std::vector<int> batches_of(const std::string& list) {
  std::vector<int> batches;
  if (list == "none") return batches;
  for (std::size_t from = 0; from <= list.size();) {
    const std::size_t comma = std::min(list.find(',', from), list.size());
    const std::string_view word = std::string_view(list).substr(from, comma - from);
    from = comma + 1;
    int value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || end != word.data() + word.size() || value < 1 || value > 4096)
      throw UsageError("expected --batches like 1,4,16 (each up to 4096) or none, got \"{}\"", list);
    batches.push_back(value);
  }
  return batches;
}

std::string milliseconds(double value) {
  return format_number(value, 3);
}

std::string spread_text(const Json& spread) {
  return fmt::format("{} ({} to {})", format_rate(spread["median"].get<double>()),
                     format_rate(spread["min"].get<double>()), format_rate(spread["max"].get<double>()));
}

std::string ratio_text(const Json& spread) {
  return fmt::format("{}x ({} to {})", format_number(spread["median"].get<double>(), 3),
                     format_number(spread["min"].get<double>(), 3), format_number(spread["max"].get<double>(), 3));
}

std::string share_text(const Json& spread) {
  return fmt::format("{} ({} to {})", format_share(spread["median"].get<double>()),
                     format_share(spread["min"].get<double>()), format_share(spread["max"].get<double>()));
}

/// Gemma 3n's residual: a part that other models do not have.
bool has_streams(const Json& side) {
  return side["bytes_per_token_by_part"]["streams"].get<double>() > 0;
}

void add_side(TextTable& rates, TextTable& parts, const std::string& name, const Json& side) {
  rates.add({name, spread_text(side["tokens_per_second"]), format_bytes(side["bytes_per_token"].get<double>()),
             spread_text(side["gb_per_s"]), share_text(side["share_of_bandwidth"])});
  const Json& times = side["milliseconds_per_token_by_part"];
  std::vector<std::string> row{name, milliseconds(side["milliseconds_per_token"].get<double>())};
  for (const char* part : {"ffn", "attention", "projections", "streams", "unembedding", "sampling", "rest"})
    if (part != std::string_view("streams") || has_streams(side))
      row.push_back(milliseconds(times[part].get<double>()));
  parts.add(std::move(row));
}

void tell(const Json& json, const Skipping& skipping) {
  TextTable rates({"", "tokens/s, median (min to max)", "read", "GB/s", "of what reading reaches"});
  std::vector<std::string> titles{"ms a token", "all", "FFN", "attention", "projections"};
  if (has_streams(json["dense"])) titles.emplace_back("streams");
  titles.insert(titles.end(), {"unembedding", "sampling", "rest"});
  TextTable parts(titles);
  add_side(rates, parts, "dense", json["dense"]);
  if (!json["sparse"].is_null()) add_side(rates, parts, "skipping", json["sparse"]);
  print(rates.text() + "\n" + parts.text() + "\n");
  if (const Json& against = json["against"]; !against.is_null()) {
    print(fmt::format(
        "  llama.cpp decodes {}: {} tokens/s; in the same rounds, without sampling:\n    dense {} as fast\n",
        against["weights"].get<std::string>(), spread_text(against["tokens_per_second"]),
        ratio_text(against["dense_ratio"])));
    if (!against["sparse_ratio"].is_null())
      print(fmt::format("    skipping {} as fast\n", ratio_text(against["sparse_ratio"])));
    print("\n");
  }
  if (json["sparse"].is_null()) return print(fmt::format("  nothing is skipped: {}\n", skipping.reason));
  if (!json["batches"].empty()) {
    TextTable batches(
        {"sequences together", "dense, tokens/s", "skipping", "as fast, median (min to max)", "neurons used by some"});
    for (const Json& point : json["batches"])
      batches.add({std::to_string(point["sequences"].get<int>()),
                   format_rate(point["dense_tokens_per_second"].get<double>()),
                   format_rate(point["sparse_tokens_per_second"].get<double>()), ratio_text(point["speedup"]),
                   point["neurons_united"].is_null() ? "computed in full"
                                                     : format_share(point["neurons_united"].get<double>())});
    print(batches.text() + "\n");
  }
  const Json& speedup = json["speedup"];
  print(fmt::format(
      "  {}x as fast ({} to {}) with {} of the neurons active;\n  the bytes allow {}x: {} of that is reached\n",
      format_number(speedup["median"].get<double>(), 3), format_number(speedup["min"].get<double>(), 3),
      format_number(speedup["max"].get<double>(), 3), format_share(json["sparse"]["density"].get<double>()),
      format_number(json["speedup_byte_limit"].get<double>(), 3),
      format_share(json["share_of_byte_limit"].get<double>())));
}

/// llama.cpp's side of --against.
struct Opponent {
  LlamaBenchOptions bench;
  std::unique_ptr<TemporaryFile> file;  // where the weights were written for it
  std::string weights;                  // what it decodes
  std::vector<double> rates;            // tokens a second, a round each
};

/// Makes the file that llama.cpp decodes: the model's own GGUF file, or the same weights written as one, or for a Spark
/// model random weights of a dense model that reads as much.
Opponent prepare_opponent(const BenchOptions& options, const std::shared_ptr<const Model>& model, NumberFormat format,
                          std::uint64_t seed, ThreadPool& pool, bool show) {
  Opponent opponent;
  opponent.bench = {.program = options.against,
                    .model = options.model.model,
                    .context = options.decode.context,
                    .tokens = options.decode.tokens,
                    .threads = pool.threads()};
  opponent.weights = "the same file";
  if (options.shape.empty() && options.model.model.extension() == ".gguf") return opponent;
  std::shared_ptr<const Model> other = model;
  opponent.weights = "the same weights";
  if (model->config().spark.ffn()) {
    const ModelConfig dense = dense_counterpart(model->config());
    opponent.weights = fmt::format("a dense model of the same size ({} neurons, gated)", dense.d_ff);
    other = random_model(dense, format, seed, pool);
  }
  if (const std::string reason = why_not_in_llama_cpp(other->config()); !reason.empty())
    throw UsageError("--against: {}", reason);
  if (other->layers().front().ffn.down.empty())
    throw UsageError("--against: expected a model as it was before `torpor pack`; llama.cpp cannot read a packed one");
  opponent.file = std::make_unique<TemporaryFile>("torpor-against");
  Progress progress("writing it for llama.cpp", other->weight_bytes(), "bytes", show);
  write_gguf(*other, opponent.file->path(), [&](std::int64_t bytes) { progress.update(bytes); });
  opponent.bench.model = opponent.file->path();
  return opponent;
}

/// Tokens a second of a side without sampling, which llama-bench leaves out; over the opponent's, round by round.
std::vector<double> ratios_to(const Opponent& opponent, const DecodeSide& side) {
  std::vector<double> ratios;
  for (std::size_t r = 0; r < opponent.rates.size(); ++r)
    ratios.push_back(1 / (side.seconds_per_token[r] - side.sampling[r]) / opponent.rates[r]);
  return ratios;
}

Json to_json(const Opponent& opponent, const DecodeBench& bench) {
  return {{"program", opponent.bench.program.string()},
          {"weights", opponent.weights},
          {"tokens_per_second", spread(opponent.rates)},
          {"dense_ratio", spread(ratios_to(opponent, bench.dense))},
          {"sparse_ratio", bench.sparse ? spread(ratios_to(opponent, *bench.sparse)) : Json(nullptr)}};
}

/// --kernels: the ladder for each type of weights, or for the one that was named.
int kernels(const BenchOptions& options, const std::vector<NumberFormat>& types, const CommonOptions& common,
            Result& result) {
  ThreadPool pool(common.threads);
  const KernelBenchOptions kernel_options{.density = options.density,
                                          .bytes = options.megabytes << 20,
                                          .rounds = options.decode.rounds,
                                          .seed = common.seed};
  Progress progress("measuring", static_cast<std::int64_t>(types.size()) * kernel_options.rounds, "rounds",
                    !common.quiet && !common.json);
  Json ladder = Json::array();
  for (std::size_t t = 0; t < types.size(); ++t) {
    const auto steps = bench_kernels(types[t], kernel_options, pool, [&](int rounds) {
      progress.update(static_cast<std::int64_t>(t) * kernel_options.rounds + rounds);
    });
    for (const Json& step : to_json(steps)) ladder.push_back(step);
  }
  const Json json = {{"width", kernel_options.width},     {"neurons", kernel_options.neurons},
                     {"density", kernel_options.density}, {"rounds", kernel_options.rounds},
                     {"threads", pool.threads()},         {"kernels", ladder}};
  if (!common.json) {
    TextTable table({"", "", "us a layer", "GB/s", "of reading", "as fast as dense"});
    std::string before;
    for (const Json& step : ladder) {
      const std::string weights = step["weights"].get<std::string>();
      table.add({weights == before ? "" : weights, step["step"].get<std::string>(),
                 format_number(step["microseconds"]["median"].get<double>(), 4),
                 format_number(step["gb_per_s"].get<double>(), 3),
                 format_share(step["share_of_bandwidth"]["median"].get<double>()), ratio_text(step["speedup"])});
      before = weights;
    }
    print(
        fmt::format("A gated layer of width {} with {} neurons, {} of them active and known.\n{} threads, {}\n\n{}\n"
                    "  The bytes allow {}x.\n",
                    kernel_options.width, kernel_options.neurons, format_share(kernel_options.density), pool.threads(),
                    kernel_instruction_set(), table.text(), format_number(1 / kernel_options.density, 3)));
  }
  result.finish(json, pool.threads());
  return 0;
}

}  // namespace

int bench(std::span<const std::string> arguments) {
  BenchOptions options;
  VerbOptions verb(
      "bench",
      "How fast a model decodes on this machine: dense and skipping inactive neurons, in turn, with the bytes "
      "of a token and the share of the read bandwidth that was measured beside it.",
      "MODEL|--shape SHAPE|--kernels [options]",
      {"torpor bench models/relu2 --plan results/plan.json", "torpor bench --shape gemma2-2b-spark",
       "torpor bench --shape 2304,9216,24 --type q8 --density 0.05 --json", "torpor bench --kernels",
       "torpor bench --shape nemotron-4b --type q8 --against llama.cpp/build/bin/llama-bench"});
  std::string batches = "1,2,4,8,16,32,64";
  CLI::App& app = verb.app();
  add_model_options(app, options.model, false);
  app.add_option("--shape", options.shape,
                 "Random weights of gemma2-2b, gemma2-2b-spark, gemma3n-e2b, nemotron-4b, llama2-7b or "
                 "D,FF,LAYERS[,VOCABULARY]")
      ->type_name("SHAPE");
  CLI::Option* type = app.add_option("--type", options.type,
                                     "Format of random weights: bf16, f32, q8 or q4 (bf16; --kernels: all but f32)");
  type->type_name("TYPE");
  app.add_flag("--kernels", options.kernels, "Measure the sparse kernels alone, step by step from plain loops");
  add_integer_option(app, "--megabytes", options.megabytes, 1, 1 << 20,
                     "Weights that --kernels goes through (eight last-level caches)");
  add_number_option(app, "--density", options.density, "Share of a ReLU² shape's neurons that are active (0.08)");
  app.add_option("--plan", options.plan, "Skip what this plan of `torpor profile` says")->type_name("FILE");
  app.add_flag("--dense", options.dense, "Measure the dense model only");
  add_mapped_option(app, options.model);
  add_cache_option(app, options.decode.cache);
  add_integer_option(app, "--context", options.decode.context, 0, INT32_MAX,
                     "Positions in the cache when a round begins, with drawn keys and values (256)");
  add_integer_option(app, "--tokens", options.decode.tokens, 1, 1 << 20, "Tokens of a round (16)");
  add_integer_option(app, "--rounds", options.decode.rounds, 1, 1 << 20, "Rounds of each side, taken in turn (7)");
  app.add_option("--batches", batches,
                 "Also decode so many sequences together, to show what skipping gains there; none: leave it out "
                 "(1,2,4,8,16,32,64)")
      ->type_name("LIST");
  app.add_option("--against", options.against,
                 "Measure llama.cpp too, in the same rounds: where its program llama-bench is. The weights are written "
                 "for it to a temporary file (TMPDIR)")
      ->type_name("PROGRAM");
  if (!verb.parse(arguments)) return 0;
  const CommonOptions& common = verb.common();
  options.decode.seed = common.seed;
  options.batches = batches_of(batches);
  if (!options.against.empty() && ::access(options.against.c_str(), X_OK) != 0)
    throw UsageError(
        "--against: expected the program llama-bench, found nothing that can be run at {}. "
        "bench/build_llama_cpp builds one",
        options.against.string());
  if (options.kernels) {
    if (!options.model.model.empty() || !options.shape.empty())
      throw UsageError("expected --kernels without a MODEL or --shape: it has its own");
    std::vector<NumberFormat> types{NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0};
    if (type->count() > 0) types = {weight_type(options.type)};
    Result result("bench", arguments, common);
    return kernels(options, types, common, result);
  }
  if (options.model.model.empty() == options.shape.empty())
    throw UsageError("expected a MODEL, a --shape or --kernels. See: torpor bench --help");
  if (!options.shape.empty() && !options.plan.empty())
    throw UsageError("expected a --plan for a MODEL: random weights have no plan. --density says what is active");
  const NumberFormat format = weight_type(options.type);
  Result result("bench", arguments, common);
  const bool show = !common.quiet && !common.json;

  ThreadPool pool(common.threads);
  std::shared_ptr<const Model> model;
  if (options.shape.empty()) {
    model = Model::load(options.model.model, options.model.load_to_decode());
  } else {
    try {
      model = random_model(shape_config(options.shape, options.density), format, common.seed, pool);
    } catch (const InvalidArgument& error) {
      throw UsageError("{}", error.what());
    }
  }
  const std::int64_t longest = options.decode.context + options.decode.tokens;
  if (longest > model->config().context_length)
    throw UsageError("expected --context and --tokens up to the model's context of {} together, got {}",
                     model->config().context_length, longest);
  std::optional<PlanInFolder> plan;
  if (options.shape.empty() && options.plan.empty()) options.plan = packed_plan(options.model.model);
  if (!options.plan.empty()) plan = read_plan_for(*model, options.plan);
  Skipping skipping;
  skipping.reason = "--dense";
  if (!options.dense) {
    Progress progress("arranging the weights by neuron", model->config().n_layers, "layers", show);
    skipping = prepare_skipping(model, plan ? &*plan : nullptr, Skip::always, pool,
                                [&](int layers) { progress.update(layers); });
  }
  std::optional<Opponent> opponent;
  if (!options.against.empty()) opponent = prepare_opponent(options, model, format, common.seed, pool, show);
  DecodeBench measured;
  {
    Progress progress("measuring", options.decode.rounds + 1, "rounds", show);
    measured = bench_decode(model, skipping, options.decode, pool, [&](int rounds) {
      if (opponent) {
        const double rate = llama_bench(opponent->bench);
        if (rounds > 0) opponent->rates.push_back(rate);
      }
      progress.update(rounds, skipping.ffn ? live_text(*skipping.ffn, *model) : std::string());
    });
  }
  std::vector<BatchPoint> curve;
  if (measured.sparse && !options.batches.empty()) {
    BatchBenchOptions together{.sequences = options.batches, .seed = common.seed};
    Progress progress("measuring batches", static_cast<std::int64_t>(options.batches.size()) * (together.rounds + 1),
                      "rounds", show);
    curve = bench_batches(model, skipping, together, pool, [&](int rounds) { progress.update(rounds); });
  }
  Json json = {{"model", options.shape.empty() ? Json(options.model.model.string()) : Json(nullptr)},
               {"shape", options.shape.empty() ? Json(nullptr) : Json(options.shape)},
               {"model_fingerprint", model->fingerprint()},
               {"weights", traits(model->layers().front().ffn.up.format).name},
               {"weight_bytes", model->weight_bytes()},
               {"threads", pool.threads()},
               {"plan", options.plan.empty() ? Json(nullptr) : Json(options.plan.string())},
               {"dense_reason", skipping.reason.empty() ? Json(nullptr) : Json(skipping.reason)}};
  json.update(to_json(measured));
  json["batches"] = to_json(curve);
  json["against"] = opponent ? to_json(*opponent, measured) : Json(nullptr);
  if (!common.json) {
    print(fmt::format("{}\n  {} of {} weights, {} positions cached, {} threads; reading reaches {} GB/s\n\n",
                      options.shape.empty() ? options.model.model.string() : options.shape,
                      format_bytes(static_cast<double>(model->weight_bytes())), json["weights"].get<std::string>(),
                      options.decode.context, pool.threads(), spread_text(json["dense"]["read_bandwidth_gb_per_s"])));
    tell(json, skipping);
  }
  result.add_input({"model",
                    options.shape.empty() ? options.model.model.string() : "random weights of " + options.shape,
                    model->weight_bytes(), model->fingerprint()});
  if (common.json) print(json_text(json));
  if (result.folder().empty()) return 0;
  const Json manifest = result.add_manifest(pool.threads(), {{"result", "bench.json"}, {"report", "report.html"}});
  result.add_file("report", "report.html", render_decode_report(json, manifest));
  result.add_json("result", "bench.json", json);
  result.write();
  if (!common.json) print(fmt::format("\nreport  {}\n", (result.folder() / "report.html").string()));
  return 0;
}

}  // namespace torpor::apps
