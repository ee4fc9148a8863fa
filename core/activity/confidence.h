// Confidence intervals for means over tokens. Tokens of one text are correlated, so they are no independent sample; the
// method here is batch means: tokens are grouped into blocks (one window of text each), the block is the sampling unit,
// and the interval comes from the spread between blocks with a ratio estimator (blocks may differ in length) and
// Student's t with blocks - 1 degrees of freedom. Dependence inside a block costs nothing; blocks that are themselves
// alike (neighbouring windows) make the interval somewhat too narrow.
#pragma once

#include <cstdint>

namespace torpor {

/// A mean with its interval. low and high are NaN where fewer than two blocks were seen.
struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
  std::int64_t blocks = 0;
  bool has_bounds() const { return blocks >= 2; }
};

/// Quantile of Student's t: x with P(T <= x) = p, `freedom` >= 1 degrees of freedom. 0 < p < 1.
/// Throws InvalidArgument outside. Relative error below 1e-9.
double student_t_quantile(double p, double freedom);

/// Sums over blocks for the mean of y per token. Six numbers, whatever the number of blocks; merging adds them, so for
/// integer y (counts) merge(a, b) equals one pass in every bit. Regular value; not thread-safe to modify.
class BatchMeans {
 public:
  /// One finished block: the sum of y over its tokens, and how many they were. Blocks without tokens are ignored.
  void add_block(double sum, std::int64_t tokens);
  void merge(const BatchMeans& other);

  std::int64_t tokens() const { return static_cast<std::int64_t>(n_); }
  std::int64_t blocks() const { return blocks_; }
  double sum() const { return y_; }
  /// Mean and two-sided interval of the given level. mean 0 where nothing was added.
  Interval interval(double level = 0.95) const;

 private:
  std::int64_t blocks_ = 0;
  double n_ = 0, y_ = 0, nn_ = 0, ny_ = 0, yy_ = 0;
};

}  // namespace torpor
