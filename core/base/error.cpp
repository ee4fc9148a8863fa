#include "core/base/error.h"

#include <cstdio>
#include <cstdlib>

namespace torpor::detail {

void assertion_failed(const char* condition, const char* file, int line, const std::string& text) {
  fmt::print(
      stderr,
      "torpor: internal error: {}:{}: {} does not hold. {}\nPlease report this with the command that led here.\n", file,
      line, condition, text);
  std::abort();
}

}  // namespace torpor::detail
