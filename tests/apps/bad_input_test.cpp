// Whatever is wrong with an input, the user gets one line that says what was expected, found and where, the right exit
// code, and no half-written result. Each row of a table damages a good model, text or plan and tries it.
#include <cmath>
#include <cstring>

#include "tests/apps/files.h"
#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

struct Case {
  std::string name;
  std::function<void(const fs::path& model)> damage;
  std::vector<std::string> message;  // all of these, in any order
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

/// One line, this exit code, these words; nothing on standard output and nothing written.
void expect_refused(const Outcome& outcome, int exit_code, const std::vector<std::string>& words,
                    const fs::path& results) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
  for (const std::string& word : words) EXPECT_THAT(outcome.err, HasSubstr(word));
  EXPECT_FALSE(fs::exists(results)) << "left behind: " << results;
}

// ---------------------------------------------------------------------------------------------------------------------
// Models in Hugging Face's layout

constexpr const char* kGate = "model.layers.1.mlp.gate_proj.weight";

std::function<void(const fs::path&)> config(const std::function<void(Json&)>& edit) {
  return [edit](const fs::path& model) { edit_json(model / "config.json", edit); };
}

std::function<void(const fs::path&)> weights(const std::function<void(Json& header, std::string& data)>& edit) {
  return [edit](const fs::path& model) { edit_safetensors(model / "model.safetensors", edit); };
}

void resize(const fs::path& model, std::int64_t by) {
  const fs::path file = model / "model.safetensors";
  fs::resize_file(file, static_cast<std::uintmax_t>(static_cast<std::int64_t>(fs::file_size(file)) + by));
}

void set_header_length(const fs::path& model, std::uint64_t length) {
  std::string file = read_all(model / "model.safetensors");
  std::memcpy(file.data(), &length, sizeof length);
  write_all(model / "model.safetensors", file);
}

/// Writes one f32 into the middle of a tensor.
void poison(Json& header, std::string& data, float value) {
  const auto begin = header[kGate]["data_offsets"][0].get<std::size_t>();
  std::memcpy(data.data() + begin + 40, &value, sizeof value);
}

class BadModel : public ::testing::TestWithParam<Case> {};

TEST_P(BadModel, IsRefusedByEveryVerbThatReadsWeights) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  GetParam().damage(model);
  const std::string text = tiny_text(), results = folder / "results";
  expect_refused(torpor({"eval", model, "--text", text, "-o", results}), 3, GetParam().message, results);
  expect_refused(torpor({"run", model, "--greedy", "--max-tokens", "3", "-o", results}), 3, GetParam().message,
                 results);
  expect_refused(torpor({"profile", model, "--text", text, "-o", results}), 3, GetParam().message, results);
}

const std::vector<Case> kBadFiles = {
    {"NoFolder", [](const fs::path& m) { fs::remove_all(m); }, {"nothing there"}},
    {"EmptyFolder",
     [](const fs::path& m) {
       fs::remove_all(m);
       fs::create_directory(m);
     },
     {"config.json"}},
    {"NoConfig", [](const fs::path& m) { fs::remove(m / "config.json"); }, {"config.json"}},
    {"NoWeights", [](const fs::path& m) { fs::remove(m / "model.safetensors"); }, {"model.safetensors"}},
    {"EmptyWeights", [](const fs::path& m) { write_all(m / "model.safetensors", ""); }, {"model.safetensors", "empty"}},
    {"TruncatedInTheLength",
     [](const fs::path& m) { fs::resize_file(m / "model.safetensors", 5); },
     {"model.safetensors", "5"}},
    {"TruncatedInTheHeader",
     [](const fs::path& m) { fs::resize_file(m / "model.safetensors", 200); },
     {"model.safetensors", "200"}},
    {"TruncatedInTheData", [](const fs::path& m) { resize(m, -1000); }, {"model.safetensors"}},
    {"TruncatedByOneByte", [](const fs::path& m) { resize(m, -1); }, {"model.safetensors"}},
    {"Oversized", [](const fs::path& m) { resize(m, 1); }, {"model.safetensors"}},
    {"HugeHeaderLength", [](const fs::path& m) { set_header_length(m, ~std::uint64_t{0}); }, {"model.safetensors"}},
    {"HeaderLengthBeyondTheFile", [](const fs::path& m) { set_header_length(m, 1 << 20); }, {"model.safetensors"}},
    {"HeaderIsNoJson",
     [](const fs::path& m) { edit_safetensors_text(m / "model.safetensors", [](std::string& h) { h[0] = '['; }); },
     {"model.safetensors"}},
    {"DuplicateTensor",
     [](const fs::path& m) {
       edit_safetensors_text(m / "model.safetensors", [](std::string& h) {
         h[h.find("layers.0.mlp.gate_proj.weight\"") + std::strlen("layers.")] = '1';
       });
     },
     {"model.safetensors", "model.layers.1.mlp.gate_proj.weight", "twice"}},
};
INSTANTIATE_TEST_SUITE_P(Files, BadModel, ::testing::ValuesIn(kBadFiles), [](const auto& c) { return c.param.name; });

