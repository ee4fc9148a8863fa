#include <fmt/format.h>

#include "core/report/html.h"
#include "engine/profile/report/sections.h"

namespace torpor::profile_report {
namespace {

/// 6738415616 → "6.74 billion".
std::string large_count(double count) {
  if (count >= 1e9) return fmt::format("{:.3g} billion", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.3g} million", count / 1e6);
  return format_count(count);
}

std::string subtitle(const Json& profile) {
  const Json& model = field(profile, "model");
  std::vector<std::string> parts;
  const auto add = [&](const char* key, const std::string& before, const std::string& after) {
    const double value = number(model, key);
    if (known(value)) parts.push_back(before + format_count(value) + after);
  };
  if (const std::string type = text(model, "model_type"); !type.empty()) parts.push_back(literal(type));
  if (const double n = number(model, "n_layers"); known(n)) {
    parts.push_back(format_count(n) + (n == 1 ? " layer" : " layers"));
  }
  add("d_ff", "", " neurons in each");
  if (const std::string activation = text(model, "activation"); !activation.empty()) {
    parts.push_back(literal(activation) + (truth(model, "gated") ? ", gated" : ""));
  }
  if (const double n = number(model, "parameters"); known(n)) parts.push_back(large_count(n) + " parameters");
  std::string weights = literal(text(model, "number_format"));
  if (const double bytes = number(model, "weight_bytes"); known(bytes)) {
    weights = format_bytes(bytes) + (weights.empty() ? "" : " as " + weights);
  }
  if (!weights.empty()) parts.push_back(weights);
  const Json& source = field(profile, "text");
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : " · ") + part;
  if (const std::string name = text(source, "source"); !name.empty()) {
    out += (out.empty() ? "M" : ". M") + std::string("easured on ") + literal(name);
    const double tokens = number(source, "tokens");
    if (known(tokens)) out += " (" + format_count(tokens) + " tokens)";
    out += ".";
  }
  return out;
}

std::string goal_in_words(const Json& profile) {
  const Json& target = field(profile, "target");
  const std::string kind = text(target, "kind");
  const double value = number(target, "value");
  if (!known(value)) return {};
  if (kind == "budget") return "a budget of " + budget_in_words(value);
  if (kind == "cett") return "a CETT of " + format_number(value);
  if (kind == "sparsity") return "a sparsity of " + format_share(value);
  return {};
}

std::string headline(const Json& profile) {
  const Json& chosen = field(profile, "chosen");
  const double sparsity = number(chosen, "sparsity"), ratio = number(chosen, "perplexity_ratio");
  const double dense = number(chosen, "bytes_per_token_dense"), sparse = number(chosen, "bytes_per_token_known_set");
  if (!known(sparsity)) return "No threshold was chosen for this model; what was measured is below.";
  std::string out =
      "For each token, **" + format_share(sparsity) + "** of this model's feed-forward neurons can be skipped";
  if (known(ratio)) {
    out += ratio >= 1 ? ": its perplexity rises by " + format_change(ratio - 1).substr(ratio > 1 ? 1 : 0)
                      : ": its perplexity falls by " + format_change(1 - ratio).substr(1);
    if (known(budget(profile))) out += " (budget: " + budget_in_words(budget(profile)) + ")";
  }
  if (known(dense) && known(sparse) && dense > sparse) {
    out +=
        ". That is up to **" + format_bytes(dense - sparse) + "** less to read for a token, of " + format_bytes(dense);
  }
  return out + ".";
}

void add_pictures(ReportPage& page, const Json& chosen) {
  const double sparsity = number(chosen, "sparsity"), zeros = number(chosen, "exact_zero_sparsity");
  if (known(sparsity)) {
    const double zero = known(zeros) ? std::min(zeros, sparsity) : 0;
    HundredDots dots;
    dots.parts = {{"of the neurons are computed", 1 - sparsity}, {"contribute too little to matter", sparsity - zero}};
    if (known(zeros)) dots.parts.push_back({"are exactly zero", zero});
    dots.alt = "Of a hundred neurons, " + format_number((1 - sparsity) * 100, 3) + " are computed for a token and " +
               format_number(sparsity * 100, 3) + " are skipped.";
    page.pictures.push_back(std::move(dots));
  }
  const double dense = number(chosen, "bytes_per_token_dense"), sparse = number(chosen, "bytes_per_token_known_set");
  const double ffn = number(chosen, "ffn_bytes_per_token_dense");
  if (known(dense) && known(sparse) && dense > 0 && sparse <= dense) {
    HundredDots dots;
    const double other = known(ffn) && ffn <= dense ? dense - ffn : kUnknown;
    if (known(other) && other <= sparse) {
      dots.parts = {{"of the bytes: neurons that are computed", (sparse - other) / dense},
                    {"attention, embeddings, norms: always read", other / dense},
                    {"need not be read", 1 - sparse / dense}};
    } else {
      dots.parts = {{"of the bytes are read", sparse / dense}, {"need not be read", 1 - sparse / dense}};
    }
    if (dots.parts.size() == 2) dots.parts.insert(dots.parts.begin() + 1, {"", 0});
    dots.alt = "Of the " + format_bytes(dense) + " of weights read for a token, " + format_bytes(sparse) + " remain.";
    page.pictures.push_back(std::move(dots));
  }
}

void add_tiles(ReportPage& page, const Json& profile) {
  const Json& chosen = field(profile, "chosen");
  const double sparsity = number(chosen, "sparsity"), zeros = number(chosen, "exact_zero_sparsity");
  if (known(sparsity)) {
    page.tiles.push_back(
        {"Neurons skipped", format_share(sparsity), share_interval(interval(chosen, "sparsity_ci95"))});
  }
  const double before = number(field(profile, "dense"), "perplexity"), after = number(chosen, "perplexity");
  if (known(before)) {
    std::string note;
    if (const double ratio = number(chosen, "perplexity_ratio"); known(ratio)) note = format_change(ratio - 1);
    const std::string range = change_interval(interval(chosen, "perplexity_ratio_ci95"));
    if (!range.empty()) note += (note.empty() ? "" : ", ") + range;
    page.tiles.push_back({"Perplexity, dense → masked",
                          format_number(before) + (known(after) ? " → " + format_number(after) : ""), note});
  }
  const double dense = number(chosen, "bytes_per_token_dense"), sparse = number(chosen, "bytes_per_token_known_set");
  const double without = number(chosen, "bytes_per_token_no_predictor");
  if (known(dense)) {
    std::string note;
    if (known(sparse)) note = "if it is known beforehand which neurons fire";
    if (known(without)) note += (note.empty() ? "" : "; ") + format_bytes(without) + " without a predictor";
    page.tiles.push_back(
        {"Weights read for a token", format_bytes(dense) + (known(sparse) ? " → " + format_bytes(sparse) : ""), note});
  }
  const double best = number(chosen, "speedup_byte_limit_known_set");
  if (known(best)) {
    const double plain = number(chosen, "speedup_byte_limit_no_predictor");
    std::string note = "limit set by the bytes of the whole model";
    if (known(plain)) note += "; " + fmt::format("{:.2f}×", plain) + " without a predictor";
    page.tiles.push_back({"Most it can speed up decoding", fmt::format("{:.2f}×", best), note});
  }
  if (known(zeros)) {
    page.tiles.push_back({"Neurons that are exactly zero", format_share(zeros),
                          zeros < 0.001 ? "this activation function switches nothing off by itself"
                                        : "leaving these out changes nothing at all"});
  }
  if (const double cett = number(chosen, "cett"); known(cett)) {
    page.tiles.push_back({"CETT", format_number(cett), "relative error that skipping makes in a layer's output"});
  }
}

}  // namespace

