#include "engine/models/pack.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/interrupt.h"
#include "core/base/json.h"
#include "core/tensor/safetensors.h"
#include "engine/models/architecture.h"
#include "engine/models/config_dialects.h"
#include "engine/models/config_huggingface.h"
#include "engine/models/model.h"
#include "engine/models/neuron_rows.h"
#include "engine/models/packed.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;

/// A tensor to write.
struct Plan {
  PackedTensor tensor;
  WeightMatrix source;                               // rows of a vector: one
  bool turned = false;                               // a stored row is a column of the source
  const std::vector<std::int32_t>* order = nullptr;  // of its rows, or of a vector's numbers; null: as they are
};

void check_order(const NeuronOrder& order, const ModelConfig& config) {
  if (order.empty()) return;
  if (std::ssize(order) != config.n_layers)
    throw InvalidArgument("[pack_model] expected an order for each of {} layers, got {}", config.n_layers,
                          order.size());
  for (const auto& layer : order) {
    std::vector<bool> seen(static_cast<std::size_t>(config.d_ff));
    for (const std::int32_t i : layer)
      if (i >= 0 && i < config.d_ff) seen[static_cast<std::size_t>(i)] = true;
    if (!layer.empty() && (std::ssize(layer) != config.d_ff || std::count(seen.begin(), seen.end(), false) > 0))
      throw InvalidArgument("[pack_model] expected each of {} neurons once in a layer's order", config.d_ff);
  }
}

/// Whether every number of `from` is one of `to`.
bool holds_exactly(NumberFormat from, NumberFormat to, bool turned) {
  if (from == to) return !turned || !traits(from).quantised;
  return to == NumberFormat::f32 && (from == NumberFormat::bf16 || from == NumberFormat::f16);
}

NumberFormat matrix_format(NumberFormat type, Part part, std::int64_t width) {
  if (!traits(type).quantised) return type;
  if (width % traits(type).block_values != 0) return NumberFormat::bf16;
  const bool embedding = part == Part::token_embedding || part == Part::unembedding ||
                         part == Part::position_embedding || part == Part::layer_embedding;
  return embedding ? NumberFormat::q8_0 : type;
}

class Packer {
 public:
  Packer(ModelFiles files, NumberFormat type, const NeuronOrder& order, ThreadPool& pool)
      : order_(order),
        files_(std::move(files)),
        bound_(bind_tensors(files_)),
        architecture_(architecture_of(files_.config.model_type, files_.config_where)),
        type_(type),
        pool_(pool) {
    for (const BoundTensor& tensor : bound_) plan(tensor);
  }