const std::vector<Case> kBadTensors = {
    {"Overlapping",
     weights([](Json& h, std::string&) {
       const auto end = h[kGate]["data_offsets"][1].get<std::int64_t>();
       const auto begin = h[kGate]["data_offsets"][0].get<std::int64_t>();
       h[kGate]["data_offsets"] = {begin - 4, end - 4};
     }),
     {"model.safetensors"}},
    {"NegativeOffset",
     weights([](Json& h, std::string&) {
       h[kGate]["data_offsets"] = {-8, 8};
     }),
     {kGate}},
    {"OverflowingOffset",
     weights([](Json& h, std::string&) {
       h[kGate]["data_offsets"] = {std::uint64_t{0}, ~std::uint64_t{0}};
     }),
     {kGate}},
    {"OverflowingShape",
     weights([](Json& h, std::string&) {
       h[kGate]["shape"] = {std::int64_t{1} << 40, std::int64_t{1} << 40};
     }),
     {kGate}},
    {"NegativeShape",
     weights([](Json& h, std::string&) {
       h[kGate]["shape"] = {-88, -32};
     }),
     {kGate}},
    {"WrongShape",
     weights([](Json& h, std::string&) {
       h[kGate]["shape"] = {32, 88};
     }),
     {kGate, "[88, 32]", "[32, 88]"}},
    {"UnknownDtype", weights([](Json& h, std::string&) { h[kGate]["dtype"] = "F33"; }), {kGate, "F33"}},
    {"IntegerWeights", weights([](Json& h, std::string&) { h[kGate]["dtype"] = "I32"; }), {kGate, "i32"}},
    {"MissingTensor",
     weights([](Json& h, std::string&) {
       h["something.else"] = h[kGate];
       h.erase(kGate);
     }),
     {"model.safetensors", kGate, "none"}},
    {"NotANumber", weights([](Json& h, std::string& d) { poison(h, d, std::nanf("")); }), {kGate, "NaN"}},
    {"Infinite", weights([](Json& h, std::string& d) { poison(h, d, HUGE_VALF); }), {kGate, "inf"}},
};
INSTANTIATE_TEST_SUITE_P(Tensors, BadModel, ::testing::ValuesIn(kBadTensors),
                         [](const auto& c) { return c.param.name; });

