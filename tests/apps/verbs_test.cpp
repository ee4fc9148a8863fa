// What each verb prints and writes, on a small trained model whose right answers come from transformers
// (tests/golden/apps/make_tiny.py).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <set>

#include "core/tensor/safetensors.h"
#include "tests/apps/files.h"
#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;

std::string tiny() {
  return golden("apps/tiny");
}
Json expected() {
  return Json::parse(read_all(golden("apps/expected.json")));
}

Outcome must(const std::vector<std::string>& arguments, const Surroundings& surroundings = {}) {
  Outcome outcome = torpor(arguments, surroundings);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return outcome;
}

std::size_t columns(const std::string& line) {
  return static_cast<std::size_t>(
      std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

/// Without the line breaks and no-break spaces that only the layout put there.
std::string in_one_line(std::string text) {
  replace_all(text, "\u00a0", " ");
  replace_all(text, "\n", " ");
  return text;
}

/// `paths`: shown in full however long they are, so they do not count in a line's width.
void expect_for_people(std::string text, const std::vector<std::string>& paths = {}) {
  EXPECT_THAT(text, Not(HasSubstr("\x1b"))) << "no colour where standard output is no terminal";
  for (const std::string& path : paths) replace_all(text, path, "PATH");
  for (const std::string& line : lines_of(text)) {
    EXPECT_LE(columns(line), 100U) << line;
    EXPECT_THAT(line, Not(::testing::EndsWith(" ")));
  }
}

// ---------------------------------------------------------------------------------------------------------------------

TEST(Inspect, CountsWhatIsInTheFile) {
  std::int64_t parameters = 0, ffn = 0, tensors = 0;
  const std::string file = read_all(golden("apps/tiny/model.safetensors"));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const Json header = Json::parse(file.substr(8, length));
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    std::int64_t n = 1;
    for (const auto& size : tensor["shape"]) n *= size.get<std::int64_t>();
    parameters += n;
    ++tensors;
    if (name.find(".mlp.") != std::string::npos) ffn += 4 * n;
  }
  const Json json = Json::parse(must({"inspect", tiny(), "--json"}).out);
  EXPECT_EQ(json["parameters"], parameters);
  EXPECT_EQ(json["bytes"], 4 * parameters);
  EXPECT_EQ(json["tensors"], tensors);
  EXPECT_EQ(json["ffn_bytes_per_token"], ffn);
  EXPECT_EQ(json["bytes_per_token"], 4 * parameters) << "tied: the whole embedding is read as the unembedding";
  EXPECT_EQ(json["layers"].size(), 2U);
  EXPECT_EQ(json["layers"][1]["activation"], "relu");
  EXPECT_EQ(json["layers"][1]["exact_zeros"], true);
  EXPECT_EQ(json["layers"][1]["bytes_per_neuron"], 3 * 32 * 4);
  EXPECT_EQ(json["d_ff"], 88);
}

TEST(Inspect, ShowsTheFactsToPeople) {
  const Outcome outcome = must({"inspect", tiny()});
  EXPECT_THAT(outcome.err, IsEmpty());
  expect_for_people(outcome.out, {tiny()});
  EXPECT_THAT(
      in_one_line(outcome.out),
      AllOf(HasSubstr("llama, 2 layers"), HasSubstr("embedding"), HasSubstr("attention"), HasSubstr("relu, gated"),
            HasSubstr("the most that skipping can save"), HasSubstr("torpor profile " + tiny())));
}

TEST(Inspect, WritesItsResultWithAManifest) {
  const TemporaryFolder folder;
  must({"inspect", tiny(), "-o", folder / "new" / "results"});
  EXPECT_THAT(names_in(folder / "new" / "results"), ElementsAre("inspect.json", "manifest.json"));
  const Json manifest = Json::parse(read_all(folder / "new" / "results" / "manifest.json"));
  EXPECT_THAT(manifest["command_line"].get<std::string>(), StartsWith("torpor inspect "));
  EXPECT_EQ(manifest["inputs"][0]["role"], "model");
  EXPECT_EQ(Json::parse(read_all(folder / "new" / "results" / "inspect.json")),
            Json::parse(must({"inspect", tiny(), "--json"}).out));
}

// A file of 4 GB that takes no space on disk: only its header and its end exist.
TEST(Inspect, TakesNoTimeAndNoMemoryForFourGigabytes) {
  const TemporaryFolder folder;
  const std::int64_t d = 2048, ff = 8192, vocab = 64000, layers = 17;
  Json header;
  std::int64_t at = 0;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t bytes = 4;
    for (const std::int64_t n : shape) bytes *= n;
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  };
  add("model.embed_tokens.weight", {vocab, d});
  for (std::int64_t l = 0; l < layers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    for (const char* part : {"q", "k", "v", "o"}) add(layer + "self_attn." + part + "_proj.weight", {d, d});
    add(layer + "mlp.gate_proj.weight", {ff, d});
    add(layer + "mlp.up_proj.weight", {ff, d});
    add(layer + "mlp.down_proj.weight", {d, ff});
    add(layer + "input_layernorm.weight", {d});
    add(layer + "post_attention_layernorm.weight", {d});
  }
  add("model.norm.weight", {d});
  ASSERT_GT(at, std::int64_t{4'000'000'000});
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string start(8, '\0');
  std::memcpy(start.data(), &length, 8);
  write_all(folder / "model.safetensors", start + text);
  fs::resize_file(folder / "model.safetensors", 8 + length + static_cast<std::uintmax_t>(at));
  write_all(folder / "config.json", Json{{"model_type", "llama"},
                                         {"hidden_size", d},
                                         {"intermediate_size", ff},
                                         {"num_hidden_layers", layers},
                                         {"num_attention_heads", 16},
                                         {"vocab_size", vocab},
                                         {"max_position_embeddings", 4096},
                                         {"hidden_act", "silu"},
                                         {"tie_word_embeddings", true}}
                                        .dump());
  double fastest = 10;
  Outcome outcome;
  for (int i = 0; i < 5; ++i) {
    outcome = must({"inspect", folder.path()});
    fastest = std::min(fastest, outcome.seconds);
  }
  EXPECT_THAT(outcome.out, HasSubstr("17 layers"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(fastest, 0.1);
  EXPECT_LT(outcome.peak_kilobytes, 50'000);
#endif
}

// ---------------------------------------------------------------------------------------------------------------------

TEST(Run, WritesTheTextThatTransformersWrites) {
  const Json golden_texts = expected()["greedy"];
  for (const Json& wanted : golden_texts) {
    const auto prompt = wanted["prompt"].get<std::string>();
    const auto text = wanted["text"].get<std::string>();
    SCOPED_TRACE(prompt);
    std::vector<std::string> arguments = {"run", tiny(), "--greedy", "--max-tokens", wanted["tokens"].dump()};
    if (!prompt.empty()) arguments.insert(arguments.end(), {"--prompt", prompt});
    const Outcome outcome = must(arguments);
    EXPECT_EQ(outcome.out, prompt + text);
    EXPECT_THAT(outcome.err, IsEmpty());
    arguments.emplace_back("--no-prompt-echo");
    EXPECT_EQ(must(arguments).out, text);
    arguments.emplace_back("--json");
    const Json json = Json::parse(must(arguments).out);
    EXPECT_EQ(json["text"], text);
    EXPECT_EQ(json["prompt"], prompt);
    EXPECT_EQ(json["prompt_tokens"], wanted["prompt_tokens"]);
    EXPECT_EQ(json["generated_tokens"], wanted["tokens"]);
    EXPECT_EQ(json["stop_reason"], "max_tokens");
    EXPECT_GT(json["tokens_per_second"].get<double>(), 0);
  }
}

TEST(Run, FillsTheContextAndStops) {
  const Json json = Json::parse(must({"run", tiny(), "--greedy", "--json"}).out);
  EXPECT_EQ(json["stop_reason"], "context_full");
  // One token begins the text; the last of the 64 that are in the cache predicts one more.
  EXPECT_EQ(json["generated_tokens"], 64);
}

TEST(Run, TakesThePromptFromAFileOrStandardInput) {
  const TemporaryFolder folder;
  write_all(folder / "prompt.txt", "ROMEO:");
  const std::string wanted = must({"run", tiny(), "--greedy", "--prompt", "ROMEO:", "--max-tokens", "9"}).out;
  EXPECT_EQ(must({"run", tiny(), "--greedy", "--prompt-file", folder / "prompt.txt", "--max-tokens", "9"}).out, wanted);
  Surroundings surroundings;
  surroundings.input = "ROMEO:";
  EXPECT_EQ(must({"run", tiny(), "--greedy", "--prompt-file", "-", "--max-tokens", "9"}, surroundings).out, wanted);
}

TEST(Run, GivesTheSameTextForTheSameSeedOnAnyNumberOfThreads) {
  const std::vector<std::string> base = {"run", tiny(), "--temperature", "1.2", "--max-tokens", "40"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return must(arguments).out;
  };
  const std::string one = with({"--seed", "1"});
  EXPECT_EQ(with({"--seed", "1", "--threads", "1"}), one);
  EXPECT_EQ(with({"--seed", "1", "--threads", "3"}), one);
  EXPECT_NE(with({"--seed", "2"}), one);
  EXPECT_EQ(with({"--seed", "2", "--top-k", "1"}), with({"--seed", "1", "--top-k", "1"}));
}

TEST(Run, TellsRatesOnStandardErrorOnlyWhenAsked) {
  const Outcome outcome = must({"run", tiny(), "--greedy", "--max-tokens", "5", "--stats"});
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("tokens/s"), HasSubstr("5 tokens")));
  EXPECT_EQ(outcome.out, must({"run", tiny(), "--greedy", "--max-tokens", "5"}).out);
}

TEST(Run, TellsTheActiveNeuronsOfEachLayer) {
  const Outcome outcome = must({"run", tiny(), "--greedy", "--max-tokens", "9", "--stats", "--force"});
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("active"), HasSubstr("read for a token"), HasSubstr("arranged by neuron")));
  EXPECT_THAT(must({"run", tiny(), "--greedy", "--max-tokens", "9", "--stats", "--dense"}).err,
              HasSubstr("all computed: all neurons were asked for"));
}

TEST(Run, RefusesDenseTogetherWithForce) {
  EXPECT_EQ(torpor({"run", tiny(), "--dense", "--force"}).exit_code, 2);
}

TEST(Bench, MeasuresRandomWeightsOfAShape) {
  const Json json = Json::parse(
      must({"bench", "--shape", "128,512,2,256", "--rounds", "2", "--tokens", "3", "--context", "5", "--json"}).out);
  EXPECT_EQ(json["shape"], "128,512,2,256");
  EXPECT_EQ(json["rounds"], 2);
  for (const char* side : {"dense", "sparse"}) {
    EXPECT_GT(json[side]["tokens_per_second"]["median"].get<double>(), 0);
    EXPECT_GT(json[side]["read_bandwidth_gb_per_s"]["median"].get<double>(), 0);
  }
  EXPECT_LT(json["sparse"]["bytes_per_token"].get<double>(), json["dense"]["bytes_per_token"].get<double>());
  EXPECT_GT(json["speedup_byte_limit"].get<double>(), 1);
  EXPECT_NEAR(json["share_of_byte_limit"].get<double>(),
              json["speedup"]["median"].get<double>() / json["speedup_byte_limit"].get<double>(), 1e-9);
}

TEST(Bench, WritesAReport) {
  const TemporaryFolder folder;
  const Outcome outcome = must(
      {"bench", tiny(), "--rounds", "1", "--tokens", "2", "--context", "4", "--batches", "1,2,4", "-o", folder / "b"});
  EXPECT_THAT(outcome.out, HasSubstr("report  " + (folder / "b" / "report.html").string()));
  EXPECT_THAT(read_all(folder / "b" / "report.html"),
              AllOf(HasSubstr("The roofline of decoding"), HasSubstr("when sequences are decoded together")));
  EXPECT_EQ(Json::parse(read_all(folder / "b" / "bench.json"))["batches"].size(), 3U);
  EXPECT_EQ(Json::parse(read_all(folder / "b" / "manifest.json"))["outputs"].size(), 2U);
  EXPECT_GT(Json::parse(read_all(folder / "b" / "bench.json"))["speedup_byte_limit"].get<double>(), 1);
}

TEST(Bench, MeasuresAModelForPeopleAndSaysWhyNothingIsSkipped) {
  expect_for_people(must({"bench", tiny(), "--rounds", "1", "--tokens", "2", "--context", "4"}).out, {tiny()});
  EXPECT_THAT(must({"bench", tiny(), "--rounds", "1", "--tokens", "2", "--context", "4", "--dense"}).out,
              HasSubstr("nothing is skipped: --dense"));
}

TEST(Bench, MeasuresAgainstLlamaCpp) {
  const TemporaryFolder folder;
  // Stands for llama-bench; it looks whether the file that it is to measure is there and is GGUF.
  const auto program = folder / "llama-bench";
  std::ofstream(program) << "#!/bin/sh\n[ \"$(head -c 4 \"$2\")\" = GGUF ] || exit 5\necho run >> " << (folder / "runs")
                         << "\necho '{\"avg_ts\": 100}'\n";
  fs::permissions(program, fs::perms::owner_all);
  const std::vector<std::string> command = {"bench",    "--shape",   "128,512,2,256", "--rounds", "2",
                                            "--tokens", "3",         "--context",     "5",        "--batches",
                                            "none",     "--against", program};
  Surroundings surroundings;
  surroundings.environment["TMPDIR"] = folder.path();
  std::vector<std::string> json_command = command;
  json_command.push_back("--json");
  const Json json = Json::parse(must(json_command, surroundings).out);
  EXPECT_EQ(lines_of(read_all(folder / "runs")).size(), 3U);  // one round is thrown away
  EXPECT_EQ(json["against"]["weights"], "the same weights");
  EXPECT_EQ(json["against"]["tokens_per_second"]["median"], 100);
  const Json& times = json["dense"]["milliseconds_per_token_by_part"];
  EXPECT_GT(times["sampling"].get<double>(), 0);
  EXPECT_GT(json["against"]["dense_ratio"]["max"].get<double>(), 0);
  EXPECT_GE(json["against"]["dense_ratio"]["max"].get<double>() * 100 * (1 + 1e-6),
            json["dense"]["tokens_per_second"]["max"].get<double>());  // sampling is left out
  EXPECT_GT(json["against"]["sparse_ratio"]["median"].get<double>(), 0);
  EXPECT_THAT(must(command, surroundings).out, HasSubstr("llama.cpp decodes the same weights: 100"));
  const Json spark =
      Json::parse(must({"bench", (fs::path(TORPOR_SOURCE_DIR) / "models/spark").string(), "--rounds", "1", "--tokens",
                        "2", "--context", "4", "--batches", "none", "--against", program, "--json"},
                       surroundings)
                      .out);
  EXPECT_EQ(spark["against"]["weights"], "a dense model of the same size (768 neurons, gated)");
  // Nothing is left behind.
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"llama-bench", "runs"}));
  std::ofstream(program) << "#!/bin/sh\necho no such backend >&2; exit 4\n";
  EXPECT_THAT(torpor(command, surroundings).err, HasSubstr("exit code 4: no such backend"));
  EXPECT_THAT(torpor({"bench", tiny(), "--against", "/no/such/program"}).err,
              HasSubstr("expected the program llama-bench"));
}

