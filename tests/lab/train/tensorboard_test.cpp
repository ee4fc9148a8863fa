#include "lab/train/tensorboard.h"

#include <limits>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using testing::golden;
using testing::TemporaryFolder;

TEST(TensorBoard, RecordsAreThoseOfItsOwnWriter) {
  constexpr double kTime = 1700000000.25;
  const Scalar first[] = {{"train/loss_nats_per_token", 5.5}};
  const Scalar several[] = {
      {"train/loss_nats_per_token", 2.25}, {"train/learning_rate", 1e-3}, {"held_out/bits_per_byte", 1.7}};
  const Scalar infinite[] = {{"train/gradient_norm", std::numeric_limits<double>::infinity()}};
  EXPECT_EQ(version_record(kTime) + restart_record(kTime, 301) + scalars_record(kTime, 1, first) +
                scalars_record(kTime, 300, several) + scalars_record(kTime, 1'000'000'007, infinite),
            read_file(golden("lab/events.tfevents")));
}

std::filesystem::path only_file(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  EXPECT_EQ(files.size(), 1U);
  return files.at(0);
}

TEST(TensorBoard, AFileIsNamedForItAndAResumedRunSaysFromWhere) {
  const TemporaryFolder first, second;
  const Scalar loss[] = {{"loss", 1.5}};
  EventFile fresh(first.path(), 0), resumed(second.path(), 11);
  fresh.add(1, loss);
  fresh.flush();
  EXPECT_THAT(only_file(first.path()).filename().string(), ::testing::StartsWith("events.out.tfevents."));
  // The framing of a record is 16 bytes; a START's message is the time, the step and four bytes.
  EXPECT_EQ(read_file(only_file(first.path())).size(), version_record(0).size() + scalars_record(0, 1, loss).size());
  EXPECT_EQ(read_file(only_file(second.path())).size(), version_record(0).size() + restart_record(0, 11).size());
}

TEST(TensorBoard, AFolderThatIsNotThereIsAnError) {
  const TemporaryFolder folder;
  EXPECT_THROW(EventFile(folder / "none", 0), IoError);
}

}  // namespace
}  // namespace torpor::lab
