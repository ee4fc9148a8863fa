#include <fmt/format.h>

#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor::profile_report {
namespace {

std::string path_of(const Json& manifest, const char* where, const std::string& role) {
  for (const Json& entry : list(manifest, where)) {
    if (text(entry, "role") == role) return text(entry, "path");
  }
  return {};
}

/// What follows an option of the command that made the profile: needed again to load the same model.
std::string argument_of(const Json& manifest, const std::string& option) {
  const Json& words = list(manifest, "command");
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!words[i].is_string()) continue;
    const std::string word = words[i].get<std::string>();
    if (word.starts_with(option + "=")) return word.substr(option.size() + 1);
    if (word == option && i + 1 < words.size() && words[i + 1].is_string()) return words[i + 1].get<std::string>();
  }
  return {};
}

void add_row(Table& table, const std::string& name, const std::string& value) {
  if (!value.empty()) table.rows.push_back({{name}, {value}});
}

std::string count(const Json& object, const char* key) {
  const double value = number(object, key);
  return known(value) ? format_count(value) : std::string();
}

std::string seconds(const Json& object, const char* key) {
  const double value = number(object, key);
  return known(value) ? format_seconds(value) : std::string();
}

std::vector<Definitions::Entry> definitions() {
  return {
      {"Neuron",
       "One row of a feed-forward layer and the vector it adds: n_{i}(x) = a_{i} · w_{i}, where a_{i} is its "
       "activation at "
       "the token (in a gated layer: gate times input) and w_{i} its column of the output matrix. The layer's output "
       "is the "
       "sum of these vectors.",
       "FFN(x) = Σ_{i} n_{i}(x)"},
      {"Magnitude", "The length of that vector. Thresholds are set on it, not on the activation alone.",
       "m_{i}(x) = |a_{i}| · ‖w_{i}‖"},
      {"Sparsity and density",
       "The share of neurons at or below the threshold ε of their layer, mean over tokens; exact zeros count. Density "
       "is the rest. "
       "Means over layers count every neuron once.",
       "sparsity = mean over tokens of #{ i : m_{i} ≤ ε } / neurons"},
      {"CETT (cumulative errors of tail truncation)",
       "The relative error of one layer's output when its small neurons are dropped, mean over tokens. For a wanted "
       "CETT each layer gets the "
       "largest threshold that stays within it.",
       "CETT(ε) = mean over tokens of ‖Σ_{mᵢ ≤ ε} n_{i}(x)‖ / ‖FFN(x)‖"},
      {"Perplexity",
       "The exponential of the mean loss (in nats) for a token of held-out text. Masked: with every neuron below its "
       "threshold set to zero, in all layers at once. The interval of the ratio comes from the per-token differences "
       "between "
       "the two runs on the same tokens.",
       "perplexity = exp(mean loss); ratio = exp(mean of masked loss − dense loss)"},
      {"Bytes for a token",
       "Weights that must be read from memory to produce one token. *Known set*: only the rows of neurons that are "
       "computed. "
       "*No predictor*: the matrix that decides which neurons fire is read whole, the others by rows. The limit of the "
       "speed-up is the "
       "ratio of the bytes.",
       "limit = bytes dense / bytes sparse"},
      {"Reuse",
       "The share of a token's active neurons A_{t} that was active at one of the k tokens before it; by chance: if "
       "neurons "
       "fired independently, each with its own frequency p_{i}.",
       "R_{k} = mean of |A_{t} ∩ (A_{t−1} ∪ … ∪ A_{t−k})| / |A_{t}|; by chance R_{1} = Σ p_{i}² / Σ p_{i}"},
      {"Co-activation gap", "C_{ij} is the share of neuron i's active tokens at which j is active too.",
       "gap = mean over i of ( max_{j} C_{ij} − mean_{j} C_{ij} )"},
      {"Dormant (ReDo)", "A neuron whose mean |a| is at most 0.025 of the mean over its layer.",
       "score_{i} = mean |a_{i}| / (mean over the layer of mean |a|)"},
  };
}

}  // namespace

