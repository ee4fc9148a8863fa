// Scalars for TensorBoard: event files as its own writer makes them (TFRecord framing, tensorflow.Event messages).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace torpor::lab {

/// One scalar of a step: its tag ("train/loss") and value.
using Scalar = std::pair<std::string_view, double>;

/// The records of a file, each framed with its length and two checksums.
std::string version_record(double wall_time);
/// Tells TensorBoard that what it has seen of this run from `step` on is void: a resumed run writes it again.
std::string restart_record(double wall_time, std::int64_t step);
std::string scalars_record(double wall_time, std::int64_t step, std::span<const Scalar> scalars);

/// A new file events.out.tfevents.TIME.HOST.PID in the folder; TensorBoard reads all of a folder as one run. One thread
/// at a time.
class EventFile {
 public:
  /// first_step: the first that will be written, 0 for a new run. Throws IoError.
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);
  /// Throws IoError. Written out by flush() and at the end.
  void add(std::int64_t step, std::span<const Scalar> scalars);
  void flush();

 private:
  void write(const std::string& record);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace torpor::lab
