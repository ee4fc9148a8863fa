// Damaged and odd models: every row of a table damages a good one and tries the verbs on it. Each gives one line that
// says what was expected, found and where, and exit code 3, and leaves nothing behind.
#include <cmath>
#include <cstring>

#include "tests/apps/files.h"
#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::string name;
  std::function<void(const fs::path& model)> damage;
  std::vector<std::string> message;  // all of these, in any order
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

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
    {"Device",
     [](const fs::path& m) {
       fs::remove(m / "model.safetensors");
       fs::create_symlink("/dev/zero", m / "model.safetensors");
     },
     {"model.safetensors", "regular file"}},
    {"IndexThatLeavesTheFolder",
     [](const fs::path& m) {
       fs::remove(m / "model.safetensors");
       write_all(m / "model.safetensors.index.json", R"({"weight_map": {"a": "../../secret"}})");
     },
     {"model.safetensors.index.json", "../../secret"}},
    {"OnlyPickledWeights",
     [](const fs::path& m) { fs::rename(m / "model.safetensors", m / "pytorch_model.bin"); },
     {"model.safetensors", "pytorch_model.bin", "Convert"}},
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
    {"FallingOffsets",
     weights([](Json& h, std::string&) {
       h[kGate]["data_offsets"] = {8, 4};
     }),
     {kGate, "[8, 4]"}},
    {"FractionalOffset",
     weights([](Json& h, std::string&) {
       h[kGate]["data_offsets"] = {0.5, 4};
     }),
     {kGate, "0.5"}},
    {"HoleInTheData", weights([](Json& h, std::string&) { h.erase(kGate); }), {"model.safetensors", "no tensor"}},
    {"TensorOfNoUse",
     weights([](Json& h, std::string& d) {
       h["adapter.weight"] = {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {d.size(), d.size() + 4}}};
       d.append(4, '\0');
     }),
     {"model.safetensors", "adapter.weight"}},
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
    {"UnknownRopeParameters",
     config([](Json& c) { c["rope_parameters"]["rope_type"] = "longrope"; }),
     {"config.json", "rope_parameters", "longrope"}},
    {"NegativeNormEpsilon", config([](Json& c) { c["rms_norm_eps"] = -1; }), {"config.json", "norm", "-1"}},
    {"SwitchIsText", config([](Json& c) { c["attention_bias"] = "yes"; }), {"config.json", "attention_bias", "yes"}},
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

/// A good tokenizer of three letters.
std::string small_tokenizer() {
  Json tokenizer = Json::parse(read_all(golden("apps/tiny/tokenizer.json")));
  tokenizer["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"c", 2}};
  tokenizer["model"]["merges"] = Json::array();
  tokenizer["added_tokens"] = Json::array();
  tokenizer["post_processor"] = nullptr;
  return tokenizer.dump();
}

const std::vector<Case> kBadTokenizers = {
    {"Missing", [](const fs::path& m) { fs::remove(m / "tokenizer.json"); }, {"tokenizer"}},
    {"NotJson", [](const fs::path& m) { write_all(m / "tokenizer.json", "merges"); }, {"tokenizer.json"}},
    {"UnknownKind",
     [](const fs::path& m) { edit_json(m / "tokenizer.json", [](Json& t) { t["model"]["type"] = "WordLevel"; }); },
     {"tokenizer.json", "WordLevel"}},
    {"TooLargeForTheModel",
     [](const fs::path& m) { edit_json(m / "tokenizer.json", [](Json& t) { t["model"]["vocab"]["another"] = 320; }); },
     {"321", "320"}},
    {"TooSmallForTheModel",
     [](const fs::path& m) {
       write_all(m / "tokenizer.json", small_tokenizer());
       fs::remove(m / "tokenizer_config.json");  // names tokens that are no longer there
     },
     {"another model", "320"}},
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

TEST(BadModels, OfOtherFormatsAreCheckedToo) {
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

}  // namespace
}  // namespace torpor::testing
