// Loading: what is used where it lies, what is refused and in which words, and what names a model.
#include <fstream>

#include "core/base/error.h"
#include "engine/models/model.h"
#include "tests/engine/models/model_edit.h"

namespace torpor {
namespace {

using testing::golden;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryFolder;
using testing::Tensors;
using testing::write_edited;

struct BadTensors {
  const char* name;
  const char* model;
  std::function<void(Tensors&)> edit;
  std::vector<const char*> words;
};

const std::vector<BadTensors>& bad_tensors() {
  static const std::vector<BadTensors> cases{
      {"MissingWeight",
       "llama_silu",
       [](Tensors& t) { t.remove("model.layers.1.self_attn.k_proj.weight"); },
       {"model.layers.1.self_attn.k_proj.weight", "found none"}},
      {"MissingNorm", "llama_silu", [](Tensors& t) { t.remove("model.norm.weight"); }, {"model.norm.weight"}},
      {"MissingHead", "llama_silu", [](Tensors& t) { t.remove("lm_head.weight"); }, {"lm_head.weight"}},
      {"MissingEmbedding",
       "llama_silu",
       [](Tensors& t) { t.remove("model.embed_tokens.weight"); },
       {"model.embed_tokens.weight", "token embedding"}},
      {"MissingTiedEmbedding",
       "llama_tied_bias",
       [](Tensors& t) { t.remove("model.embed_tokens.weight"); },
       {"model.embed_tokens.weight"}},
      {"MissingBias", "opt", [](Tensors& t) { t.remove("model.decoder.layers.0.fc1.bias"); }, {"layers.0.fc1.bias"}},
      {"MissingStream",
       "gemma3n",
       [](Tensors& t) { t.remove("model.altup_projections.1.weight"); },
       {"model.altup_projections.1.weight", "found none"}},
      {"MissingScaleOfCorrections",
       "gemma3n",
       [](Tensors& t) { t.remove("model.layers.2.altup.correct_output_scale"); },
       {"layers.2.altup.correct_output_scale\""}},
      {"MissingKeysOfALayerThatOthersRead",
       "gemma3n",
       [](Tensors& t) { t.remove("model.layers.3.self_attn.k_proj.weight"); },
       {"layers.3.self_attn.k_proj.weight"}},
      {"MissingUpOfOneLayer",
       "llama_silu",
       [](Tensors& t) { t.remove("model.layers.1.mlp.up_proj.weight"); },
       {"layers.1.mlp.up_proj.weight"}},
      {"WrongShape",
       "llama_silu",
       [](Tensors& t) {
         auto& tensor = t["model.layers.0.mlp.down_proj.weight"];
         tensor.shape = {53, 24};
       },
       {"model.layers.0.mlp.down_proj.weight", "[24, 53]", "[53, 24]"}},
      {"NotTransposedConv1D",
       "gpt2",
       [](Tensors& t) {
         t["transformer.h.0.mlp.c_fc.weight"].shape = {53, 24};
       },
       {"c_fc.weight", "[24, 53]", "[53, 24]"}},
      {"FlatShape",
       "llama_silu",
       [](Tensors& t) { t["lm_head.weight"].shape = {61 * 24}; },
       {"lm_head.weight", "[61, 24]", "[1464]"}},
      {"IntegerWeight",
       "llama_silu",
       [](Tensors& t) {
         t.remove("lm_head.weight");
         t.add("lm_head.weight", NumberFormat::i8, {61, 24});
       },
       {"lm_head.weight", "i8"}},
      {"DoubleWeight",
       "llama_silu",
       [](Tensors& t) {
         t.remove("lm_head.weight");
         t.add("lm_head.weight", NumberFormat::f64, {61, 24});
       },
       {"lm_head.weight", "f64"}},
      {"UnexpectedBias",
       "llama_silu",
       [](Tensors& t) { t.add("model.layers.0.self_attn.q_proj.bias", NumberFormat::f32, {24}); },
       {"q_proj.bias", "1 more", "change the result"}},
      {"UnexpectedNorm",
       "llama_silu",
       [](Tensors& t) { t.add("model.layers.0.self_attn.q_norm.weight", NumberFormat::f32, {6}); },
       {"q_norm.weight"}},
      {"MoreLayersThanSaid",
       "llama_silu",
       [](Tensors& t) {
         t.add("model.layers.2.mlp.up_proj.weight", NumberFormat::f32, {53, 24});
       },
       {"layers.2.mlp.up_proj.weight", "2 layers"}},
      {"SubNorm",
       "llama_ungated",
       [](Tensors& t) { t.add("model.layers.0.mlp.ffn_sub_norm.weight", NumberFormat::f32, {53}); },
       {"ffn_sub_norm"}},
      {"NaNWeight",
       "llama_silu",
       [](Tensors& t) { t.set("model.layers.1.mlp.up_proj.weight", 100, NAN); },
       {"model.layers.1.mlp.up_proj.weight", "NaN", "element 100"}},
      {"InfiniteNorm",
       "llama_silu",
       [](Tensors& t) { t.set("model.norm.weight", 3, INFINITY); },
       {"model.norm.weight", "element 3"}},
      {"NaNBias",
       "opt",
       [](Tensors& t) { t.set("model.decoder.layers.0.fc1.bias", 7, NAN); },
       {"layers.0.fc1.bias", "element 7"}},
  };
  return cases;
}

class BadModel : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(All, BadModel, ::testing::Range(std::size_t{0}, bad_tensors().size()),
                         [](const auto& one) { return std::string(bad_tensors()[one.param].name); });

TEST_P(BadModel, IsRefusedNamingFileAndTensor) {
  const BadTensors& bad = bad_tensors()[GetParam()];
  TemporaryFolder folder;
  write_edited(bad.model, folder.path(), bad.edit);
  try {
    Model::load(folder.path());
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr(folder.path().string()));
    for (const char* word : bad.words) EXPECT_THAT(error.what(), HasSubstr(word));
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
  }
}

std::string refusal(const std::filesystem::path& path) {
  try {
    Model::load(path);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "accepted";
}

TEST(BadModelPath, SaysWhatIsThereInstead) {
  TemporaryFolder folder;
  EXPECT_THAT(refusal(folder / "absent"), HasSubstr("found nothing"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("config.json"));
  EXPECT_THAT(refusal("/dev/null"), HasSubstr("something else"));

  std::filesystem::copy(golden("models/llama_silu/config.json"), folder / "config.json");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("found neither"));
  write_file_atomically(folder / "pytorch_model.bin", "PK");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("save_pretrained"));
  write_file_atomically(folder / "notes.txt", "hello");
  EXPECT_THAT(refusal(folder / "notes.txt"), HasSubstr(".txt"));
  write_file_atomically(folder / "short.gguf", "GG");
  EXPECT_THAT(refusal(folder / "short.gguf"), HasSubstr("short.gguf"));
  write_file_atomically(folder / "short.bin", "1234");
  EXPECT_THAT(refusal(folder / "short.bin"), HasSubstr("short.bin"));
  write_file_atomically(folder / "config.json", "{\"model_type\": ");
  write_file_atomically(folder / "model.safetensors", "");
  EXPECT_THAT(refusal(folder.path()), HasSubstr("line 1"));
}

TEST(Model, KnownBuffersOfOldFilesAreHarmless) {
  TemporaryFolder folder;
  write_edited("llama_silu", folder.path(),
               [](Tensors& t) { t.add("model.layers.0.self_attn.rotary_emb.inv_freq", NumberFormat::f32, {3}); });
  EXPECT_EQ(Model::load(folder.path())->parameters(), Model::load(golden("models/llama_silu"))->parameters());
  write_edited("gpt2", folder.path(), [](Tensors& t) {
    t.add("transformer.h.0.attn.bias", NumberFormat::boolean, {1, 1, 96, 96});
    t.add("transformer.h.0.attn.masked_bias", NumberFormat::f32, {});
  });
  EXPECT_NO_THROW(Model::load(folder.path()));
}

TEST(Model, TiedEmbeddingsStoredTwiceAreTiedIfEqual) {
  TemporaryFolder folder;
  const auto doubled = [](Tensors& t) {
    auto copy = t["model.embed_tokens.weight"];
    copy.name = "lm_head.weight";
    t.list.push_back(copy);
  };
  write_edited("llama_tied_bias", folder.path(), doubled);
  auto model = Model::load(folder.path());
  EXPECT_TRUE(model->config().tied_embeddings);
  EXPECT_EQ(model->unembedding().data, model->token_embedding().data);

  write_edited("llama_tied_bias", folder.path(), [&](Tensors& t) {
    doubled(t);
    t.set("lm_head.weight", 5, 17.F);
  });
  model = Model::load(folder.path());  // transformers keeps both then
  EXPECT_FALSE(model->config().tied_embeddings);
  EXPECT_NE(model->unembedding().data, model->token_embedding().data);
}

TEST(Model, TiedEmbeddingsMayLieUnderLmHeadAlone) {
  for (const char* name : {"llama_tied_bias", "gpt2", "opt_350m"}) {
    TemporaryFolder folder;
    write_edited(name, folder.path(), [](Tensors& t) {
      for (auto& tensor : t.list)
        if (tensor.name.ends_with("embed_tokens.weight") || tensor.name.ends_with("wte.weight"))
          tensor.name = "lm_head.weight";
    });
    const auto model = Model::load(folder.path());
    EXPECT_EQ(model->parameters(), Model::load(golden(std::string("models/") + name))->parameters()) << name;
    EXPECT_EQ(model->unembedding().data, model->token_embedding().data);
  }
}

TEST(Model, TokensBeyondTheVocabularyAreIgnoredWithAWarning) {
  const TemporaryFolder folder;
  const auto load = [&](const Json& eos) {
    write_edited("llama_silu", folder.path(), {}, [&](Json& config) {
      config["bos_token_id"] = 50256;
      config["eos_token_id"] = eos;
    });
    return Model::load(folder.path());
  };
  ::testing::internal::CaptureStderr();
  const auto all_beyond = load(50256);
  const std::string warned = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(warned, HasSubstr(folder.path().string()));
  EXPECT_THAT(warned, HasSubstr("token 50256"));
  EXPECT_EQ(all_beyond->config().bos, -1);
  EXPECT_EQ(all_beyond->config().eos, -1);
  EXPECT_TRUE(all_beyond->config().stop_ids.empty());

  ::testing::internal::CaptureStderr();
  const auto one_left = load(Json::array({50256, 3}));
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(one_left->config().eos, 3);
  EXPECT_EQ(one_left->config().stop_ids, std::vector<std::int64_t>{3});
}

TEST(Model, WeightsAreUsedWhereTheyLie) {
  const auto path = golden("models/llama_head_dim/model.safetensors");
  const auto model = Model::load(path);
  std::vector<std::pair<std::uintptr_t, std::uintptr_t>> mappings;  // of this file, as the kernel tells
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.ends_with(path.filename().string())) {
      std::uintptr_t begin = 0, end = 0;
      ASSERT_EQ(std::sscanf(line.c_str(), "%lx-%lx", &begin, &end), 2);
      mappings.emplace_back(begin, end);
    }
  const auto mapped = [&](const WeightMatrix& weight) {
    const auto at = reinterpret_cast<std::uintptr_t>(weight.data);
    return std::any_of(mappings.begin(), mappings.end(), [&](auto m) { return m.first <= at && at < m.second; });
  };
  EXPECT_TRUE(mapped(model->token_embedding()));
  for (const auto& layer : model->layers())
    for (const auto* weight : {&layer.attention.query, &layer.ffn.gate, &layer.ffn.up, &layer.ffn.down})
      EXPECT_TRUE(mapped(*weight));
  EXPECT_EQ(model->layers()[0].ffn.down.format, NumberFormat::bf16);
}