const std::vector<Case> kBadConfigs = {
    {"NotJson",
     [](const fs::path& m) { write_all(m / "config.json", "{\"model_type\": "); },
     {"config.json", "line 1"}},
    {"UnknownModelType", config([](Json& c) { c["model_type"] = "mamba"; }), {"config.json", "model_type", "mamba"}},
    {"NoModelType", config([](Json& c) { c.erase("model_type"); }), {"config.json", "model_type"}},
    {"UnknownActivation", config([](Json& c) { c["hidden_act"] = "swishy"; }), {"config.json", "hidden_act", "swishy"}},
    {"UnknownRopeScaling",
     config([](Json& c) {
       c.erase("rope_parameters");
       c["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
     }),
     {"config.json", "rope", "yarn"}},
    {"Quantised",
     config([](Json& c) {
       c["quantization_config"] = {{"quant_method", "gptq"}};
     }),
     {"config.json", "quantization_config", "gptq"}},
    {"NegativeSize", config([](Json& c) { c["hidden_size"] = -32; }), {"config.json", "hidden_size", "-32"}},
    {"HugeSize", config([](Json& c) { c["num_hidden_layers"] = 2000000000; }), {"config.json", "num_hidden_layers"}},
    {"SizeIsText", config([](Json& c) { c["hidden_size"] = "big"; }), {"config.json", "hidden_size", "big"}},
    {"HeadsDoNotDivide", config([](Json& c) { c["num_key_value_heads"] = 3; }), {"config.json", "3"}},
    {"OtherLayerCount", config([](Json& c) { c["num_hidden_layers"] = 3; }), {"model.layers.2."}},
    {"OtherVocabulary", config([](Json& c) { c["vocab_size"] = 999; }), {"embed_tokens", "999"}},
};
INSTANTIATE_TEST_SUITE_P(Configs, BadModel, ::testing::ValuesIn(kBadConfigs),
                         [](const auto& c) { return c.param.name; });

const std::vector<Case> kBadTokenizers = {
    {"Missing", [](const fs::path& m) { fs::remove(m / "tokenizer.json"); }, {"tokenizer"}},
    {"NotJson", [](const fs::path& m) { write_all(m / "tokenizer.json", "merges"); }, {"tokenizer.json"}},
    {"UnknownKind",
     [](const fs::path& m) { edit_json(m / "tokenizer.json", [](Json& t) { t["model"]["type"] = "WordLevel"; }); },
     {"tokenizer.json", "WordLevel"}},
    {"TooLargeForTheModel",
     [](const fs::path& m) { edit_json(m / "tokenizer.json", [](Json& t) { t["model"]["vocab"]["another"] = 320; }); },
     {"321", "320"}},
};
INSTANTIATE_TEST_SUITE_P(Tokenizers, BadModel, ::testing::ValuesIn(kBadTokenizers),
                         [](const auto& c) { return c.param.name; });

// inspect reads headers only; it refuses what they show.
class BadModelForInspect : public ::testing::TestWithParam<Case> {};

TEST_P(BadModelForInspect, IsRefused) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  GetParam().damage(model);
  const std::string results = folder / "results";
  expect_refused(torpor({"inspect", model, "-o", results}), 3, GetParam().message, results);
  expect_refused(torpor({"inspect", model, "--json"}), 3, GetParam().message, results);
}
INSTANTIATE_TEST_SUITE_P(Files, BadModelForInspect, ::testing::ValuesIn(kBadFiles),
                         [](const auto& c) { return c.param.name; });
INSTANTIATE_TEST_SUITE_P(Configs, BadModelForInspect, ::testing::ValuesIn(kBadConfigs),
                         [](const auto& c) { return c.param.name; });

// ---------------------------------------------------------------------------------------------------------------------
// Other files

TEST(BadInput, OtherModelFormatsAreCheckedToo) {
  const TemporaryFolder folder;
  const std::string gguf = read_all(golden("models/llama_silu/model.gguf"));
  const auto refused = [&](const std::string& name, const std::string& content, const std::vector<std::string>& words) {
    SCOPED_TRACE(name);
    write_all(folder / name, content);
    std::vector<std::string> all = words;
    all.push_back(name);
    expect_refused(torpor({"inspect", folder / name}), 3, all, folder / "none");
    expect_refused(torpor({"run", folder / name, "--max-tokens", "1"}), 3, all, folder / "none");
  };
  refused("truncated.gguf", gguf.substr(0, gguf.size() / 2), {});
  refused("header.gguf", gguf.substr(0, 30), {});
  refused("magic.gguf", "GGML" + gguf.substr(4), {});
  std::string version = gguf;
  version[4] = 9;
  refused("version.gguf", version, {"9"});
  std::string count = gguf;
  std::memset(count.data() + 8, 0x7F, 8);
  refused("tensors.gguf", count, {});
  std::string keys = gguf;
  std::memset(keys.data() + 16, 0x7F, 8);
  refused("keys.gguf", keys, {});

  refused("short.bin", "abc", {});
  const std::int32_t sizes[7] = {64, 172, 5, 8, 4, 512, 512};
  refused("sizes.bin", std::string(reinterpret_cast<const char*>(sizes), sizeof sizes), {"28"});
  const std::int32_t negative[7] = {-64, 172, 5, 8, 4, 512, 512};
  refused("negative.bin", std::string(reinterpret_cast<const char*>(negative), sizeof negative), {"-64"});
  refused("model.pt", "PK", {});
}

