#include "lab/train/trainer.h"

#include <ATen/autocast_mode.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/tensor/safetensors.h"
#include "lab/nn/tensor_views.h"
#include "lab/train/recyclable_transformer.h"

namespace torpor::lab {
namespace fs = std::filesystem;
namespace {

constexpr const char* kStateSchema = "torpor.trainer_state/1";
const std::vector<std::string> kLogHeader = {"step", "loss_nats_per_token", "learning_rate", "gradient_norm",
                                             "held_out_bits_per_byte"};
const std::vector<std::string> kNeuronLogHeader = {"step", "layer", "dormant_share", "recycled", "recycled_again"};

/// While it lives, matrix products of this thread are in bf16.
class Autocast {
 public:
  explicit Autocast(bool on) : on_(on), before_(at::autocast::is_autocast_enabled(at::kCPU)) {
    if (!on_) return;
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~Autocast() {
    if (!on_) return;
    at::autocast::clear_cache();  // copies of the weights as they were
    at::autocast::set_autocast_enabled(at::kCPU, before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool on_, before_;
};

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("checkpoint-{:08}", step);
}

/// Complete checkpoints, the oldest first.
std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    const std::string name = entry.path().filename();
    if (name.size() == checkpoint_name(0).size() && name.starts_with("checkpoint-") &&
        name.find_first_not_of("0123456789", 11) == std::string::npos)
      out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

at::Tensor inputs_of(const at::Tensor& windows) {
  return windows.narrow(1, 0, windows.size(1) - 1).contiguous();
}

at::Tensor targets_of(const at::Tensor& windows) {
  return windows.narrow(1, 1, windows.size(1) - 1).reshape({-1});
}

NamedTensors parameters_of(const TransformerImpl& model) {
  NamedTensors out;
  for (const auto& [name, parameter] : model.weights()) out.emplace_back(name, parameter);
  return out;
}

void check_options(const TrainOptions& o) {
  const auto positive = [](const char* name, double value) {
    if (!(value > 0)) throw InvalidArgument("[Trainer] expected {} above 0, got {}", name, value);
  };
  positive("steps", static_cast<double>(o.steps));
  positive("batch", o.batch);
  positive("accumulation", o.accumulation);
  positive("learning_rate", o.learning_rate);
  for (const double value : {o.last_learning_rate, o.clip, o.adamw.weight_decay, static_cast<double>(o.warm_up),
                             static_cast<double>(o.checkpoint_every), static_cast<double>(o.evaluate_every),
                             static_cast<double>(o.held_out_windows)})
    if (!(value >= 0)) throw InvalidArgument("[Trainer] expected options of at least 0, got {}", value);
  std::int64_t last = -1;
  for (const StagedWeight::Point& point : o.activation_l1.points) {
    if (!(point.weight >= 0) || point.step <= last)
      throw InvalidArgument("[Trainer] expected weights of at least 0 at ascending steps, got {} at {}", point.weight,
                            point.step);
    last = point.step;
  }
}

Json json_of(const std::optional<RecycleOptions>& recycle) {
  if (!recycle) return nullptr;
  return {{"score", name_of(recycle->score)},    {"tau", recycle->tau},
          {"period", recycle->period},           {"optimizer_reset", static_cast<int>(recycle->optimizer)},
          {"first_layer", recycle->first_layer}, {"prune", recycle->prune}};
}

/// As it was asked for: a number, or a list of points.
Json json_of(const StagedWeight& weight) {
  if (weight.zero()) return 0.0;
  if (weight.points.size() == 1) return weight.points.front().weight;
  Json out = Json::array();
  for (const StagedWeight::Point& point : weight.points)
    out.push_back({{"step", point.step}, {"weight", point.weight}});
  return out;
}

}  // namespace

double StagedWeight::at(std::int64_t step) const {
  if (points.empty()) return 0;
  const auto next = std::find_if(points.begin(), points.end(), [&](const Point& point) { return step < point.step; });
  if (next == points.begin()) return points.front().weight;
  if (next == points.end()) return points.back().weight;
  const Point &from = *(next - 1), &to = *next;
  const double done = static_cast<double>(step - from.step) / static_cast<double>(to.step - from.step);
  return from.weight + (to.weight - from.weight) * (1 - std::cos(std::numbers::pi * done)) / 2;
}

bool StagedWeight::zero() const {
  return std::all_of(points.begin(), points.end(), [](const Point& point) { return point.weight == 0; });
}

StagedWeight parse_staged_weight(const std::string& text) {
  const auto fail = [&]() -> UsageError {
    return UsageError(
        "--activation-l1 {}: expected a weight (0.01), or weights at ascending steps (0.01@200,0.05@600,0.1@1000)",
        text);
  };
  const auto number = [&](std::string_view word, auto& value) {
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (code != std::errc() || end != word.data() + word.size() || !(value >= 0) || !(value <= 1e9)) throw fail();
  };
  StagedWeight out;
  for (std::string_view rest = text; out.points.empty() || !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    const std::size_t at = word.find('@');
    StagedWeight::Point& point = out.points.emplace_back();
    number(word.substr(0, at), point.weight);
    if (at != std::string_view::npos) number(word.substr(at + 1), point.step);
    const bool alone = comma == std::string_view::npos && out.points.size() == 1;
    if ((at == std::string_view::npos && !alone) || (comma != std::string_view::npos && rest.empty())) throw fail();
    if (out.points.size() > 1 && point.step <= out.points[out.points.size() - 2].step) throw fail();
  }
  return out;
}

Json to_json(const TrainOptions& options) {
  return {{"steps", options.steps},
          {"batch", options.batch},
          {"accumulation", options.accumulation},
          {"learning_rate", options.learning_rate},
          {"last_learning_rate", options.last_learning_rate},
          {"warm_up", options.warm_up},
          {"beta1", options.adamw.beta1},
          {"beta2", options.adamw.beta2},
          {"eps", options.adamw.eps},
          {"weight_decay", options.adamw.weight_decay},
          {"clip", options.clip},
          {"activation_l1", json_of(options.activation_l1)},
          {"recycle", json_of(options.recycle)},
          {"precision", options.bf16 ? "bf16" : "f32"},
          {"seed", options.seed}};
}

double learning_rate_at(const TrainOptions& options, std::int64_t step) {
  if (step < options.warm_up)
    return options.learning_rate * static_cast<double>(step + 1) / static_cast<double>(options.warm_up);
  const double length = static_cast<double>(std::max<std::int64_t>(1, options.steps - options.warm_up));
  const double done = std::min(1.0, static_cast<double>(step - options.warm_up) / length);
  const double last = options.last_learning_rate;
  return options.learning_rate * (last + (1 - last) * (1 + std::cos(std::numbers::pi * done)) / 2);
}

double bits_per_byte(TransformerImpl& model, const Windows& text, std::int64_t windows, int batch,
                     const ProcessGroup* group) {
  const at::NoGradGuard no_gradient;
  const std::int64_t count = windows == 0 ? text.size() : std::min(windows, text.size());
  double nats = 0;
  std::int64_t bytes = 0, batches = 0;
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < count; ++i) {
    chosen.push_back(i * text.size() / count);
    if (static_cast<int>(chosen.size()) < batch && i + 1 < count) continue;
    if (group != nullptr && batches++ % group->size() != group->rank()) {
      chosen.clear();
      continue;
    }
    check_interrupt();
    const at::Tensor rows = text.at(chosen);
    const at::Tensor logits = model.forward(inputs_of(rows)).flatten(0, 1);
    nats +=
        at::cross_entropy_loss(logits, targets_of(rows), {}, at::Reduction::None).to(at::kDouble).sum().item<double>();
    bytes += text.bytes_in(chosen);
    chosen.clear();
  }
  if (group != nullptr) {
    const at::Tensor sums = torch::tensor({nats, static_cast<double>(bytes)}, at::kDouble);
    group->sum(sums);
    return sums[0].item<double>() / std::numbers::ln2 / sums[1].item<double>();
  }
  return nats / std::numbers::ln2 / static_cast<double>(bytes);
}

void refuse_earlier_run(const fs::path& folder) {
  if (!checkpoints_in(folder).empty())
    throw UsageError("{} holds a checkpoint of an earlier run. Go on from it with --resume, or choose another folder",
                     folder.string());
}

Trainer::Trainer(const ModelConfig& config, TrainOptions options, fs::path folder, std::shared_ptr<const Windows> text,
                 std::shared_ptr<const Windows> held_out, bool resume, std::shared_ptr<const ProcessGroup> group)
    : config_(config),
      options_(options),
      folder_(std::move(folder)),
      text_(std::move(text)),
      held_out_(std::move(held_out)),
      order_(text_->size(), options.seed),
      model_((check_options(options), config), options.seed),
      optimizer_(parameters_of(*model_), options.adamw),
      layers_(recyclable_layers(*model_)),
      group_(std::move(group)),
      log_(kLogHeader),
      neuron_log_(kNeuronLogHeader) {
  try {
    if (options_.recycle) recycler_.emplace(layers_, *options_.recycle, &optimizer_, options_.seed);
  } catch (const InvalidArgument& error) {
    throw UsageError("--recycle: {}", error.what());
  }
  if (group_ != nullptr && options_.batch < group_->size())
    throw UsageError("--batch {}: expected at least {}, a window for each process", options_.batch, group_->size());
  for (const auto& windows : {text_, held_out_})
    if (windows != nullptr && config_.vocab_size < windows->vocab_size())
      throw InvalidArgument("[Trainer] expected a network with the text's vocabulary of {} tokens or more, got {}",
                            windows->vocab_size(), config_.vocab_size);
  if (first()) {
    make_writable_folder(folder_);
    if (!resume) refuse_earlier_run(folder_);
    if (const std::vector<fs::path> found = checkpoints_in(folder_); !found.empty()) load_checkpoint(found.back());
  }
  if (group_ != nullptr) share_state();
}

/// The first process's weights, optimizer and step for all.
void Trainer::share_state() {
  const at::NoGradGuard no_gradient;
  Json mine = state();
  mine.erase("step");
  mine.erase("recycler");
  const Json wanted = Json::parse(group_->broadcast(mine.dump()));
  for (const auto& [name, value] : wanted.items())
    if (mine[name] != value)
      throw UsageError("process {}: expected the command and the texts of the first process: {} is {} there, {} here",
                       group_->rank(), name, value.dump(), mine[name].dump());
  broadcast_state();
  std::vector<at::Tensor> parameters;
  for (const auto& [name, parameter] : model_->weights()) parameters.push_back(parameter);
  reducer_ = std::make_unique<GradientReducer>(group_, std::move(parameters));
}

void Trainer::broadcast_state() {
  const at::NoGradGuard no_gradient;
  for (const auto& [name, parameter] : model_->weights()) group_->broadcast(parameter);
  for (const auto& [name, tensor] : saved_state()) group_->broadcast(tensor);
  const at::Tensor step = torch::tensor({step_}, at::kLong);
  group_->broadcast(step);
  step_ = step.item<std::int64_t>();
  optimizer_.set_steps(step_);
}

/// What a checkpoint holds besides the weights. Counts of steps by unit are those of the whole while none is recycled.
NamedTensors Trainer::saved_state() const {
  NamedTensors state = optimizer_.state();
  if (!recycler_) {
    std::erase_if(state, [](const auto& item) { return item.first.ends_with(".first_step"); });
    return state;
  }
  for (auto& item : recycler_->state()) state.push_back(std::move(item));
  return state;
}

/// Counts dormant neurons on the windows of the step that was just done, the first pass's; recycles them.
NeuronReport Trainer::watch_neurons(bool recycle) {
  std::vector<std::int64_t> chosen;
  for (int i = 0; i < options_.batch; ++i)
    chosen.push_back(order_((step_ - 1) * options_.batch * options_.accumulation + i));
  const at::Tensor windows = text_->at(chosen), tokens = inputs_of(windows);
  const RecycleScore score = options_.recycle ? options_.recycle->score : RecycleScore::activation;
  const auto cast = [&](const auto& compute) {  // anew each time: it keeps copies of the weights
    const Autocast bf16(options_.bf16);
    return compute();
  };
  const std::vector<ProbeValues> values =
      cast([&] { return probe(*model_, tokens, targets_of(windows), needs_gradient(score)); });
  NeuronReport report;
  const auto counted = [&](const std::vector<at::Tensor>& scores) {
    Dormancy found = dormancy(scores, options_.recycle ? options_.recycle->tau : 0.1);
    report.dormant = found.all;
    report.layers = std::move(found.layers);
  };
  const auto note = [&](std::size_t layer, std::int64_t recycled, std::int64_t again) {
    neuron_log_.integer(step_).text(layers_[layer].name).number(report.layers[layer]).integer(recycled).integer(again);
    neuron_log_.end_row();
  };
  if (!recycle) {
    std::vector<at::Tensor> scores;
    for (std::size_t l = 0; l < layers_.size(); ++l) scores.push_back(recycle_scores(score, layers_[l], values[l]));
    counted(scores);
    for (std::size_t l = 0; l < layers_.size(); ++l) note(l, 0, 0);
    return report;
  }
  at::Tensor before;
  if (options_.check_recycling) {
    std::vector<at::Tensor> masks;
    for (const RecycledLayer& layer : recycler_->measure(step_, values).layers) masks.push_back(layer.recycled);
    before = cast([&] { return logits_without(*model_, tokens, masks).to(at::kFloat); });
  }
  const RecycleReport done = recycler_->recycle(step_, values);
  if (before.defined())
    check_function_kept(before, cast([&] { return logits_without(*model_, tokens, {}).to(at::kFloat); }));
  std::vector<at::Tensor> scores;
  for (const RecycledLayer& layer : done.layers) scores.push_back(layer.scores);
  counted(scores);
  report.recycled = done.recycled;
  report.again = done.again;
  for (std::size_t l = 0; l < layers_.size(); ++l) note(l, done.layers[l].count, done.layers[l].again);
  return report;
}

std::int64_t Trainer::parameters() const {
  std::int64_t sum = 0;
  for (const auto& [name, parameter] : model_->weights()) sum += parameter.numel();
  return sum;
}

fs::path Trainer::newest_checkpoint() const {
  const std::vector<fs::path> found = checkpoints_in(folder_);
  return found.empty() ? fs::path() : found.back();
}

at::Tensor Trainer::logits_of(const at::Tensor& windows, TransformerImpl::ActivationHook hook) {
  const Autocast cast(options_.bf16);
  model_->set_activation_hook(std::move(hook));
  at::Tensor logits = model_->forward(inputs_of(windows));
  model_->set_activation_hook({});
  return logits;
}

/// Returns the loss in nats a token; `objective` is what the gradient is of.
at::Tensor Trainer::loss_of(const at::Tensor& windows, at::Tensor& objective) {
  at::Tensor penalty;
  TransformerImpl::ActivationHook hook;
  const double l1 = options_.activation_l1.at(step_);
  if (l1 > 0)
    hook = [&](int, const at::Tensor& activations) {
      const at::Tensor mean = activations.to(at::kFloat).abs().mean() / config_.n_layers;
      penalty = penalty.defined() ? penalty + mean : mean;
      return activations;
    };
  const at::Tensor logits = logits_of(windows, std::move(hook));
  at::Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1).to(at::kFloat), targets_of(windows));
  objective = penalty.defined() ? loss + l1 * penalty : loss;
  return loss;
}