TEST(Model, LargePagesHoldACopyOfEachMatrixAndTheSameModel) {
  const auto path = golden("models/llama_head_dim");
  const auto mapped = Model::load(path), copied = Model::load(path, {.activation_override = {}, .large_pages = true});
  EXPECT_EQ(copied->fingerprint(), mapped->fingerprint());
  const auto expect_copy = [](const WeightMatrix& a, const WeightMatrix& b) {
    EXPECT_NE(a.data, b.data);
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())), 0);
  };
  expect_copy(mapped->token_embedding(), copied->token_embedding());
  for (std::size_t l = 0; l < mapped->layers().size(); ++l) {
    expect_copy(mapped->layers()[l].attention.query, copied->layers()[l].attention.query);
    expect_copy(mapped->layers()[l].ffn.down, copied->layers()[l].ffn.down);
  }
  std::ifstream maps("/proc/self/maps");
  const auto lies_in_memory = [&](const std::byte* data) {  // in a mapping without a file
    maps.clear();
    maps.seekg(0);
    for (std::string line; std::getline(maps, line);) {
      std::uintptr_t begin = 0, end = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2 && reinterpret_cast<std::uintptr_t>(data) >= begin &&
          reinterpret_cast<std::uintptr_t>(data) < end)
        return line.find("safetensors") == std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(lies_in_memory(copied->layers()[0].ffn.up.data));
  EXPECT_FALSE(lies_in_memory(mapped->layers()[0].ffn.up.data));
}

