// Spark's attention and activation against the formulas, written once more in double.
#include "engine/kernels/spark.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "engine/kernels/reference/reference.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::normal_values;

constexpr int kHeads = 4, kKvHeads = 2, kWidth = 8;
constexpr std::int64_t kStride = kKvHeads * kWidth + 3;

SparkAttentionShape shape_of(int predictor, std::int64_t active, std::int64_t window = 0) {
  return {
      {.heads = kHeads, .kv_heads = kKvHeads, .head_dim = kWidth, .scale = 0.4F, .window = window}, predictor, active};
}

struct Expected {
  std::vector<double> out;
  std::int64_t kept = 0, most = 0, empty = 0;
};

Expected by_formula(const SparkAttentionShape& shape, const std::vector<float>& q, std::int64_t queries,
                    std::int64_t first, const std::vector<float>& keys, const std::vector<float>& values) {
  Expected expected;
  const int r = shape.predictor > 0 ? shape.predictor : kWidth;
  const auto product = [&](std::int64_t query, int head, std::int64_t key, int from, int to) {
    double sum = 0;
    for (int i = from; i < to; ++i)
      sum += static_cast<double>(q[static_cast<std::size_t>((query * kHeads + head) * kWidth + i)]) *
             keys[static_cast<std::size_t>(key * kStride + head / 2 * kWidth + i)];
    return sum * shape.attention.scale;
  };
  for (std::int64_t t = 0; t < queries; ++t)
    for (int head = 0; head < kHeads; ++head) {
      const std::int64_t position = first + t;
      const std::int64_t from =
          shape.attention.window > 0 ? std::max<std::int64_t>(0, position + 1 - shape.attention.window) : 0;
      std::vector<double> s;
      for (std::int64_t j = from; j <= position; ++j) s.push_back(product(t, head, j, 0, r));
      const auto n = static_cast<double>(s.size());
      double theta = -1e30;
      if (static_cast<std::int64_t>(s.size()) > shape.active) {
        const double mean = std::accumulate(s.begin(), s.end(), 0.0) / n;
        double squares = 0;
        for (const double x : s) squares += (x - mean) * (x - mean);
        theta = mean + std::sqrt(squares / (n - 1)) * normal_quantile(1 - static_cast<double>(shape.active) / n);
      }
      std::vector<std::size_t> kept;
      for (std::size_t j = 0; j < s.size(); ++j)
        if (s[j] > theta) kept.push_back(j);
      if (kept.empty()) {
        ++expected.empty;
        kept.push_back(static_cast<std::size_t>(std::max_element(s.begin(), s.end()) - s.begin()));
      }
      double total = 0;
      for (const std::size_t j : kept) total += std::exp(s[j]);
      std::vector<double> out(kWidth);
      for (const std::size_t j : kept) {
        double weight = std::exp(s[j]) / total;
        if (shape.predictor > 0)
          weight *= std::log1p(std::exp(product(t, head, from + static_cast<std::int64_t>(j), r, kWidth)));
        for (int i = 0; i < kWidth; ++i)
          out[static_cast<std::size_t>(i)] +=
              weight *
              values[(static_cast<std::size_t>(from) + j) * kStride + static_cast<std::size_t>(head / 2 * kWidth + i)];
      }
      expected.out.insert(expected.out.end(), out.begin(), out.end());
      expected.kept += static_cast<std::int64_t>(kept.size());
      expected.most = std::max(expected.most, static_cast<std::int64_t>(kept.size()));
    }
  return expected;
}

TEST(SparkAttention, FollowsItsFormulaForEveryContextWindowAndPredictor) {
  for (const std::int64_t first : {0, 1, 37})
    for (const std::int64_t window : {0, 5, 20})
      for (const int predictor : {0, 2, 4}) {
        const auto shape = shape_of(predictor, 6, window);
        const std::int64_t queries = 9;
        const auto q = normal_values(queries * kHeads * kWidth, 1),
                   keys = normal_values((first + queries) * kStride, 2),
                   values = normal_values((first + queries) * kStride, 3);
        const Expected expected = by_formula(shape, q, queries, first, keys, values);
        std::vector<float> out(q.size()), again(q.size());
        ThreadPool one(1), two(2);
        const auto counts =
            spark_attention(shape, q.data(), queries, first, keys.data(), values.data(), kStride, out.data(), one);
        for (std::size_t i = 0; i < out.size(); ++i)
          ASSERT_NEAR(out[i], expected.out[i], 1e-5) << first << " " << window;
        EXPECT_EQ(counts.rows, queries * kHeads);
        EXPECT_EQ(counts.kept, expected.kept);
        EXPECT_EQ(counts.most, expected.most);
        EXPECT_EQ(counts.empty_rows, expected.empty);
        spark_attention(shape, q.data(), queries, first, keys.data(), values.data(), kStride, again.data(), two);
        EXPECT_EQ(out, again) << "the same bits on two threads";
      }
}