TEST(Bench, ShowsTheLadderOfKernels) {
  const std::vector<std::string> command = {"bench", "--kernels", "--rounds", "1", "--megabytes", "64"};
  expect_for_people(must(command).out);
  std::vector<std::string> json_command = command;
  json_command.insert(json_command.end(), {"--json", "--type", "q8"});
  const Json json = Json::parse(must(json_command).out);
  ASSERT_GE(json["kernels"].size(), 7U);
  for (const Json& step : json["kernels"]) {
    EXPECT_EQ(step["weights"], "q8_0");
    EXPECT_GT(step["gb_per_s"].get<double>(), 0);
    EXPECT_GT(step["microseconds"]["median"].get<double>(), 0);
  }
  EXPECT_GT(json["kernels"][1]["microseconds"]["median"].get<double>(),
            json["kernels"][5]["microseconds"]["median"].get<double>());  // plain loops against the last step
}

TEST(Bench, RefusesWhatMakesNoSense) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"bench"},
                                             {"bench", tiny(), "--shape", "gemma2-2b"},
                                             {"bench", "--shape", "gemma7"},
                                             {"bench", "--shape", "128,512,2", "--type", "q3"},
                                             {"bench", "--shape", "128,512,2", "--plan", "plan.json"},
                                             {"bench", "--shape", "128,512,2", "--density", "2"},
                                             {"bench", "--kernels", tiny()},
                                             {"bench", "--kernels", "--megabytes", "0"},
                                             {"bench", "--shape", "128,512,2", "--batches", "1,x"},
                                             {"bench", tiny(), "--context", "1000000"}})
    EXPECT_EQ(torpor(arguments).exit_code, 2) << arguments.back();
}