void Trainer::stop_at_bad_loss(const at::Tensor& windows) {
  const at::NoGradGuard no_gradient;
  int bad = -1;
  double largest = 0;
  logits_of(windows, [&](int layer, const at::Tensor& activations) {
    if (bad < 0 && !at::isfinite(activations).all().item<bool>()) bad = layer;
    if (bad < 0) largest = activations.abs().max().item<double>();
    return activations;
  });
  const std::string where = bad >= 0
                                ? fmt::format("the first activations that are not finite are those of layer {}", bad)
                                : fmt::format("all activations are finite (the last layer's largest: {:.3g})", largest);
  const std::vector<fs::path> kept = checkpoints_in(folder_);
  throw Error(1,
              fmt::format("step {}: the loss is not finite; {}. {} Try a lower --learning-rate or a longer --warm-up",
                          step_ + 1, where,
                          kept.empty() ? std::string("No checkpoint was written before.")
                                       : fmt::format("{} is kept.", kept.back().string())));
}

double Trainer::step_once(double& gradient_norm) {
  optimizer_.zero_grad();
  double sum = 0;
  const std::int64_t first = step_ * options_.batch * options_.accumulation;
  const int processes = group_ == nullptr ? 1 : group_->size(), rank = group_ == nullptr ? 0 : group_->rank();
  for (int pass = 0; pass < options_.accumulation; ++pass) {
    std::vector<std::int64_t> chosen;
    for (int i = 0; i < options_.batch; ++i) {
      const std::int64_t window = order_(first + pass * options_.batch + i);
      if (i % processes == rank) chosen.push_back(window);
    }
    const at::Tensor windows = text_->at(chosen);
    at::Tensor objective;
    const double share = static_cast<double>(chosen.size()) / options_.batch;
    const double loss = loss_of(windows, objective).item<double>();
    if (!std::isfinite(loss)) stop_at_bad_loss(windows);
    objective = objective * (share / options_.accumulation);
    if (group_ == nullptr) {
      objective.backward();
    } else {
      objective = objective * processes;  // the reducer averages
      if (pass + 1 == options_.accumulation) reducer_->reduce_next(objective);
      group_->guard([&] { objective.backward(); });
    }
    sum += share * loss;
  }
  if (group_ != nullptr) {
    const at::Tensor whole = torch::tensor({sum}, at::kDouble);
    group_->sum(whole);
    sum = whole.item<double>();
  }
  gradient_norm = optimizer_.clip_gradients(options_.clip);
  if (!std::isfinite(gradient_norm))
    throw Error(1, fmt::format("step {}: the gradient is not finite though the loss is. Try a lower --learning-rate",
                               step_ + 1));
  optimizer_.step(learning_rate_at(options_, step_));
  if (options_.recycle && options_.recycle->prune) recycler_->keep_pruned();
  ++step_;
  return sum / options_.accumulation;
}

