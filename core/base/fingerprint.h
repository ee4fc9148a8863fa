// Short names for long contents: XXH3 128-bit (not cryptographic: it tells inputs apart, it does not defend against
// forgery).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace torpor {

/// Streaming hash. One thread at a time.
class Fingerprint {
 public:
  Fingerprint();
  ~Fingerprint();
  Fingerprint(Fingerprint&&) noexcept;
  Fingerprint& operator=(Fingerprint&&) noexcept;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  /// 32 lower-case hex digits of everything added so far.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Fingerprint of one text.
std::string fingerprint_of(std::string_view text);

}  // namespace torpor
