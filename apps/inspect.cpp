// torpor inspect: what is in a model, and which of its neurons could be skipped. Reads headers, no weights.
#include "engine/models/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/load.h"
#include "apps/options.h"
#include "apps/result.h"
#include "apps/terminal.h"
#include "apps/verb.h"
#include "core/report/numbers.h"

namespace torpor::apps {
namespace {

template <typename T>
std::string joined(const std::vector<T>& words, const char* between) {
  return fmt::format("{}", fmt::join(words, between));
}

/// Layers first … last that are alike in everything.
struct LayerRange {
  int first = 0, last = 0;
  const FfnSummary* layer = nullptr;

  std::string name() const { return first == last ? std::to_string(first) : fmt::format("{}–{}", first, last); }
};

bool alike(const FfnSummary& a, const FfnSummary& b) {
  return a.neurons == b.neurons && a.gated == b.gated && a.activation == b.activation &&
         a.gate_format == b.gate_format && a.up_format == b.up_format && a.down_format == b.down_format &&
         a.bytes == b.bytes && a.reasons == b.reasons;
}

std::vector<LayerRange> ranges_of(const std::vector<FfnSummary>& layers) {
  std::vector<LayerRange> ranges;
  for (const FfnSummary& layer : layers)
    if (!ranges.empty() && alike(*ranges.back().layer, layer))
      ranges.back().last = layer.layer;
    else
      ranges.push_back({layer.layer, layer.layer, &layer});
  return ranges;
}

std::string formats_of(const FfnSummary& layer) {
  std::vector<std::string> formats;
  for (const std::string& format : {layer.gate_format, layer.up_format, layer.down_format})
    if (!format.empty() && std::find(formats.begin(), formats.end(), format) == formats.end())
      formats.push_back(format);
  return joined(formats, ", ");
}

Json to_json(const ModelSummary& model) {
  const ModelConfig& config = model.config;
  Json parts = Json::array(), layers = Json::array();
  for (const PartSummary& part : model.parts)
    parts.push_back(
        {{"name", part.name}, {"parameters", part.parameters}, {"bytes", part.bytes}, {"formats", part.formats}});
  for (const FfnSummary& layer : model.layers)
    layers.push_back({{"layer", layer.layer},
                      {"neurons", layer.neurons},
                      {"activation", layer.activation},
                      {"gated", layer.gated},
                      {"exact_zeros", layer.exact_zeros},
                      {"gate_format", layer.gate_format.empty() ? Json(nullptr) : Json(layer.gate_format)},
                      {"up_format", layer.up_format.empty() ? Json(nullptr) : Json(layer.up_format)},
                      {"down_format", layer.down_format},
                      {"bytes", layer.bytes},
                      {"bytes_per_neuron", layer.bytes_per_neuron},
                      {"obstacles", layer.reasons}});
  return {{"path", model.path.string()},
          {"format", model.format},
          {"model_type", config.model_type},
          {"description", model.description},
          {"n_layers", config.n_layers},
          {"d_model", config.d_model},
          {"d_ff", config.d_ff},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"context_length", config.context_length},
          {"tied_embeddings", config.tied_embeddings},
          {"tensors", model.tensors},
          {"parameters", model.parameters},
          {"bytes", model.bytes},
          {"bytes_per_token", model.bytes_per_token},
          {"ffn_bytes_per_token", model.ffn_bytes},
          {"ffn_share_of_bytes_per_token", model.skippable_share()},
          {"kv_cache_bytes_per_position", model.kv_bytes_per_position},
          {"parts", std::move(parts)},
          {"layers", std::move(layers)},
          {"notes", model.notes}};
}

std::string parts_table(const ModelSummary& model) {
  TextTable table({"part", "parameters", "size", "share", "format"});
  const auto share = [&](std::int64_t bytes) {
    return format_share(static_cast<double>(bytes) / static_cast<double>(std::max<std::int64_t>(1, model.bytes)));
  };
  for (const PartSummary& part : model.parts)
    table.add({part.name, format_count(static_cast<double>(part.parameters)),
               format_bytes(static_cast<double>(part.bytes)), share(part.bytes), joined(part.formats, ", ")});
  table.add({"all", format_count(static_cast<double>(model.parameters)), format_bytes(static_cast<double>(model.bytes)),
             share(model.bytes), ""});
  return table.text();
}

std::string bullet(const std::string& text) {
  return hanging("  -", text, 4, kTerminalWidth);
}

std::string for_people(const ModelSummary& model) {
  std::string text = bold(model.path.string()) + "  " + dim(model.format) + "\n" + wrapped(model.description) + "\n\n" +
                     parts_table(model) + "\n";
  text += wrapped(fmt::format(
              "A token reads {} of weights; {} of them ({}) are FFN neurons: the most that skipping can save. "
              "Its keys and values take {}, in a context of {} tokens {}.",
              format_bytes(static_cast<double>(model.bytes_per_token)),
              format_bytes(static_cast<double>(model.ffn_bytes)), format_share(model.skippable_share()),
              format_bytes(static_cast<double>(model.kv_bytes_per_position)), model.config.context_length,
              format_bytes(static_cast<double>(model.kv_bytes_per_position) * model.config.context_length))) +
          "\n\n";

  const std::vector<LayerRange> ranges = ranges_of(model.layers);
  TextTable table({"layers", "neurons", "activation", "exact zeros", "a neuron", "format"});
  for (const LayerRange& range : ranges)
    table.add({range.name(), format_count(range.layer->neurons),
               range.layer->activation + (range.layer->gated ? ", gated" : ""), range.layer->exact_zeros ? "yes" : "no",
               format_bytes(range.layer->bytes_per_neuron), formats_of(*range.layer)});
  text += table.text();
  for (const LayerRange& range : ranges)
    for (const std::string& reason : range.layer->reasons)
      text += bullet(ranges.size() == 1 ? reason : fmt::format("layers {}: {}", range.name(), reason));
  for (const std::string& line : model.notes) text += bullet(line);
  text +=
      "\n" + dim("Next: which of them are inactive?") + "  torpor profile " + model.path.string() + " --text FILE\n";
  return text;
}

}  // namespace

int inspect(std::span<const std::string> arguments) {
  VerbOptions verb(
      "inspect",
      "Show what is in a model: architecture, sizes, number formats, the bytes that a token reads, and which "
      "neurons could be skipped and what stands in the way. Reads headers only, so that large models take no time.",
      "MODEL [options]", {"torpor inspect Llama-3.2-1B/", "torpor inspect model.gguf --json"});
  ModelOptions options;
  verb.app()
      .add_option("MODEL", options.model, "Hugging Face folder, .gguf file or llama2.c checkpoint (.bin)")
      ->required();
  add_activation_option(verb.app(), options);
  if (!verb.parse(arguments)) return 0;
  Result result("inspect", arguments, verb.common());
  const ModelSummary model = inspect_model(options.model, options.load());
  result.add_input({"model", options.model.string(), model.bytes, ""});
  result.finish(to_json(model), 1);
  if (!verb.common().json) print(for_people(model));
  return 0;
}

}  // namespace torpor::apps
