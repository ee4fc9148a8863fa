// The result of `torpor bench` as a page: the roofline of decoding, and where the time and the bytes of a token go.
#pragma once

#include <string>

#include "core/base/json.h"

namespace torpor {

/// bench: bench.json; manifest: manifest.json. One self-contained HTML page. Throws BadInput where `bench` is not what
/// `torpor bench` writes.
std::string render_decode_report(const Json& bench, const Json& manifest);

}  // namespace torpor
