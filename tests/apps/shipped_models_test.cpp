// The models in models/ are what their cards say: they load, write English, predict the held-out novel as well as the
// card says, and have inactive neurons.
#include <cmath>

#include "tests/apps/files.h"
#include "tests/apps/program.h"
#include "tests/test_support.h"

namespace torpor::testing {
namespace {

namespace fs = std::filesystem;

fs::path models() {
  return fs::path(TORPOR_SOURCE_DIR) / "models";
}

class ShippedModel : public ::testing::TestWithParam<const char*> {
 protected:
  std::string folder() const { return (models() / GetParam()).string(); }
};
INSTANTIATE_TEST_SUITE_P(All, ShippedModel, ::testing::Values("relu2", "spark", "swiglu"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(ShippedModel, IsSmallAndHasACardWithItsNumbers) {
  EXPECT_LE(fs::file_size(models() / GetParam() / "model.safetensors"), 14'000'000U);
  const Json train = Json::parse(read_all(models() / GetParam() / "train.json"));
  const std::string card = read_all(models() / GetParam() / "README.md");
  const std::string bits = fmt::format("{:.3f}", train["held_out_bits_per_byte"].get<double>());
  EXPECT_THAT(card, ::testing::HasSubstr("**" + bits + "**"));
  EXPECT_THAT(read_all(models() / "README.md"), ::testing::HasSubstr(bits)) << "in the table of all models";
}

TEST_P(ShippedModel, PredictsTheHeldOutNovelAsItsCardSays) {
  const Outcome outcome = torpor(
      {"eval", folder(), "--text", (models() / "held-out-novel.txt").string(), "--max-tokens", "6000", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json train = Json::parse(read_all(models() / GetParam() / "train.json"));
  EXPECT_NEAR(Json::parse(outcome.out)["bits_per_byte"].get<double>(), train["held_out_bits_per_byte"].get<double>(),
              0.1)
      << "one of the six novels that the card's number is of";
}

TEST_P(ShippedModel, WritesWords) {
  const Outcome outcome = torpor({"run", folder(), "--prompt", "She looked at him", "--greedy", "--max-tokens", "20"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, ::testing::StartsWith("She looked at him"));
  EXPECT_THAT(outcome.out, ::testing::ContainsRegex(" (and|the|to|of) ")) << outcome.out;
}

TEST_P(ShippedModel, WritesTheSameTextSkippingAndDense) {
  const auto text = [&](const char* how) {
    const Outcome outcome = torpor({"run", folder(), "--prompt", "She looked at him", "--temperature", "0.7", "--seed",
                                    "3", "--max-tokens", "400", how});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(text("--force"), text("--dense"));
}

/// Zero fraction on the held-out novel, the mean over the layers.
double zero_fraction(const std::string& name) {
  const TemporaryFolder out;
  const Outcome outcome = torpor({"profile", (models() / name).string(), "--text",
                                  (models() / "held-out-novel.txt").string(), "--cett", "0.05", "--calibration-tokens",
                                  "2048", "--held-out-tokens", "1024", "-o", (out / "p").string(), "-q", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json profile = Json::parse(read_all(out / "p" / "profile.json"));
  double zeros = 0;
  for (const Json& layer : profile["layers"]) zeros += layer["zero_fraction"].get<double>();
  return zeros / static_cast<double>(profile["layers"].size());
}

TEST(ShippedRelu2, MostOfItsNeuronsAreInactive) {
  EXPECT_GT(zero_fraction("relu2"), 0.85);
}

TEST(ShippedSpark, AboutAsManyNeuronsAreActiveAsItWasTrainedFor) {
  EXPECT_GT(zero_fraction("spark"), 0.91);
  EXPECT_LT(zero_fraction("spark"), 0.96);
}

}  // namespace
}  // namespace torpor::testing