/// All processes stop after the same step.
bool Trainer::stop_asked() const {
  if (group_ == nullptr) return interrupted();
  const at::Tensor asked = torch::tensor({interrupted() ? 1 : 0}, at::kLong);
  group_->sum(asked);
  return asked.item<std::int64_t>() > 0;
}

void Trainer::log(const StepReport& report, EventFile* events) {
  log_.integer(report.step)
      .number(report.loss_nats_per_token)
      .number(report.learning_rate)
      .number(report.gradient_norm)
      .number(report.held_out_bits_per_byte.value_or(std::numeric_limits<double>::quiet_NaN()))  // NaN: empty
      .end_row();
  if (events == nullptr) return;
  std::vector<Scalar> scalars = {{"train/loss_nats_per_token", report.loss_nats_per_token},
                                 {"train/learning_rate", report.learning_rate},
                                 {"train/gradient_norm", report.gradient_norm}};
  if (report.held_out_bits_per_byte) scalars.emplace_back("held_out/bits_per_byte", *report.held_out_bits_per_byte);
  std::vector<std::string> tags;
  if (report.neurons) {
    for (const RecyclableLayer& layer : layers_) tags.push_back("dormant/" + layer.name);
    scalars.emplace_back("dormant/all", report.neurons->dormant);
    scalars.emplace_back("neurons/recycled", static_cast<double>(report.neurons->recycled));
    for (std::size_t l = 0; l < tags.size(); ++l) scalars.emplace_back(tags[l], report.neurons->layers[l]);
  }
  events->add(report.step, scalars);
}