TEST(SparkAttention, AgreesWithTheReferenceForEveryInstructionSet) {
  struct Case {
    int heads, kv_heads, width, predictor;
    std::int64_t active, queries, first, window;
  };
  for (const Case& c :
       {Case{8, 4, 256, 128, 64, 3, 700, 0}, Case{4, 2, 64, 32, 64, 40, 300, 128}, Case{2, 1, 20, 7, 5, 9, 40, 0},
        Case{3, 3, 33, 0, 10, 5, 90, 0}, Case{1, 1, 2, 1, 3, 4, 0, 0}}) {
    const SparkAttentionShape shape{
        {.heads = c.heads, .kv_heads = c.kv_heads, .head_dim = c.width, .scale = 0.2F, .window = c.window},
        c.predictor,
        c.active};
    const std::int64_t stride = c.kv_heads * c.width, all = c.first + c.queries;
    const auto q = normal_values(c.queries * c.heads * c.width, 1), keys = normal_values(all * stride, 2),
               values = normal_values(all * stride, 3);
    std::vector<float> wanted(q.size()), got(q.size());
    const auto counts = reference::spark_attention(shape, q.data(), c.queries, c.first, keys.data(), values.data(),
                                                   stride, wanted.data());
    testing::with_every_instruction_set([&](const std::string& set) {
      ThreadPool pool(2);
      const auto ours =
          spark_attention(shape, q.data(), c.queries, c.first, keys.data(), values.data(), stride, got.data(), pool);
      EXPECT_EQ(ours.kept, counts.kept) << set;
      EXPECT_EQ(ours.most, counts.most) << set;
      EXPECT_EQ(ours.empty_rows, counts.empty_rows) << set;
      for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], 2e-5) << set << ", width " << c.width;
    });
    if (c.predictor == 0) continue;
    // The same keys in two tables a head, the values in one.
    SparkAttentionShape split = shape;
    split.attention.head_stride = all * c.width;
    split.rest_offset = all * c.predictor;
    std::vector<float> key_tables(keys.size()), value_tables(keys.size()), again(q.size());
    for (std::int64_t h = 0; h < c.kv_heads; ++h)
      for (std::int64_t p = 0; p < all; ++p) {
        const auto key = keys.begin() + p * stride + h * c.width;
        const auto table = key_tables.begin() + h * all * c.width;
        std::copy_n(key, c.predictor, table + p * c.predictor);
        std::copy_n(key + c.predictor, c.width - c.predictor, table + split.rest_offset + p * (c.width - c.predictor));
        std::copy_n(values.begin() + p * stride + h * c.width, c.width,
                    value_tables.begin() + h * all * c.width + p * c.width);
      }
    ThreadPool pool(2);
    spark_attention(shape, q.data(), c.queries, c.first, keys.data(), values.data(), stride, got.data(), pool);
    spark_attention(split, q.data(), c.queries, c.first, key_tables.data(), value_tables.data(), c.width, again.data(),
                    pool);
    EXPECT_EQ(again, got) << "width " << c.width;
    reference::spark_attention(split, q.data(), c.queries, c.first, key_tables.data(), value_tables.data(), c.width,
                               again.data());
    EXPECT_EQ(again, wanted) << "width " << c.width;
  }
}

TEST(SparkAttention, OfAnEightBitCacheIsThatOfItsNumbers) {
  struct Case {
    int heads, kv_heads, width, predictor;
    std::int64_t active, queries, first, window;
  };
  for (const Case& c : {Case{8, 4, 256, 128, 64, 3, 700, 0}, Case{4, 2, 64, 32, 64, 40, 300, 128},
                        Case{3, 3, 96, 0, 10, 5, 90, 0}, Case{1, 1, 64, 32, 3, 4, 0, 0}}) {
    const std::int64_t all = c.first + c.queries, head = (all + 1) * c.width, rest = (all + 1) * c.predictor;
    const SparkAttentionShape shape{{.heads = c.heads,
                                     .kv_heads = c.kv_heads,
                                     .head_dim = c.width,
                                     .scale = 0.2F,
                                     .window = c.window,
                                     .head_stride = head},
                                    c.predictor,
                                    c.active,
                                    rest};
    const auto numbers = static_cast<std::size_t>(c.kv_heads * head);
    auto keys = normal_values(c.kv_heads * head, 2), values = normal_values(c.kv_heads * head, 3);
    const auto q = normal_values(c.queries * c.heads * c.width, 1);
    std::vector<std::byte> key_bytes(numbers / 32 * 34), value_bytes(key_bytes.size());
    from_f32(keys, NumberFormat::q8_0, key_bytes.data());
    from_f32(values, NumberFormat::q8_0, value_bytes.data());
    to_f32(NumberFormat::q8_0, key_bytes.data(), keys);
    to_f32(NumberFormat::q8_0, value_bytes.data(), values);
    std::vector<float> wanted(q.size()), got(q.size()), one_thread(q.size());
    const auto counts = reference::spark_attention(shape, q.data(), c.queries, c.first, keys.data(), values.data(),
                                                   c.width, wanted.data());
    testing::with_every_instruction_set([&](const std::string& set) {
      ThreadPool pool(2), one(1);
      const auto ours = spark_attention_q8_0(shape, q.data(), c.queries, c.first, key_bytes.data(), value_bytes.data(),
                                             got.data(), pool);
      // A score close to the threshold may fall on its other side: the query is rounded to 16 bits.
      EXPECT_NEAR(static_cast<double>(ours.kept), static_cast<double>(counts.kept), 2) << set;
      double difference = 0, size = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        difference += std::pow(static_cast<double>(got[i] - wanted[i]), 2);
        size += std::pow(static_cast<double>(wanted[i]), 2);
      }
      EXPECT_LT(std::sqrt(difference / size), 1e-3) << set << ", width " << c.width;
      spark_attention_q8_0(shape, q.data(), c.queries, c.first, key_bytes.data(), value_bytes.data(), one_thread.data(),
                           one);
      ASSERT_EQ(got, one_thread) << set;
    });
  }
  SparkAttentionShape bad{{.heads = 1, .kv_heads = 1, .head_dim = 64, .scale = 1, .head_stride = 128}, 32, 3, 0};
  std::vector<float> row(64);
  std::vector<std::byte> cache(500);
  ThreadPool pool(1);
  EXPECT_THROW(spark_attention_q8_0(bad, row.data(), 1, 0, cache.data(), cache.data(), row.data(), pool),
               InvalidArgument);  // keys not in two tables
  bad.rest_offset = 64;
  bad.predictor = 16;
  EXPECT_THROW(spark_attention_q8_0(bad, row.data(), 1, 0, cache.data(), cache.data(), row.data(), pool),
               InvalidArgument);
}