TEST(Run, ReportsAFullStandardOutput) {
  Surroundings surroundings;
  surroundings.out_to = "/dev/full";
  const Outcome outcome = torpor({"run", tiny(), "--greedy"}, surroundings);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
}

TEST(Run, EndsQuietlyWhenItsReaderIsGone) {
  Surroundings surroundings;
  surroundings.close_out_early = true;
  const Outcome outcome = must({"run", tiny(), "--greedy"}, surroundings);
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST(Run, ReproducesStories260KByteForByte) {
  TORPOR_DATA_OR_SKIP(model, "lm/stories260K/stories260K.bin");
  TORPOR_DATA_OR_SKIP(tokenizer, "lm/stories260K/tok512.bin");
  TORPOR_DATA_OR_SKIP(wanted, "lm/stories260K/expected_greedy_200.txt");
  EXPECT_EQ(must({"run", model, "--tokenizer", tokenizer, "--greedy", "--max-tokens", "200"}).out, read_all(wanted));
  EXPECT_EQ(must({"run", model, "--greedy", "--max-tokens", "200"}).out, read_all(wanted))
      << "tok512.bin lies beside it";
}

// ---------------------------------------------------------------------------------------------------------------------

TEST(Eval, MeasuresTheLossThatTransformersMeasures) {
  const Json wanted = expected()["eval"];
  const Outcome outcome = must({"eval", tiny(), "--text", tiny_text(), "--json"});
  const Json json = Json::parse(outcome.out);
  const double loss = wanted["loss_nats"].get<double>() / wanted["predicted_tokens"].get<double>();
  EXPECT_EQ(json["tokens"], wanted["predicted_tokens"]);
  EXPECT_EQ(json["bytes"], wanted["bytes"]);
  EXPECT_EQ(json["window"], wanted["window"]);
  EXPECT_NEAR(json["loss_nats_per_token"].get<double>(), loss, 1e-5 * loss);
  EXPECT_NEAR(json["perplexity"].get<double>(), std::exp(loss), 1e-4 * std::exp(loss));
  EXPECT_NEAR(json["bits_per_byte"].get<double>(),
              wanted["loss_nats"].get<double>() / std::log(2) / wanted["bytes"].get<double>(), 1e-4);
  EXPECT_LT(json["perplexity_ci95"][0].get<double>(), json["perplexity"].get<double>());
  EXPECT_GT(json["perplexity_ci95"][1].get<double>(), json["perplexity"].get<double>());
  EXPECT_TRUE(json["plan"].is_null());
}

TEST(Eval, ShowsItToPeople) {
  const Outcome outcome = must({"eval", tiny(), "--text", tiny_text(), "--max-tokens", "2000", "--quiet"});
  EXPECT_THAT(outcome.err, IsEmpty());
  expect_for_people(outcome.out, {tiny_text()});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("perplexity"), HasSubstr("bits a byte"), HasSubstr("95 % interval")));
}