TEST(BadInput, TextsThatCannotBeMeasuredAreRefused) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny"), results = folder / "results";
  const auto refused = [&](const fs::path& text, const std::vector<std::string>& words, const std::string& input = {}) {
    SCOPED_TRACE(text.string());
    Surroundings surroundings;
    surroundings.input = input;
    expect_refused(torpor({"eval", model, "--text", text, "-o", results}, surroundings), 3, words, results);
    expect_refused(torpor({"profile", model, "--text", text, "-o", results}, surroundings), 3, words, results);
  };
  refused(folder / "absent.txt", {"absent.txt"});
  write_all(folder / "empty.txt", "");
  refused(folder / "empty.txt", {"empty.txt", "empty"});
  refused("-", {"standard input", "found none"});
  fs::create_directory(folder / "no-files");
  refused(folder / "no-files", {"no-files"});
  write_all(folder / "latin1.txt", std::string(400, 'a') + "caf\xE9 au lait");
  refused(folder / "latin1.txt", {"latin1.txt", "UTF-8", "403"});
  refused("/dev/null", {"/dev/null"});
  write_all(folder / "short.txt", "Too short.");  // eval takes what there is
  expect_refused(torpor({"profile", model, "--text", folder / "short.txt", "-o", results}), 3, {"short.txt", "window"},
                 results);
}

TEST(BadInput, ATokenizerOfAnotherModelIsRefused) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  edit_json(folder / "model" / "tokenizer.json", [](Json& t) { t["model"]["vocab"]["another"] = 320; });
  fs::copy_file(model / "tokenizer.json", folder / "other.json");
  const std::string results = folder / "results", other = folder / "other.json";
  for (const std::string verb : {"eval", "profile"})
    expect_refused(torpor({verb, golden("apps/tiny"), "--text", tiny_text(), "--tokenizer", other, "-o", results}), 3,
                   {"other.json", "321", "320"}, results);
  expect_refused(torpor({"run", golden("apps/tiny"), "--tokenizer", other}), 3, {"other.json", "321", "320"}, results);
}

TEST(BadInput, PromptsThatDoNotFitAreRefused) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny");
  expect_refused(torpor({"run", model, "--prompt-file", folder / "absent"}), 3, {"absent"}, folder / "none");
  expect_refused(torpor({"run", model, "--prompt-file", tiny_text()}), 3, {"prompt", "64"}, folder / "none");
}

// ---------------------------------------------------------------------------------------------------------------------
// Places to write to

TEST(BadInput, AFolderThatCannotBeWrittenIsNamedBeforeAnyWork) {
  const TemporaryFolder folder;
  write_all(folder / "file", "not a folder");
  const std::string model = golden("apps/tiny");
  for (const std::string place :
       {(folder / "file").string(), (folder / "file" / "below").string(), std::string("/proc/results")}) {
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"profile", model, "--text", tiny_text(), "-o", place},
          {"eval", model, "--text", tiny_text(), "-o", place},
          {"inspect", model, "-o", place},
          {"run", model, "-o", place}}) {
      const Outcome outcome = torpor(arguments);
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.out, IsEmpty());
      EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
      EXPECT_THAT(outcome.err, HasSubstr(place));
      EXPECT_LT(outcome.seconds, 2);
    }
  }
  EXPECT_EQ(read_all(folder / "file"), "not a folder");
}

// A limit on the size of files stands for a full disk: writes fail halfway.
TEST(BadInput, AFullDiskLeavesNoHalfWrittenResult) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny"), results = folder / "results";
  Surroundings surroundings;
  surroundings.file_size_limit = 300;
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", model, "-o", results},
        {"eval", model, "--text", tiny_text(), "--max-tokens", "1000", "-o", results},
        {"profile", model, "--text", tiny_text(), "-o", results, "--quiet"},
        {"run", model, "-o", results, "--json", "--max-tokens", "5"}}) {
    SCOPED_TRACE(arguments[0]);
    const Outcome outcome = torpor(arguments, surroundings);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, MatchesRegex("torpor: [^\n]+\n"));
    EXPECT_THAT(outcome.err, HasSubstr("File too large"));
    EXPECT_THAT(names_in(results), IsEmpty());
    EXPECT_FALSE(fs::exists(results));
  }
}

