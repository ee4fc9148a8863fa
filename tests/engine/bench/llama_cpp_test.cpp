// Models written for llama.cpp: this engine's own GGUF reader, which is tested with files that llama.cpp's converter
// made, computes the same logits from them.
#include "engine/bench/llama_cpp.h"

#include <cmath>
#include <fstream>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/tensor/gguf.h"
#include "engine/bench/random_model.h"
#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using ::testing::ThrowsMessage;

class Exported : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Exported,
                         ::testing::Values("llama_silu", "llama_tied_bias", "llama_head_dim", "llama_rope_llama3",
                                           "llama_rope_linear", "lab_llama", "lab_arcee", "arcee", "arcee_tied_bias",
                                           "nemotron", "gemma2", "gemma3n"),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(Exported, HasTheSameLogits) {
  const auto model = testing::load_model(GetParam());
  // A Gemma 3n of another shape than Google's has a file, and llama.cpp would read something else out of it.
  ASSERT_EQ(why_not_in_llama_cpp(model->config()).empty(), !model->config().altup.any());
  const TemporaryFolder folder;
  std::int64_t bytes = 0;
  write_gguf(*model, folder.path() / "m.gguf", [&](std::int64_t done) { bytes = done; });
  EXPECT_GT(bytes, 0);
  // GGUF does not name the activation function: llama.cpp's llama has SiLU whatever the model had.
  const auto written =
      Model::load(folder.path() / "m.gguf", {.activation_override = std::string(name_of(model->config().activation))});
  EXPECT_EQ(written->config().d_ff, model->config().d_ff);
  ThreadPool pool(2);
  Session of_model(model, pool), of_written(written, pool);
  const auto ids = testing::expected_of(GetParam()).ids;
  const auto wanted = testing::copy(of_model.forward(ids, Logits::all));
  EXPECT_LT(testing::relative_difference(of_written.forward(ids, Logits::all), wanted), 1e-4);
  EXPECT_EQ(GgufFile::open(folder.path() / "m.gguf").string("tokenizer.ggml.model"), "no_vocab");
}

TEST(LlamaCpp, HasGemma3nOfGooglesShapesAlone) {
  ModelConfig config = shape_config("gemma3n-e2b", 0.1);
  EXPECT_EQ(why_not_in_llama_cpp(config), "");
  config.gate_sparsity[3] = 0.9F;
  EXPECT_THAT(why_not_in_llama_cpp(config), HasSubstr("10 sparse layers"));
}

TEST(WriteGguf, KeepsQuantisedRowsInTheirFormat) {
  ThreadPool pool(2);
  for (const NumberFormat format : {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0}) {
    ModelConfig config = shape_config("640,1280,2,256", 0.1);
    const auto model = random_model(config, format, 1, pool);
    const TemporaryFolder folder;
    write_gguf(*model, folder.path() / "m.gguf");
    const auto written = Model::load(folder.path() / "m.gguf");
    EXPECT_EQ(written->layers()[1].ffn.up.format, format);
    const WeightMatrix &up = model->layers()[1].ffn.up, &copy = written->layers()[1].ffn.up;
    std::vector<float> row(static_cast<std::size_t>(up.in)), copied(row.size());
    for (std::int64_t r = 0; r < up.out; ++r) {
      row_to_f32(up, r, row);
      row_to_f32(copy, r, copied);
      ASSERT_EQ(copied, row) << r;
    }
  }
}

TEST(WriteGguf, RefusesWhatLlamaCppDoesNotHave) {
  const TemporaryFolder folder;
  for (const char* name : {"models/spark", "gpt2", "opt", "llama_ungated", "mistral_window"}) {
    const auto model = testing::load_model(name);
    EXPECT_NE(why_not_in_llama_cpp(model->config()), "") << name;
    EXPECT_THROW(write_gguf(*model, folder.path() / "m.gguf"), InvalidArgument) << name;
  }
  EXPECT_THAT(why_not_in_llama_cpp(testing::load_model("models/spark")->config()), HasSubstr("no Spark models"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "m.gguf"));
}

TEST(DenseCounterpart, ReadsAsManyFeedForwardBytes) {
  const ModelConfig spark = shape_config("gemma2-2b-spark", 0.1), dense = dense_counterpart(spark);
  const ModelConfig published = shape_config("gemma2-2b", 0.1);
  EXPECT_EQ(dense.d_ff, published.d_ff);
  EXPECT_EQ(dense.head_dim, published.head_dim);
  EXPECT_EQ(dense.norm_after, published.norm_after);
  EXPECT_EQ(random_model_bytes(dense, NumberFormat::bf16), random_model_bytes(spark, NumberFormat::bf16));
  EXPECT_EQ(why_not_in_llama_cpp(dense), "");
}

class LlamaBench : public ::testing::Test {
 protected:
  /// A program that stands for llama-bench.
  LlamaBenchOptions program(const std::string& script) const {
    const auto path = folder.path() / "llama-bench";
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return {.program = path, .model = "m.gguf", .context = 64, .tokens = 8, .threads = 2};
  }
  TemporaryFolder folder;
};

TEST_F(LlamaBench, IsAskedForDecodingAloneAndItsLastLineIsRead) {
  const auto options = program("echo \"$*\" > " + (folder.path() / "asked").string() +
                               "\necho '{\"avg_ts\": 1}'; echo '{\"n_gen\": 8, \"avg_ts\": 12.5}'");
  EXPECT_EQ(llama_bench(options), 12.5);
  EXPECT_EQ(read_file(folder.path() / "asked"), "-m m.gguf -p 0 -n 8 -t 2 -r 1 -o jsonl -d 64\n");
  auto empty = options;
  empty.context = 0;
  llama_bench(empty);
  EXPECT_EQ(read_file(folder.path() / "asked"), "-m m.gguf -p 0 -n 8 -t 2 -r 1 -o jsonl\n");
}

TEST_F(LlamaBench, FailuresAreTold) {
  const auto expect = [&](const std::string& script, const char* message) {
    EXPECT_THAT([&] { llama_bench(program(script)); }, ThrowsMessage<IoError>(HasSubstr(message))) << script;
  };
  expect("echo one >&2; echo cannot load >&2; exit 4", "exit code 4: one\ncannot load");
  expect("echo hello", "Is this llama-bench?");
  expect("true", "Is this llama-bench?");
  expect("echo '{\"avg_ts\": \"x\"}'", "Is this llama-bench?");
  expect("echo '{\"avg_ts\": 0}'", "above 0");
}

}  // namespace
}  // namespace torpor
