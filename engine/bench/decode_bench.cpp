#include "engine/bench/decode_bench.h"

#include <algorithm>
#include <chrono>

#include "core/base/cpu.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/large_memory.h"
#include "core/base/random.h"
#include "engine/bench/memory_rate.h"
#include "engine/bench/spread.h"
#include "engine/decode/sampling.h"

namespace torpor {
namespace {

/// Keys that a token in the middle of a round sees in a layer.
double visible(const ModelConfig& config, std::size_t layer, const DecodeBenchOptions& options) {
  const double seen = static_cast<double>(options.context) + static_cast<double>(options.tokens + 1) / 2;
  const int window = config.windows[layer];
  return window > 0 ? std::min(seen, static_cast<double>(window)) : seen;
}

/// Weights of Gemma 3n's streams, and one row of the embeddings of the layers.
std::int64_t stream_bytes(const Model& model) {
  const AltUpWeights& shared = model.altup();
  std::int64_t bytes = shared.layer_input_projection.bytes();
  if (!shared.layer_embedding.empty()) bytes += shared.layer_embedding.row_bytes();
  for (const auto* each : {&shared.stream_in, &shared.stream_out})
    for (const WeightMatrix& w : *each) bytes += w.bytes();
  for (const LayerWeights& layer : model.layers()) {
    const AltUpLayerWeights& a = layer.altup;
    for (const WeightMatrix* w :
         {&a.predict_coefs, &a.correct_coefs, &a.laurel_left, &a.laurel_right, &a.input_gate, &a.input_projection})
      bytes += w->bytes();
    bytes += 2 * a.router.bytes();  // before the block and behind it
  }
  return bytes;
}

TokenBytes bytes_of(const Model& model, const SparseFfn* ffn, const PartTimes& times,
                    const DecodeBenchOptions& options) {
  const ModelConfig& config = model.config();
  TokenBytes bytes;
  for (std::size_t l = 0; l < model.layers().size(); ++l) {
    const LayerWeights& layer = model.layers()[l];
    for (const WeightMatrix* w :
         {&layer.attention.query, &layer.attention.key, &layer.attention.value, &layer.attention.output})
      bytes.projections += static_cast<double>(w->bytes());
    for (const WeightMatrix* w : {&layer.ffn.gate, &layer.ffn.up, &layer.ffn.stored_down()})
      bytes.ffn += static_cast<double>(w->bytes());
    const double keys = visible(config, l, options),
                 head = static_cast<double>(bytes_of(options.cache, config.head_dim));
    if (config.spark.attention() && times.attention_rows > 0) {
      const int group = config.n_heads / config.n_kv_heads;
      const double kept =
          std::min(keys, static_cast<double>(times.attended) / static_cast<double>(times.attention_rows) * group);
      const double scored = config.spark.attention_predictor > 0
                                ? static_cast<double>(config.spark.attention_predictor) / config.head_dim
                                : 1.0;
      bytes.attention += config.n_kv_heads * head * (keys * scored + kept * (2 - scored));
    } else {
      bytes.attention += 2 * config.n_kv_heads * head * keys;
    }
  }
  bytes.streams = static_cast<double>(stream_bytes(model));
  if (ffn != nullptr) bytes.ffn = ffn->bytes_per_token();
  bytes.unembedding = static_cast<double>(model.unembedding().bytes() + model.embedding_out().bytes());
  return bytes;
}

class Bench {
 public:
  Bench(const std::shared_ptr<const Model>& model, const Skipping& skipping, const DecodeBenchOptions& options,
        ThreadPool& pool)
      : model_(model),
        options_(options),
        pool_(pool),
        session_(model, pool, {.context = options.context + options.tokens, .cache_format = options.cache}) {
    if (skipping.ffn && skipping.reason.empty()) ffn_ = skipping.ffn;
    session_.draw_cache(0, options.context, options.seed + 1);
    const std::int64_t caches =
        std::clamp<std::int64_t>(4 * cpu_info().last_level_cache_bytes, std::int64_t{256} << 20, std::int64_t{2} << 30);
    probe_bytes_ = static_cast<std::size_t>(options.probe_bytes > 0 ? options.probe_bytes : caches);
    probe_ = allocate_large(probe_bytes_, "measuring the read bandwidth");
    std::fill_n(probe_.get(), probe_bytes_, std::byte{1});
  }