void Trainer::run(const std::function<void(const StepReport&)>& report) {
  const auto due = [&](std::int64_t every) { return step_ == options_.steps || (every > 0 && step_ % every == 0); };
  if (step_ == options_.steps) return;
  std::unique_ptr<EventFile> events;
  if (first()) events = std::make_unique<EventFile>(folder_, step_ == 0 ? 0 : step_ + 1);
  while (step_ < options_.steps) {
    const HoldInterrupts until_the_step_is_saved;
    StepReport now;
    now.learning_rate = learning_rate_at(options_, step_);
    now.loss_nats_per_token = step_once(now.gradient_norm);
    now.step = step_;
    if (held_out_ != nullptr && due(options_.evaluate_every))
      now.held_out_bits_per_byte =
          bits_per_byte(*model_, *held_out_, options_.held_out_windows, options_.batch, group_.get());
    const bool recycle = recycler_ && recycler_->due(step_);
    if (recycle || due(options_.evaluate_every)) {
      if (first()) now.neurons = watch_neurons(recycle);
      if (recycle && group_ != nullptr) broadcast_state();
    }
    log(now, events.get());
    const bool saved = due(options_.checkpoint_every);
    if (saved && first()) {
      save_checkpoint();
      events->flush();
    }
    if (report) report(now);
    if (!stop_asked()) continue;
    if (!saved && first()) save_checkpoint();
    throw Interrupted(fmt::format("interrupted after step {}; go on with --resume", step_));
  }
}

