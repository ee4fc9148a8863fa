// A forward pass with its key/value cache, for one or several sequences at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/text/tokenizer.h"
#include "engine/decode/sparse_ffn.h"
#include "engine/models/model.h"

namespace torpor {

/// The activations of one FFN layer for the rows of one forward pass, between the activation function and the down
/// projection. A hook may read them (to measure) and set entries to zero (to mask).
struct FfnActivations {
  int layer = 0;
  std::int64_t rows = 0;
  int neurons = 0;
  float* values = nullptr;                 // [rows, neurons] row-major, stride = neurons
  std::span<const std::int32_t> sequence;  // [rows] which sequence a row belongs to
  std::span<const std::int64_t> position;  // [rows] its position there
};

/// Called on the session's thread once per layer and per chunk of rows.
using FfnHook = std::function<void(const FfnActivations&)>;

struct SessionOptions {
  int sequences = 1;                              // caches held
  std::int64_t context = 0;                       // positions a sequence can hold; 0: the model's context_length
  NumberFormat cache_format = NumberFormat::f32;  // of keys and values; q8_0 takes and reads a little over a quarter
  std::int64_t rows_per_pass = 512;               // forward() cuts longer inputs into passes of at most so many rows
  Products products = Products::exact;            // of passes of many rows (prefill)
};

/// Some tokens to append to one sequence.
struct SequenceTokens {
  int sequence = 0;
  std::span<const TokenId> tokens;
};

enum class Logits : std::uint8_t { none, last, all };

/// Seconds spent since the last reset, by part, and what Spark's attention kept.
struct PartTimes {
  double projections = 0;  // query, key, value, output
  double attention = 0;    // the cache: rotation, scores, sums
  double ffn = 0;
  double streams = 0;                             // Gemma 3n's residual (altup.h)
  double unembedding = 0;                         // final norm and logits
  double all = 0;                                 // the calls of forward(), the above included
  std::int64_t attended = 0, attention_rows = 0;  // keys kept and queries times heads (Spark attention only)
};

/// Owns the cache. One thread at a time; the weights are shared. `pool` must outlive it and is used only inside calls.
class Session {
 public:
  Session(std::shared_ptr<const Model> model, ThreadPool& pool, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const Model& model() const;
  std::int64_t position(int sequence) const;  // tokens in the cache
  std::int64_t context() const;
  int sequences() const;
  void clear(int sequence);
  /// Forgets all but the first `length` tokens.
  void truncate(int sequence, std::int64_t length);

  void set_ffn_hook(FfnHook hook);

  /// From now on rows skip what `ffn` says: single ones, some together and many, each where it pays; where not they are
  /// masked by its rules. While a hook is
  /// set all neurons are computed, and masked. Null: dense again.
  void set_sparse_ffn(std::shared_ptr<SparseFfn> ffn);

  const PartTimes& times() const;
  void reset_times();

  /// For measuring: as if the sequence had read `length` tokens, whose keys and values are drawn (normal, of size 1).
  /// Throws InvalidArgument: sequence unknown, context exceeded.
  void draw_cache(int sequence, std::int64_t length, std::uint64_t seed);

  /// Appends tokens to sequences (prefill: many for one; decode: one for each) and runs the model on them.
  /// The logits asked for are in the order of the input: [rows, vocab] f32, valid until the next call.
  /// Throws InvalidArgument: token outside the vocabulary, sequence unknown or named twice, context exceeded.
  std::span<const float> forward(std::span<const SequenceTokens> batch, Logits logits = Logits::last);
  std::span<const float> forward(std::span<const TokenId> tokens, Logits logits = Logits::last);  // sequence 0

  /// Like forward with Logits::all, but hands the logits out in pieces (bounded memory): `rows` rows of [vocab]
  /// starting at input row `first`, in order. For evaluation.
  using LogitsSink = std::function<void(std::int64_t first, std::int64_t rows, const float* logits)>;
  void forward(std::span<const SequenceTokens> batch, const LogitsSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace torpor
