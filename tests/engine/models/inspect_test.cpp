#include "engine/models/inspect.h"

#include <unistd.h>

#include <chrono>
#include <fstream>

#include "core/base/error.h"
#include "tests/engine/models/model_edit.h"

namespace torpor {
namespace {

using ::testing::ElementsAre;
using testing::golden;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

const PartSummary& part(const ModelSummary& summary, const std::string& name) {
  for (const auto& candidate : summary.parts)
    if (candidate.name == name) return candidate;
  throw std::runtime_error("no part " + name);
}

TEST(InspectModel, AgreesWithTheLoadedModel) {
  for (const char* name : {"llama_silu", "gpt2", "opt_350m", "gemma2_bias", "llama_sharded"}) {
    const auto summary = inspect_model(golden(std::string("models/") + name));
    const auto model = Model::load(golden(std::string("models/") + name));
    EXPECT_EQ(summary.parameters, model->parameters()) << name;
    EXPECT_EQ(summary.bytes, model->weight_bytes()) << name;
    EXPECT_EQ(summary.description, describe(model->config())) << name;
    EXPECT_EQ(static_cast<int>(summary.layers.size()), model->config().n_layers);
  }
}

TEST(InspectModel, CountsBytesByPart) {
  const auto summary = inspect_model(golden("models/llama_silu"));  // f32, untied
  EXPECT_EQ(part(summary, "embedding").bytes, 4 * 61 * 24);
  EXPECT_EQ(part(summary, "unembedding").bytes, 4 * 61 * 24);
  EXPECT_EQ(part(summary, "ffn").bytes, 4 * 2 * 3 * 53 * 24);
  EXPECT_EQ(part(summary, "attention").bytes, 4 * 2 * (2 * 24 * 24 + 2 * 12 * 24));
  EXPECT_THAT(part(summary, "ffn").formats, ElementsAre("f32"));
  EXPECT_EQ(summary.ffn_bytes, part(summary, "ffn").bytes);
  EXPECT_EQ(summary.layers[1].bytes_per_neuron, 4.0 * 3 * 24);
  EXPECT_EQ(summary.kv_bytes_per_position, 2 * 2 * 12 * 4);
  EXPECT_EQ(summary.bytes_per_token, summary.bytes - 4 * 60 * 24);  // one row of the embedding
  const auto tied = inspect_model(golden("models/llama_tied_bias"));
  EXPECT_EQ(tied.bytes_per_token, tied.bytes);  // the embedding is the unembedding: read whole
}

TEST(InspectModel, SaysWhichNeuronsCanBeSkippedAndWhatStandsInTheWay) {
  const auto silu = inspect_model(golden("models/llama_silu"));
  EXPECT_FALSE(silu.layers[0].exact_zeros);
  EXPECT_THAT(silu.layers[0].reasons.at(0), HasSubstr("silu gives no exact zeros"));
  const auto arcee = inspect_model(golden("models/arcee"));
  EXPECT_TRUE(arcee.layers[0].exact_zeros);
  EXPECT_FALSE(arcee.layers[0].gated);
  EXPECT_EQ(arcee.layers[0].activation, "relu2");
  EXPECT_THAT(arcee.layers[0].reasons, ElementsAre(HasSubstr("column")));
  EXPECT_TRUE(inspect_model(golden("models/gpt2_untied_relu")).layers[0].reasons.empty());  // Conv1D: rows already
  EXPECT_THAT(inspect_model(golden("models/llama_fatrelu")).layers[0].activation, "fatrelu(0.75)");
  EXPECT_THAT(inspect_model(golden("models/llama_ungated")).notes, ElementsAre(HasSubstr("relu2")));
  EXPECT_THAT(inspect_model(golden("models/arcee/model.gguf")).notes, ElementsAre(HasSubstr("does not name")));
  EXPECT_THAT(inspect_model(golden("models/mistral_window")).notes,
              ElementsAre(HasSubstr("last 9 positions in 2 of 2")));
}

TEST(InspectModel, RefusesWhatLoadingRefuses) {
  TemporaryFolder folder;
  testing::write_edited("llama_silu", folder.path(), [](testing::Tensors& t) { t.remove("model.norm.weight"); });
  EXPECT_THROW(inspect_model(folder.path()), BadInput);
}

// A sparse file: 4 GB of weights that exist only as a length.
TEST(InspectModel, TakesMillisecondsForFourGigabytes) {
  TemporaryFolder folder;
  constexpr std::int64_t kVocab = 32000, kWidth = 2048, kNeurons = 8192, kLayers = 24;
  Json header = Json::object();
  std::int64_t offset = 0;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t bytes = 2;
    for (const auto size : shape) bytes *= size;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  };
  add("model.embed_tokens.weight", {kVocab, kWidth});
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {kWidth});
    add(prefix + "post_attention_layernorm.weight", {kWidth});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      add(prefix + "self_attn." + name + ".weight", {kWidth, kWidth});
    add(prefix + "mlp.gate_proj.weight", {kNeurons, kWidth});
    add(prefix + "mlp.up_proj.weight", {kNeurons, kWidth});
    add(prefix + "mlp.down_proj.weight", {kWidth, kNeurons});
  }
  add("model.norm.weight", {kWidth});
  add("lm_head.weight", {kVocab, kWidth});
  ASSERT_GT(offset, 3'000'000'000);
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = static_cast<std::uint64_t>(text.size());
  {
    std::ofstream file(folder / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << text;
  }
  if (::truncate((folder / "model.safetensors").c_str(), static_cast<off_t>(8 + length) + offset) != 0)
    GTEST_SKIP() << "no sparse files here";
  const Json config{{"model_type", "llama"},          {"vocab_size", kVocab},          {"hidden_size", kWidth},
                    {"num_hidden_layers", kLayers},   {"intermediate_size", kNeurons}, {"num_attention_heads", 16},
                    {"max_position_embeddings", 4096}};
  write_file_atomically(folder / "config.json", config.dump());

  const auto start = std::chrono::steady_clock::now();
  const auto summary = inspect_model(folder.path());
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(summary.bytes, offset);
  EXPECT_LT(seconds.count(), 0.1);
}

}  // namespace
}  // namespace torpor