  void round(DecodeSide& side, bool skip, bool keep, std::uint64_t number) {
    const double before = memory_read_rate({probe_.get(), probe_bytes_}, pool_);
    session_.set_sparse_ffn(skip ? ffn_ : nullptr);
    session_.truncate(0, options_.context);
    session_.reset_times();
    Random random(options_.seed + number);
    using Clock = std::chrono::steady_clock;
    const auto seconds_since = [](Clock::time_point from) {
      return std::chrono::duration<double>(Clock::now() - from).count();
    };
    double sampling = 0;
    const auto start = Clock::now();
    for (int t = 0; t < options_.tokens; ++t) {
      check_interrupt();
      const auto token = static_cast<TokenId>(random.below(static_cast<std::uint64_t>(model_->config().vocab_size)));
      const std::span<const float> logits = session_.forward({&token, 1});
      const auto sampled = Clock::now();
      sampler_.sample(logits);
      sampling += seconds_since(sampled);
    }
    const double seconds = seconds_since(start);
    if (!keep) return;
    side.seconds_per_token.push_back(seconds / options_.tokens);
    side.sampling.push_back(sampling / options_.tokens);
    side.read_bandwidth.push_back(std::max(before, memory_read_rate({probe_.get(), probe_bytes_}, pool_)));
    side.parts.push_back(session_.times());
    side.bytes = bytes_of(*model_, skip ? ffn_.get() : nullptr, session_.times(), options_);
    if (skip) side.density = ffn_->density();
  }

  bool skips() const { return ffn_ != nullptr; }

