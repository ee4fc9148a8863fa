#include "core/activity/selection.h"

#include <algorithm>
#include <cmath>

#include "core/activity/row_kernels.h"
#include "core/activity/scores.h"

namespace torpor {

namespace {

template <typename... F>
struct Overload : F... {
  using F::operator()...;
};
template <typename... F>
Overload(F...) -> Overload<F...>;

// The shortest decimal that reads back as the same float.
double shortest(float x) {
  return std::stod(fmt::format("{}", x));
}

}  // namespace

std::string_view name_of(const SelectionRule& rule) {
  static constexpr std::string_view kNames[] = {
      "exact_zeros", "output_threshold",  "activation_threshold", "layer_threshold",
      "top_k",       "statistical_top_k", "gaussian_top_k",       "predictor"};
  static_assert(std::size(kNames) == std::variant_size_v<SelectionRule>);
  return kNames[rule.index()];
}

std::string describe(const SelectionRule& rule) {
  return std::visit(
      Overload{
          [](const ExactZeros&) -> std::string { return "a != 0"; },
          [](const OutputThreshold& r) { return fmt::format("|a| ||w|| > {:.4g}", r.epsilon); },
          [](const ActivationThreshold& r) { return fmt::format("|a| > {:.4g}", r.threshold); },
          [](const LayerThreshold& r) {
            return fmt::format("|a| > {:.4g} ({:.1f} % aimed at)", r.threshold, 100 * r.sparsity);
          },
          [](const TopK& r) { return fmt::format("the {} largest |a|", r.k); },
          [](const StatisticalTopK& r) { return fmt::format("about {} largest |a|", r.k); },
          [](const GaussianTopK& r) { return fmt::format("gates above their {:.1f} % quantile", 100 * r.sparsity); },
          [](const Predictor& r) { return fmt::format("{} predicts a logit > {:.4g}", r.file, r.threshold); }},
      rule);
}

Json to_json(const SelectionRule& rule) {
  Json json;
  json["type"] = name_of(rule);
  std::visit(
      Overload{[](const ExactZeros&) {}, [&](const OutputThreshold& r) { json["epsilon"] = shortest(r.epsilon); },
               [&](const ActivationThreshold& r) { json["threshold"] = shortest(r.threshold); },
               [&](const LayerThreshold& r) {
                 json["threshold"] = shortest(r.threshold);
                 json["sparsity"] = shortest(r.sparsity);
               },
               [&](const TopK& r) { json["k"] = r.k; }, [&](const StatisticalTopK& r) { json["k"] = r.k; },
               [&](const GaussianTopK& r) { json["sparsity"] = shortest(r.sparsity); },
               [&](const Predictor& r) {
                 json["file"] = r.file;
                 json["threshold"] = shortest(r.threshold);
               }},
      rule);
  return json;
}

SelectionRule rule_from_json(const Json& json, int neurons, const std::string& where) {
  if (!json.is_object()) throw BadInput("{}: expected a rule {{\"type\": …}}, found {}", where, json.type_name());
  const JsonReader reader(json, where);
  const std::string type = reader.string("type");
  const auto number = [&](const char* key, double max) {
    const double x = reader.number(key);
    if (!(x >= 0) || !(x <= max)) throw BadInput("{}: expected \"{}\" in [0, {:g}], found {}", where, key, max, x);
    return static_cast<float>(x);
  };
  constexpr double kMax = 3.4e38;
  const auto only = [&](std::initializer_list<std::string_view> keys) {
    for (const auto& [key, value] : json.items())
      if (key != "type" && std::find(keys.begin(), keys.end(), key) == keys.end())
        throw BadInput("{}: unknown field \"{}\" in a rule of type \"{}\"", where, key, type);
  };
  if (type == "exact_zeros") {
    only({});
    return ExactZeros{};
  }
  if (type == "output_threshold") {
    only({"epsilon"});
    return OutputThreshold{number("epsilon", kMax)};
  }
  if (type == "activation_threshold") {
    only({"threshold"});
    return ActivationThreshold{number("threshold", kMax)};
  }
  if (type == "layer_threshold") {
    only({"threshold", "sparsity"});
    return LayerThreshold{number("threshold", kMax), number("sparsity", 1)};
  }
  if (type == "top_k" || type == "statistical_top_k") {
    only({"k"});
    const int k = static_cast<int>(reader.integer("k", 1, neurons));
    if (type == "top_k") return TopK{k};
    return StatisticalTopK{k};
  }
  if (type == "gaussian_top_k") {
    only({"sparsity"});
    const float sparsity = number("sparsity", 1);
    if (!(sparsity > 0 && sparsity < 1))
      throw BadInput("{}: expected \"sparsity\" between 0 and 1, found {}", where, sparsity);
    return GaussianTopK{sparsity};
  }
  if (type == "predictor") {
    only({"file", "threshold"});
    Predictor rule{reader.string("file")};
    if (json.contains("threshold")) {
      const double x = reader.number("threshold");
      if (!(std::abs(x) <= kMax)) throw BadInput("{}: expected a finite \"threshold\", found {}", where, x);
      rule.threshold = static_cast<float>(x);
    }
    return rule;
  }
  throw BadInput(
      "{}: unknown rule type \"{}\"; this version knows exact_zeros, output_threshold, activation_threshold, "
      "layer_threshold, top_k, statistical_top_k, gaussian_top_k, predictor",
      where, type);
}

RowSelector::RowSelector(const SelectionRule& rule, const NeuronLayer& layer) : neurons_(layer.neurons) {
  const auto n = static_cast<std::size_t>(neurons_);
  const auto constant = [&](float cut) {
    if (!(cut >= 0)) throw InvalidArgument("[RowSelector] expected a threshold >= 0, got {}", cut);
    cuts_.assign(n, cut);
  };
  const auto set_k = [&](int k, bool exact) {
    if (k < 1 || k > neurons_) throw InvalidArgument("[RowSelector] expected k in [1, {}], got {}", neurons_, k);
    k_ = k;
    exact_k_ = exact;
  };
  std::visit(Overload{[&](const ExactZeros&) { constant(0); },
                      [&](const OutputThreshold& r) {
                        if (layer.outgoing_norms.size() != n)
                          throw InvalidArgument("[RowSelector] expected {} norms of outgoing weights, got {}", n,
                                                layer.outgoing_norms.size());
                        cuts_.resize(n);
                        for (std::size_t i = 0; i < n; ++i)
                          cuts_[i] = activation_cut(r.epsilon, layer.outgoing_norms[i]);
                      },
                      [&](const ActivationThreshold& r) { constant(r.threshold); },
                      [&](const LayerThreshold& r) { constant(r.threshold); }, [&](const TopK& r) { set_k(r.k, true); },
                      [&](const StatisticalTopK& r) { set_k(r.k, false); },
                      [&](const GaussianTopK&) {
                        throw BadInput(
                            "layer {}: Gaussian top-k looks at the gates of the layer and cannot mask its activations. "
                            "`torpor run --plan` and `torpor eval --plan` run it",
                            layer.index);
                      },
                      [&](const Predictor& r) {
                        throw BadInput(
                            "layer {}: the predictor \"{}\" looks at the input of the layer and cannot mask its "
                            "activations. `torpor run --plan` and `torpor eval --plan` run it",
                            layer.index, r.file);
                      }},
             rule);
}

void RowSelector::check(std::size_t size) const {
  if (size != static_cast<std::size_t>(neurons_))
    throw InvalidArgument("[RowSelector] expected a row of {} activations, got {}", neurons_, size);
}

// The magnitude that must be exceeded (StatisticalTopK), or that is certainly active when exceeded (TopK: the k-th
// largest).
float RowSelector::row_threshold(std::span<const float> a) const {
  thread_local std::vector<float> magnitude;  // kept, so that a token of decoding allocates nothing
  magnitude.resize(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) magnitude[i] = std::fabs(a[i]);
  if (!exact_k_) {
    const double threshold = statistical_threshold(magnitude, k_);
    if (threshold <= 0) return 0;
    // Rounded down, so that comparing in f32 keeps exactly what comparing in double would.
    auto rounded = static_cast<float>(threshold);
    if (static_cast<double>(rounded) > threshold) rounded = std::nextafter(rounded, 0.F);
    return rounded;
  }
  const auto kth = magnitude.begin() + (k_ - 1);
  std::nth_element(magnitude.begin(), kth, magnitude.end(), std::greater<>());
  return *kth;
}

void RowSelector::select(std::span<const float> a, NeuronMask& active) const {
  check(a.size());
  if (active.size() != neurons_) active = NeuronMask(neurons_);
  if (!cuts_.empty() || neurons_ == 0) {
    detail::mask_above(a.data(), cuts_.data(), neurons_, active.words().data());
    return;
  }
  active.clear();
  const float threshold = row_threshold(a);
  int left = k_;
  for (int i = 0; i < neurons_; ++i)
    if (std::fabs(a[static_cast<std::size_t>(i)]) > threshold) {
      active.set(i);
      --left;
    }
  if (!exact_k_ || threshold == 0) return;
  for (int i = 0; i < neurons_ && left > 0; ++i)  // equals of the k-th, in order
    if (std::fabs(a[static_cast<std::size_t>(i)]) == threshold) {
      active.set(i);
      --left;
    }
}

NeuronMask RowSelector::select(std::span<const float> a) const {
  NeuronMask mask(neurons_);
  select(a, mask);
  return mask;
}

std::int64_t RowSelector::keep_active(std::span<float> a) const {
  check(a.size());
  if (!cuts_.empty() || neurons_ == 0) return detail::zero_below(a.data(), cuts_.data(), neurons_);
  if (!exact_k_) {
    const float threshold = row_threshold(a);
    std::int64_t active = 0;
    for (float& x : a) {
      if (std::fabs(x) > threshold)
        ++active;
      else
        x = 0;
    }
    return active;
  }
  const NeuronMask mask = select(a);
  for (int i = 0; i < neurons_; ++i)
    if (!mask.test(i)) a[static_cast<std::size_t>(i)] = 0;
  return mask.count();
}

NeuronMask select(const SelectionRule& rule, std::span<const float> a, const NeuronLayer& layer) {
  return RowSelector(rule, layer).select(a);
}

}  // namespace torpor
