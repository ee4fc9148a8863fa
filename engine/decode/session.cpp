#include "engine/decode/session.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <numbers>
#include <numeric>
#include <optional>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "engine/decode/altup.h"
#include "engine/decode/kv_cache.h"
#include "engine/decode/rope.h"
#include "engine/kernels/spark.h"

namespace torpor {
namespace {

constexpr std::int64_t kSinkBytes = std::int64_t{32} << 20;  // logits handed to a sink at once
constexpr std::int64_t kWorthThreads = 16384;  // values; below, waking the workers costs more than it saves

/// Adds the seconds that it lives.
class Timer {
 public:
  explicit Timer(double& seconds) : seconds_(seconds), start_(Clock::now()) {}
  ~Timer() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_;
};

std::int64_t checked_context(const Model& model, const SessionOptions& options) {
  const ModelConfig& config = model.config();
  if (options.sequences < 1) throw InvalidArgument("[Session] expected sequences >= 1, got {}", options.sequences);
  if (options.rows_per_pass < 1)
    throw InvalidArgument("[Session] expected rows_per_pass >= 1, got {}", options.rows_per_pass);
  if (options.context < 0) throw InvalidArgument("[Session] expected context >= 0, got {}", options.context);
  if (config.positions == Positions::learned && options.context > config.context_length)
    throw InvalidArgument("[Session] expected a context of at most {} (the model's learned positions), got {}",
                          config.context_length, options.context);
  if (options.cache_format == NumberFormat::q8_0 &&
      (config.head_dim % 32 != 0 || (config.spark.attention() && config.spark.attention_predictor % 32 != 0)))
    throw BadInput(
        "{}: expected heads of a multiple of 32 values for an 8-bit cache, found {}{}. Run it with a cache in f32",
        model.path().string(), config.head_dim,
        config.spark.attention() ? fmt::format(" and a predictor of {}", config.spark.attention_predictor)
                                 : std::string());
  return options.context > 0 ? options.context : config.context_length;
}

}  // namespace

struct Session::State {
  State(std::shared_ptr<const Model> the_model, ThreadPool& the_pool, const SessionOptions& options)
      : model(std::move(the_model)),
        config(model->config()),
        pool(the_pool),
        context(checked_context(*model, options)),
        rows_per_pass(options.rows_per_pass),
        products(options.products),
        lengths(static_cast<std::size_t>(options.sequences), 0),
        named(static_cast<std::size_t>(options.sequences), 0),
        cache({.layers = config.cache_layers(),
               .sequences = options.sequences,
               .context = context,
               .kv_heads = config.n_kv_heads,
               .head_dim = config.head_dim,
               .leading = config.spark.attention() ? config.spark.attention_predictor : 0,
               .format = options.cache_format}),
        value_norm(config.head_norms ? static_cast<std::size_t>(config.head_dim) : 0, 1.0F) {
    rotation.frequencies = rope_frequencies(config);
    if (config.rope_local_theta > 0) local_rotation.frequencies = rope_frequencies(config, true);
    if (config.altup.any()) altup.emplace(*model, pool, products);
  }

  // ── the input of one call, flattened ──

  void accept(std::span<const SequenceTokens> batch) {
    tokens.clear();
    sequence.clear();
    position.clear();
    last_rows.clear();
    std::fill(named.begin(), named.end(), std::uint8_t{0});
    for (const auto& item : batch) {
      check_sequence(item.sequence, "forward");
      const auto s = static_cast<std::size_t>(item.sequence);
      if (named[s]++ != 0)
        throw InvalidArgument("[Session::forward] expected each sequence once, got sequence {} twice", item.sequence);
      if (item.tokens.empty())
        throw InvalidArgument("[Session::forward] expected at least one token for sequence {}, got none",
                              item.sequence);
      if (static_cast<std::int64_t>(item.tokens.size()) > context - lengths[s])
        throw InvalidArgument("[Session::forward] expected at most {} positions in sequence {}, got {} tokens after {}",
                              context, item.sequence, item.tokens.size(), lengths[s]);
      for (std::size_t i = 0; i < item.tokens.size(); ++i) {
        const TokenId token = item.tokens[i];
        if (token < 0 || token >= config.vocab_size)
          throw InvalidArgument("[Session::forward] expected tokens from 0 to {}, got {} at {} of sequence {}",
                                config.vocab_size - 1, token, i, item.sequence);
        tokens.push_back(token);
        sequence.push_back(item.sequence);
        position.push_back(lengths[s] + static_cast<std::int64_t>(i));
      }
      last_rows.push_back(static_cast<std::int64_t>(tokens.size()) - 1);
    }
  }