Section limits(const Json& profile) {
  Section out{"What this does not say", {}};
  Bullets bullets;
  const std::string source = text(field(profile, "text"), "source");
  bullets.prose.push_back("Thresholds and figures hold for text like the one used" +
                          (source.empty() ? "" : " (" + literal(source) + ")") +
                          ". Other languages, code or chat can be more or less sparse; measure on text like yours.");
  bullets.prose.push_back(
      "A small mean loss in perplexity can hide larger losses on rare tokens or particular tasks. Test the plan on the "
      "task that matters.");
  bullets.prose.push_back(
      "The bytes and limits of speed-up are arithmetic from measured sparsity, not measured times. Attention and the "
      "cache of keys and "
      "values are not made smaller by skipping neurons.");
  bullets.prose.push_back(
      "Thresholds come from the dense model, one layer at a time; the error that earlier layers hand on is included in "
      "the "
      "perplexity, which is measured with all layers masked.");
  std::size_t stuck = 0;
  const Json& layers = list(profile, "layers");
  for (const Json& layer : layers) stuck += truth(layer, "skippable", true) ? 0 : 1;
  if (stuck > 0) {
    bullets.prose.push_back(
        fmt::format("{} of {} layers cannot be skipped; the table of layers says why.", stuck, layers.size()));
  }
  out.blocks.push_back(std::move(bullets));
  return out;
}

Section method(const Json& profile) {
  Section out{"How it was measured", {}};
  const Json& model = field(profile, "model");
  const Json& source = field(profile, "text");
  const Json& time = field(profile, "seconds");
  out.blocks.push_back(
      Paragraph{"The text is cut into windows. A first pass over the **calibration** part runs the dense model once "
                "and collects every statistic "
                "above in one sweep, in constant memory. Thresholds are searched there. The **held-out** part, which "
                "the search has not seen, "
                "gives the perplexities."});
  Table table{"Model, text and time", {{"What"}, {"Value"}}, {}, true};
  add_row(table, "Model", text(model, "name"));
  add_row(table, "Fingerprint of the model", text(model, "fingerprint"));
  add_row(table, "Width of the model (d_model)", count(model, "d_model"));
  add_row(table, "Neurons in a layer (d_ff)", count(model, "d_ff"));
  add_row(table, "Attention heads", count(model, "n_heads"));
  add_row(table, "Heads for keys and values", count(model, "n_kv_heads"));
  add_row(table, "Vocabulary", count(model, "vocab_size"));
  add_row(table, "Text", text(source, "source"));
  add_row(table, "Fingerprint of the text", text(source, "fingerprint"));
  if (const double bytes = number(source, "bytes"); known(bytes))
    add_row(table, "Size of the text", format_bytes(bytes));
  add_row(table, "Tokens", count(source, "tokens"));
  add_row(table, "Tokens for calibration", count(source, "calibration_tokens"));
  add_row(table, "Tokens on which CETT was computed", count(source, "cett_tokens"));
  add_row(table, "Tokens held out for perplexity", count(source, "held_out_tokens"));
  add_row(table, "Window, tokens", count(source, "window"));
  add_row(table, "First tokens of a window left out of the statistics", count(source, "skipped_first_tokens"));
  add_row(table, "Tokens left out for a nearly empty output", count(source, "tokens_with_tiny_output"));
  const Json& dense = field(profile, "dense");
  if (const double loss = number(dense, "loss_nats_per_token"); known(loss)) {
    std::string value = format_number(loss, 5) + " nats for a token";
    if (const Interval i = interval(dense, "loss_nats_per_token_ci95"); i.is_known()) {
      value += " (95 % interval " + format_number(i.low, 5) + " to " + format_number(i.high, 5) + ")";
    }
    add_row(table, "Loss of the dense model", value);
  }
  if (const double bits = number(dense, "bits_per_byte"); known(bits)) {
    add_row(table, "Bits for a byte of text", format_number(bits));
  }
  add_row(table, "Time for the statistics", seconds(time, "statistics"));
  add_row(table, "Time for the dense evaluation", seconds(time, "evaluation_dense"));
  add_row(table, "Time for the search", seconds(time, "search"));
  add_row(table, "Time in all", seconds(time, "total"));
  if (const double over = number(time, "statistics_overhead"); known(over)) {
    add_row(table, "Statistics pass / plain evaluation", fmt::format("{:.2f}× the time", over));
  }
  if (!table.rows.empty()) out.blocks.push_back(std::move(table));
  out.blocks.push_back(Definitions{definitions()});
  return out;
}