Json Trainer::state() const {
  // What changes the losses, so that a run is not gone on with by another.
  Json options = to_json(options_);
  options["window"] = text_->window();
  return {{"schema", kStateSchema},
          {"step", step_},
          {"config", canonical_text(config_)},
          {"text_fingerprint", text_->fingerprint()},
          {"options", std::move(options)},
          {"recycler", recycler_ ? Json(recycler_->random_state()) : Json()}};
}

void Trainer::save_checkpoint() const {
  const fs::path target = folder_ / checkpoint_name(step_), unfinished = folder_ / "checkpoint-unfinished";
  std::error_code code;
  fs::remove_all(unfinished, code);
  make_writable_folder(unfinished);
  model_->save(unfinished, at::kFloat);
  const NamedTensors state_tensors = saved_state();
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : state_tensors) views.push_back(view_of(name, tensor));
  write_safetensors(unfinished / "optimizer.safetensors", views);
  write_file_atomically(unfinished / "log.csv", log_.str());
  write_file_atomically(unfinished / "neurons.csv", neuron_log_.str());
  write_file_atomically(unfinished / "trainer_state.json", state().dump(2) + "\n");
  sync_folder(unfinished);
  const std::vector<fs::path> earlier = checkpoints_in(folder_);
  fs::rename(unfinished, target, code);
  if (code) throw IoError("{}: cannot be renamed to {}: {}", unfinished.string(), target.string(), code.message());
  sync_folder(folder_);
  for (const fs::path& old : earlier)
    if (old != target) fs::remove_all(old, code);
  write_file_atomically(folder_ / "log.csv", log_.str());
  write_file_atomically(folder_ / "neurons.csv", neuron_log_.str());
}