TEST(Eval, MeasuresAShortTextInOneShortWindow) {
  const TemporaryFolder folder;
  write_all(folder / "short.txt", "What say you to this?");
  const Json json = Json::parse(must({"eval", tiny(), "--text", folder / "short.txt", "--json"}).out);
  EXPECT_EQ(json["windows"], 1);
  EXPECT_EQ(json["bytes"], 21);
  EXPECT_TRUE(json["perplexity_ci95"].is_null());
}

TEST(Eval, ReadsStandardInput) {
  Surroundings surroundings;
  surroundings.input = read_all(tiny_text());
  const Json piped = Json::parse(must({"eval", tiny(), "--text", "-", "--json"}, surroundings).out);
  const Json json = Json::parse(must({"eval", tiny(), "--text", tiny_text(), "--json"}).out);
  EXPECT_EQ(piped["loss_nats_per_token"], json["loss_nats_per_token"]);
  EXPECT_EQ(piped["text_fingerprint"], json["text_fingerprint"]);
}

// ---------------------------------------------------------------------------------------------------------------------

class Profiled : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    outcome_ = new Outcome(torpor({"profile", tiny(), "--text", tiny_text(), "-o", results(), "--budget", "2%"}));
    ASSERT_EQ(outcome_->exit_code, 0) << outcome_->err;
  }
  static void TearDownTestSuite() {
    delete outcome_;
    delete folder_;
  }
  static fs::path results() { return *folder_ / "results"; }
  static TemporaryFolder* folder_;
  static Outcome* outcome_;
};
TemporaryFolder* Profiled::folder_ = nullptr;
Outcome* Profiled::outcome_ = nullptr;

