#include "lab/activity_bridge.h"

#include <torch/torch.h>

#include "core/base/error.h"
#include "lab/activity_reference.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;

ActivityOptions every_token(float epsilon) {
  ActivityOptions options;
  options.epsilon = epsilon;
  options.cett_stride = 1;
  return options;
}

void expect_close(const torch::Tensor& found, const torch::Tensor& expected, double tolerance, const char* what) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  const double worst = ((found - expected).abs() / expected.abs().clamp_min(1e-3)).max().item<double>();
  EXPECT_LE(worst, tolerance) << what;
}

void expect_parity(const TensorActivity& activity, const torch::Tensor& a, const torch::Tensor& w, float epsilon) {
  const ActivityTensors found = activity.tensors();
  const ActivityStatistics statistics = activity.statistics();
  const ActivityReference expected = activity_reference(a, w, found.epsilon, epsilon);
  EXPECT_EQ(statistics.tokens, a.size(0));
  EXPECT_NEAR(statistics.zero_fraction.mean, expected.zero_fraction, 1e-12);
  EXPECT_NEAR(statistics.density.mean, expected.density, 1e-12);
  expect_close(found.frequency, expected.frequency, 1e-12, "frequency");
  expect_close(found.mean_magnitude, expected.mean_magnitude, 1e-6, "mean magnitude");
  expect_close(found.redo_score, expected.redo_score, 1e-6, "ReDo score");
  expect_close(found.sparsity, expected.sparsity, 1e-12, "sparsity");
  expect_close(found.cett, expected.cett, 1e-3, "CETT");
}

TEST(TensorActivity, AgreesWithTensorOperationsForEveryFloatingType) {
  torch::manual_seed(3);
  for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16, torch::kFloat16}) {
    const auto a = torch::relu(torch::randn({90, 70})).to(type);
    const auto w = torch::randn({70, 24}).to(type);
    TensorActivity activity(w, every_token(0.5F));
    activity.add(a);
    expect_parity(activity, a, w, 0.5F);
  }
}

TEST(TensorActivity, ReadsStridedTensorsAsTheyAreIndexed) {
  torch::manual_seed(4);
  const auto a = torch::relu(torch::randn({61, 200})).t().slice(0, 10, 190, 3).t();  // every third column
  const auto w = torch::randn({24, 60}).t();                                         // as weight.t() of a Linear
  ASSERT_FALSE(a.is_contiguous());
  ASSERT_FALSE(w.is_contiguous());
  TensorActivity activity(w, every_token(0.5F));
  activity.add(a);
  expect_parity(activity, a, w, 0.5F);
}

TEST(TensorActivity, LeadingDimensionsAreTokensAndPiecesAddUp) {
  torch::manual_seed(5);
  const auto a = torch::gelu(torch::randn({4, 5, 6, 32}));
  const auto w = torch::randn({32, 8});
  TensorActivity first(w, every_token(0.1F));
  TensorActivity second(w, every_token(0.1F));
  first.add(a[0]);
  first.add(a[1][0]);
  second.add(a[1].slice(0, 1));
  second.add(a.slice(0, 2));
  second.add(a.slice(0, 0, 0));  // nothing
  first.merge(second);
  expect_parity(first, a.reshape({-1, 32}), w, 0.1F);
}

TEST(TensorActivity, KnowsASmallLayerByHeart) {
  const auto w = torch::tensor({{3.0, 4.0}, {0.0, 1.0}, {2.0, 0.0}, {1.0, 0.0}});  // norms 5, 1, 2, 1
  const auto a = torch::tensor({{1.0, 0.0, -1.0, 0.0}, {0.0, 3.0, 0.0, 0.0}});     // magnitudes 5 0 2 0 and 0 3 0 0
  TensorActivity activity(w, every_token(2.0F));
  activity.add(a);
  const ActivityStatistics statistics = activity.statistics();
  EXPECT_EQ(statistics.zero_fraction.mean, 5.0 / 8);
  EXPECT_EQ(statistics.density.mean, 2.0 / 8) << "a magnitude equal to epsilon is inactive";
  EXPECT_EQ(statistics.dead_neurons(), 2);
  EXPECT_EQ(statistics.redo_score[1], 1.5 / (2.5 / 4));
  // At 2: the first token loses -1 * (2, 0) of (3, 4) - (2, 0) = (1, 4); the second loses nothing.
  EXPECT_NEAR(statistics.cett.at(2.0F).cett, 0.5 * 2 / std::sqrt(17.0), 1e-6);
}

TEST(TensorActivity, LeavesAutogradAlone) {
  const auto w = torch::randn({8, 4});
  auto a = torch::randn({3, 8}, torch::requires_grad());
  TensorActivity activity(w, every_token(0));
  activity.add(torch::relu(a));
  a.sum().backward();
  EXPECT_TRUE(torch::equal(a.grad(), torch::ones_like(a)));
}

template <typename E, typename F>
std::string complaint(F action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing of this kind was thrown";
}

TEST(TensorActivity, SaysWhatItExpects) {
  const auto make = [](const torch::Tensor& w) { return [w] { TensorActivity(w, ActivityOptions{}); }; };
  EXPECT_THAT(complaint<InvalidArgument>(make({})), HasSubstr("expected a tensor"));
  EXPECT_THAT(complaint<InvalidArgument>(make(torch::ones({3}))), HasSubstr("[neurons, width], found [3]"));
  EXPECT_THAT(complaint<InvalidArgument>(make(torch::ones({0, 3}))), HasSubstr("found [0, 3]"));
  EXPECT_THAT(complaint<InvalidArgument>(make(torch::ones({2, 3}, torch::kInt32))),
              HasSubstr("expected a floating type, found Int"));
  EXPECT_THAT(complaint<InvalidArgument>(make(torch::ones({2, 3}).to_sparse())), HasSubstr("found a sparse one"));
  EXPECT_THAT(complaint<BadInput>(make(torch::full({2, 3}, INFINITY))), HasSubstr("finite"));

  TensorActivity activity(torch::ones({4, 3}));
  EXPECT_THAT(complaint<InvalidArgument>([&] {
                activity.add(torch::ones({2, 3}));
              }),
              HasSubstr("[..., 4], found [2, 3]"));
  EXPECT_THAT(complaint<InvalidArgument>([&] { activity.add(torch::tensor(1.0)); }), HasSubstr("found []"));
  auto nan = torch::ones({2, 4});
  nan[1][2] = NAN;
  EXPECT_THAT(complaint<BadInput>([&] { activity.add(nan); }), HasSubstr("finite"));
  EXPECT_EQ(activity.tokens(), 0) << "a refused tensor is not counted in part";
}

}  // namespace
}  // namespace torpor::lab
