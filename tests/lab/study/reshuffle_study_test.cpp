// The label-reshuffling study on a small scale: every arm runs, repeats, and is told as it was.
#include "lab/study/reshuffle_study.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "lab/study/cifar.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

ReshuffleOptions small() {
  return {.samples = 120,
          .classes = 4,
          .side = 6,
          .epochs = 4,
          .epochs_per_task = 2,
          .batch = 3,
          .width = 12,
          .layers = 2,
          .probe = 32,
          .logged = 50,
          .seeds = {1}};
}

ReshuffleRun run_arm(const std::string& name, const std::filesystem::path& folder, std::uint64_t seed = 1,
                     const ReshuffleOptions& options = small()) {
  at::set_num_threads(1);
  const std::vector<ReshuffleArm> arms = reshuffle_arms(options);
  const auto arm = std::find_if(arms.begin(), arms.end(), [&](const ReshuffleArm& a) { return a.name == name; });
  return run_reshuffle_arm(*arm, seed, options, folder, [](std::int64_t) {});
}

TEST(ReshuffleStudy, EveryArmRunsAndItsNumbersAreRead) {
  const TemporaryFolder folder;
  ReshuffleStudy study{small(), {}, "torpor study reshuffle"};
  for (const ReshuffleArm& arm : reshuffle_arms(study.options)) {
    const ReshuffleRun run = run_arm(arm.name, folder / arm.name);
    ASSERT_EQ(run.accuracy.size(), 2U) << arm.name;
    ASSERT_EQ(run.dormant.size(), 5U) << arm.name;
    ASSERT_EQ(run.layers[3].size(), 2U) << arm.name;
    EXPECT_GT(run.accuracy[0], 0.1) << arm.name;
    EXPECT_GE(run.rank, arm.optimizer == ReshuffleOptimizer::sgd ? 0 : 1) << arm.name;  // SGD kills them all here
    // 160 steps: none at 200, but for arms that select a share, which have none either.
    EXPECT_EQ(run.recycled, 0) << arm.name;
    // Read back, not run again.
    EXPECT_EQ(to_json(run_arm(arm.name, folder / arm.name)), to_json(run)) << arm.name;
    study.runs.push_back(run);
  }
  const std::string page = render_page(page_of(study)), text = markdown_of(study);
  for (const char* words : {"Labels fitted", "ReDo, moments and unit counts", "What must show", "By layer"})
    EXPECT_THAT(page, HasSubstr(words));
  EXPECT_THAT(text, HasSubstr("| Leaky ReLU, nothing done (V10) |"));
  EXPECT_EQ(to_json(study)["arms"].size(), 24U);
  EXPECT_THROW(run_arm("none", folder / "redo"), BadInput);
  ReshuffleOptions other = small();
  other.width = 13;
  EXPECT_THROW(run_arm("none", folder / "none", 1, other), BadInput);
}

TEST(ReshuffleStudy, ArmsThatRecycleDoAndLabelsThatStayAreFitted) {
  const TemporaryFolder folder;
  ReshuffleOptions options = small();
  options.epochs = 12;
  options.epochs_per_task = 6;
  const ReshuffleRun redo = run_arm("redo", folder / "a", 1, options);
  const ReshuffleRun again = run_arm("redo", folder / "b", 1, options);
  EXPECT_GT(redo.recycled, 0);  // at 200 and 400
  EXPECT_EQ(redo.dormant, again.dormant);
  EXPECT_EQ(redo.accuracy, again.accuracy);
  EXPECT_NE(redo.dormant, run_arm("redo", folder / "c", 2, options).dormant);
  EXPECT_GT(run_arm("lowest", folder / "d", 1, options).recycled, 0);
  const ReshuffleRun fixed = run_arm("fixed", folder / "e", 1, options);
  EXPECT_GT(fixed.accuracy[1], fixed.accuracy[0]);
}

TEST(ReshuffleStudy, ClaimsHoldAndFailByTheirNumbers) {
  const auto run = [](const std::string& variant, double accuracy, double first, double last) {
    return ReshuffleRun{.variant = variant, .seed = 1, .accuracy = {0.6, accuracy}, .dormant = {0.05, first, last}};
  };
  std::vector<ReshuffleRun> runs = {run("fixed", 1, 0.2, 0.1),          run("none", 0.3, 0.2, 0.4),
                                    run("redo", 0.9, 0.2, 0.05),        run("lowest", 0.9, 0.1, 0.1),
                                    run("random", 0.5, 0.1, 0.1),       run("highest", 0.4, 0.1, 0.1),
                                    run("redo_moments", 0.6, 0.1, 0.4), run("leaky", 0.4, 0, 0)};
  const auto claims = [](const std::vector<ReshuffleRun>& of) { return reshuffle_claims({{}, of, ""}); };
  for (const Claim& claim : claims(runs)) EXPECT_TRUE(claim.held) << claim.name;
  const auto fails = [&](std::size_t which, const ReshuffleRun& changed, std::size_t claim) {
    std::vector<ReshuffleRun> others = runs;
    others[which] = changed;
    EXPECT_FALSE(claims(others)[claim].held) << claim;
  };
  fails(0, run("fixed", 1, 0.1, 0.2), 0);
  fails(1, run("none", 0.6, 0.2, 0.4), 1);
  fails(1, run("none", 0.3, 0.2, 0.2), 1);
  fails(2, run("redo", 0.65, 0.2, 0.05), 2);
  fails(2, run("redo", 0.9, 0.2, 0.15), 2);
  fails(4, run("random", 0.95, 0.1, 0.1), 3);
  fails(6, run("redo_moments", 0.85, 0.1, 0.1), 4);
  fails(7, run("leaky", 0.4, 0, 0.2), 5);
  runs.pop_back();
  EXPECT_THROW(claims(runs), InvalidArgument);
}

