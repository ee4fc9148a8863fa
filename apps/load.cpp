#include "apps/load.h"

#include <fmt/format.h>

#include "core/activity/plan.h"
#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/tensor/gguf.h"
#include "engine/models/neuron_layers.h"
#include "engine/models/packed.h"

namespace torpor::apps {
namespace fs = std::filesystem;
namespace {

fs::path find_tokenizer(const Model& model, const fs::path& path) {
  fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.extension() == ".safetensors" || path.extension() == ".json") return folder;
  if (path.extension() != ".bin") return path;
  const std::string sized = fmt::format("tok{}.bin", model.config().vocab_size);
  for (const std::string& name : {sized, std::string("tokenizer.bin"), std::string("tokenizer.model")})
    if (fs::exists(folder / name)) return folder / name;
  throw BadInput(
      "{}: a llama2.c checkpoint has no tokenizer inside, and {}, tokenizer.bin and tokenizer.model are not beside "
      "it. Name one with --tokenizer",
      path.string(), sized);
}

}  // namespace

void add_activation_option(CLI::App& app, ModelOptions& options) {
  app.add_option("--activation", options.activation,
                 "Activation function to use where the model's files name the wrong one: relu, relu2, silu, …")
      ->type_name("NAME");
}

void add_mapped_option(CLI::App& app, ModelOptions& options) {
  app.add_flag("--mapped", options.mapped,
               "Read the weights where the file is mapped: starts sooner and needs no memory of its own, but decodes "
               "more slowly than from large pages");
}

void add_cache_option(CLI::App& app, NumberFormat& format) {
  app.add_option_function<std::string>(
         "--cache",
         [&format](const std::string& name) {
           if (name != "f32" && name != "q8") throw UsageError("expected a --cache of f32 or q8, got \"{}\"", name);
           format = name == "q8" ? NumberFormat::q8_0 : NumberFormat::f32;
         },
         "Format of the cached keys and values: f32, or q8: a quarter of the memory and reading (f32)")
      ->type_name("TYPE");
}

void add_model_options(CLI::App& app, ModelOptions& options, bool required) {
  app.add_option("MODEL", options.model, "Hugging Face folder, .gguf file or llama2.c checkpoint (.bin)")
      ->required(required);
  app.add_option("--tokenizer", options.tokenizer, "The model's tokenizer, where it is not inside or beside the model")
      ->type_name("FILE");
  add_activation_option(app, options);
}

std::unique_ptr<const Tokenizer> load_tokenizer_for(const Model& model, const ModelOptions& options) {
  const fs::path path = options.tokenizer.empty() ? find_tokenizer(model, options.model) : options.tokenizer;
  std::unique_ptr<const Tokenizer> tokenizer = load_tokenizer(path);
  if (tokenizer->vocab_size() > model.config().vocab_size)
    throw BadInput("{}: this tokenizer has {} tokens, the model {} knows {}. Name the model's own with --tokenizer",
                   path.string(), tokenizer->vocab_size(), options.model.string(), model.config().vocab_size);
  // Many models have rows to spare, some hundreds to make the table even; a tokenizer of half the size is another's.
  if (tokenizer->vocab_size() < model.config().vocab_size / 2)
    throw BadInput(
        "{}: this tokenizer has only {} tokens, the model {} knows {}: it is another model's. Name the model's "
        "own with --tokenizer",
        path.string(), tokenizer->vocab_size(), options.model.string(), model.config().vocab_size);
  return tokenizer;
}

bool copy_tokenizer(const Model& model, const ModelOptions& options, const fs::path& folder) {
  fs::path from = options.tokenizer;
  if (from.empty()) {
    try {
      from = find_tokenizer(model, options.model);
    } catch (const BadInput&) {
      return false;  // a llama2.c checkpoint alone
    }
  }
  try {
    static_cast<void>(load_tokenizer(from));
  } catch (const BadInput&) {
    if (!options.tokenizer.empty()) throw;
    return false;
  }
  const auto copy = [&](const fs::path& file, const std::string& name) {
    if (fs::exists(file)) write_file_atomically(folder / name, read_file(file));
  };
  const std::string extension = from.extension().string();
  if (extension == ".gguf") {
    write_file_atomically(folder / "tokenizer.gguf", GgufFile::open(from).without_tensors());
  } else if (fs::is_directory(from) || from.filename() == "vocab.json" || from.filename() == "merges.txt") {
    const fs::path source = fs::is_directory(from) ? from : from.parent_path();
    for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json",
                             "special_tokens_map.json", "added_tokens.json", "tokenizer.bin", "tokenizer.gguf"})
      copy(source / name, name);
  } else {
    copy(from, "tokenizer" + extension);
    copy(from.parent_path() / "tokenizer_config.json", "tokenizer_config.json");
  }
  return true;
}

fs::path packed_plan(const fs::path& model) {
  const fs::path plan = model / "plan.json";
  return fs::exists(model / kPackedFile) && fs::exists(plan) ? plan : fs::path();
}

NumberFormat weight_type(const std::string& type) {
  if (type == "bf16") return NumberFormat::bf16;
  if (type == "f32") return NumberFormat::f32;
  if (type == "q8") return NumberFormat::q8_0;
  if (type == "q4") return NumberFormat::q4_0;
  throw UsageError("expected a --type of bf16, f32, q8 or q4, got \"{}\"", type);
}

PlanInFolder read_plan_for(const Model& model, const fs::path& path) {
  PlanInFolder plan{read_plan(path), path.has_parent_path() ? path.parent_path() : fs::path(".")};
  if (const auto fits = plan_fits(plan.plan, facts_of(model)); !fits)
    throw BadInput("{}: {}", path.string(), fits.reason());
  return plan;
}

std::shared_ptr<SparseFfn> load_masks(const std::shared_ptr<const Model>& model, const fs::path& path,
                                      ThreadPool& pool) {
  const PlanInFolder plan = read_plan_for(*model, path);
  return prepare_skipping(model, &plan, Skip::never, pool).ffn;
}

}  // namespace torpor::apps
