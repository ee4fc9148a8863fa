// Where there is no CUDA.
#include "core/base/error.h"
#include "engine/kernels/cuda/cuda.h"

namespace torpor::cuda {
namespace {

[[noreturn]] void unavailable() {
  throw IoError("{}", why_not_available());
}

}  // namespace

std::string why_not_available() {
  return "this build has no CUDA";
}
std::string device_name() {
  return {};
}

struct FfnLayer::State {};
struct SparkCache::State {};

FfnLayer::FfnLayer(const NeuronRows&, const WeightMatrix&) {
  unavailable();
}
FfnLayer::~FfnLayer() = default;
void FfnLayer::sparse_ffn(std::span<const std::int32_t>, float*, const float*, float*) {
  unavailable();
}
std::int64_t FfnLayer::spark_ffn(Activation, std::int64_t, const float*, float*) {
  unavailable();
}
double FfnLayer::seconds() const {
  return 0;
}

SparkCache::SparkCache(const SparkAttentionShape&, std::int64_t) {
  unavailable();
}
SparkCache::~SparkCache() = default;
void SparkCache::put(std::int64_t, const float*, const float*) {
  unavailable();
}
SparkAttentionCounts SparkCache::attend(const float*, std::int64_t, float*) {
  unavailable();
}
double SparkCache::seconds() const {
  return 0;
}

}  // namespace torpor::cuda