double budget(const Json& profile) {
  const Json& target = field(profile, "target");
  return text(target, "kind") == "budget" ? number(target, "value") : kUnknown;
}

void add_headline(ReportPage& page, const Json& profile) {
  const std::string name = text(field(profile, "model"), "name");
  page.title = name.empty() ? "Unnamed model" : name;
  page.subtitle = subtitle(profile);
  page.headline = headline(profile);
  add_pictures(page, field(profile, "chosen"));
  add_tiles(page, profile);
}

Section meaning(const Json& profile, const Json&) {
  Section out{"What this says", {}};
  const Json& chosen = field(profile, "chosen");
  const bool has_choice = known(number(chosen, "sparsity"));
  if (has_choice && !truth(chosen, "budget_met", true)) {
    out.blocks.push_back(Note{
        Note::Tone::warning,
        "The target, " + goal_in_words(profile) + ", could not be met; the nearest setting that was found is shown."});
  }
  if (std::string note = text(chosen, "note"); !note.empty()) {
    if (note[0] >= 'a' && note[0] <= 'z') note[0] = static_cast<char>(note[0] - 'a' + 'A');
    out.blocks.push_back(Note{Note::Tone::information, literal(note)});
  }
  for (const Json& warning : list(profile, "warnings")) {
    if (warning.is_string()) out.blocks.push_back(Note{Note::Tone::warning, literal(warning.get<std::string>())});
  }
  out.blocks.push_back(Paragraph{
      "Most of a language model's weights sit in its feed-forward layers. Such a layer is a sum over thousands of "
      "**neurons**: each looks at the token, decides how active it is, and adds its own vector to the result. For any "
      "one token most neurons add nothing, or so little that nobody would notice."});
  out.blocks.push_back(Paragraph{
      "Torpor ran the model on a text and measured how much every neuron adds. It then chose one threshold for each "
      "layer: what a neuron must add to be worth computing. Running the model again on other text, with every neuron "
      "below the threshold switched off, gave the perplexity shown here (how surprised the model is by the text; lower "
      "is better, and an unchanged value means unchanged predictions on average)."});
  out.blocks.push_back(Paragraph{
      "Why it matters: producing a token on one machine is limited by how fast weights are read from memory. Neurons "
      "that are skipped need not be read. The figures for bytes are what can be saved **at most**; a decoder also has "
      "to find out which neurons will fire, before it has computed them."});
  return out;
}

}  // namespace torpor::profile_report