TEST_F(Profiled, ItsPlanTravelsWithAPackedModel) {
  const TemporaryFolder folder;
  const Json packed = Json::parse(must({"pack", tiny(), "--type", "f32", "--plan", results() / "plan.json", "-o",
                                        folder / "p", "--check", tiny_text(), "--json"})
                                      .out);
  EXPECT_EQ(packed["lossless"], true);
  EXPECT_EQ(packed["plan"], "plan.json");
  EXPECT_NEAR(packed["check"]["perplexity_ratio"]["mean"].get<double>(), 1, 1e-5);
  const Json evaluated =
      Json::parse(must({"eval", tiny(), "--text", tiny_text(), "--plan", results() / "plan.json", "--json"}).out);
  EXPECT_NEAR(packed["check"]["perplexity_ratio_with_plan"]["mean"].get<double>(),
              evaluated["plan"]["perplexity_ratio"].get<double>(), 0.02);
  // run takes the plan that lies there, unless it is told not to.
  const std::vector<std::string> run = {"run", folder / "p", "--greedy", "--max-tokens", "8", "--force", "--json"};
  const Json with = Json::parse(must(run).out);
  EXPECT_EQ(with["plan"], (folder / "p" / "plan.json").string());
  EXPECT_LT(with["density"].get<double>(), 0.6);
  std::vector<std::string> without_plan = run;
  without_plan.emplace_back("--no-plan");
  EXPECT_TRUE(Json::parse(must(without_plan).out)["plan"].is_null());
  // A quantised model is another model: the plan was rewritten for it, the old one no longer fits.
  must({"pack", tiny(), "--type", "q8", "--plan", results() / "plan.json", "-o", folder / "q"});
  must({"run", folder / "q", "--greedy", "--max-tokens", "4"});
  EXPECT_EQ(torpor({"run", folder / "q", "--plan", results() / "plan.json"}).exit_code, 3);
  // Packed again without a plan, the old one is gone.
  must({"pack", tiny(), "-o", folder / "q"});
  EXPECT_FALSE(fs::exists(folder / "q" / "plan.json"));
}

/// A plan of the tiny model whose rules are predictors, and the file that they name, in `folder`.
void write_predictor_plan(const fs::path& plan, const fs::path& folder) {
  const Json config = Json::parse(read_all(fs::path(tiny()) / "config.json"));
  const auto width = config["hidden_size"].get<std::int64_t>(),
             neurons = config["intermediate_size"].get<std::int64_t>();
  constexpr std::int64_t kRank = 8;
  std::vector<float> first(static_cast<std::size_t>(kRank * width)), second(static_cast<std::size_t>(neurons * kRank));
  for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<float>(i * 7 % 11) - 5;
  for (std::size_t i = 0; i < second.size(); ++i) second[i] = static_cast<float>(i * 5 % 13) - 6;
  std::vector<TensorView> tensors;
  for (int l = 0; l < 2; ++l) {
    const std::string name = "layers." + std::to_string(l);
    tensors.push_back({name + ".fc1.weight", NumberFormat::f32, {kRank, width}, std::as_bytes(std::span(first))});
    tensors.push_back({name + ".fc2.weight", NumberFormat::f32, {neurons, kRank}, std::as_bytes(std::span(second))});
  }
  write_safetensors(folder / "predictor.safetensors", tensors, {{"torpor_predictor", "1"}, {"activation", "relu"}});
  Json json = Json::parse(read_all(plan));
  for (Json& layer : json["layers"])
    layer["rule"] = {{"type", "predictor"}, {"file", "predictor.safetensors"}, {"threshold", 2.5}};
  write_all(folder / "plan.json", json.dump());
}

TEST_F(Profiled, APlanOfPredictorsRunsEvaluatesAndPacks) {
  const TemporaryFolder folder;
  write_predictor_plan(results() / "plan.json", folder.path());
  const std::string plan = folder / "plan.json";
  const std::vector<std::string> run = {"run", tiny(), "--plan", plan, "--greedy", "--max-tokens", "30", "--json"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command = run;
    command.insert(command.end(), more.begin(), more.end());
    return Json::parse(must(command).out);
  };
  const Json skipped = with({"--force"}), masked = with({"--dense"});
  EXPECT_EQ(skipped["text"], masked["text"]);
  EXPECT_GT(skipped["density"].get<double>(), 0.02);
  EXPECT_LT(skipped["density"].get<double>(), 0.9);
  EXPECT_TRUE(masked["density"].is_null());
  EXPECT_TRUE(masked["skipping"]["packed_bytes"].is_null());
  for (const Json& layer : skipped["skipping"]["layers"]) EXPECT_EQ(layer["skipped"], true);
  const Json evaluated = Json::parse(
      must({"eval", tiny(), "--text", tiny_text(), "--plan", plan, "--json", "--max-tokens", "2000"}).out)["plan"];
  EXPECT_GT(evaluated["perplexity_ratio"].get<double>(), 1.001);  // these predictors know nothing
  ASSERT_EQ(evaluated["layers"].size(), 2U);
  double sum = 0;
  for (const Json& layer : evaluated["layers"]) sum += layer["density"].get<double>();
  EXPECT_NEAR(sum / 2, evaluated["density"].get<double>(), 1e-12);
  // The file goes where the plan goes.
  must({"pack", tiny(), "--type", "f32", "--plan", plan, "-o", folder / "p"});
  fs::remove(folder / "predictor.safetensors");
  EXPECT_EQ(Json::parse(must({"run", folder / "p", "--greedy", "--max-tokens", "30", "--force", "--json"}).out)["text"],
            skipped["text"]);
  const Outcome missing = torpor({"run", tiny(), "--plan", plan});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_THAT(missing.err, HasSubstr("predictor.safetensors"));
}

