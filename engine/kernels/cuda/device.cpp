#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "engine/kernels/cuda/cuda.h"
#include "engine/kernels/cuda/start.h"

namespace torpor::cuda {
namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw IoError("CUDA: {}: {}", what, cudaGetErrorString(error));
}

/// Memory of the device.
template <class T>
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::int64_t count) {
    if (count > 0)
      check(cudaMalloc(&data_, static_cast<std::size_t>(count) * sizeof(T)), "taking memory of the device");
  }
  ~Memory() { cudaFree(data_); }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }

  T* get() const { return data_; }
  void put(const T* from, std::int64_t count, cudaStream_t stream) {
    check(cudaMemcpyAsync(data_, from, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream),
          "copying to the device");
  }
  void take(T* to, std::int64_t count, cudaStream_t stream) const {
    check(cudaMemcpyAsync(to, data_, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyDeviceToHost, stream),
          "copying from the device");
  }

 private:
  T* data_ = nullptr;
};

/// A stream with the times of what ran on it.
class Stream {
 public:
  Stream() {
    if (const std::string reason = why_not_available(); !reason.empty()) throw IoError("{}", reason);
    check(cudaStreamCreate(&stream_), "making a stream");
    check(cudaEventCreate(&begin_), "making an event");
    check(cudaEventCreate(&end_), "making an event");
    int device = 0, processors = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for its processors");
    processors_ = static_cast<unsigned>(processors);
  }
  ~Stream() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  unsigned processors() const { return processors_; }

  template <class Work>
  void timed(const Work& work) {
    check(cudaEventRecord(begin_, stream_), "recording an event");
    check(work(), "starting kernels");
    check(cudaEventRecord(end_, stream_), "recording an event");
  }
  void wait() { check(cudaStreamSynchronize(stream_), "waiting for the device"); }
  double seconds() const {
    float milliseconds = 0;
    return cudaEventElapsedTime(&milliseconds, begin_, end_) == cudaSuccess ? static_cast<double>(milliseconds) * 1e-3
                                                                            : 0;
  }

 private:
  cudaStream_t stream_{};
  cudaEvent_t begin_{}, end_{};
  unsigned processors_ = 1;
};

void check_matrix(const char* name, const WeightMatrix& w, std::int64_t neurons) {
  if (w.format != NumberFormat::bf16 || w.out != neurons || w.in < 8 || w.in % 8 != 0 || w.in > kMostWidth)
    throw InvalidArgument("[cuda] expected {} in bf16 of {} rows, a multiple of 8 and at most {} wide, got {} [{}, {}]",
                          name, neurons, kMostWidth, traits(w.format).name, w.out, w.in);
}

/// A matrix on the device, its rows one after another.
Memory<std::uint16_t> upload(const WeightMatrix& w, cudaStream_t stream) {
  Memory<std::uint16_t> memory(w.out * w.in);
  check(cudaMemcpy2DAsync(memory.get(), static_cast<std::size_t>(w.row_bytes()), w.data,
                          static_cast<std::size_t>(w.row_stride()), static_cast<std::size_t>(w.row_bytes()),
                          static_cast<std::size_t>(w.out), cudaMemcpyHostToDevice, stream),
        "copying weights to the device");
  return memory;
}

float quantile(std::int64_t k, std::int64_t n) {
  if (k >= n) return -std::numeric_limits<float>::infinity();
  return static_cast<float>(normal_quantile(1 - static_cast<double>(k) / static_cast<double>(n)));
}

}  // namespace

std::string why_not_available() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return devices > 0 ? std::string() : "no CUDA-capable device is detected";
}

