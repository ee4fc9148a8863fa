#include "core/tensor/llama2c.h"

#include <numeric>

#include "tests/core/tensor/files.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

// A checkpoint whose weights count up from 0, so that a view's first value is its place in the file.
std::string counting_checkpoint(std::vector<std::int32_t> header, int floats) {
  std::string file;
  for (const std::int32_t field : header) file += testing::raw(field);
  for (int i = 0; i < floats; ++i) file += testing::raw(static_cast<float>(i));
  return file;
}

Llama2cCheckpoint parse(const std::string& file) {
  return parse_llama2c(testing::as_bytes(file), nullptr, "model.bin");
}

TEST(Llama2c, FindsEachTensorWhereRunCReadsIt) {
  // dim 4, hidden 3, 2 layers, 2 heads, 1 kv head, vocabulary 5 (not tied), context 6; kv_dim 2, head size 2.
  // In the order of run.c: embedding 20, norms 8, q 32, k 16, v 16, o 32, norms 8, w1 24, w2 24, w3 24, norm 4, tables
  // 12, classifier 20.
  const std::string file = counting_checkpoint({4, 3, 2, 2, 1, -5, 6}, 240);
  const auto [header, tensors] = parse(file);
  EXPECT_EQ(header.dim, 4);
  EXPECT_EQ(header.vocab_size, 5);
  EXPECT_EQ(header.head_dim(), 2);
  EXPECT_EQ(header.kv_dim(), 2);
  EXPECT_FALSE(header.tied);
  const struct {
    const char* name;
    std::vector<std::int64_t> shape;
    float first;
  } expected[] = {
      {"model.embed_tokens.weight", {5, 4}, 0},
      {"model.layers.0.input_layernorm.weight", {4}, 20},
      {"model.layers.1.input_layernorm.weight", {4}, 24},
      {"model.layers.0.self_attn.q_proj.weight", {4, 4}, 28},
      {"model.layers.1.self_attn.q_proj.weight", {4, 4}, 44},
      {"model.layers.0.self_attn.k_proj.weight", {2, 4}, 60},
      {"model.layers.1.self_attn.k_proj.weight", {2, 4}, 68},
      {"model.layers.0.self_attn.v_proj.weight", {2, 4}, 76},
      {"model.layers.1.self_attn.v_proj.weight", {2, 4}, 84},
      {"model.layers.0.self_attn.o_proj.weight", {4, 4}, 92},
      {"model.layers.1.self_attn.o_proj.weight", {4, 4}, 108},
      {"model.layers.0.post_attention_layernorm.weight", {4}, 124},
      {"model.layers.1.post_attention_layernorm.weight", {4}, 128},
      {"model.layers.0.mlp.gate_proj.weight", {3, 4}, 132},
      {"model.layers.1.mlp.gate_proj.weight", {3, 4}, 144},
      {"model.layers.0.mlp.down_proj.weight", {4, 3}, 156},
      {"model.layers.1.mlp.down_proj.weight", {4, 3}, 168},
      {"model.layers.0.mlp.up_proj.weight", {3, 4}, 180},
      {"model.layers.1.mlp.up_proj.weight", {3, 4}, 192},
      {"model.norm.weight", {4}, 204},
      {"lm_head.weight", {5, 4}, 220},
  };
  EXPECT_EQ(tensors.tensors().size(), std::size(expected));
  for (const auto& [name, shape, first] : expected) {
    const TensorView& tensor = tensors.at(name);
    EXPECT_EQ(tensor.shape, shape) << name;
    const auto values = to_f32(tensor);
    std::vector<float> counting(values.size());
    std::iota(counting.begin(), counting.end(), first);
    EXPECT_EQ(values, counting) << name;
  }
}

TEST(Llama2c, TiedCheckpointsHaveNoClassifier) {
  const std::string file = counting_checkpoint({4, 3, 2, 2, 1, 5, 6}, 220);
  const auto [header, tensors] = parse(file);
  EXPECT_TRUE(header.tied);
  EXPECT_EQ(tensors.find("lm_head.weight"), nullptr);
  EXPECT_EQ(tensors.tensors().size(), 20U);
}

TEST(Llama2c, OpensStories260K) {
  TORPOR_DATA_OR_SKIP(path, "lm/stories260K/stories260K.bin");
  const auto [header, tensors] = open_llama2c(path);
  EXPECT_EQ(header.dim, 64);
  EXPECT_EQ(header.hidden_dim, 172);
  EXPECT_EQ(header.n_layers, 5);
  EXPECT_EQ(header.n_heads, 8);
  EXPECT_EQ(header.n_kv_heads, 4);
  EXPECT_EQ(header.vocab_size, 512);
  EXPECT_EQ(header.seq_len, 512);
  EXPECT_TRUE(header.tied);
  EXPECT_EQ(tensors.tensors().size(), 1U + 5 * 9 + 1);
  // Norm weights of a trained model are near one; a shift in the layout would show weights around zero.
  for (const char* name : {"model.layers.4.post_attention_layernorm.weight", "model.norm.weight"}) {
    const auto values = to_f32(tensors.at(name));
    EXPECT_GT(std::accumulate(values.begin(), values.end(), 0.F) / static_cast<float>(values.size()), 0.5F) << name;
  }
}

}  // namespace
}  // namespace torpor
