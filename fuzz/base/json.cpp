// parse_json on arbitrary bytes: either a value that survives being written and read again, or BadInput.
#include "core/base/json.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const torpor::Json value = torpor::parse_json(text, "fuzz.json");
    const std::string written = value.dump();
    if (torpor::parse_json(written, "written.json").dump() != written) std::abort();
  } catch (const torpor::BadInput&) {
  }
  return 0;
}