std::string device_name() {
  cudaDeviceProp properties{};
  if (!why_not_available().empty() || cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return {};
  return fmt::format("{}, compute capability {}.{}", properties.name, properties.major, properties.minor);
}

struct FfnLayer::State {
  Stream stream;
  Memory<std::uint16_t> first, multiplier, down;
  Memory<float> bias, x, scores, values, partial, out;
  Memory<int> active, count;
  FfnBuffers buffers;
};

FfnLayer::FfnLayer(const NeuronRows& rows, const WeightMatrix& first) {
  const WeightMatrix& down = rows.down;
  check_matrix("down", down, down.out);
  if (!rows.gate.empty()) throw InvalidArgument("[cuda] expected no gate: activations are given");
  if (!rows.multiplier.empty()) check_matrix("the multiplier", rows.multiplier, down.out);
  if (!first.empty()) check_matrix("the scoring rows", first, down.out);
  if (!rows.multiplier_bias.empty() && static_cast<std::int64_t>(rows.multiplier_bias.size()) != down.out)
    throw InvalidArgument("[cuda] expected {} biases, got {}", down.out, rows.multiplier_bias.size());
  state_ = std::make_unique<State>();
  State& s = *state_;
  FfnBuffers& b = s.buffers;
  s.down = upload(down, s.stream.get());
  b.down = {s.down.get(), down.in};
  b.neurons = static_cast<int>(down.out);
  b.width = static_cast<int>(down.in);
  if (!rows.multiplier.empty()) {
    s.multiplier = upload(rows.multiplier, s.stream.get());
    b.multiplier = {s.multiplier.get(), rows.multiplier.in};
    b.multiplier_width = static_cast<int>(rows.multiplier.in);
  }
  if (!first.empty()) {
    s.first = upload(first, s.stream.get());
    b.first = {s.first.get(), first.in};
    b.first_width = static_cast<int>(first.in);
  }
  if (!rows.multiplier_bias.empty()) {
    s.bias = Memory<float>(down.out);
    s.bias.put(rows.multiplier_bias.data(), down.out, s.stream.get());
    b.bias = s.bias.get();
  }
  b.blocks = 2 * s.stream.processors();
  s.x = Memory<float>(std::max(1, b.first_width + b.multiplier_width));
  s.scores = Memory<float>(down.out);
  s.values = Memory<float>(down.out);
  s.active = Memory<int>(down.out);
  s.count = Memory<int>(1);
  s.partial = Memory<float>(static_cast<std::int64_t>(b.blocks) * b.width);
  s.out = Memory<float>(b.width);
  b.x = s.x.get();
  b.scores = s.scores.get();
  b.values = s.values.get();
  b.active = s.active.get();
  b.count = s.count.get();
  b.partial = s.partial.get();
  b.out = s.out.get();
  s.stream.wait();
}

FfnLayer::~FfnLayer() = default;

void FfnLayer::sparse_ffn(std::span<const std::int32_t> active, float* values, const float* x, float* out) {
  State& s = *state_;
  const FfnBuffers& b = s.buffers;
  const auto count = static_cast<std::int64_t>(active.size());
  if (count > b.neurons || (count > 0 && (active.front() < 0 || active.back() >= b.neurons)))
    throw InvalidArgument("[cuda] expected ascending neurons from 0 to {}, got {}", b.neurons - 1, count);
  const int listed = static_cast<int>(count);
  s.active.put(active.data(), count, s.stream.get());
  s.values.put(values, count, s.stream.get());
  s.count.put(&listed, 1, s.stream.get());
  if (b.multiplier_width > 0) s.x.put(x, b.multiplier_width, s.stream.get());
  s.stream.timed([&] { return start_sparse_ffn(s.stream.get(), b, b.x); });
  s.values.take(values, count, s.stream.get());
  s.out.take(out, b.width, s.stream.get());
  s.stream.wait();
}

std::int64_t FfnLayer::spark_ffn(Activation activation, std::int64_t k, const float* x, float* out) {
  State& s = *state_;
  const FfnBuffers& b = s.buffers;
  if (b.first.data == nullptr || k < 1)
    throw InvalidArgument("[cuda] expected rows that score neurons and k >= 1, got k = {}", k);
  s.x.put(x, b.first_width + b.multiplier_width, s.stream.get());
  s.stream.timed(
      [&] { return start_spark_ffn(s.stream.get(), b, static_cast<int>(activation), quantile(k, b.neurons)); });
  int count = 0;
  s.count.take(&count, 1, s.stream.get());
  s.out.take(out, b.width, s.stream.get());
  s.stream.wait();
  return count;
}

double FfnLayer::seconds() const {
  return state_->stream.seconds();
}

struct SparkCache::State {
  Stream stream;
  SparkAttentionShape shape;
  std::int64_t context = 0;
  Memory<std::uint16_t> leading, rest, values;
  Memory<float> q, scores, kept, partial, out;
  Memory<int> index, count;
  SparkBuffers buffers;
};

SparkCache::SparkCache(const SparkAttentionShape& shape, std::int64_t context) {
  const AttentionShape& a = shape.attention;
  const int r = shape.predictor, d = a.head_dim;
  if (a.heads < 1 || a.kv_heads < 1 || a.heads % a.kv_heads != 0 || d > kThreads || d % 8 != 0 || r % 8 != 0 || r < 8 ||
      r >= d || shape.active < 1 || context < 1 || context > (1 << 30) || a.window != 0 || a.soft_cap != 0)
    throw InvalidArgument(
        "[cuda] expected heads a multiple of kv_heads, a head_dim up to {} and a predictor of multiples of 8, k >= 1, "
        "a context and neither window nor cap, got {}, {}, {}, {}, {}, {}",
        kThreads, a.heads, a.kv_heads, d, r, shape.active, context);
  state_ = std::make_unique<State>();
  State& s = *state_;
  s.shape = shape;
  s.context = context;
  s.leading = Memory<std::uint16_t>(a.kv_heads * context * r);
  s.rest = Memory<std::uint16_t>(a.kv_heads * context * (d - r));
  s.values = Memory<std::uint16_t>(a.kv_heads * context * d);
  SparkBuffers& b = s.buffers;
  b.parts = std::max(1U, 2 * s.stream.processors() / static_cast<unsigned>(a.heads));
  b.stride = static_cast<int>(context);
  s.q = Memory<float>(static_cast<std::int64_t>(a.heads) * d);
  s.out = Memory<float>(static_cast<std::int64_t>(a.heads) * d);
  s.scores = Memory<float>(a.heads * context);
  s.kept = Memory<float>(a.heads * context);
  s.index = Memory<int>(a.heads * context);
  s.count = Memory<int>(a.heads);
  s.partial = Memory<float>(static_cast<std::int64_t>(a.heads) * b.parts * d);
  b.sizes = {a.heads, a.kv_heads, d, r, 0, context * r, context * (d - r), context * d, a.scale};
  b.leading = s.leading.get();
  b.rest = s.rest.get();
  b.values = s.values.get();
  b.q = s.q.get();
  b.scores = s.scores.get();
  b.kept = s.kept.get();
  b.index = s.index.get();
  b.count = s.count.get();
  b.partial = s.partial.get();
  b.out = s.out.get();
}

SparkCache::~SparkCache() = default;

void SparkCache::put(std::int64_t position, const float* key, const float* value) {
  State& s = *state_;
  if (position < 0 || position >= s.context)
    throw InvalidArgument("[cuda] expected a position from 0 to {}, got {}", s.context - 1, position);
  const std::int64_t d = s.shape.attention.head_dim, r = s.shape.predictor, heads = s.shape.attention.kv_heads;
  std::vector<std::uint16_t> keys(static_cast<std::size_t>(heads * d)), values(keys.size());
  from_f32({key, keys.size()}, NumberFormat::bf16, reinterpret_cast<std::byte*>(keys.data()));
  from_f32({value, values.size()}, NumberFormat::bf16, reinterpret_cast<std::byte*>(values.data()));
  const auto copy = [&](std::uint16_t* table, const std::uint16_t* from, std::int64_t width) {
    check(cudaMemcpy2DAsync(table + position * width, static_cast<std::size_t>(s.context * width) * 2, from,
                            static_cast<std::size_t>(d) * 2, static_cast<std::size_t>(width) * 2,
                            static_cast<std::size_t>(heads), cudaMemcpyHostToDevice, s.stream.get()),
          "copying a key to the device");
  };
  copy(s.leading.get(), keys.data(), r);
  copy(s.rest.get(), keys.data() + r, d - r);
  copy(s.values.get(), values.data(), d);
  s.stream.wait();
}

SparkAttentionCounts SparkCache::attend(const float* q, std::int64_t position, float* out) {
  State& s = *state_;
  if (position < 0 || position >= s.context)
    throw InvalidArgument("[cuda] expected a position from 0 to {}, got {}", s.context - 1, position);
  const AttentionShape& a = s.shape.attention;
  SparkBuffers b = s.buffers;
  b.sizes.keys = static_cast<int>(position) + 1;
  s.q.put(q, static_cast<std::int64_t>(a.heads) * a.head_dim, s.stream.get());
  s.stream.timed([&] { return start_spark_attention(s.stream.get(), b, quantile(s.shape.active, b.sizes.keys)); });
  std::vector<int> counts(static_cast<std::size_t>(a.heads));
  s.count.take(counts.data(), a.heads, s.stream.get());
  s.out.take(out, static_cast<std::int64_t>(a.heads) * a.head_dim, s.stream.get());
  s.stream.wait();
  SparkAttentionCounts result{.rows = a.heads};
  for (const int count : counts) {
    result.kept += std::max(count, 1);
    result.most = std::max<std::int64_t>(result.most, std::max(count, 1));
    result.empty_rows += count == 0 ? 1 : 0;
  }
  return result;
}

double SparkCache::seconds() const {
  return state_->stream.seconds();
}

}  // namespace torpor::cuda