  /// Only now do the sequences grow: a call that throws half-way leaves them as they were.
  void commit() {
    for (std::size_t i = 0; i < tokens.size(); ++i) lengths[static_cast<std::size_t>(sequence[i])] = position[i] + 1;
  }

  void check_sequence(int which, const char* function) const {
    if (which < 0 || which >= static_cast<int>(lengths.size()))
      throw InvalidArgument("[Session::{}] expected a sequence from 0 to {}, got {}", function, lengths.size() - 1,
                            which);
  }

  // ── one pass: rows [begin, end) of the input through all layers; the result is in x ──

  void pass(std::int64_t begin, std::int64_t end) {
    first = begin;
    rows = end - begin;
    reserve();
    embed();
    const std::span positions(position.data() + first, static_cast<std::size_t>(rows));
    for (Rotation* const angles : {&rotation, &local_rotation})
      rope_angles(angles->frequencies, positions, angles->cosines.data(), angles->sines.data());
    if (altup) {
      const Timer timer(times.streams);
      altup->begin(std::span(tokens).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
                   x.data());
    }
    for (int layer = 0; layer < config.n_layers; ++layer) {
      check_interrupt();
      if (altup)
        altup_block(layer);
      else
        block(layer);
    }
    if (altup) {
      const Timer timer(times.streams);
      altup->end(x.data());
    }
  }