  PackReport write(const fs::path& folder, const std::string& source_fingerprint, const ModelConfig& loaded,
                   const std::function<void(std::int64_t)>& progress) {
    const auto start = std::chrono::steady_clock::now();
    PackReport report;
    report.source_fingerprint = source_fingerprint;
    for (const Plan& plan : plans_)
      report.lossless = report.lossless && holds_exactly(plan.tensor.from, plan.tensor.to, plan.turned);
    // The same numbers are the same model, whose plans fit.
    report.fingerprint = report.lossless
                             ? source_fingerprint
                             : fingerprint_of(fmt::format("{} packed as {}", source_fingerprint, traits(type_).name));
    if (!order_.empty()) {  // what a plan says of a neuron would be said of another one
      Fingerprint ordered;
      ordered.add(report.fingerprint);
      for (const auto& layer : order_) ordered.add(std::as_bytes(std::span(layer)));
      report.fingerprint = ordered.hex();
    }
    SafetensorsMetadata metadata = {
        {"torpor.layout", std::string(kPackedLayout)},
        {"torpor.fingerprint", report.fingerprint},
        {"torpor.source", source_fingerprint},
        {"torpor.embedding_scale", fmt::format("{}", loaded.embedding_scale)},
        {"torpor.norm_weight_offset", fmt::format("{}", unbound_config_.norm_weight_offset)},
        {"torpor.rope_interleaved", unbound_config_.rope_interleaved ? "true" : "false"}};
    if (loaded.altup.any())
      metadata.emplace("torpor.layer_embedding_scale", fmt::format("{}", loaded.altup.layer_embedding_scale));
    std::vector<TensorView> views;
    std::size_t at = 0;
    for (const Plan& plan : plans_) {
      const PackedTensor& t = plan.tensor;
      TensorView view{t.name, t.to, {t.rows, t.width}, {}};
      if (plan.source.out == 0) view.shape = {t.width};  // a vector
      if (traits(t.to).quantised) {
        metadata["format " + t.name] = traits(t.to).name;
        view.format = NumberFormat::u8;
        view.shape = {t.rows, static_cast<std::int64_t>(bytes_of(t.to, t.width))};
      }
      views.push_back(std::move(view));
      at += static_cast<std::size_t>(t.bytes_to);
      if (const std::size_t past = at % kPackedAlignment; past != 0) {
        const auto fill = static_cast<std::int64_t>(kPackedAlignment - past);
        views.push_back({fmt::format("pad {}", views.size()), NumberFormat::u8, {fill}, {}});
        at += kPackedAlignment - past;
      }
    }
    SafetensorsWriter writer(folder / kPackedFile, views, metadata, kPackedAlignment);
    const std::vector<std::byte> zeros(kPackedAlignment);
    std::vector<std::byte> bytes;
    at = 0;
    for (Plan& plan : plans_) {
      check_interrupt();
      bytes.resize(static_cast<std::size_t>(plan.tensor.bytes_to));
      convert(plan, bytes.data());
      if (plan.order != nullptr) put_in_order(plan, bytes);
      writer.append(bytes);
      at += bytes.size();
      if (const std::size_t past = at % kPackedAlignment; past != 0) {
        writer.append(std::span(zeros).first(kPackedAlignment - past));
        at += kPackedAlignment - past;
      }
      report.bytes_from += plan.tensor.bytes_from;
      report.bytes_to += plan.tensor.bytes_to;
      report.tensors.push_back(plan.tensor);
      if (progress) progress(report.bytes_from);
    }
    write_config(folder);
    writer.commit();
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

  std::int64_t source_bytes() const {
    std::int64_t bytes = 0;
    for (const Plan& plan : plans_) bytes += plan.tensor.bytes_from;
    return bytes;
  }

 private:
  void plan(const BoundTensor& bound) {
    const TensorRule& rule = *bound.rule;
    const auto [name, bias_name] = names_of(rule, false, architecture_.prefixes.front(), bound.number);
    const bool matrix = rule.in != Dimension::none;
    if (matrix)
      plan_matrix(bound, name);
    else
      plan_vector(*bound.weight, name);
    // Of down the bias is the outputs'.
    if (bound.bias != nullptr) plan_vector(*bound.bias, bias_name, rule.part == Part::down ? nullptr : order_of(bound));
  }

  /// The order of a tensor whose rows (or numbers) belong to neurons; null for others.
  const std::vector<std::int32_t>* order_of(const BoundTensor& bound) const {
    const Part part = bound.rule->part;
    if (order_.empty() || bound.number < 0 || (part != Part::gate && part != Part::up && part != Part::down))
      return nullptr;
    const auto& order = order_[static_cast<std::size_t>(bound.number)];
    return order.empty() ? nullptr : &order;
  }

  static void put_in_order(const Plan& plan, std::vector<std::byte>& bytes) {
    const std::vector<std::byte> before = bytes;
    const std::size_t row = bytes.size() / plan.order->size();
    for (std::size_t i = 0; i < plan.order->size(); ++i)
      std::memcpy(bytes.data() + i * row, before.data() + static_cast<std::size_t>((*plan.order)[i]) * row, row);
  }

  void plan_vector(const TensorView& view, const std::string& name, const std::vector<std::int32_t>* order = nullptr) {
    Plan plan;
    plan.order = order;
    plan.tensor = {.name = name, .rows = 1, .width = view.elements(), .from = view.format, .to = NumberFormat::f32};
    plan.source = {view.format, view.bytes.data(), 0, view.elements()};
    add(plan, view);
  }

  void plan_matrix(const BoundTensor& bound, const std::string& name) {
    const TensorView& view = *bound.weight;
    Plan plan;
    plan.source = {view.format, view.bytes.data(), view.shape[0], view.shape[1]};
    // Stored [in, out] and wanted by output row, or the other way round.
    plan.turned = bound.transposed != (bound.rule->part == Part::down);
    plan.order = order_of(bound);
    plan.tensor.name = name;
    plan.tensor.rows = view.shape[plan.turned ? 1 : 0];
    plan.tensor.width = view.shape[plan.turned ? 0 : 1];
    plan.tensor.from = view.format;
    plan.tensor.to = matrix_format(type_, bound.rule->part, plan.tensor.width);
    add(plan, view);
  }

  void add(Plan& plan, const TensorView& view) {
    plan.tensor.bytes_from = static_cast<std::int64_t>(view.bytes.size());
    plan.tensor.bytes_to = plan.tensor.rows * static_cast<std::int64_t>(bytes_of(plan.tensor.to, plan.tensor.width));
    plans_.push_back(std::move(plan));
  }

  /// Fills `to`, and the plan's errors.
  void convert(Plan& plan, std::byte* to) {
    PackedTensor& t = plan.tensor;
    if (t.from == t.to && !plan.turned) {
      std::memcpy(to, plan.source.data, static_cast<std::size_t>(t.bytes_to));
      return;
    }
    const std::int64_t step = plan.turned ? turned_at_once(t.from) : 64;
    const auto row_bytes = static_cast<std::int64_t>(bytes_of(t.to, t.width));
    std::mutex mutex;
    double squares = 0, error_squares = 0;
    pool_.parallel_for((t.rows + step - 1) / step, 1, [&](long begin, long end, int) {
      std::vector<float> rows(static_cast<std::size_t>(step * t.width)), back(static_cast<std::size_t>(t.width));
      double some = 0, some_errors = 0, largest = 0;
      for (std::int64_t first = begin * step; first < std::min<std::int64_t>(end * step, t.rows); first += step) {
        const std::int64_t last = std::min(first + step, t.rows);
        if (plan.turned)
          turned_rows(plan.source, first, last, rows.data());
        else
          to_f32(t.from, plan.source.data + first * static_cast<std::int64_t>(bytes_of(t.from, t.width)),
                 {rows.data(), static_cast<std::size_t>((last - first) * t.width)});
        for (std::int64_t r = first; r < last; ++r) {
          const std::span<const float> row(rows.data() + (r - first) * t.width, static_cast<std::size_t>(t.width));
          from_f32(row, t.to, to + r * row_bytes);
          to_f32(t.to, to + r * row_bytes, back);
          for (std::size_t i = 0; i < row.size(); ++i) {
            const double value = row[i], difference = static_cast<double>(back[i]) - value;
            some += value * value;
            some_errors += difference * difference;
            largest = std::max(largest, std::abs(difference));
          }
        }
      }
      const std::lock_guard lock(mutex);
      squares += some;
      error_squares += some_errors;
      t.largest_error = std::max(t.largest_error, largest);
    });
    t.relative_error = squares > 0 ? std::sqrt(error_squares / squares) : 0;
  }

  void write_config(const fs::path& folder) const {
    const fs::path source = files_.path.extension() == ".safetensors" || files_.path.extension() == ".json"
                                ? files_.path.parent_path()
                                : files_.path;
    const fs::path original = source / "config.json";
    // The source's own, which may say more than this program reads, unless something was overridden.
    if (files_.format == ModelFormat::huggingface && fs::exists(original) &&
        canonical_text(read_huggingface_config(read_json(original), original.string(), {})) ==
            canonical_text(unbound_config_)) {
      write_file_atomically(folder / "config.json", read_file(original));
      if (const fs::path generation = source / "generation_config.json"; fs::exists(generation))
        write_file_atomically(folder / "generation_config.json", read_file(generation));
      return;
    }
    Json json;
    try {
      ModelConfig config = unbound_config_;
      config.rope_interleaved = false;  // as GGUF and llama2.c have them; the metadata says so
      for (const Dialect& dialect : kDialects)
        if (dialect.model_type == config.model_type) config.norm_weight_offset = dialect.norm_weight_offset;
      json = write_huggingface_config(config, "f32");
    } catch (const InvalidArgument& error) {
      throw BadInput("{}: this model cannot be packed: its configuration has no form in Hugging Face's format. {}",
                     files_.path.string(), error.what());
    }
    json.erase("torch_dtype");
    write_file_atomically(folder / "config.json", json.dump(2) + "\n");
  }

  const NeuronOrder& order_;
  ModelFiles files_;
  ModelConfig unbound_config_ = files_.config;  // before bind_tensors, which learns from the tensors
  std::vector<BoundTensor> bound_;
  const Architecture& architecture_;
  NumberFormat type_;
  ThreadPool& pool_;
  std::vector<Plan> plans_;
};

}  // namespace

