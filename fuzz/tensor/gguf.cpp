// GgufFile::parse on arbitrary bytes: BadInput, or a file all of whose values can be asked for in every way.
#include "core/tensor/gguf.h"

#include "fuzz/tensor/archive.h"

namespace {

template <typename Action>
void attempt(const Action& action) {
  try {
    action();
  } catch (const torpor::BadInput&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  attempt([&] {
    const auto file = torpor::GgufFile::parse(bytes, nullptr, "fuzz.gguf");
    torpor::fuzz::check(file.tensors(), bytes);
    for (const std::string_view key : file.keys()) {
      if (!file.has(key)) std::abort();
      attempt([&] { file.integer(key, INT64_MIN, INT64_MAX); });
      attempt([&] { file.number(key); });
      attempt([&] { file.boolean(key); });
      attempt([&] { file.string(key); });
      attempt([&] { file.strings(key); });
      attempt([&] { file.integers(key); });
      attempt([&] { file.numbers(key); });
      attempt([&] { file.booleans(key); });
      attempt([&] { file.arrays(key); });
    }
  });
  return 0;
}
