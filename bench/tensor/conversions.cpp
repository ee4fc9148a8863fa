// How fast numbers become f32 and back, beside memcpy in the same run: the share of the memory's speed that a
// conversion reaches. Each row moves the same number of values; GB/s counts the bytes read and written, as for memcpy.
//
//   bench_tensor [megabytes of f32, default 64] [rounds, default 15]
//
// The best round counts. Rounds go through all rows in turn, so that a busy moment of the machine hits every row alike.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/tensor/half_float.h"
#include "core/tensor/number_format.h"

namespace {

using namespace torpor;

struct Row {
  std::string name;
  std::size_t bytes;  // read and written
  std::function<void()> work;
  double best_seconds = 1e30;
};

// Random blocks whose scales are small: no NaN, no infinity, few subnormals, as in a model.
std::vector<std::byte> random_bytes(NumberFormat format, std::int64_t values, Random& random) {
  std::vector<std::byte> bytes(bytes_of(format, values));
  std::vector<float> some(4096);
  for (float& value : some) value = static_cast<float>(random.normal() * 0.02);
  if (!traits(format).quantised) {
    const std::size_t piece = bytes_of(format, static_cast<std::int64_t>(some.size()));
    std::vector<std::byte> once(piece);
    from_f32(some, format, once.data());
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      std::memcpy(bytes.data() + at, once.data(), std::min(piece, bytes.size() - at));
    return bytes;
  }
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
  const auto block = static_cast<std::size_t>(traits(format).block_bytes);
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    const std::uint16_t scale = f16_from_f32(some[at / block % some.size()]);
    const std::size_t where = format == NumberFormat::q6_k ? 208 : 0;
    std::memcpy(bytes.data() + at + where, &scale, sizeof scale);
    if (format == NumberFormat::q4_k) std::memcpy(bytes.data() + at + 2, &scale, sizeof scale);
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t megabytes = argc > 1 ? std::max(1, std::atoi(argv[1])) : 64;
  const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 15;
  const std::int64_t values = megabytes * (1 << 20) / 4;
  const auto f32_bytes = static_cast<std::size_t>(values) * sizeof(float);
  Random random(1);

  std::vector<float> source(static_cast<std::size_t>(values)), target(source.size());
  for (std::size_t i = 0; i < source.size(); ++i)
    source[i] = static_cast<float>(static_cast<int>(i % 4001) - 2000) * 1e-3F;
  std::vector<std::byte> narrow(source.size() * 2);

  std::vector<Row> rows;
  rows.push_back({"memcpy of f32", 2 * f32_bytes, [&] { std::memcpy(target.data(), source.data(), f32_bytes); }});
  std::vector<std::pair<NumberFormat, std::vector<std::byte>>> inputs;
  for (const NumberFormat format : {NumberFormat::f16, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0,
                                    NumberFormat::q4_k, NumberFormat::q6_k})
    inputs.emplace_back(format, random_bytes(format, values, random));
  for (const auto& [format, bytes] : inputs)
    rows.push_back({fmt::format("{} to f32", traits(format).name), bytes.size() + f32_bytes,
                    [&target, &bytes = bytes, format = format] { to_f32(format, bytes.data(), target); }});
  for (const NumberFormat format : {NumberFormat::f16, NumberFormat::bf16})
    rows.push_back({fmt::format("f32 to {}", traits(format).name), narrow.size() + f32_bytes,
                    [&, format] { from_f32(source, format, narrow.data()); }});

  for (int round = 0; round < rounds; ++round) {
    for (Row& row : rows) {
      const auto start = std::chrono::steady_clock::now();
      row.work();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (round > 0 || rounds == 1) row.best_seconds = std::min(row.best_seconds, seconds);  // the first one warms up
    }
  }
  const auto speed = [](const Row& row) { return static_cast<double>(row.bytes) / row.best_seconds * 1e-9; };
  fmt::print("{} MB of f32, best of {} rounds, one thread\n", megabytes, rounds);
  fmt::print("{:16} {:>8} {:>16} {:>10}\n", "", "GB/s", "values/ns", "x memcpy");
  for (const Row& row : rows)
    fmt::print("{:16} {:8.2f} {:16.2f} {:10.2f}\n", row.name, speed(row),
               static_cast<double>(values) / row.best_seconds * 1e-9, speed(row) / speed(rows.front()));
  return 0;
}
