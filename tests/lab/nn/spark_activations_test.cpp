#include "lab/nn/spark_activations.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/error.h"
#include "lab/nn/statistical_top_k.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

at::Tensor of(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::silu:
      return at::silu(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::relu:
      return at::relu(x);
    case Activation::relu2:
      return at::relu(x).square();
  }
  throw std::logic_error("no activation");
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).to(at::kDouble).abs().max() / b.to(at::kDouble).abs().max().clamp_min(1e-30)).item<double>();
}

class SparkActivations : public ::testing::TestWithParam<Activation> {};
INSTANTIATE_TEST_SUITE_P(All, SparkActivations,
                         ::testing::Values(Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu,
                                           Activation::relu2),
                         [](const auto& one) { return std::string(name_of(one.param)); });

TEST_P(SparkActivations, AreTheCompositionForwardAndBackward) {
  for (const auto& [type, allowed] : {std::pair(at::kDouble, 1e-13), std::pair(at::kFloat, 3e-6)}) {
    torch::manual_seed(4);
    const auto draw = [&] { return (torch::randn({3, 37, 21}, at::kDouble) * 2 + 0.3).to(type).transpose(1, 2); };
    const at::Tensor scores = draw().requires_grad_(), ups = draw().requires_grad_();
    const at::Tensor scores2 = scores.detach().clone().requires_grad_(), ups2 = ups.detach().clone().requires_grad_();
    const at::Tensor out = spark_activations(GetParam(), scores, ups, 5);
    const at::Tensor expected = of(GetParam(), statistical_top_k(scores2, 5)) * ups2;
    EXPECT_LT(difference(out, expected), allowed);
    EXPECT_TRUE(at::equal(out != 0, expected != 0));
    const at::Tensor direction = torch::randn(out.sizes(), out.options().requires_grad(false));
    (out * direction).sum().backward();
    (expected * direction).sum().backward();
    EXPECT_LT(difference(scores.grad(), scores2.grad()), allowed);
    EXPECT_LT(difference(ups.grad(), ups2.grad()), allowed);
  }
}

TEST_P(SparkActivations, HalfPrecisionIsRoundedOnce) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    torch::manual_seed(4);
    const auto draw = [&] { return torch::randn({9, 40}).to(type); };
    const at::Tensor scores = draw().requires_grad_(), ups = draw().requires_grad_();
    const at::Tensor wide = scores.detach().to(at::kFloat).requires_grad_(),
                     wide_ups = ups.detach().to(at::kFloat).requires_grad_();
    const at::Tensor out = spark_activations(GetParam(), scores, ups, 6);
    const at::Tensor expected = spark_activations(GetParam(), wide, wide_ups, 6);
    EXPECT_TRUE(at::equal(out, expected.to(type)));
    out.backward(at::ones_like(out));
    expected.backward(at::ones_like(expected));
    EXPECT_TRUE(at::equal(scores.grad(), wide.grad().to(type)));
    EXPECT_TRUE(at::equal(ups.grad(), wide_ups.grad().to(type)));
  }
}

TEST(SparkActivations, RefusesWhatItCannotDo) {
  const at::Tensor x = at::ones({2, 8});
  EXPECT_NO_THROW(spark_activations(Activation::relu, x, x, 7));
  for (const std::int64_t k : {-1, 0, 8})
    EXPECT_THROW(spark_activations(Activation::relu, x, x, k), InvalidArgument) << k;
  EXPECT_THROW(spark_activations(Activation::relu, x, at::ones({2, 9}), 3), InvalidArgument);
  EXPECT_THROW(spark_activations(Activation::relu, x, x.to(at::kDouble), 3), InvalidArgument);
  EXPECT_THROW(spark_activations(Activation::relu, x.to(at::kLong), x.to(at::kLong), 3), InvalidArgument);
}

}  // namespace
}  // namespace torpor::lab
