// A value, or the reason why there is none. For outcomes that are part of normal life (a layer that cannot be skipped,
// a plan for another model) and whose reason is shown to a person. Not for faults: those are exceptions (error.h).
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace torpor {

/// The reason why there is no value. `return Unavailable{"layer 3 has no down projection"};`
struct Unavailable {
  std::string reason;
};

/// Holds a T or a reason. Like std::optional, with words. Not thread-safe to modify; const use is.
template <typename T>
class Expected {
 public:
  Expected(T value) : value_(std::move(value)) {}                                // NOLINT(google-explicit-constructor)
  Expected(Unavailable unavailable) : reason_(std::move(unavailable.reason)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return value_.has_value(); }
  explicit operator bool() const { return has_value(); }

  const T& value() const {
    TORPOR_ASSERT(has_value(), "{}", reason_);
    return *value_;
  }
  T& value() {
    TORPOR_ASSERT(has_value(), "{}", reason_);
    return *value_;
  }
  const T& operator*() const { return value(); }
  const T* operator->() const { return &value(); }

  /// Empty if there is a value.
  const std::string& reason() const { return reason_; }

 private:
  std::optional<T> value_;
  std::string reason_;
};

}  // namespace torpor