PackReport pack_model(const fs::path& model, const std::string& activation_override, NumberFormat type,
                      const fs::path& folder, ThreadPool& pool, const std::function<void(std::int64_t)>& progress,
                      const NeuronOrder& order) {
  if (type != NumberFormat::f32 && type != NumberFormat::bf16 && type != NumberFormat::q8_0 &&
      type != NumberFormat::q4_0)
    throw InvalidArgument("[pack_model] expected f32, bf16, q8_0 or q4_0, got {}", traits(type).name);
  // As the model that it is: checked, its fingerprint and its embedding's scale.
  const auto loaded = Model::load(model, {.activation_override = activation_override, .large_pages = false});
  ModelFiles files = open_model_files(model, activation_override);
  if (files.format == ModelFormat::packed)
    throw BadInput("{}: expected a model to pack, found one that is packed. Pack its source", model.string());
  std::error_code code;
  if (fs::equivalent(fs::is_directory(model)       ? model
                     : model.parent_path().empty() ? fs::path(".")
                                                   : model.parent_path(),
                     folder, code))
    throw BadInput("{}: expected another folder than the model's own, whose config.json would be replaced",
                   folder.string());
  check_order(order, loaded->config());
  Packer packer(std::move(files), type, order, pool);
  make_writable_folder(folder);
  return packer.write(folder, loaded->fingerprint(), loaded->config(), progress);
}

}  // namespace torpor
