// Which format a path is.
#include <algorithm>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/gguf.h"
#include "core/text/formats.h"
#include "core/text/tokenizer.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::unique_ptr<const Tokenizer> load_pair(const fs::path& vocab, const fs::path& merges) {
  for (const fs::path& path : {vocab, merges})
    if (!is_file(path))
      throw BadInput("{}: expected vocab.json and merges.txt side by side, found no such file", path.string());
  return text::tokenizer_from_vocab_and_merges(read_file(vocab), vocab.string(), read_file(merges), merges.string(),
                                               vocab.parent_path());
}

std::unique_ptr<const Tokenizer> load_file(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string extension = path.extension().string();
  // "." for a bare name, so that files beside it are found.
  const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  if (extension == ".gguf") return text::tokenizer_from_gguf(GgufFile::open(path));
  if (extension == ".model") return text::tokenizer_from_sentencepiece(read_file(path), path.string(), folder);
  if (extension == ".bin") return text::tokenizer_from_llama2c(read_file(path), path.string());
  if (name.ends_with("vocab.json"))
    return load_pair(path, folder / (name.substr(0, name.size() - std::string("vocab.json").size()) + "merges.txt"));
  if (name.ends_with("merges.txt"))
    return load_pair(folder / (name.substr(0, name.size() - std::string("merges.txt").size()) + "vocab.json"), path);
  if (extension == ".json") return text::tokenizer_from_json(read_file(path), path.string(), folder);
  throw BadInput(
      "{}: expected a tokenizer: tokenizer.json, tokenizer.model, vocab.json beside merges.txt, a .gguf file or "
      "llama2.c's .bin; "
      "found another kind of file",
      path.string());
}

}  // namespace

std::unique_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    throw BadInput("{}: expected a tokenizer or a model folder, found nothing there", path.string());
  if (!fs::is_directory(path, error)) return load_file(path);
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer.gguf", "tokenizer.bin"})
    if (is_file(path / name)) return load_file(path / name);
  if (is_file(path / "vocab.json") && is_file(path / "merges.txt")) return load_file(path / "vocab.json");
  throw BadInput("{}: expected tokenizer.json, tokenizer.model or vocab.json with merges.txt in the folder, found none",
                 path.string());
}

}  // namespace torpor