TEST_F(Profiled, AHotFirstPlanIsPackedInItsOrder) {
  const TemporaryFolder folder;
  must({"profile", tiny(), "--text", tiny_text(), "-o", folder / "r", "--no-baselines", "--hot-first",
        "--held-out-tokens", "2048"});
  const Json plan = Json::parse(read_all(folder / "r" / "plan.json"));
  const Json profile = Json::parse(read_all(folder / "r" / "profile.json"));
  const auto hottest = profile["layers"][1]["hottest"][0]["neuron"];
  EXPECT_EQ(plan["layers"][1]["order"][0], hottest);
  EXPECT_FALSE(Json::parse(read_all(results() / "plan.json"))["layers"][1].contains("order"));
  // With a predictor, whose rows go along.
  write_predictor_plan(folder / "r" / "plan.json", folder.path());
  must({"pack", tiny(), "--type", "f32", "--plan", folder / "plan.json", "-o", folder / "p"});
  EXPECT_FALSE(Json::parse(read_all(folder / "p" / "plan.json"))["layers"][1].contains("order"));
  const auto run = [](const std::vector<std::string>& from) {
    std::vector<std::string> command = {"run", "--greedy", "--max-tokens", "40", "--force", "--json"};
    command.insert(command.begin() + 1, from.begin(), from.end());
    return Json::parse(must(command).out);
  };
  const Json source = run({tiny(), "--plan", folder / "plan.json"}), packed = run({folder / "p"});
  EXPECT_EQ(packed["text"], source["text"]);
  EXPECT_NEAR(packed["density"].get<double>(), source["density"].get<double>(), 1e-3);
  EXPECT_EQ(torpor({"run", folder / "p", "--plan", folder / "plan.json"}).exit_code, 3);  // of the source
}

TEST_F(Profiled, StatsOfEvalTellTheActiveNeuronsOfEachLayer) {
  const std::vector<std::string> command = {"eval", tiny(), "--text", tiny_text(), "--max-tokens", "2000", "--stats"};
  std::vector<std::string> with_plan = command;
  with_plan.insert(with_plan.end(), {"--plan", results() / "plan.json"});
  const auto lines = lines_of(must(with_plan).err);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0], "layer  active");
  EXPECT_THAT(lines[1], ::testing::ContainsRegex("^ *0 +[0-9.]+"));
  EXPECT_THAT(must(command).err, HasSubstr("no plan was given"));
}

TEST(Run, MoreThreadsThanProcessorsAreWarnedOfAndChangeNothing) {
  const Outcome few = must({"run", tiny(), "--greedy", "--max-tokens", "30"});
  const Outcome many = must({"run", tiny(), "--greedy", "--max-tokens", "30", "--threads", "1000"});
  EXPECT_EQ(many.out, few.out);
  EXPECT_THAT(many.err, HasSubstr("1000 threads on "));
  EXPECT_THAT(few.err, IsEmpty());
}

TEST(Run, ALineAtTheBottomOfTheTerminalTellsTheActiveNeurons) {
  if (std::system("command -v script >/dev/null") != 0) GTEST_SKIP() << "needs the program script";
  const TemporaryFolder folder;
  const std::string relu2 = fs::path(TORPOR_SOURCE_DIR) / "models/relu2";
  const auto in_terminal = [&](const std::string& arguments) {
    const std::string out = folder / "typescript";
    const std::string command = fmt::format(
        "TERM=xterm script -qec 'stty rows 20 cols 90; {} run {} --max-tokens 300 --seed 1 {}' {} "
        "</dev/null >/dev/null 2>&1",
        TORPOR_PROGRAM, relu2, arguments, out);
    EXPECT_EQ(std::system(command.c_str()), 0);
    return read_all(out);
  };
  const std::string told = in_terminal("--stats");
  EXPECT_THAT(told, AllOf(HasSubstr("\x1b[1;19r"), HasSubstr("\x1b[20;1H"), HasSubstr("of neurons active (")));
  // The line is given back, after the last time that it was drawn.
  EXPECT_GT(told.rfind("\x1b[r"), told.rfind("of neurons active ("));
  EXPECT_THAT(in_terminal(""), Not(HasSubstr("\x1b[1;19r")));
}