/// Records of one colour each, its brightness by the label.
std::string records(int n) {
  std::string bytes;
  for (int i = 0; i < n; ++i) {
    const int label = i % 4;
    bytes += static_cast<char>(label);
    for (int colour = 0; colour < 3; ++colour)
      bytes += std::string(1024, static_cast<char>(colour == label % 3 ? 40 + 60 * (label / 3) + i : 10));
  }
  return bytes;
}

TEST(Cifar, ReadsRecordsAndRefusesOthers) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "batch.bin";
  write_file_atomically(file, records(8));
  const LabelledImages read = read_cifar10(file, 6);
  EXPECT_EQ(read.images.sizes().vec(), (std::vector<std::int64_t>{6, 3, 32, 32}));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(read.labels[i].item<std::int64_t>(), i % 4);
  for (int colour = 0; colour < 3; ++colour) {
    const at::Tensor plane = read.images.select(1, colour);
    EXPECT_NEAR(plane.mean().item<double>(), 0, 1e-5);
    EXPECT_NEAR(plane.std(false).item<double>(), 1, 1e-5);
  }
  // Image 0 is red: above the red mean, and no other colour's.
  EXPECT_GT(read.images[0][0][5][7].item<double>(), 0);
  EXPECT_LT(read.images[0][1][5][7].item<double>(), 0);
  const auto refuses = [&](const std::string& bytes, std::int64_t n, const std::string& words) {
    write_file_atomically(file, bytes);
    EXPECT_THAT([&] { read_cifar10(file, n); }, ::testing::ThrowsMessage<BadInput>(HasSubstr(words)));
  };
  refuses(records(2), 3, "expected at least 3 images, found 2");
  refuses(records(2) + "x", 2, "xz -d");
  refuses("", 1, "found 0 bytes");
  std::string wrong = records(2);
  wrong[3073] = 10;
  refuses(wrong, 2, "image 1: expected a label from 0 to 9, found 10");
  EXPECT_THROW(read_cifar10(folder / "none.bin", 1), Error);
}

TEST(Cifar, EveryArmRunsAndIsTold) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "batch.bin", records(60));
  ReshuffleOptions options = cifar_options(folder / "batch.bin");
  EXPECT_EQ(options.samples, 10'000);
  options.samples = 60;
  options.epochs = 4;
  options.epochs_per_task = 2;
  options.batch = 8;
  options.scale = 0.1;
  options.probe = options.logged = 16;
  options.seeds = {1};
  ReshuffleStudy study{options, {}, "torpor study reshuffle --images batch.bin"};
  for (const ReshuffleArm& arm : reshuffle_arms(options)) {
    study.runs.push_back(run_arm(arm.name, folder / arm.name, 1, options));
    EXPECT_EQ(study.runs.back().layers.front().size(), 4U);
    EXPECT_GT(study.runs.back().accuracy[0], 0.2) << arm.name;
  }
  EXPECT_EQ(study.runs.size(), 5U);
  EXPECT_EQ(reshuffle_claims(study).size(), 4U);
  EXPECT_THAT(markdown_of(study), HasSubstr("60 images of CIFAR-10, whose labels are permuted every 2 of 4 epochs"));
  EXPECT_THAT(render_page(page_of(study)), HasSubstr("Labels fitted"));
}

TEST(Cifar, ClaimsHoldAndFailByTheirNumbers) {
  ReshuffleStudy study{cifar_options("x.bin"), {}, ""};
  study.options.epochs = 2;
  study.options.epochs_per_task = 1;
  const auto run = [](const std::string& variant, double accuracy, double first, double last) {
    return ReshuffleRun{.variant = variant, .seed = 1, .accuracy = {0.6, accuracy}, .dormant = {0.05, first, last}};
  };
  const std::vector<ReshuffleRun> runs = {run("fixed", 1, 0.02, 0.01), run("none", 0.5, 0.2, 0.3),
                                          run("redo", 0.9, 0.05, 0.05)};
  study.runs = runs;
  for (const Claim& claim : reshuffle_claims(study)) EXPECT_TRUE(claim.held) << claim.name;
  const auto fails = [&](std::size_t which, const ReshuffleRun& changed, std::size_t claim) {
    study.runs = runs;
    study.runs[which] = changed;
    EXPECT_FALSE(reshuffle_claims(study)[claim].held) << claim;
  };
  fails(0, run("fixed", 1, 0.02, 0.03), 0);
  fails(1, run("none", 0.5, 0.3, 0.2), 1);
  fails(2, run("redo", 0.9, 0.05, 0.15), 2);
  fails(2, run("redo", 0.4, 0.05, 0.05), 3);
}

}  // namespace
}  // namespace torpor::lab
