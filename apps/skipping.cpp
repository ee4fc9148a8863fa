#include "apps/skipping.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/terminal.h"
#include "core/report/numbers.h"

namespace torpor::apps {
namespace {

/// What layer `l` did: the tokens that skipped, or where there are none those that were masked.
SparseLayerCount count_of(const SparseFfn& ffn, std::size_t l) {
  return ffn.counts()[l].tokens > 0 ? ffn.counts()[l] : ffn.masked()[l];
}

double density_of(const SparseLayerCount& count, const Model& model) {
  return static_cast<double>(count.active) / (static_cast<double>(count.tokens) * model.config().d_ff);
}

const DenseLayer* why_dense(const Skipping& skipping, std::size_t layer) {
  for (const DenseLayer& dense : skipping.dense)
    if (dense.layer == static_cast<int>(layer)) return &dense;
  return nullptr;
}

}  // namespace

Json skipping_json(const Skipping& skipping, const Model& model) {
  if (!skipping.ffn) return nullptr;
  const SparseFfn& ffn = *skipping.ffn;
  Json layers = Json::array();
  for (std::size_t l = 0; l < ffn.counts().size(); ++l) {
    const SparseLayerCount count = count_of(ffn, l);
    Json layer = {{"layer", l},
                  {"skipped", ffn.skips(static_cast<int>(l))},
                  {"reason", nullptr},
                  {"density", nullptr},
                  {"bytes_per_token", nullptr}};
    if (count.tokens > 0) layer["density"] = density_of(count, model);
    if (count.bytes > 0)
      layer["bytes_per_token"] = static_cast<double>(count.bytes) / static_cast<double>(count.tokens);
    if (const DenseLayer* const dense = why_dense(skipping, l)) layer["reason"] = dense->reason;
    layers.push_back(std::move(layer));
  }
  return {{"packed_bytes", ffn.weights() != nullptr ? Json(ffn.weights()->bytes()) : Json(nullptr)},
          {"pack_seconds", ffn.weights() != nullptr ? Json(ffn.weights()->seconds()) : Json(nullptr)},
          {"ffn_bytes_per_token", ffn.bytes_per_token()},
          {"dense_ffn_bytes_per_token", ffn.dense_bytes_per_token()},
          {"layers", std::move(layers)}};
}

std::string layer_table(const Skipping& skipping, const Model& model) {
  const SparseFfn& ffn = *skipping.ffn;
  const bool skips = skipping.reason.empty();  // else nothing was skipped, and one reason stands for all layers
  TextTable table(skips ? std::vector<std::string>{"layer", "active", "read for a token", ""}
                        : std::vector<std::string>{"layer", "active"});
  for (std::size_t l = 0; l < ffn.counts().size(); ++l) {
    const SparseLayerCount count = count_of(ffn, l);
    std::vector<std::string> row{std::to_string(l), "-"};
    if (count.tokens > 0) row[1] = format_share(density_of(count, model));
    if (!skips) {
      table.add(std::move(row));
      continue;
    }
    row.insert(row.end(), {"-", ""});
    if (count.bytes > 0) row[2] = format_bytes(static_cast<double>(count.bytes) / static_cast<double>(count.tokens));
    if (const DenseLayer* const dense = why_dense(skipping, l)) row[3] = "dense: " + dense->reason;
    table.add(std::move(row));
  }
  std::string lines = table.text();
  while (lines.ends_with('\n')) lines.pop_back();
  return lines;
}

std::string live_text(const SparseFfn& ffn, const Model& model) {
  double sum = 0, low = 1, high = 0, bytes = 0;
  int layers = 0;
  for (std::size_t l = 0; l < ffn.counts().size(); ++l) {
    const SparseLayerCount count = count_of(ffn, l);
    if (count.tokens == 0) continue;
    const double density = density_of(count, model);
    sum += density;
    low = std::min(low, density);
    high = std::max(high, density);
    bytes += static_cast<double>(count.bytes) / static_cast<double>(count.tokens);
    ++layers;
  }
  if (layers == 0) return {};
  std::string text =
      fmt::format("{} of neurons active ({} to {})", format_share(sum / layers), format_share(low), format_share(high));
  if (bytes > 0) text += fmt::format(", {} a token", format_bytes(bytes));
  return text;
}

}  // namespace torpor::apps
