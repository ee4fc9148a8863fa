#include "lab/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little-endian");

/// CRC-32C (Castagnoli), a byte at a time: records are short.
std::uint32_t crc32c(std::string_view bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> out{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78U : crc >> 1;
      out[i] = crc;
    }
    return out;
  }();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

template <typename T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// TFRecord's checksum: rotated and shifted, so that a checksum of checksums stays one.
std::string masked_checksum(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return bytes_of(std::rotr(crc, 15) + 0xA282EAD8U);
}

std::string framed(std::string_view message) {
  const std::string length = bytes_of(static_cast<std::uint64_t>(message.size()));
  return length + masked_checksum(length) + std::string(message) + masked_checksum(message);
}

// Protocol buffers, as far as an Event needs them: field numbers are tensorflow/core/util/event.proto's.
std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

std::string key(int field, Wire wire) {
  return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(wire));
}

std::string nested(int field, std::string_view message) {
  return key(field, Wire::bytes) + varint(message.size()) + std::string(message);
}

/// An Event without its content; a step of 0 is the default and not written.
std::string event(double wall_time, std::int64_t step) {
  std::string out = key(1, Wire::fixed64) + bytes_of(wall_time);
  if (step != 0) out += key(2, Wire::varint) + varint(static_cast<std::uint64_t>(step));
  return out;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::string version_record(double wall_time) {
  return framed(event(wall_time, 0) + nested(3, "brain.Event:2"));
}

std::string restart_record(double wall_time, std::int64_t step) {
  constexpr int kSessionLog = 7, kStatus = 1, kStart = 1;
  return framed(event(wall_time, step) + nested(kSessionLog, key(kStatus, Wire::varint) + varint(kStart)));
}

std::string scalars_record(double wall_time, std::int64_t step, std::span<const Scalar> scalars) {
  constexpr int kSummary = 5, kValue = 1, kTag = 1, kSimpleValue = 2;
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary +=
        nested(kValue, nested(kTag, tag) + key(kSimpleValue, Wire::fixed32) + bytes_of(static_cast<float>(value)));
  return framed(event(wall_time, step) + nested(kSummary, summary));
}

EventFile::EventFile(const std::filesystem::path& folder, std::int64_t first_step) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {'h', 'o', 's', 't'};
  const double time = now();
  path_ = folder / fmt::format("events.out.tfevents.{:.0f}.{}.{}", std::floor(time), host.data(), ::getpid());
  file_.open(path_, std::ios::binary | std::ios::app);
  write(version_record(time));
  if (first_step > 0) write(restart_record(time, first_step));
  flush();
}

void EventFile::add(std::int64_t step, std::span<const Scalar> scalars) {
  write(scalars_record(now(), step, scalars));
}

void EventFile::flush() {
  file_.flush();
  if (!file_) throw IoError("{}: cannot be written. Is the disk full?", path_.string());
}

void EventFile::write(const std::string& record) {
  file_.write(record.data(), static_cast<std::streamsize>(record.size()));
  if (!file_) throw IoError("{}: cannot be written. Is the disk full?", path_.string());
}

}  // namespace torpor::lab