Section application(const Json& profile, const Json& manifest) {
  Section out{"Use the result", {}};
  if (!known(number(field(profile, "chosen"), "sparsity"))) return out;
  std::string model = path_of(manifest, "inputs", "model"), plan = path_of(manifest, "outputs", "plan");
  std::string held_out = path_of(manifest, "inputs", "text");
  if (model.empty()) model = text(field(profile, "model"), "name");
  if (model.empty()) model = "MODEL";
  if (plan.empty()) plan = "plan.json";
  if (held_out.empty()) held_out = "TEXT";
  std::string load = shell_word(model);
  if (const std::string tokenizer = argument_of(manifest, "--tokenizer"); !tokenizer.empty()) {
    load += " --tokenizer " + shell_word(tokenizer);
  }
  if (plan.find('/') == std::string::npos) {
    std::string folder = argument_of(manifest, "-o");
    if (folder.empty()) folder = argument_of(manifest, "--output");
    if (!folder.empty()) plan = folder + (folder.ends_with('/') ? "" : "/") + plan;
  }
  out.blocks.push_back(
      Paragraph{"The thresholds are in `plan.json`, in the folder of this report. A plan belongs to the model it was "
                "made for and is "
                "refused for any other. Paths are as they were given to `torpor profile`."});
  out.blocks.push_back(Code{"Write text with the plan applied",
                            "torpor run " + load + " --plan " + shell_word(plan) + " --prompt 'Once upon a time'"});
  out.blocks.push_back(Code{"Measure its price on a text of yours",
                            "torpor eval " + load + " --text " + shell_word(held_out) + " --plan " + shell_word(plan)});
  return out;
}

Section origin(const Json& manifest) {
  Section out{"Where this comes from", {}};
  if (!manifest.is_object() || manifest.empty()) return out;
  if (const std::string line = text(manifest, "command_line"); !line.empty()) {
    out.blocks.push_back(Code{"The command that made this report", line});
  }
  Table table{"Program, machine and inputs", {{"What"}, {"Value"}}, {}, true};
  add_row(table, "Torpor", text(manifest, "version"));
  add_row(table, "Commit", text(manifest, "commit"));
  const Json& cpu = field(manifest, "cpu");
  std::string flags;
  for (const Json& flag : list(cpu, "flags")) {
    if (flag.is_string()) flags += (flags.empty() ? "" : " ") + flag.get<std::string>();
  }
  add_row(table, "Processor", text(cpu, "name"));
  add_row(table, "Instruction sets", flags);
  add_row(table, "Threads", count(manifest, "threads"));
  if (const Json& seed = field(manifest, "seed"); seed.is_number_integer()) add_row(table, "Seed", seed.dump());
  for (const Json& input : list(manifest, "inputs")) {
    const double bytes = number(input, "bytes");
    add_row(table, "Input: " + text(input, "role"),
            text(input, "path") + (known(bytes) ? ", " + format_bytes(bytes) : "") +
                (text(input, "fingerprint").empty() ? "" : ", fingerprint " + text(input, "fingerprint")));
  }
  add_row(table, "Started", text(manifest, "started"));
  add_row(table, "Finished", text(manifest, "finished"));
  add_row(table, "Time", seconds(manifest, "seconds"));
  if (!table.rows.empty()) out.blocks.push_back(std::move(table));
  out.blocks.push_back(
      Folded{"manifest.json, whole", Code{"", manifest.dump(2, ' ', false, Json::error_handler_t::replace)}});
  return out;
}

}  // namespace torpor::profile_report
