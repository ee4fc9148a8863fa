// The network without LibTorch's bookkeeping against LibTorch's own forward and backward pass.
#include "lab/recycle/direct_network.h"

#include <torch/torch.h>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

struct Case {
  const char* name;
  NetworkSpec spec;
  double active;  // share of inputs
};

std::vector<Case> cases() {
  return {
      {"Grids", {.input = {4, 10, 10}, .hidden = {ConvSpec{16, 3}, DenseSpec{128}}, .outputs = 3}, 0.1},
      {"Dueling",
       {.input = {4, 10, 10}, .hidden = {ConvSpec{5, 3}, DenseSpec{33}}, .outputs = 6, .dueling = true},
       0.1},
      {"Strides", {.input = {3, 11, 9}, .hidden = {ConvSpec{7, 4, 2}, DenseSpec{20}, DenseSpec{9}}, .outputs = 2}, 1.0},
      {"ConvAlone", {.input = {2, 5, 6}, .hidden = {ConvSpec{3, 2}}, .outputs = 4}, 0.5},
      {"Dense", {.input = {200}, .hidden = {DenseSpec{128}, DenseSpec{128}}, .outputs = 3}, 0.02},
      {"Numbers", {.input = {4}, .hidden = {DenseSpec{7}, DenseSpec{70}}, .outputs = 1}, 1.0},
  };
}

class Direct : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Direct, ::testing::ValuesIn(cases()),
                         [](const auto& c) { return std::string(c.param.name); });

TEST_P(Direct, ComputesWhatLibTorchDoes) {
  torch::manual_seed(3);
  SequentialNetwork network(GetParam().spec);
  {
    const at::NoGradGuard no_gradient;
    for (const auto& [name, tensor] : network->parameters_by_name())
      if (name.ends_with("bias")) tensor.detach().uniform_(-0.2, 0.2);
  }
  DirectNetwork direct(network.ptr());
  std::vector<std::int64_t> shape = GetParam().spec.input;
  shape.insert(shape.begin(), 0);
  for (const std::int64_t batch : {1, 3, 4, 32, 37}) {
    shape[0] = batch;
    const at::Tensor x = torch::randn(shape) * torch::rand(shape).lt(GetParam().active);
    for (int use = 0; use < 3; ++use) {  // the weights' own order, and turned about
      network->zero_grad();
      std::vector<at::Tensor> values;
      const at::Tensor wanted = network->forward(x, values);
      at::Tensor gradient = torch::randn_like(wanted);
      gradient.masked_fill_(torch::rand_like(wanted).lt(0.3), 0);
      wanted.backward(gradient);
      std::vector<at::Tensor> gradients;
      for (const at::Tensor& parameter : network->parameters()) gradients.push_back(parameter.grad().clone());
      const float* const outputs = direct.forward(batch, x.const_data_ptr<float>());
      const at::Tensor got = at::from_blob(const_cast<float*>(outputs), wanted.sizes(), at::kFloat);
      EXPECT_TRUE(at::allclose(got, wanted.detach(), 1e-4, 1e-5)) << batch;
      const std::vector<at::Tensor> own = direct.values();
      ASSERT_EQ(own.size(), values.size());
      for (std::size_t l = 0; l < own.size(); ++l)
        EXPECT_TRUE(at::allclose(own[l], values[l].detach(), 1e-4, 1e-5)) << "layer " << l;
      if (use < 2) continue;  // a backward pass tells that the weights will change
      direct.backward(gradient.const_data_ptr<float>());
      const auto parameters = network->parameters_by_name();
      for (std::size_t i = 0; i < gradients.size(); ++i)
        EXPECT_TRUE(at::allclose(parameters[i].second.grad(), gradients[i], 1e-3, 1e-5))
            << parameters[i].first << ", batch " << batch;
    }
    // Other weights count once they are told of.
    const at::NoGradGuard no_gradient;
    for (const at::Tensor& parameter : network->parameters()) parameter.detach().mul_(1.1);
    direct.weights_changed();
  }
}

TEST(Direct, RefusesWhatItDoesNotCompute) {
  const NetworkSpec plain{.input = {2, 8, 8}, .hidden = {ConvSpec{3, 3}, DenseSpec{5}}, .outputs = 2};
  EXPECT_TRUE(DirectNetwork::supports(plain));
  std::vector<NetworkSpec> others(6, plain);
  others[0].activation = NetworkActivation::tanh;
  others[1].norm = NormKind::batch;
  others[2].flatten = FlattenOrder::channel_minor;
  others[3].hidden = {ConvSpec{3, 3}, ConvSpec{3, 3}, DenseSpec{5}};
  others[4].hidden = {ConvSpec{3, 3, 1, 1}, DenseSpec{5}};
  others[5].hidden = {ConvSpec{3, 3}, MaxPoolSpec{2, 2}, DenseSpec{5}};
  for (const NetworkSpec& spec : others) {
    EXPECT_FALSE(DirectNetwork::supports(spec));
    EXPECT_THROW(DirectNetwork(SequentialNetwork(spec).ptr()), InvalidArgument);
  }
}

}  // namespace
}  // namespace torpor::lab
