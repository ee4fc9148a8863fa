#include "core/base/fingerprint.h"

#include <vector>

#include "tests/test_support.h"

namespace torpor {
namespace {

// Values of PyPI xxhash 4.1.0 (XXH 0.8.4): xxhash.xxh3_128_hexdigest(text).
TEST(Fingerprint, AgreesWithAnotherImplementationOfXxh3) {
  EXPECT_EQ(fingerprint_of(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(fingerprint_of("a"), "a96faf705af16834e6c632b61e964e1f");
  EXPECT_EQ(fingerprint_of("The inactive neurons of neural networks"), "2be4890235535dee88ab646fb431ea69");
  std::string ramp;
  for (int i = 0; i < 100000; ++i) ramp += static_cast<char>(i % 251);
  EXPECT_EQ(fingerprint_of(ramp), "54182c58bbb1337c42c23aeead96750d");
}

TEST(Fingerprint, DoesNotDependOnHowTheBytesArrive) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 31 % 256);
  const std::string whole = fingerprint_of(text);
  for (const std::size_t step : {1UL, 7UL, 255UL, 256UL, 257UL, 4999UL}) {
    Fingerprint pieces;
    for (std::size_t i = 0; i < text.size(); i += step) pieces.add(std::string_view(text).substr(i, step));
    EXPECT_EQ(pieces.hex(), whole) << "pieces of " << step;
  }
}

TEST(Fingerprint, CanBeReadWhileMoreIsAdded) {
  Fingerprint fingerprint;
  fingerprint.add("ab");
  EXPECT_EQ(fingerprint.hex(), fingerprint_of("ab"));
  EXPECT_EQ(fingerprint.hex(), fingerprint_of("ab"));
  const std::vector<std::byte> more = {std::byte{'c'}};
  fingerprint.add(std::span(more));
  Fingerprint moved = std::move(fingerprint);
  EXPECT_EQ(moved.hex(), fingerprint_of("abc"));
}

TEST(Fingerprint, ChangesWithEveryBit) {
  std::string text(1000, 'x');
  const std::string before = fingerprint_of(text);
  for (const std::size_t position : {0UL, 1UL, 499UL, 998UL, 999UL}) {
    text[position] ^= 1;
    EXPECT_NE(fingerprint_of(text), before) << position;
    text[position] ^= 1;
  }
}

}  // namespace
}  // namespace torpor