TEST(Pack, WritesAModelThatEveryVerbTakes) {
  const TemporaryFolder folder;
  const std::string packed = folder / "p";
  const Outcome outcome = must({"pack", tiny(), "--type", "f32", "-o", packed});
  expect_for_people(outcome.out, {tiny(), packed});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("every number is the source's"), HasSubstr("packed  " + packed)));
  const Json written = Json::parse(read_all(folder / "p" / "pack.json"));
  EXPECT_EQ(written["layout"], "1");
  EXPECT_EQ(written["tensors"].size(), 20U);
  std::set<std::string> outputs;
  const Json manifest = Json::parse(read_all(folder / "p" / "manifest.json"));
  for (const Json& output : manifest["outputs"]) outputs.insert(output["path"].get<std::string>());
  EXPECT_THAT(outputs, IsSupersetOf({"packed.safetensors", "config.json", "pack.json"}));
  const auto loss = [](const std::string& model) {
    return Json::parse(must({"eval", model, "--text", tiny_text(), "--json"}).out)["loss_nats_per_token"].get<double>();
  };
  EXPECT_NEAR(loss(packed), loss(tiny()), 1e-5);
  EXPECT_EQ(must({"run", packed, "--greedy", "--max-tokens", "20"}).out,
            must({"run", tiny(), "--greedy", "--max-tokens", "20"}).out);
  EXPECT_THAT(must({"inspect", packed}).out, HasSubstr("packed"));
  must({"bench", packed, "--rounds", "1", "--tokens", "2", "--context", "4", "--batches", "none"});
  must({"profile", packed, "--text", tiny_text(), "-o", folder / "r"});
}

TEST(Pack, TellsWhatRoundingDid) {
  const TemporaryFolder folder;
  const Outcome outcome = must({"pack", tiny(), "--type", "q8", "--check", tiny_text(), "-o", folder / "p"});
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("down_proj"), HasSubstr("q8_0"), HasSubstr("Perplexity on")));
  const Json json = Json::parse(read_all(folder / "p" / "pack.json"));
  EXPECT_EQ(json["lossless"], false);
  EXPECT_NE(json["fingerprint"], json["source_fingerprint"]);
  EXPECT_NEAR(json["check"]["perplexity_ratio"]["mean"].get<double>(), 1, 0.05);
  EXPECT_NE(json["check"]["perplexity_ratio"]["mean"].get<double>(), 1);
}

TEST(Pack, RefusesWhatMakesNoSense) {
  const TemporaryFolder folder;
  EXPECT_EQ(torpor({"pack", tiny()}).exit_code, 2);  // nowhere to
  EXPECT_EQ(torpor({"pack", tiny(), "--type", "q3", "-o", folder / "p"}).exit_code, 2);
  EXPECT_EQ(torpor({"pack", tiny(), "--check", "/nowhere.txt", "-o", folder / "p"}).exit_code, 3);
  EXPECT_EQ(torpor({"pack", tiny(), "-o", tiny()}).exit_code, 3);
  must({"pack", tiny(), "-o", folder / "p"});
  EXPECT_EQ(torpor({"pack", folder / "p", "-o", folder / "q"}).exit_code, 3);
  EXPECT_FALSE(fs::exists(folder / "q"));
}

TEST_F(Profiled, WritesEverythingOfAResult) {
  EXPECT_THAT(names_in(results()), ElementsAre("curve.csv", "layers.csv", "manifest.json", "neurons.csv", "plan.json",
                                               "profile.json", "report.html"));
  const Json plan = Json::parse(read_all(results() / "plan.json"));
  const Json profile = Json::parse(read_all(results() / "profile.json"));
  const Json manifest = Json::parse(read_all(results() / "manifest.json"));
  EXPECT_EQ(plan["layers"].size(), 2U);
  EXPECT_EQ(profile["target"]["kind"], "budget");
  EXPECT_DOUBLE_EQ(profile["target"]["value"].get<double>(), 0.02);
  EXPECT_LE(profile["chosen"]["perplexity_ratio"].get<double>(), 1.02);
  EXPECT_GT(profile["chosen"]["sparsity"].get<double>(), profile["chosen"]["exact_zero_sparsity"].get<double>() - 0.01);
  std::vector<std::string> outputs;
  for (const Json& output : manifest["outputs"]) outputs.push_back(output["path"]);
  EXPECT_THAT(outputs, IsSupersetOf({"plan.json", "profile.json", "report.html", "curve.csv"}));
  EXPECT_THAT(manifest["command_line"].get<std::string>(), HasSubstr("--budget 2%"));
  const std::string report = read_all(results() / "report.html");
  EXPECT_THAT(report, AllOf(HasSubstr("<html"), Not(HasSubstr("src=\"http")), Not(HasSubstr("href=\"http"))));
}

TEST_F(Profiled, SaysWhatCameOutAndWhatIsNext) {
  expect_for_people(outcome_->out, {tiny(), tiny_text(), results()});
  EXPECT_THAT(in_one_line(outcome_->out),
              AllOf(HasSubstr("of the neurons can be left out (budget +2.00 %)"), HasSubstr("perplexity"),
                    HasSubstr("bytes a token"), HasSubstr("exact zeros"),
                    HasSubstr("report  " + (results() / "report.html").string()),
                    HasSubstr("torpor eval " + tiny() + " --text OTHER --plan")));
}

