#include "apps/load.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace torpor::apps {
namespace fs = std::filesystem;
namespace {

fs::path find_tokenizer(const Model& model, const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.extension() == ".safetensors" || path.extension() == ".json") return folder;
  if (path.extension() != ".bin") return path;
  const std::string sized = fmt::format("tok{}.bin", model.config().vocab_size);
  for (const std::string& name : {sized, std::string("tokenizer.bin"), std::string("tokenizer.model")})
    if (fs::exists(folder / name)) return folder / name;
  throw BadInput("{}: a llama2.c checkpoint has no tokenizer inside, and {}, tokenizer.bin and tokenizer.model are not beside "
                 "it. Name one with --tokenizer",
                 path.string(), sized);
}

}  // namespace

std::unique_ptr<const Tokenizer> load_tokenizer_for(const Model& model, const ModelOptions& options) {
  const fs::path path = options.tokenizer.empty() ? find_tokenizer(model, options.model) : options.tokenizer;
  std::unique_ptr<const Tokenizer> tokenizer = load_tokenizer(path);
  if (tokenizer->vocab_size() > model.config().vocab_size)
    throw BadInput("{}: this tokenizer has {} tokens, the model {} knows {}. Name the model's own with --tokenizer",
                   path.string(), tokenizer->vocab_size(), options.model.string(), model.config().vocab_size);
  return tokenizer;
}

}  // namespace torpor::apps
