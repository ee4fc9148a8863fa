// torpor train: a language model whose neurons are inactive by design. Part of the program torpor-lab.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "apps/lab/recycle_options.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/base/atomic_file.h"
#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/progress.h"
#include "core/report/numbers.h"
#include "core/text/tokenizer.h"
#include "lab/train/presets.h"
#include "lab/train/trainer.h"
#include "lab/train/vocabulary.h"

namespace torpor::apps {
namespace {

namespace fs = std::filesystem;

struct Words {
  std::string preset = "relu2-5m", precision = "auto", activation_l1 = "0";
  fs::path text, held_out, tokenizer;
  std::optional<std::int64_t> window, layers, d_ff, batch, vocab_size;
  std::optional<double> learning_rate;
  RecycleWords recycling;
  bool resume = false;
};

bool multiplies_bf16() {
  const std::vector<std::string> flags = cpu_info().flags;
  return std::any_of(flags.begin(), flags.end(),
                     [](const std::string& flag) { return flag == "amx_bf16" || flag == "avx512_bf16"; });
}

ModelConfig config_of(const lab::Preset& preset, const Words& words) {
  ModelConfig config = preset.config;
  if (words.window) config.context_length = static_cast<int>(*words.window);
  if (words.layers) {
    config.n_layers = static_cast<int>(*words.layers);
    config.windows.assign(static_cast<std::size_t>(config.n_layers), 0);
  }
  if (words.d_ff) config.d_ff = static_cast<int>(*words.d_ff);
  check_config(config, "the network asked for");
  return config;
}

/// What text is made of: bytes (no tokenizer), pieces trained on the text, or another model's tokens.
struct Vocabulary {
  std::string file, content;                   // beside the model
  std::string config;                          // tokenizer_config.json, or empty
  std::unique_ptr<const Tokenizer> tokenizer;  // null: bytes
  std::string fingerprint;
};

constexpr const char* kSentencePiece = "tokenizer.model";
constexpr const char* kTokenizerConfig = "tokenizer_config.json";

Vocabulary vocabulary_of(const Words& words, const TextCorpus& text, const fs::path& folder) {
  Vocabulary out;
  if (!words.tokenizer.empty()) {
    fs::path file = words.tokenizer;
    if (fs::is_directory(file)) file /= fs::exists(file / "tokenizer.json") ? "tokenizer.json" : kSentencePiece;
    out.file = file.filename();
    if (out.file != "tokenizer.json" && out.file != kSentencePiece)
      throw UsageError("--tokenizer {}: expected tokenizer.json, {} or a folder with one of them",
                       words.tokenizer.string(), kSentencePiece);
    out.content = read_file(file);
    if (const fs::path config = file.parent_path() / kTokenizerConfig; fs::exists(config))
      out.config = read_file(config);
    out.tokenizer = load_tokenizer(file);
  } else if (words.vocab_size) {
    out.file = kSentencePiece;
    out.config = lab::sentencepiece_config_json();
    const fs::path file = folder / kSentencePiece;
    if (!(words.resume && fs::exists(file))) {
      write_file_atomically(file, lab::train_sentencepiece(text, static_cast<int>(*words.vocab_size)));
      write_file_atomically(folder / kTokenizerConfig, out.config);
    }
    out.tokenizer = load_tokenizer(file);
    if (out.tokenizer->vocab_size() != *words.vocab_size)
      throw UsageError("--vocab-size {}: {} of the run that is gone on with has {} pieces", *words.vocab_size,
                       file.string(), out.tokenizer->vocab_size());
    out.content = read_file(file);
  } else {
    out.file = "tokenizer.json";
    out.content = lab::byte_tokenizer_json();
    return out;
  }
  out.fingerprint = fingerprint_of(out.content);
  return out;
}

/// The first process's vocabulary for all.
void share(Vocabulary& vocabulary, const lab::ProcessGroup& group) {
  vocabulary.file = group.broadcast(vocabulary.file);
  vocabulary.content = group.broadcast(vocabulary.content);
  vocabulary.fingerprint = group.broadcast(vocabulary.fingerprint);
  if (group.first() || vocabulary.fingerprint.empty()) return;  // it has it, or bytes are the tokens
  std::string folder = (fs::temp_directory_path() / "torpor-vocabulary-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) throw IoError("{}: cannot be made: {}", folder, std::strerror(errno));
  const fs::path file = fs::path(folder) / vocabulary.file;
  write_file_atomically(file, vocabulary.content);
  vocabulary.tokenizer = load_tokenizer(file);
  fs::remove_all(folder);
}

std::shared_ptr<const lab::Windows> windows_of(const fs::path& path, TextCorpus text, const Vocabulary& vocabulary,
                                               std::int64_t window, bool quiet) {
  if (vocabulary.tokenizer == nullptr) return std::make_shared<lab::ByteWindows>(std::move(text), window);
  Progress progress("tokenising " + path.filename().string(), 0, "tokens", !quiet);
  return std::make_shared<lab::TokenWindows>(std::move(text), *vocabulary.tokenizer, vocabulary.fingerprint, window,
                                             [&](std::int64_t tokens) { progress.update(tokens); });
}

}  // namespace

int train(std::span<const std::string> arguments) {
  VerbOptions verb(
      "train",
      "Train a small language model. The result is a folder in Hugging Face's layout that the "
      "other verbs take as MODEL; it also holds the newest checkpoint and log.csv with the loss of each step.",
      "--text FILE [options]",
      {"torpor train --preset relu2-5m --text novels/ --held-out last-novel.txt -o relu2",
       "torpor train --preset relu2-5m --text novels/ --held-out last-novel.txt -o relu2 --resume",
       "torpor train --preset relu2-5m --text novels/ --recycle --period 500 -o recycled",
       "torchrun --no-python --nproc-per-node 2 torpor train --text novels/ -o relu2"});
  Words words;
  lab::TrainOptions options;
  CLI::App& app = verb.app();
  app.add_option("--text", words.text, "The text: a file, or a folder of .txt files")->type_name("FILE")->required();
  app.add_option("--held-out", words.held_out, "A text that is not trained on: bits per byte are measured on it")
      ->type_name("FILE");
  app.add_option("--preset", words.preset, "The network and its defaults: " + lab::preset_names())
      ->capture_default_str();
  add_integer_option(app, "--steps", options.steps, 1, 1'000'000'000, "Optimizer steps (1000)");
  app.add_option("--tokenizer", words.tokenizer,
                 "A tokenizer.json or tokenizer.model to use, or a folder with one (default: bytes are the tokens)")
      ->type_name("FILE");
  add_integer_option(app, "--vocab-size", words.vocab_size, 300, 1'000'000,
                     "Train a SentencePiece vocabulary of so many pieces on the text")
      ->excludes("--tokenizer");
  const auto number = [&](const std::string& name, auto& value, const std::string& help) {
    add_number_option(app, name, value, help)->check(CLI::Range(0.0, 1e9).description(""));
  };
  const auto whole = [&](const std::string& name, std::optional<std::int64_t>& value, const std::string& help) {
    add_integer_option(app, name, value, 1, std::int64_t{1} << 30, help);
  };
  whole("--batch", words.batch, "Windows of a pass forward and back (preset)");
  add_integer_option(app, "--accumulation", options.accumulation, 1, 100'000, "Passes a step (1)");
  whole("--window", words.window, "Tokens that the network sees at once; also its context length (preset)");
  whole("--layers", words.layers, "Blocks (preset)");
  whole("--d-ff", words.d_ff, "Neurons of a block (preset)");
  number("--learning-rate", words.learning_rate, "At its highest (preset)");
  number("--last-learning-rate", options.last_learning_rate,
         "At the end of the cosine, as a part of the highest (0.1)");
  add_integer_option(app, "--warm-up", options.warm_up, 0, 1'000'000'000, "Steps of a growing learning rate (50)");
  number("--weight-decay", options.adamw.weight_decay, "Decoupled, of matrices only (0.1)");
  number("--clip", options.clip, "Largest norm of the gradient; 0: none (1)");
  app.add_option("--activation-l1", words.activation_l1,
                 "Weight of mean |activation| in the loss; growing in stages: WEIGHT@STEP,WEIGHT@STEP,… (0)")
      ->type_name("X");
  app.add_option("--precision", words.precision,
                 "Of matrix products: f32, bf16, or auto: bf16 where the processor has it")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}).description(""))
      ->capture_default_str();
  add_integer_option(app, "--checkpoint-every", options.checkpoint_every, 0, 1'000'000'000,
                     "Steps; 0: only at the end (200)");
  add_integer_option(app, "--evaluate-every", options.evaluate_every, 0, 1'000'000'000,
                     "Steps; 0: only at the end (200)");
  add_integer_option(app, "--held-out-windows", options.held_out_windows, 0, 1'000'000'000,
                     "Windows of the held-out text to measure on, evenly spread; 0: all (256)");
  add_recycle_options(app, words.recycling, "Steps");
  app.add_flag("--resume", words.resume, "Go on from the newest checkpoint in the folder of -o");
  if (!verb.parse(arguments)) return 0;
  CommonOptions& common = verb.common();

  if (words.learning_rate == 0.0) throw UsageError("--learning-rate 0: expected a number above 0");
  const lab::Preset& preset = lab::preset(words.preset);
  if (common.output.empty()) common.output = preset.name;
  ModelConfig config = config_of(preset, words);
  options.batch = words.batch ? static_cast<int>(*words.batch) : preset.batch;
  options.learning_rate = words.learning_rate.value_or(preset.learning_rate);
  options.bf16 = words.precision == "bf16" || (words.precision == "auto" && multiplies_bf16());
  options.activation_l1 = lab::parse_staged_weight(words.activation_l1);
  if (words.recycling.recycle) {
    options.recycle = recycle_options_of(words.recycling);
    options.check_recycling = words.recycling.check;
  }
  options.seed = common.seed;
  if (common.threads > 0) at::set_num_threads(common.threads);
  const int threads = at::get_num_threads();

  const std::shared_ptr<const lab::ProcessGroup> group = lab::ProcessGroup::from_environment();
  const bool first = group == nullptr || group->first();
  if (!first) {  // it computes its share; the first process reads, writes and speaks
    common.output.clear();
    common.quiet = true;
    common.json = false;
  }
  if (first && !words.resume) lab::refuse_earlier_run(common.output);  // before its vocabulary is written anew
  Result result("train", arguments, common);
  TextCorpus corpus = TextCorpus::open(words.text);
  std::optional<TextCorpus> held_out_corpus;
  if (!words.held_out.empty()) held_out_corpus = TextCorpus::open(words.held_out);
  const auto add_input = [&](const char* role, const TextCorpus& read) {
    result.add_input({role, read.source(), read.bytes(), read.fingerprint()});
  };
  add_input("text", corpus);
  if (held_out_corpus) add_input("held_out", *held_out_corpus);
  Vocabulary vocabulary = first ? vocabulary_of(words, corpus, result.folder()) : Vocabulary{};
  if (group != nullptr) share(vocabulary, *group);
  if (vocabulary.tokenizer != nullptr) {
    config.vocab_size = vocabulary.tokenizer->vocab_size();
    config.bos = vocabulary.tokenizer->bos().value_or(-1);
    config.eos = vocabulary.tokenizer->eos().value_or(-1);
  }
  const std::int64_t bytes = corpus.bytes();
  const auto text = windows_of(words.text, std::move(corpus), vocabulary, config.context_length, common.quiet);
  std::shared_ptr<const lab::Windows> held_out;
  if (held_out_corpus)
    held_out = windows_of(words.held_out, std::move(*held_out_corpus), vocabulary, config.context_length, common.quiet);

  lab::Trainer trainer(config, options, result.folder(), text, held_out, words.resume, group);
  const std::int64_t start_step = trainer.step();
  if (!common.quiet)
    note(fmt::format("{} · {} parameters · {} of text, {} passes over it · {}{} threads, {}{}", preset.name,
                     format_count(static_cast<double>(trainer.parameters())), format_bytes(static_cast<double>(bytes)),
                     format_number(static_cast<double>(options.steps * options.batch * options.accumulation) /
                                       static_cast<double>(text->size()),
                                   2),
                     group == nullptr ? "" : fmt::format("{} processes of ", group->size()), threads,
                     options.bf16 ? "bf16" : "f32", start_step > 0 ? fmt::format(" · from step {}", start_step) : ""));
  const auto start = std::chrono::steady_clock::now();
  double loss = 0, dormant = -1;
  std::int64_t recycled = 0, again = 0;
  const std::int64_t tokens_a_step = static_cast<std::int64_t>(options.batch) * options.accumulation * text->window();
  {
    Progress progress("training", options.steps * tokens_a_step, "tokens", !common.quiet, start_step * tokens_a_step);
    trainer.run([&](const lab::StepReport& now) {
      loss = loss == 0 ? now.loss_nats_per_token : 0.98 * loss + 0.02 * now.loss_nats_per_token;
      std::string state = fmt::format("step {} loss {:.3f}", now.step, loss);
      if (now.neurons) {
        dormant = now.neurons->dormant;
        recycled += now.neurons->recycled;
        again += now.neurons->again;
      }
      if (dormant >= 0) state += fmt::format(", {:.1f} % dormant", 100 * dormant);
      if (options.recycle) state += fmt::format(", {} recycled", recycled);
      if (now.held_out_bits_per_byte) state += fmt::format(" held out {:.3f} bits a byte", *now.held_out_bits_per_byte);
      progress.update(now.step * tokens_a_step, state);
    });
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  if (!first) return 0;
  const lab::Transformer model = trainer.model();
  model->save(result.folder(), at::kBFloat16);
  result.add_file("tokenizer", vocabulary.file, vocabulary.content);
  if (!vocabulary.config.empty()) result.add_file("tokenizer", kTokenizerConfig, vocabulary.config);
  Json json = {{"preset", preset.name},
               {"config", canonical_text(config)},
               {"window", config.context_length},
               {"vocab_size", config.vocab_size}};
  json.update(lab::to_json(options));
  json["parameters"] = trainer.parameters();
  json["tokens"] = options.steps * tokens_a_step;
  json["held_out_bits_per_byte"] = nullptr;
  if (held_out)  // of the network as it was written, rounded
    json["held_out_bits_per_byte"] = lab::bits_per_byte(*lab::TransformerImpl::load(result.folder()), *held_out,
                                                        options.held_out_windows, options.batch);
  json["dormant"] = dormant >= 0 ? Json(dormant) : Json();
  json["recycled"] = recycled;
  json["recycled_again"] = again;
  json["processes"] = group == nullptr ? 1 : group->size();
  json["threads"] = threads;
  json["seconds"] = seconds;
  json["tokens_per_second"] =
      seconds > 0 ? static_cast<double>((options.steps - start_step) * tokens_a_step) / seconds : 0;
  const fs::path folder = result.folder();
  if (!common.json) {
    print(fmt::format("{} steps, {} tokens a second. The model is in {}\n", options.steps,
                      format_count(json["tokens_per_second"].get<double>()), folder.string()));
    if (held_out)
      print(fmt::format("Held-out text: {} bits a byte\n",
                        bold(format_number(json["held_out_bits_per_byte"].get<double>(), 4))));
    if (dormant >= 0) print(fmt::format("Dormant neurons of feed-forward layers: {}\n", format_share(dormant)));
    if (options.recycle) print(fmt::format("Recycled: {}, of them {} again within two periods\n", recycled, again));
    print(fmt::format("Which of its neurons are inactive: torpor profile {} --text FILE\n", folder.string()));
  }
  result.finish(json, threads,
                {{"model", "config.json"}, {"model", "model.safetensors"}, {"log", "log.csv"}, {"log", "neurons.csv"}});
  return 0;
}

}  // namespace torpor::apps