TEST(SparkAttention, ARowInWhichNothingIsAboveTheThresholdAttendsToItsLargestScore) {
  // One key far below the rest: the deviation that it makes lifts the threshold above all.
  const auto shape = shape_of(4, 1);
  std::vector<float> q(kHeads * kWidth, 0.F), keys(10 * kStride, 0.F), values(10 * kStride, 0.F), out(q.size());
  for (int head = 0; head < kHeads; ++head) q[static_cast<std::size_t>(head * kWidth)] = 1;
  for (int group = 0; group < kKvHeads; ++group) {
    keys[3 * kStride + static_cast<std::size_t>(group * kWidth)] = -100;
    keys[7 * kStride + static_cast<std::size_t>(group * kWidth)] = 0.5F;
    values[7 * kStride + static_cast<std::size_t>(group * kWidth)] = 2;
  }
  ThreadPool pool(1);
  const auto counts = spark_attention(shape, q.data(), 1, 9, keys.data(), values.data(), kStride, out.data(), pool);
  EXPECT_EQ(counts.empty_rows, kHeads);
  EXPECT_EQ(counts.kept, kHeads);
  EXPECT_NEAR(out[0], 2 * std::log(2.0), 1e-6);  // softplus(0) times the value
}

TEST(SparkActivate, ShiftsByTheThresholdBeforeTheActivationAndLeavesExactZeros) {
  const std::int64_t rows = 5, neurons = 300, k = 24;
  const auto x = normal_values(rows * neurons, 4, 3), up = normal_values(rows * neurons, 5);
  auto h = x;
  ThreadPool pool(2);
  const std::int64_t above = spark_activate(Activation::gelu_tanh, k, h.data(), up.data(), rows, neurons, pool);
  std::int64_t counted = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const double theta = statistical_threshold({x.data() + r * neurons, static_cast<std::size_t>(neurons)}, k);
    for (std::int64_t i = 0; i < neurons; ++i) {
      const auto at = static_cast<std::size_t>(r * neurons + i);
      if (static_cast<double>(x[at]) <= theta) {
        EXPECT_EQ(h[at], 0.F);
        continue;
      }
      ++counted;
      const double y = static_cast<double>(x[at]) - theta;
      const double gelu = 0.5 * y * (1 + std::tanh(std::sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
      EXPECT_NEAR(h[at], gelu * up[at], 2e-5);
    }
  }
  EXPECT_EQ(above, counted);
  EXPECT_NEAR(static_cast<double>(above) / rows, k, 8);
}

TEST(SparkAttention, RefusesShapesThatDoNotFit) {
  ThreadPool pool(1);
  float x = 0;
  for (auto shape : {shape_of(-1, 4), shape_of(kWidth, 4), shape_of(4, 0)})
    EXPECT_THROW(spark_attention(shape, &x, 0, 0, &x, &x, kStride, &x, pool), InvalidArgument);
  auto capped = shape_of(4, 4);
  capped.attention.soft_cap = 30;
  EXPECT_THROW(spark_attention(capped, &x, 0, 0, &x, &x, kStride, &x, pool), InvalidArgument);
  EXPECT_THROW(spark_activate(Activation::gelu, 0, &x, &x, 1, 1, pool), InvalidArgument);
}

}  // namespace
}  // namespace torpor
