#include <cmath>

#include "core/base/error.h"
#include "engine/kernels/dense_cases.h"
#include "engine/kernels/reference/reference.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::normal_values;

struct Problem {
  AttentionShape shape;
  std::int64_t queries, first, stride, q_width;
  std::vector<float> q, keys, values, wanted;

  explicit Problem(const AttentionCase& c) : shape(c.shape), queries(c.queries), first(c.first) {
    if (shape.scale == 0) shape.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    stride = shape.kv_heads * shape.head_dim + 5;  // rows further apart than they are wide
    q_width = shape.heads * shape.head_dim;
    q = normal_values(queries * q_width, 1);
    keys = normal_values((first + queries) * stride, 2);
    values = normal_values((first + queries) * stride, 3);
    wanted.resize(q.size());
    reference::attention(shape, q.data(), queries, first, keys.data(), values.data(), stride, wanted.data());
  }
  std::vector<float> run(ThreadPool& pool) const {
    std::vector<float> out(q.size() + 1, 77.0F);
    attention(shape, q.data(), queries, first, keys.data(), values.data(), stride, out.data(), pool);
    EXPECT_EQ(out.back(), 77.0F);
    out.pop_back();
    return out;
  }
};

std::string describe(const AttentionCase& c) {
  return fmt::format("heads {}/{} dim {} cap {} window {} queries {} first {}", c.shape.heads, c.shape.kv_heads,
                     c.shape.head_dim, c.shape.soft_cap, c.shape.window, c.queries, c.first);
}

TEST(Attention, AgreesWithTheReferenceForEveryShapeAndInstructionSet) {
  ThreadPool pool(2);
  for (const AttentionCase& c : kAttentionCases) {
    const Problem problem(c);
    testing::with_every_instruction_set([&](const std::string& set) {
      const auto got = problem.run(pool);
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], problem.wanted[i], c.tolerance) << set << ", " << describe(c) << " at " << i;
    });
  }
}

TEST(Attention, OfAnEightBitCacheIsThatOfItsNumbers) {
  ThreadPool pool(2);
  int tested = 0;
  for (const AttentionCase& c : kAttentionCases) {
    const std::int64_t d = c.shape.head_dim, positions = c.first + c.queries;
    if (d % 32 != 0) continue;
    ++tested;
    Problem problem(c);
    // [kv_heads, room, head_dim] in q8_0, and the same numbers rounded, for f32.
    const std::int64_t room = positions + 3, head = room * d;
    const auto bytes = [](std::int64_t values) { return static_cast<std::size_t>(values / 32 * 34); };
    std::vector<std::byte> keys(bytes(c.shape.kv_heads * head)), values(keys.size());
    const auto round = [&](std::vector<float>& from, std::vector<std::byte>& to) {
      for (std::int64_t h = 0; h < c.shape.kv_heads; ++h)
        for (std::int64_t p = 0; p < positions; ++p) {
          const std::span row(from.data() + p * problem.stride + h * d, static_cast<std::size_t>(d));
          std::byte* const place = to.data() + bytes(h * head + p * d);
          from_f32(row, NumberFormat::q8_0, place);
          to_f32(NumberFormat::q8_0, place, row);
        }
    };
    round(problem.keys, keys);
    round(problem.values, values);
    reference::attention(problem.shape, problem.q.data(), c.queries, c.first, problem.keys.data(),
                         problem.values.data(), problem.stride, problem.wanted.data());
    AttentionShape shape = problem.shape;
    shape.head_stride = head;
    testing::with_every_instruction_set([&](const std::string& set) {
      std::vector<float> got(problem.q.size()), one_thread(got.size());
      attention_q8_0(shape, problem.q.data(), c.queries, c.first, keys.data(), values.data(), got.data(), pool);
      for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], problem.wanted[i], c.tolerance) << set << ", " << describe(c) << " at " << i;
      ThreadPool one(1);
      attention_q8_0(shape, problem.q.data(), c.queries, c.first, keys.data(), values.data(), one_thread.data(), one);
      ASSERT_EQ(got, one_thread) << set << ", " << describe(c);
    });
  }
  EXPECT_GT(tested, 3);
}

TEST(Attention, AnEightBitCacheOfOtherWidthsIsRefused) {
  ThreadPool pool(1);
  std::vector<float> q(64), out(64);
  std::vector<std::byte> cache(1000);
  const auto refused = [&](const AttentionShape& shape) {
    EXPECT_THROW(attention_q8_0(shape, q.data(), 1, 0, cache.data(), cache.data(), out.data(), pool), InvalidArgument);
  };
  refused({.heads = 1, .kv_heads = 1, .head_dim = 16, .scale = 1, .head_stride = 32});
  refused({.heads = 1, .kv_heads = 1, .head_dim = 32, .scale = 1, .head_stride = 40});
  refused({.heads = 1, .kv_heads = 1, .head_dim = 32, .scale = 1, .head_stride = 0});
  const AttentionShape good{.heads = 1, .kv_heads = 1, .head_dim = 32, .scale = 1, .head_stride = 64};
  EXPECT_THROW(attention_q8_0(good, q.data(), 1, 0, nullptr, cache.data(), out.data(), pool), InvalidArgument);
  EXPECT_NO_THROW(attention_q8_0(good, q.data(), 1, 0, cache.data(), cache.data(), out.data(), pool));
}