TEST(BadInput, AFullDiskLeavesAnOlderResultAsItWas) {
  const TemporaryFolder folder;
  const std::string model = golden("apps/tiny");
  const fs::path results = folder / "results";
  ASSERT_EQ(torpor({"profile", model, "--text", tiny_text(), "-o", results, "--quiet"}).exit_code, 0);
  write_all(results / "notes.txt", "mine");
  const auto names = names_in(results);
  const std::string plan = read_all(results / "plan.json");
  Surroundings surroundings;
  surroundings.file_size_limit = 2000;
  EXPECT_EQ(torpor({"profile", model, "--text", tiny_text(), "-o", results, "--quiet", "--cett", "0.5"}, surroundings)
                .exit_code,
            1);
  EXPECT_EQ(names_in(results), names);
  EXPECT_EQ(read_all(results / "plan.json"), plan);
  EXPECT_EQ(read_all(results / "notes.txt"), "mine");
}

TEST(BadInput, CtrlCEndsWithOneLineAndNoHalfWrittenResult) {
  const TemporaryFolder folder;
  const std::string text = folder / "long.txt";
  std::string many;
  for (int i = 0; i < 40; ++i) many += read_all(tiny_text());
  write_all(text, many);
  const fs::path results = folder / "results";
  for (const std::string verb : {"profile", "eval"}) {
    SCOPED_TRACE(verb);
    Surroundings surroundings;
    const auto start = std::chrono::steady_clock::now();
    surroundings.interrupt_when = [&] {
      return std::chrono::steady_clock::now() - start > std::chrono::milliseconds(400);
    };
    const Outcome outcome = torpor({verb, golden("apps/tiny"), "--text", text, "-o", results, "--quiet"}, surroundings);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_THAT(outcome.err, MatchesRegex("torpor: interrupted[^\n]*\n"));
    EXPECT_FALSE(fs::exists(results)) << ::testing::PrintToString(names_in(results));
    EXPECT_LT(outcome.seconds, 3) << "it stopped late";
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Plans

class Plans : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const Outcome made =
        torpor({"profile", golden("apps/tiny"), "--text", tiny_text(), "-o", *folder_ / "results", "--quiet"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() { delete folder_; }
  static fs::path plan() { return *folder_ / "results" / "plan.json"; }
  static void expect_plan_refused(const fs::path& model, const fs::path& plan, const std::vector<std::string>& words) {
    const fs::path results = *folder_ / "none";
    expect_refused(torpor({"eval", model, "--text", tiny_text(), "--plan", plan, "-o", results}), 3, words, results);
    expect_refused(torpor({"run", model, "--greedy", "--max-tokens", "3", "--plan", plan}), 3, words, results);
  }
  static TemporaryFolder* folder_;
};
TemporaryFolder* Plans::folder_ = nullptr;

TEST_F(Plans, ThatDoNotExistOrAreDamagedAreRefused) {
  const fs::path damaged = *folder_ / "damaged.json";
  expect_plan_refused(golden("apps/tiny"), *folder_ / "absent.json", {"absent.json"});
  write_all(damaged, read_all(plan()).substr(0, 300));
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json"});
  fs::copy_file(plan(), damaged, fs::copy_options::overwrite_existing);
  edit_json(damaged, [](Json& p) { p["schema"] = "torpor.plan/99"; });
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json", "torpor.plan/99"});
  fs::copy_file(plan(), damaged, fs::copy_options::overwrite_existing);
  edit_json(damaged, [](Json& p) { p["layers"].erase(1); });
  expect_plan_refused(golden("apps/tiny"), damaged, {"damaged.json", "layers"});
}

TEST_F(Plans, ForAnotherModelAreRefusedWithWhatDiffers) {
  const TemporaryFolder folder;
  const fs::path model = tiny_model(folder / "model");
  edit_safetensors(model / "model.safetensors", [](Json& h, std::string& d) { poison(h, d, 0.25F); });
  expect_plan_refused(model, plan(), {"plan.json", "fingerprint"});
  const fs::path silu = tiny_model(folder / "silu");
  edit_json(silu / "config.json", [](Json& c) { c["hidden_act"] = "silu"; });
  expect_plan_refused(silu, plan(), {"plan.json", "relu", "silu"});
}

}  // namespace
}  // namespace torpor::testing