 private:
  std::shared_ptr<const Model> model_;
  const DecodeBenchOptions& options_;
  ThreadPool& pool_;
  Session session_;
  Sampler sampler_{{.temperature = 0.8F}};
  std::shared_ptr<SparseFfn> ffn_;
  std::shared_ptr<std::byte> probe_;
  std::size_t probe_bytes_ = 0;
};

Json side_json(const DecodeSide& side, int tokens) {
  std::vector<double> rates, gigabytes, reads, shares;
  for (std::size_t r = 0; r < side.seconds_per_token.size(); ++r) {
    rates.push_back(1 / side.seconds_per_token[r]);
    gigabytes.push_back(side.bytes.all() / side.seconds_per_token[r] * 1e-9);
    reads.push_back(side.read_bandwidth[r] * 1e-9);
    shares.push_back(gigabytes.back() / reads.back());
  }
  const auto part = [&](auto of) {
    std::vector<double> values;
    for (const PartTimes& times : side.parts) values.push_back(of(times) / tokens * 1e3);
    return median(values);
  };
  return {{"tokens_per_second", spread(rates)},
          {"milliseconds_per_token", side.median_seconds() * 1e3},
          {"density", side.density},
          {"bytes_per_token", side.bytes.all()},
          {"bytes_per_token_by_part",
           {{"ffn", side.bytes.ffn},
            {"projections", side.bytes.projections},
            {"attention", side.bytes.attention},
            {"streams", side.bytes.streams},
            {"unembedding", side.bytes.unembedding}}},
          {"milliseconds_per_token_by_part",
           {{"ffn", part([](const PartTimes& t) { return t.ffn; })},
            {"projections", part([](const PartTimes& t) { return t.projections; })},
            {"attention", part([](const PartTimes& t) { return t.attention; })},
            {"streams", part([](const PartTimes& t) { return t.streams; })},
            {"unembedding", part([](const PartTimes& t) { return t.unembedding; })},
            {"sampling", median(side.sampling) * 1e3},
            {"rest", part([](const PartTimes& t) {
               return t.all - t.ffn - t.projections - t.attention - t.streams - t.unembedding;
             })}}},
          {"gb_per_s", spread(gigabytes)},
          {"read_bandwidth_gb_per_s", spread(reads)},
          {"share_of_bandwidth", spread(shares)}};
}

}  // namespace

double DecodeSide::median_seconds() const {
  return median(seconds_per_token);
}

std::vector<double> DecodeBench::speedups() const {
  std::vector<double> ratios;
  if (!sparse) return ratios;
  for (std::size_t r = 0; r < dense.seconds_per_token.size(); ++r)
    ratios.push_back(dense.seconds_per_token[r] / sparse->seconds_per_token[r]);
  std::sort(ratios.begin(), ratios.end());
  return ratios;
}

std::vector<double> BatchPoint::speedups() const {
  std::vector<double> ratios;
  for (std::size_t r = 0; r < dense.size(); ++r) ratios.push_back(dense[r] / sparse[r]);
  std::sort(ratios.begin(), ratios.end());
  return ratios;
}

std::vector<BatchPoint> bench_batches(const std::shared_ptr<const Model>& model, const Skipping& skipping,
                                      const BatchBenchOptions& options, ThreadPool& pool,
                                      const std::function<void(int)>& progress) {
  if (!skipping.ffn || options.steps < 1 || options.rounds < 1 || options.context < 0)
    throw InvalidArgument("[bench_batches] expected something to skip, steps >= 1, rounds >= 1 and context >= 0");
  std::vector<BatchPoint> curve;
  int done = 0;
  for (const int sequences : options.sequences) {
    if (sequences < 1) throw InvalidArgument("[bench_batches] expected at least one sequence, got {}", sequences);
    Session session(model, pool, {.sequences = sequences, .context = options.context + options.steps});
    for (int s = 0; s < sequences; ++s)
      session.draw_cache(s, options.context, options.seed + static_cast<std::uint64_t>(s));
    BatchPoint point{.sequences = sequences, .dense = {}, .sparse = {}};
    std::vector<TokenId> tokens(static_cast<std::size_t>(sequences));
    std::vector<SequenceTokens> batch;
    for (int s = 0; s < sequences; ++s)
      batch.push_back({s, std::span<const TokenId>(tokens).subspan(static_cast<std::size_t>(s), 1)});
    const auto side = [&](bool skip, int round) {
      session.set_sparse_ffn(skip ? skipping.ffn : nullptr);
      for (int s = 0; s < sequences; ++s) session.truncate(s, options.context);
      Random random(options.seed + static_cast<std::uint64_t>(round + 1));
      const auto start = std::chrono::steady_clock::now();
      for (int step = 0; step < options.steps; ++step) {
        check_interrupt();
        for (TokenId& token : tokens)
          token = static_cast<TokenId>(random.below(static_cast<std::uint64_t>(model->config().vocab_size)));
        session.forward(batch);
      }
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (round >= 0) (skip ? point.sparse : point.dense).push_back(seconds / options.steps);
    };
    skipping.ffn->reset_counts();
    for (int round = -1; round < options.rounds; ++round) {
      side(false, round);
      side(true, round);
      if (progress) progress(++done);
    }
    point.united = skipping.ffn->united();
    curve.push_back(std::move(point));
  }
  return curve;
}

Json to_json(const std::vector<BatchPoint>& curve) {
  Json json = Json::array();
  for (const BatchPoint& point : curve) {
    const auto rate = [&](double seconds) { return point.sequences / seconds; };
    json.push_back({{"sequences", point.sequences},
                    {"dense_tokens_per_second", rate(median(point.dense))},
                    {"sparse_tokens_per_second", rate(median(point.sparse))},
                    {"speedup", spread(point.speedups())},
                    {"neurons_united", point.united > 0 ? Json(point.united) : Json(nullptr)}});
  }
  return json;
}

DecodeBench bench_decode(const std::shared_ptr<const Model>& model, const Skipping& skipping,
                         const DecodeBenchOptions& options, ThreadPool& pool,
                         const std::function<void(int)>& progress) {
  if (options.tokens < 1 || options.rounds < 1 || options.context < 0 || options.probe_bytes < 0)
    throw InvalidArgument("[bench_decode] expected tokens >= 1, rounds >= 1 and context >= 0, got {}, {}, {}",
                          options.tokens, options.rounds, options.context);
  Bench bench(model, skipping, options, pool);
  DecodeBench result{.options = options, .dense = {}, .sparse = {}};
  if (bench.skips()) result.sparse.emplace();
  for (int round = -1; round < options.rounds; ++round) {
    const auto number = static_cast<std::uint64_t>(round) + 1;
    bench.round(result.dense, false, round >= 0, number);
    if (result.sparse) bench.round(*result.sparse, true, round >= 0, number);
    if (progress) progress(round + 1);
  }
  return result;
}

Json to_json(const DecodeBench& bench) {
  Json json = {{"context", bench.options.context},
               {"cache", traits(bench.options.cache).name},
               {"tokens", bench.options.tokens},
               {"rounds", bench.options.rounds},
               {"dense", side_json(bench.dense, bench.options.tokens)},
               {"sparse", nullptr},
               {"speedup", nullptr},
               {"speedup_byte_limit", nullptr},
               {"share_of_byte_limit", nullptr}};
  if (!bench.sparse) return json;
  const auto speedups = bench.speedups();
  json["sparse"] = side_json(*bench.sparse, bench.options.tokens);
  json["speedup"] = spread(speedups);
  json["speedup_byte_limit"] = bench.byte_limit();
  json["share_of_byte_limit"] = speedups[speedups.size() / 2] / bench.byte_limit();
  return json;
}

}  // namespace torpor