  /// Gemma 3n's: from one stream, which is x here, to the correction of all.
  void altup_block(int layer) {
    const LayerWeights& weights = model->layers()[static_cast<std::size_t>(layer)];
    const std::int64_t d = config.d_model;
    {
      const Timer timer(times.streams);
      altup->predict(layer, x.data());
      normalise(weights.attention_norm, x.data(), h.data());
      altup->laurel(layer, h.data(), laurel.data());
    }
    attend(layer, weights.attention, h.data(), update.data());
    normalise(weights.post_attention_norm, update.data(), update.data());
    for_rows(d, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = static_cast<std::size_t>(begin * d); i < static_cast<std::size_t>(end * d); ++i)
        x[i] = (x[i] + update[i] + laurel[i]) / std::numbers::sqrt2_v<float>;
    });
    normalise(weights.ffn_norm, x.data(), h.data());
    feed_forward(layer, weights.ffn, h.data(), update.data());
    normalise(weights.post_ffn_norm, update.data(), update.data());
    add(x.data(), update.data(), rows * d);
    const Timer timer(times.streams);
    altup->correct(layer, x.data());
  }

  void block(int layer) {
    const LayerWeights& weights = model->layers()[static_cast<std::size_t>(layer)];
    const std::int64_t values = rows * config.d_model;
    if (config.norm_first) {
      normalise(weights.attention_norm, x.data(), h.data());
      attend(layer, weights.attention, h.data(), update.data());
      if (config.norm_after) normalise(weights.post_attention_norm, update.data(), update.data());
      add(x.data(), update.data(), values);
      normalise(weights.ffn_norm, x.data(), h.data());
      feed_forward(layer, weights.ffn, h.data(), update.data());
      if (config.norm_after) normalise(weights.post_ffn_norm, update.data(), update.data());
      add(x.data(), update.data(), values);
    } else {  // OPT-350m
      attend(layer, weights.attention, x.data(), update.data());
      add(x.data(), update.data(), values);
      normalise(weights.attention_norm, x.data(), x.data());
      feed_forward(layer, weights.ffn, x.data(), update.data());
      add(x.data(), update.data(), values);
      normalise(weights.ffn_norm, x.data(), x.data());
    }
  }

  void reserve() {
    const auto grow = [&](std::vector<float>& buffer, std::int64_t width) {
      const auto size = static_cast<std::size_t>(rows * width);
      if (buffer.size() < size) buffer.resize(size);
    };
    grow(x, config.d_model);
    grow(h, std::max(config.d_model, config.d_embedding));
    grow(update, std::max(config.d_model, config.d_embedding));
    grow(queries, config.query_width());
    grow(new_keys, config.kv_width());
    grow(new_values, config.kv_width());
    grow(mixed, config.query_width());
    grow(neurons, config.d_ff);
    if (config.gated) grow(ups, config.d_ff);
    if (config.spark.ffn()) {
      grow(leading, config.spark.ffn_predictor);
      grow(others, config.d_model - config.spark.ffn_predictor);
    }
    if (altup) grow(laurel, config.d_model);
    for (Rotation* const angles : {&rotation, &local_rotation}) {
      grow(angles->cosines, std::ssize(angles->frequencies));
      grow(angles->sines, std::ssize(angles->frequencies));
    }
  }

  /// Calls job(begin, end) for parts of the rows, on several threads where that pays. Rows do not depend on each other.
  template <typename Job>
  void for_rows(std::int64_t width, const Job& job) {
    if (rows == 1 || rows * width < kWorthThreads) return job(std::int64_t{0}, rows);
    const auto part = [&job](long begin, long end, int) { job(begin, end); };
    pool.parallel_for(rows, 1, std::ref(part));  // by reference: a std::function that does not allocate
  }

  void normalise(const NormWeights& weights, const float* in, float* out) {
    const std::int64_t d = config.d_model;
    for_rows(d, [&](std::int64_t begin, std::int64_t end) {
      if (config.norm == Norm::rms)
        rms_norm(in + begin * d, end - begin, weights.weight, config.norm_weight_offset, config.norm_eps,
                 out + begin * d);
      else
        layer_norm(in + begin * d, end - begin, weights.weight, config.norm_weight_offset, weights.bias,
                   config.norm_eps, out + begin * d);
    });
  }

  void embed() {
    const WeightMatrix& table = model->token_embedding();
    const std::int64_t width = config.d_embedding;
    const bool projected = !model->embedding_in().empty();
    float* const to = projected ? h.data() : x.data();
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::span row(to + r * width, static_cast<std::size_t>(width));
      row_to_f32(table, tokens[static_cast<std::size_t>(first + r)], row);
      if (config.embedding_scale != 1)
        for (float& value : row) value *= config.embedding_scale;
    }
    if (projected) linear(model->embedding_in(), h.data(), rows, {}, x.data(), pool, products);
    if (config.positions != Positions::learned) return;
    const WeightMatrix& places = model->position_embedding();
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::span place(update.data(), static_cast<std::size_t>(config.d_model));
      row_to_f32(places, position[static_cast<std::size_t>(first + r)] + config.position_offset, place);
      add(x.data() + r * config.d_model, place.data(), config.d_model);
    }
  }

  void attend(int layer, const AttentionWeights& weights, const float* in, float* out) {
    {
      const Timer timer(times.projections);
      linear(weights.query, in, rows, weights.query_bias, queries.data(), pool, products);
      if (owns_cache(layer)) {
        linear(weights.key, in, rows, weights.key_bias, new_keys.data(), pool, products);
        linear(weights.value, in, rows, weights.value_bias, new_values.data(), pool, products);
      }
    }
    if (config.head_norms) normalise_heads(layer, weights);
    attend_to_cache(layer);
    const Timer timer(times.projections);
    linear(weights.output, mixed.data(), rows, weights.output_bias, out, pool, products);
  }

  bool owns_cache(int layer) const { return layer < config.cache_layers(); }

  void normalise_heads(int layer, const AttentionWeights& weights) {
    const Timer timer(times.attention);
    const auto norm = [&](std::vector<float>& of, int heads, std::span<const float> weight) {
      const std::int64_t width = std::int64_t{heads} * config.head_dim;
      for_rows(width, [&](std::int64_t begin, std::int64_t end) {
        float* const values = of.data() + begin * width;
        rms_norm(values, (end - begin) * heads, weight, 0, config.norm_eps, values);
      });
    };
    norm(queries, config.n_heads, weights.query_norm.weight);
    if (!owns_cache(layer)) return;
    norm(new_keys, config.n_kv_heads, weights.key_norm.weight);
    norm(new_values, config.n_kv_heads, value_norm);
  }

  void attend_to_cache(int layer) {
    const Timer timer(times.attention);
    if (!rotation.frequencies.empty()) turn(layer);
    const int cached = cache_layer(config, layer);

    AttentionShape shape{.heads = config.n_heads,
                         .kv_heads = config.n_kv_heads,
                         .head_dim = config.head_dim,
                         .scale = config.attention_scale,
                         .soft_cap = config.attention_soft_cap,
                         .window = config.windows[static_cast<std::size_t>(layer)],
                         .head_stride = cache.head_stride()};
    if (config.attention_scale_by_layer) shape.scale /= static_cast<float>(layer + 1);
    for (std::int64_t begin = 0; begin < rows;) {  // rows of one sequence lie together
      const int which = sequence[static_cast<std::size_t>(first + begin)];
      std::int64_t end = begin + 1;
      while (end < rows && sequence[static_cast<std::size_t>(first + end)] == which) ++end;
      const std::int64_t start = position[static_cast<std::size_t>(first + begin)];
      if (owns_cache(layer)) {
        if (cache.quantised()) check_finite(layer, begin, end, start);
        for (std::int64_t r = begin; r < end; ++r)
          cache.put(layer, which, start + r - begin, new_keys.data() + r * config.kv_width(),
                    new_values.data() + r * config.kv_width());
      }
      const std::byte* const keys = cache.keys(cached, which);
      const std::byte* const values = cache.values(cached, which);
      const auto floats = [](const std::byte* p) { return reinterpret_cast<const float*>(p); };
      const float* const q = queries.data() + begin * config.query_width();
      float* const to = mixed.data() + begin * config.query_width();
      const SparkAttentionShape spark{shape, config.spark.attention_predictor, config.spark.attention_active,
                                      config.spark.attention_predictor > 0 ? cache.rest_offset() : 0};
      if (config.spark.attention())
        count(cache.quantised() ? spark_attention_q8_0(spark, q, end - begin, start, keys, values, to, pool)
                                : spark_attention(spark, q, end - begin, start, floats(keys), floats(values),
                                                  config.head_dim, to, pool));
      else if (cache.quantised())
        attention_q8_0(shape, q, end - begin, start, keys, values, to, pool);
      else
        attention(shape, q, end - begin, start, floats(keys), floats(values), config.head_dim, to, pool);
      begin = end;
    }
  }

  /// Rounding to 8 bits would make some number of what is none.
  void check_finite(int layer, std::int64_t begin, std::int64_t end, std::int64_t start) const {
    const std::int64_t width = config.kv_width();
    for (std::int64_t r = begin; r < end; ++r)
      if (!all_finite(new_keys.data() + r * width, width) || !all_finite(new_values.data() + r * width, width))
        throw BadInput(
            "{}: expected finite numbers, found NaN or infinity among the keys and values of layer {} at position {}. "
            "A weight that is not finite, or numbers that outgrow f32",
            model->path().string(), layer, start + r - begin);
  }

  void count(const SparkAttentionCounts& counts) {
    times.attended += counts.kept;
    times.attention_rows += counts.rows;
  }

  void turn(int layer) {
    const bool local = config.rope_local_theta > 0 && config.windows[static_cast<std::size_t>(layer)] > 0;
    const Rotation& angles = local ? local_rotation : rotation;
    const auto pairs = std::ssize(angles.frequencies);
    const bool keys = owns_cache(layer);
    const int predictor = config.spark.attention_predictor;  // turned apart from the rest of the head, if any
    const auto turn_part = [&](int from, int first_pair, int count, std::int64_t r) {
      const RopeLayout query_layout{config.n_heads, config.head_dim, count, config.rope_interleaved};
      RopeLayout key_layout = query_layout;
      key_layout.heads = config.n_kv_heads;
      const float* const cosine = angles.cosines.data() + r * pairs + first_pair;
      const float* const sine = angles.sines.data() + r * pairs + first_pair;
      rotate(query_layout, cosine, sine, queries.data() + r * config.query_width() + from);
      if (keys) rotate(key_layout, cosine, sine, new_keys.data() + r * config.kv_width() + from);
    };
    for_rows(config.query_width() + config.kv_width(), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        const int first_part = predictor > 0 ? predictor / 2 : static_cast<int>(pairs);
        turn_part(0, 0, first_part, r);
        if (predictor > 0) turn_part(predictor, first_part, static_cast<int>(pairs) - first_part, r);
      }
    });
  }

  /// Spark: the predictor scores all neurons from the leading values of the input; `up` reads the others.
  void spark_neurons(const FfnWeights& weights, const float* in) {
    if (config.spark.ffn_predictor == 0) {
      linear(weights.gate, in, rows, {}, neurons.data(), pool, products);
      linear(weights.up, in, rows, {}, ups.data(), pool, products);
    } else {
      split_spark_input(config, in, rows, leading, others);
      linear(weights.gate, leading.data(), rows, {}, neurons.data(), pool, products);
      linear(weights.up, others.data(), rows, {}, ups.data(), pool, products);
    }
    spark_activate(config.activation, config.spark.ffn_active, neurons.data(), ups.data(), rows, config.d_ff, pool);
  }

  void dense_neurons(int layer, const FfnWeights& weights, const float* in) {
    if (config.gated) {
      linear(weights.gate, in, rows, weights.gate_bias, neurons.data(), pool, products);
      linear(weights.up, in, rows, weights.up_bias, ups.data(), pool, products);
    } else {
      linear(weights.up, in, rows, weights.up_bias, neurons.data(), pool, products);
    }
    if (sparse)
      sparse->shift_gates(layer, neurons.data(), rows, pool);
    else if (const float sparsity = config.gate_sparsity_of(layer); sparsity > 0)
      gaussian_shift(neurons.data(), rows, config.d_ff, static_cast<double>(sparsity), pool);
    const std::int64_t d_ff = config.d_ff;
    for_rows(d_ff, [&](std::int64_t begin, std::int64_t end) {
      float* const values = neurons.data() + begin * d_ff;
      const std::int64_t count = (end - begin) * d_ff;
      if (config.activation_threshold > 0)  // FATReLU: below the threshold is as below zero
        for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] >= config.activation_threshold ? values[i] : 0.F;
      if (config.gated)
        activate_gated(config.activation, values, ups.data() + begin * d_ff, count);
      else
        activate(config.activation, values, count);
    });
  }

  void feed_forward(int layer, const FfnWeights& weights, const float* in, float* out) {
    const Timer timer(times.ffn);
    if (sparse && !hook && sparse->skips(layer, rows)) return sparse->forward(layer, in, rows, out, pool, products);
    if (config.spark.ffn())
      spark_neurons(weights, in);
    else
      dense_neurons(layer, weights, in);
    if (sparse) sparse->mask(layer, in, neurons.data(), rows, pool);
    if (hook) {
      const auto from = static_cast<std::size_t>(first), count = static_cast<std::size_t>(rows);
      hook({.layer = layer,
            .rows = rows,
            .neurons = config.d_ff,
            .values = neurons.data(),
            .sequence = std::span(sequence).subspan(from, count),
            .position = std::span(position).subspan(from, count)});
    }
    weights.project_down(neurons.data(), rows, out, pool, products);
  }

  // ── from hidden rows to logits ──

  /// Rows of x from `from` on to logits: [which.size(), vocab]. Overwrites them. `which`: the input rows that they are.
  void project(std::int64_t from, std::span<const std::int64_t> which, float* to) {
    const Timer timer(times.unembedding);
    const std::int64_t d = config.d_model;
    const auto count = static_cast<std::int64_t>(which.size());
    float* hidden = x.data() + from * d;
    if (config.final_norm) {
      const auto kept = rows;
      rows = count;
      normalise(model->final_norm(), hidden, hidden);
      rows = kept;
    }
    if (!model->embedding_out().empty()) {
      linear(model->embedding_out(), hidden, count, {}, h.data(), pool, products);
      hidden = h.data();
    }
    linear(model->unembedding(), hidden, count, model->unembedding_bias(), to, pool, products);
    const std::int64_t values = count * config.vocab_size;
    if (config.logit_soft_cap > 0) soft_cap(to, values, config.logit_soft_cap);
    for (std::int64_t r = 0; r < count; ++r) {
      if (all_finite(to + r * config.vocab_size, config.vocab_size)) continue;
      const auto row = static_cast<std::size_t>(which[static_cast<std::size_t>(r)]);
      throw BadInput(
          "{}: expected finite logits, found NaN or infinity at position {} of sequence {}. A weight that is not "
          "finite, or numbers that outgrow f32",
          model->path().string(), position[row], sequence[row]);
    }
  }

  /// The numbers at, at + 1, …, at + count - 1.
  std::span<const std::int64_t> input_rows(std::int64_t at, std::int64_t count) {
    numbers.resize(static_cast<std::size_t>(count));
    std::iota(numbers.begin(), numbers.end(), at);
    return numbers;
  }

  void reserve_logits(std::int64_t count) {
    const auto size = static_cast<std::size_t>(count) * static_cast<std::size_t>(config.vocab_size);
    if (logits.size() >= size) return;
    try {
      logits.resize(size);
    } catch (const std::exception&) {
      throw IoError("out of memory: {} x {} logits. Ask for them in pieces", count, config.vocab_size);
    }
  }

  std::span<const float> run(std::span<const SequenceTokens> batch, Logits wanted, const LogitsSink* sink) {
    const Timer timer(times.all);
    accept(batch);
    const auto total = static_cast<std::int64_t>(tokens.size());
    const auto answers = wanted == Logits::last  ? static_cast<std::int64_t>(last_rows.size())
                         : wanted == Logits::all ? total
                                                 : 0;
    const std::int64_t piece = std::max<std::int64_t>(
        1, kSinkBytes / (std::int64_t{config.vocab_size} * static_cast<std::int64_t>(sizeof(float))));
    reserve_logits(sink == nullptr ? answers : std::min({piece, total, rows_per_pass}));
    std::size_t next_last = 0;
    for (std::int64_t begin = 0; begin < total; begin += rows_per_pass) {
      const std::int64_t end = std::min(total, begin + rows_per_pass);
      pass(begin, end);
      if (sink != nullptr) {
        for (std::int64_t at = begin; at < end; at += piece) {
          const std::int64_t count = std::min(piece, end - at);
          project(at - begin, input_rows(at, count), logits.data());
          (*sink)(at, count, logits.data());
        }
      } else if (wanted == Logits::all) {
        project(0, input_rows(begin, end - begin), logits.data() + begin * config.vocab_size);
      } else if (wanted == Logits::last) {
        next_last = project_last(begin, end, next_last);
      }
    }
    commit();
    return {logits.data(), static_cast<std::size_t>(answers) * static_cast<std::size_t>(config.vocab_size)};
  }

  /// Last rows of the sequences that end inside this pass, from number `next` on: moved together, so that the
  /// unembedding, the largest matrix of a small model, is read once.
  std::size_t project_last(std::int64_t begin, std::int64_t end, std::size_t next) {
    const std::size_t from = next;
    const std::int64_t d = config.d_model;
    for (; next < last_rows.size() && last_rows[next] < end; ++next) {
      float* const target = x.data() + static_cast<std::int64_t>(next - from) * d;
      const float* const source = x.data() + (last_rows[next] - begin) * d;
      if (target != source) std::memcpy(target, source, static_cast<std::size_t>(d) * sizeof(float));
    }
    if (next > from)
      project(0, {last_rows.data() + from, next - from},
              logits.data() + static_cast<std::int64_t>(from) * config.vocab_size);
    return next;
  }

  std::shared_ptr<const Model> model;
  const ModelConfig& config;
  ThreadPool& pool;
  std::int64_t context, rows_per_pass;
  Products products;
  std::vector<std::int64_t> lengths;  // [sequences]
  std::vector<std::uint8_t> named;    // [sequences] scratch of accept()
  KvCache cache;
  /// Of rotary positions.
  struct Rotation {
    std::vector<float> frequencies;     // [pairs]
    std::vector<float> cosines, sines;  // [rows, pairs]
  };
  Rotation rotation, local_rotation;  // local: of layers with a window, where that differs
  std::vector<float> value_norm;      // [head_dim] ones, of models that norm heads
  std::optional<AltUp> altup;
  FfnHook hook;
  std::shared_ptr<SparseFfn> sparse;
  PartTimes times;

  // The call's rows: which token, of which sequence, at which position.
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> sequence;
  std::vector<std::int64_t> position, last_rows, numbers;

  // The pass: rows [first, first + rows) of the call. Buffers only grow: [rows, width].
  std::int64_t first = 0, rows = 0;
  std::vector<float> x, h, update, queries, new_keys, new_values, mixed, neurons, ups, leading, others, laurel;
  std::vector<float> logits;
};