TEST_F(Profiled, GivesAPlanThatEvalAndRunApply) {
  const Json json =
      Json::parse(must({"eval", tiny(), "--text", tiny_text(), "--plan", results() / "plan.json", "--json"}).out);
  const Json profile = Json::parse(read_all(results() / "profile.json"));
  const Json& plan = json["plan"];
  // The held-out windows are a part of this text.
  EXPECT_NEAR(plan["sparsity"].get<double>(), profile["chosen"]["sparsity"].get<double>(), 0.05);
  EXPECT_NEAR(plan["perplexity_ratio"].get<double>(), profile["chosen"]["perplexity_ratio"].get<double>(), 0.03);
  EXPECT_NEAR(plan["perplexity"].get<double>() / json["perplexity"].get<double>(),
              plan["perplexity_ratio"].get<double>(), 1e-9);
  expect_for_people(must({"eval", tiny(), "--text", tiny_text(), "--plan", results() / "plan.json"}).out,
                    {tiny_text()});
  const Json run = Json::parse(
      must({"run", tiny(), "--greedy", "--max-tokens", "20", "--plan", results() / "plan.json", "--json"}).out);
  EXPECT_GT(run["density"].get<double>(), 0);
  EXPECT_LT(run["density"].get<double>(), 1);
}

TEST_F(Profiled, GivesAPlanWhoseNeuronsAreSkippedWithTheTextOfTheMask) {
  const std::vector<std::string> base = {"run", tiny(),   "--greedy", "--max-tokens",
                                         "40",  "--json", "--plan",   results() / "plan.json"};
  const auto with = [&](const char* more) {
    std::vector<std::string> arguments = base;
    arguments.emplace_back(more);
    return Json::parse(must(arguments).out);
  };
  const Json masked = with("--dense"), skipped = with("--force");
  EXPECT_EQ(skipped["text"], masked["text"]);
  EXPECT_TRUE(masked["density"].is_null());
  EXPECT_THAT(masked["dense_reason"].get<std::string>(), HasSubstr("all neurons"));
  EXPECT_TRUE(skipped["dense_reason"].is_null());
  const Json& skipping = skipped["skipping"];
  EXPECT_LT(skipping["ffn_bytes_per_token"].get<double>(), skipping["dense_ffn_bytes_per_token"].get<double>());
  for (const Json& layer : skipping["layers"]) {
    EXPECT_TRUE(layer["skipped"].get<bool>());
    EXPECT_GT(layer["density"].get<double>(), 0);
    EXPECT_LT(layer["density"].get<double>(), 1);
  }
  for (const Json& layer : masked["skipping"]["layers"])
    EXPECT_THAT(layer["reason"].get<std::string>(), HasSubstr("all neurons"));
}

TEST_F(Profiled, IsTheSameAgainAndOnOtherThreads) {
  const fs::path again = *folder_ / "again";
  must({"profile", tiny(), "--text", tiny_text(), "-o", again, "--budget", "0.02", "--threads", "1", "--quiet"});
  EXPECT_EQ(read_all(again / "plan.json"), read_all(results() / "plan.json"));
  EXPECT_EQ(read_all(again / "neurons.csv"), read_all(results() / "neurons.csv"));
  Json a = Json::parse(read_all(again / "profile.json")), b = Json::parse(read_all(results() / "profile.json"));
  a.erase("seconds");
  b.erase("seconds");
  EXPECT_EQ(a, b);
}

TEST(Profile, LeavesFilesOfOthersAlone) {
  const TemporaryFolder folder;
  write_all(folder / "notes.txt", "mine");
  fs::create_directory(folder / "sub");
  must({"profile", tiny(), "--text", tiny_text(), "-o", folder.path(), "--cett", "0.2", "--no-baselines", "--quiet"});
  EXPECT_EQ(read_all(folder / "notes.txt"), "mine");
  EXPECT_TRUE(fs::is_directory(folder / "sub"));
  EXPECT_TRUE(fs::exists(folder / "plan.json"));
}

TEST(Profile, PrintsJsonAndWritesNothingWithoutAFolder) {
  const TemporaryFolder folder;
  Surroundings surroundings;
  surroundings.folder = folder.path();
  const Outcome outcome =
      must({"profile", tiny(), "--text", tiny_text(), "--sparsity", "80%", "--json", "--quiet"}, surroundings);
  EXPECT_THAT(outcome.err, IsEmpty());
  const Json json = Json::parse(outcome.out);
  EXPECT_NEAR(json["chosen"]["sparsity"].get<double>(), 0.8, 0.05);
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(Profile, NamesItsFolderAfterTheModelWhereNoneIsGiven) {
  const TemporaryFolder folder;
  Surroundings surroundings;
  surroundings.folder = folder.path();
  must({"profile", tiny() + "/", "--text", tiny_text(), "--cett", "0.1", "--no-baselines", "--quiet"}, surroundings);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("torpor-profile-tiny"));
}

TEST(Profile, WithoutAModelTakesTheOneThatComesWithTorpor) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "build" / "bin");
  fs::copy_file(TORPOR_PROGRAM, folder / "build" / "bin" / "torpor");
  Surroundings surroundings;
  surroundings.program = folder / "build" / "bin" / "torpor";
  const Outcome none = torpor({"profile"}, surroundings);
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, AllOf(HasSubstr("MODEL is required"), HasSubstr((folder / "models").string())));
  const Outcome no_text = torpor({"profile", tiny()}, surroundings);
  EXPECT_EQ(no_text.exit_code, 2);
  EXPECT_THAT(no_text.err, HasSubstr("--text FILE is required"));

  fs::create_directory(folder / "models");
  tiny_model(folder / "models" / "tiny");
  fs::copy_file(tiny_text(), folder / "models" / "text.txt");
  const Json json =
      Json::parse(must({"profile", "--json", "--quiet", "--cett", "0.1", "--no-baselines"}, surroundings).out);
  EXPECT_EQ(json["model"]["name"], "tiny");
}

}  // namespace
}  // namespace torpor::testing