TEST(Model, Conv1DBecomesOutByIn) {
  const auto folder = golden("models/gpt2");
  const auto archive = open_safetensors(folder);
  const auto model = Model::load(folder);
  const auto value = [](const std::byte* data, std::int64_t i) {
    float f;
    std::memcpy(&f, data + 4 * i, 4);
    return f;
  };
  const auto& stored = archive.at("transformer.h.1.mlp.c_fc.weight");  // [24, 53]
  const auto& up = model->layers()[1].ffn.up;
  ASSERT_EQ(up.out, 53);
  ASSERT_EQ(up.in, 24);
  for (std::int64_t neuron = 0; neuron < 53; ++neuron)
    for (std::int64_t i = 0; i < 24; ++i)
      ASSERT_EQ(value(up.row(neuron), i), value(stored.bytes.data(), i * 53 + neuron));
  // outgoing_rows turns it once more: row i is what neuron i writes.
  const auto& down = archive.at("transformer.h.1.mlp.c_proj.weight");  // [53, 24]
  const auto rows = model->outgoing_rows(1);
  ASSERT_EQ(rows.size() * 4, down.bytes.size());
  EXPECT_EQ(std::memcmp(rows.data(), down.bytes.data(), down.bytes.size()), 0);
  EXPECT_THROW(model->outgoing_rows(2), InvalidArgument);
  EXPECT_THROW(model->outgoing_rows(-1), InvalidArgument);
}