Session::Session(std::shared_ptr<const Model> model, ThreadPool& pool, const SessionOptions& options) {
  if (model == nullptr) throw InvalidArgument("[Session] expected a model, got none");
  state_ = std::make_unique<State>(std::move(model), pool, options);
}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const Model& Session::model() const {
  return *state_->model;
}
std::int64_t Session::context() const {
  return state_->context;
}

int Session::sequences() const {
  return static_cast<int>(state_->lengths.size());
}

std::int64_t Session::position(int sequence) const {
  state_->check_sequence(sequence, "position");
  return state_->lengths[static_cast<std::size_t>(sequence)];
}

void Session::clear(int sequence) {
  truncate(sequence, 0);
}

void Session::truncate(int sequence, std::int64_t length) {
  const std::int64_t held = position(sequence);
  if (length < 0 || length > held)
    throw InvalidArgument("[Session::truncate] expected a length from 0 to {}, got {}", held, length);
  state_->lengths[static_cast<std::size_t>(sequence)] = length;
}

const PartTimes& Session::times() const {
  return state_->times;
}

void Session::reset_times() {
  state_->times = {};
}

void Session::draw_cache(int sequence, std::int64_t length, std::uint64_t seed) {
  State& state = *state_;
  state.check_sequence(sequence, "draw_cache");
  if (length < 0 || length > state.context)
    throw InvalidArgument("[Session::draw_cache] expected a length from 0 to {}, got {}", state.context, length);
  // Numbers of a table, from another place in it for each row: a large cache is filled in a moment.
  Random random(seed);
  const auto row = static_cast<std::size_t>(state.config.kv_width());
  std::vector<float> drawn(row + 65536);
  for (float& v : drawn) v = static_cast<float>(random.normal());
  for (int layer = 0; layer < state.config.cache_layers(); ++layer)
    for (std::int64_t p = 0; p < length; ++p)
      state.cache.put(layer, sequence, p, drawn.data() + random.below(65536), drawn.data() + random.below(65536));
  state.lengths[static_cast<std::size_t>(sequence)] = length;
}

void Session::set_sparse_ffn(std::shared_ptr<SparseFfn> ffn) {
  state_->sparse = std::move(ffn);
}

void Session::set_ffn_hook(FfnHook hook) {
  state_->hook = std::move(hook);
}

std::span<const float> Session::forward(std::span<const SequenceTokens> batch, Logits logits) {
  return state_->run(batch, logits, nullptr);
}

std::span<const float> Session::forward(std::span<const TokenId> tokens, Logits logits) {
  const SequenceTokens one{0, tokens};
  return state_->run({&one, 1}, logits, nullptr);
}

void Session::forward(std::span<const SequenceTokens> batch, const LogitsSink& sink) {
  if (!sink) throw InvalidArgument("[Session::forward] expected a sink, got none");
  state_->run(batch, Logits::none, &sink);
}

}  // namespace torpor