TEST(Attention, ReadsEachHeadFromATableOfItsOwn) {
  ThreadPool pool(2);
  for (const AttentionCase& c : kAttentionCases) {
    const Problem problem(c);
    Problem apart = problem;  // the same numbers, [kv_heads, positions, head_dim]
    const std::int64_t d = c.shape.head_dim, positions = c.first + c.queries;
    apart.stride = d;
    apart.shape.head_stride = positions * d + 3;
    for (auto* table : {&apart.keys, &apart.values}) {
      const std::vector<float> from = *table;
      table->assign(static_cast<std::size_t>(c.shape.kv_heads * apart.shape.head_stride), 9e9F);
      for (std::int64_t h = 0; h < c.shape.kv_heads; ++h)
        for (std::int64_t p = 0; p < positions; ++p)
          std::copy_n(from.begin() + p * problem.stride + h * d, d,
                      table->begin() + h * apart.shape.head_stride + p * d);
    }
    ASSERT_EQ(apart.run(pool), problem.run(pool)) << describe(c);
  }
}

TEST(Attention, GivesTheSameBitsForEveryThreadCount) {
  for (const AttentionCase& c : kAttentionCases) {
    const Problem problem(c);
    ThreadPool single(1);
    const auto one = problem.run(single);
    for (const int threads : {2, 3, 7}) {
      ThreadPool pool(threads);
      const auto several = problem.run(pool);
      ASSERT_EQ(std::memcmp(one.data(), several.data(), one.size() * sizeof(float)), 0)
          << threads << " threads, " << describe(c);
    }
  }
}

TEST(Attention, SeesNeitherTheFutureNorWhatLeftTheWindow) {
  // What must not be seen is made not a number.
  for (const std::int64_t queries : {1, 4, 100}) {
    Problem problem({{4, 2, 32, 0, 0, 10}, queries, 50, 0});
    const std::int64_t row = queries / 2;  // one query in the middle
    ThreadPool pool(1);
    const auto before = problem.run(pool);
    for (std::int64_t p = 0; p < problem.first + queries; ++p)
      if (p > problem.first + row || p <= problem.first + row - 10)
        for (std::int64_t i = 0; i < problem.stride; ++i)
          problem.keys[static_cast<std::size_t>(p * problem.stride + i)] = 1000.0F;
    const auto after = problem.run(pool);
    for (std::int64_t i = 0; i < problem.q_width; ++i) {
      const auto k = static_cast<std::size_t>(row * problem.q_width + i);
      ASSERT_EQ(before[k], after[k]) << queries << " queries";
    }
  }
}

TEST(Attention, IsAMeanOfTheValues) {
  // Identity: equal keys give the plain mean of the values seen; equal values come out as they are.
  Problem problem({{2, 1, 16, 0, 0, 0}, 70, 0, 0});
  std::fill(problem.keys.begin(), problem.keys.end(), 0.25F);
  ThreadPool pool(1);
  const auto out = problem.run(pool);
  for (std::int64_t r = 0; r < 70; ++r)
    for (std::int64_t i = 0; i < 16; ++i) {
      double mean = 0;
      for (std::int64_t p = 0; p <= r; ++p)
        mean += static_cast<double>(problem.values[static_cast<std::size_t>(p * problem.stride + i)]);
      ASSERT_NEAR(out[static_cast<std::size_t>(r * 32 + i)], mean / static_cast<double>(r + 1), 2e-6);
    }
  std::fill(problem.values.begin(), problem.values.end(), -1.5F);
  for (const float v : problem.run(pool)) ASSERT_NEAR(v, -1.5F, 1e-6F);
}

TEST(Attention, TakesScoresOfAnySize) {
  for (const std::int64_t queries : {1, 40}) {
    for (const float scale : {30.0F, 1000.0F}) {
      AttentionCase c{{2, 2, 64, scale, 0, 0}, queries, 100, 0};
      const Problem problem(c);
      ThreadPool pool(1);
      const auto got = problem.run(pool);
      // Scores of 1e4 are rounded to 1e-3: the weights are that uncertain.
      for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], problem.wanted[i], 2e-5F * scale) << scale;
    }
  }
}

TEST(Attention, KeepsNotANumberVisible) {
  for (const std::int64_t queries : {1, 30}) {
    Problem problem({{2, 2, 16, 0, 0, 0}, queries, 10, 0});
    problem.keys[0] = NAN;  // head 0, position 0
    ThreadPool pool(1);
    const auto out = problem.run(pool);
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_FALSE(std::isnan(out[16]));  // head 1
  }
}

TEST(Attention, RefusesBadShapes) {
  ThreadPool pool(1);
  std::vector<float> x(64);
  const auto call = [&](AttentionShape s, std::int64_t queries, std::int64_t first, std::int64_t stride) {
    attention(s, x.data(), queries, first, x.data(), x.data(), stride, x.data(), pool);
  };
  EXPECT_THROW(call({3, 2, 4, 1, 0, 0}, 1, 0, 8), InvalidArgument);
  EXPECT_THROW(call({2, 0, 4, 1, 0, 0}, 1, 0, 8), InvalidArgument);
  EXPECT_THROW(call({2, 2, 4, 1, 0, 0}, 1, 0, 7), InvalidArgument);
  EXPECT_THROW(call({2, 2, 4, 1, 0, 0}, 1, -1, 8), InvalidArgument);
  EXPECT_THROW(call({2, 2, 4, 1, 0, -1}, 1, 0, 8), InvalidArgument);
  EXPECT_THROW(call({2, 2, 4, 1, -1, 0}, 1, 0, 8), InvalidArgument);
  EXPECT_THROW(call({2, 2, 4, 1, 0, 0}, -1, 0, 8), InvalidArgument);
}

}  // namespace
}  // namespace torpor