TEST(Model, FingerprintNamesContentsAndMeaning) {
  const auto original = Model::load(golden("models/llama_silu"))->fingerprint();
  EXPECT_EQ(original.size(), 32U);
  EXPECT_EQ(original, Model::load(golden("models/llama_silu/model.safetensors"))->fingerprint());
  TemporaryFolder folder;
  write_edited("llama_silu", folder.path(), {});
  EXPECT_EQ(original, Model::load(folder.path())->fingerprint());  // a copy is the same model

  // Every change shows: a weight, a setting, the activation.
  write_edited("llama_silu", folder.path(), [](Tensors& t) { t.set("model.layers.1.mlp.up_proj.weight", 700, 9.F); });
  EXPECT_NE(original, Model::load(folder.path())->fingerprint());
  write_edited("llama_silu", folder.path(), {}, [](Json& config) { config["rms_norm_eps"] = 1e-3; });
  EXPECT_NE(original, Model::load(folder.path())->fingerprint());
  EXPECT_NE(original, Model::load(golden("models/llama_silu"), {.activation_override = "relu"})->fingerprint());
}

TEST(Model, CountsParametersOnce) {
  // vocab 61, d 24, ff 53, 2 layers, query and kv width 24; tied; biases everywhere
  constexpr std::int64_t kLayer = 4 * (24 * 24 + 24) + 2 * (53 * 24 + 53) + (24 * 53 + 24) + 2 * 24;
  EXPECT_EQ(Model::load(golden("models/llama_tied_bias"))->parameters(), 61 * 24 + 24 + 2 * kLayer);
  EXPECT_EQ(Model::load(golden("models/llama_tied_bias"))->weight_bytes(), 4 * (61 * 24 + 24 + 2 * kLayer));
}

}  // namespace
}  // namespace torpor