void Trainer::load_checkpoint(const fs::path& checkpoint) {
  const fs::path file = checkpoint / "trainer_state.json";
  const Json found = read_json(file);
  const JsonReader reader(found, file.string());
  if (reader.string("schema") != kStateSchema)
    throw BadInput("{}: expected schema \"{}\", found \"{}\"", file.string(), kStateSchema, reader.string("schema"));
  const Json wanted = state();
  if (reader.string("config") != wanted["config"].get<std::string>())
    throw BadInput("{}: the checkpoint is of another network. Choose its preset and shape, or another folder with -o",
                   checkpoint.string());
  if (reader.string("text_fingerprint") != wanted["text_fingerprint"].get<std::string>())
    throw BadInput("{}: the checkpoint was trained on another text than {}, or with another vocabulary",
                   checkpoint.string(), text_->corpus().source());
  const JsonReader old_options = reader.object("options");
  for (const auto& [name, value] : wanted["options"].items())
    if (const Json old = old_options.json().value(name, Json()); old != value)  // what it did not know, it did not do
      throw BadInput("{}: expected the options of the run that it continues: {} was {}, now {}", checkpoint.string(),
                     name, old.dump(), value.dump());

  const std::int64_t step = reader.integer("step", 1, options_.steps);
  const at::NoGradGuard no_gradient;
  const auto saved = TransformerImpl::load(checkpoint);
  for (std::size_t i = 0; i < model_->weights().size(); ++i) {
    at::Tensor to = model_->weights()[i].second;
    to.copy_(saved->weights()[i].second);
  }
  const TensorArchive archive = open_safetensors(checkpoint / "optimizer.safetensors");
  for (const auto& [name, tensor] : saved_state()) {
    copy_bits(archive.at(name), tensor, archive.where());
    check_finite(tensor, name, archive.where());
  }
  if (recycler_) recycler_->set_random_state(reader.string("recycler"));
  log_ = CsvWriter(kLogHeader, read_file(checkpoint / "log.csv"));
  if (const fs::path neurons = checkpoint / "neurons.csv"; fs::exists(neurons))  // else an earlier version wrote it
    neuron_log_ = CsvWriter(kNeuronLogHeader, read_file(neurons));
  optimizer_.set_steps(step);
  step_ = step;
}

}  // namespace torpor::lab
