// Interleaved rows: the same bytes, and products that are those of the rows as files hold them.
#include "engine/kernels/interleaved.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/error.h"
#include "engine/kernels/dense_cases.h"
#include "engine/kernels/reference/reference.h"
#include "engine/kernels/sparse.h"
#include "kernel_test_support.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using testing::normal_values;
using testing::random_weights;

constexpr NumberFormat kFormats[] = {NumberFormat::q8_0, NumberFormat::q4_0, NumberFormat::q4_k, NumberFormat::q6_k};

std::vector<std::int64_t> widths_of(NumberFormat format) {
  if (traits(format).block_values == 256) return {256, 512, 768, 1024, 2304, 2560 + 256};
  return {32, 96, 480, 512, 544, 1024, 2304, 2560 + 224};
}

struct Matrix {
  /// fastest: in the order that order_in_place() chooses, short rows together.
  Matrix(NumberFormat format, std::int64_t out, std::int64_t in, std::uint64_t seed, bool fastest = false)
      : plain_bytes(random_weights(format, out, in, seed)), bytes(plain_bytes) {
    plain = {format, plain_bytes.data(), out, in};
    interleaved = {format, bytes.data(), out, in};
    if (fastest)
      order_in_place(interleaved, bytes.data());
    else
      interleave_in_place(interleaved, bytes.data(), nullptr);
  }
  std::vector<std::byte> plain_bytes, bytes;
  WeightMatrix plain, interleaved;
};

/// |got - wanted| of a sum of terms of this size.
void expect_close(double got, double wanted, double size, const std::string& what) {
  ASSERT_NEAR(got, wanted, static_cast<double>(kQuantisedTolerance) * (size + std::abs(wanted))) << what;
}

TEST(Interleaved, RowsAreTheSameBytesInAnotherOrder) {
  for (const NumberFormat format : kFormats)
    for (const std::int64_t in : widths_of(format)) {
      const Matrix m(format, 3, in, 1);
      std::vector<std::byte> back(static_cast<std::size_t>(m.plain.row_bytes()));
      std::vector<float> wanted(static_cast<std::size_t>(in)), got(wanted.size());
      for (std::int64_t r = 0; r < 3; ++r) {
        plain_row(format, in, m.interleaved.row(r), back.data());
        ASSERT_EQ(std::memcmp(back.data(), m.plain.row(r), back.size()), 0) << in;
        EXPECT_TRUE(in == 32 || std::memcmp(m.interleaved.row(r), m.plain.row(r), back.size()) != 0);
        to_f32(format, m.plain.row(r), wanted);
        row_to_f32(m.interleaved, r, got);
        ASSERT_EQ(got, wanted) << in;
        const auto block = static_cast<std::int64_t>(traits(format).block_values);
        const std::int64_t from = in / (2 * block) * block;
        std::vector<float> part(static_cast<std::size_t>(in - from));
        part_to_f32(m.interleaved, r, from, part);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), wanted.begin() + from)) << in;
      }
    }
  std::vector<std::byte> row(1000), to(1000);
  EXPECT_THROW(interleave_row(NumberFormat::bf16, 64, row.data(), to.data()), InvalidArgument);
  EXPECT_THROW(interleave_row(NumberFormat::q8_0, 40, row.data(), to.data()), InvalidArgument);
}

TEST(Interleaved, PaysOnlyWhereTheProcessorHasTheInstructions) {
  EXPECT_FALSE(interleaving_pays(NumberFormat::bf16, 2048));
  EXPECT_FALSE(interleaving_pays(NumberFormat::q8_0, 256));
  EXPECT_FALSE(interleaving_pays(NumberFormat::q6_k, 256));
  for (const NumberFormat format : kFormats) EXPECT_EQ(interleaving_pays(format, 2048), simd::vnni::available());
  simd::vnni::switched_off = true;
  EXPECT_FALSE(interleaving_pays(NumberFormat::q8_0, 2048));
  simd::vnni::switched_off = false;
}

/// linear() of `ordered`, whose plain rows are `plain`, against the reference on every instruction set.
void expect_layer(const WeightMatrix& plain, const WeightMatrix& ordered, std::int64_t rows, ThreadPool& pool) {
  const std::int64_t out = plain.out, in = plain.in;
  const auto x = normal_values(rows * in, 3), bias = normal_values(out, 4);
  std::vector<float> wanted(static_cast<std::size_t>(rows * out)), got(wanted.size() + 3, -7777.0F),
      weights(static_cast<std::size_t>(in));
  reference::linear(plain, x.data(), rows, bias, wanted.data());
  testing::with_every_instruction_set([&](const std::string& set) {
    linear(ordered, x.data(), rows, bias, got.data(), pool);
    for (std::int64_t o = 0; o < out; ++o) {
      to_f32(plain.format, plain.row(o), weights);
      for (std::int64_t r = 0; r < rows; ++r) {
        double size = 0;
        for (std::int64_t i = 0; i < in; ++i)
          size += std::pow(static_cast<double>(weights[static_cast<std::size_t>(i)]) *
                               static_cast<double>(x[static_cast<std::size_t>(r * in + i)]),
                           2);
        const auto k = static_cast<std::size_t>(r * out + o);
        expect_close(got[k], wanted[k], std::sqrt(size), fmt::format("{}, width {}, {} rows", set, in, rows));
      }
    }
    for (std::size_t i = wanted.size(); i < got.size(); ++i) ASSERT_EQ(got[i], -7777.0F);
  });
}

TEST(Interleaved, LayersAgreeWithTheReferenceForEveryWidthAndNumberOfRows) {
  ThreadPool pool(2);
  for (const NumberFormat format : kFormats)
    for (const std::int64_t in : widths_of(format))
      for (const std::int64_t rows : {1, 2, 3, 4, 7, 40}) {
        const Matrix m(format, 37, in, 2);
        expect_layer(m.plain, m.interleaved, rows, pool);
      }
}

TEST(Interleaved, ShortRowsLieTogether) {
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 16, 32), 16);
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 24, 64), 8);
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 24, 128), 4);
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 2, 256), 2);
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 3, 256), 1) << "an odd row would be left";
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 16, 96), 1) << "3 blocks do not fill 16 lanes";
  EXPECT_EQ(rows_together(NumberFormat::q8_0, 16, 512), 1);
  EXPECT_EQ(rows_together(NumberFormat::q4_0, 16, 256), 1);
  ThreadPool pool(2);
  for (const std::int64_t in : {32, 64, 128, 256}) {
    const std::int64_t out = 2064;  // more than one piece of work
    const Matrix m(NumberFormat::q8_0, out, in, 5, true);
    EXPECT_EQ(m.interleaved.together, simd::vnni::available() ? 512 / in : 1);
    EXPECT_EQ(m.interleaved.interleaved, simd::vnni::available());
    std::vector<float> wanted(static_cast<std::size_t>(in)), got(wanted.size());
    for (const std::int64_t r : {std::int64_t{0}, std::int64_t{1}, std::int64_t{17}, out - 1}) {
      to_f32(NumberFormat::q8_0, m.plain.row(r), wanted);
      row_to_f32(m.interleaved, r, got);
      ASSERT_EQ(got, wanted) << in << ", row " << r;
    }
    for (const std::int64_t rows : {1, 3, 40}) expect_layer(m.plain, m.interleaved, rows, pool);
  }
}

/// Nine rows of x: each alone and all together, on one thread and on several.
void expect_same_bits(const WeightMatrix& w) {
  const auto x = normal_values(9 * w.in, 6);
  std::vector<float> together(static_cast<std::size_t>(9 * w.out)), alone(static_cast<std::size_t>(w.out));
  ThreadPool one(1);
  linear(w, x.data(), 9, {}, together.data(), one);
  for (std::int64_t r = 0; r < 9; ++r) {
    linear(w, x.data() + r * w.in, 1, {}, alone.data(), one);
    ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + r * w.out)) << r;
  }
  for (const int threads : {2, 3, 8}) {
    ThreadPool pool(threads);
    std::vector<float> again(together.size());
    linear(w, x.data(), 9, {}, again.data(), pool);
    ASSERT_EQ(again, together) << threads;
  }
}

TEST(Interleaved, ARowOfXHasTheSameBitsAloneAndWithOthersAndOnEveryThreadCount) {
  for (const NumberFormat format : kFormats) expect_same_bits(Matrix(format, 1111, 2304, 5).interleaved);
  for (const std::int64_t in : {32, 256}) expect_same_bits(Matrix(NumberFormat::q8_0, 5008, in, 5, true).interleaved);
}

TEST(Interleaved, SparseLayersAgreeWithTheReference) {
  if (!simd::vnni::available()) GTEST_SKIP() << "needs a processor with AVX-512 VNNI";
  ThreadPool pool(2), one(1);
  for (const NumberFormat format : kFormats)
    for (const std::int64_t width : {32, 512, 2304, 2560 + 224})
      for (const bool guessed : {false, true}) {
        const bool large_blocks = traits(format).block_values == 256;  // which cannot be added up
        const std::int64_t neurons = 900, in = large_blocks ? 768 : 544;
        const Matrix gate(format, neurons, in, 7), up(format, neurons, in, 8),
            down(large_blocks ? NumberFormat::q8_0 : format, neurons, width, 9);
        std::vector<std::int32_t> active;
        Random random(10);
        for (std::int32_t i = 0; i < neurons; ++i)
          if (random.uniform() < 0.2) active.push_back(i);
        const auto x = normal_values(2 * in, 11);
        const auto n = std::ssize(active);
        const auto values = normal_values(2 * n, 12);
        NeuronRows rows{.multiplier = up.interleaved, .multiplier_bias = {}, .down = down.plain};
        if (guessed) rows.gate = gate.interleaved;
        NeuronRows plain{.multiplier = up.plain, .multiplier_bias = {}, .down = down.plain};
        if (guessed) plain.gate = gate.plain;
        SparseScratch scratch;
        std::vector<float> both = values, out(static_cast<std::size_t>(2 * width)), single(out.size());
        sparse_ffn(rows, active, both.data(), x.data(), 2, out.data(), scratch, pool);
        for (std::int64_t t = 0; t < 2; ++t) {
          std::vector<float> a(values.begin() + t * n, values.begin() + (t + 1) * n),
              b = a, wanted(static_cast<std::size_t>(width));
          reference::sparse_ffn(plain, active, a.data(), x.data() + t * in, wanted.data());
          double size = 0;
          for (const float v : wanted) size += static_cast<double>(v) * static_cast<double>(v);
          size = std::sqrt(size / static_cast<double>(width));
          for (std::int64_t j = 0; j < width; ++j)
            expect_close(out[static_cast<std::size_t>(t * width + j)], wanted[static_cast<std::size_t>(j)], 10 * size,
                         fmt::format("width {}, token {}, output {}", width, t, j));
          sparse_ffn(rows, active, b.data(), x.data() + t * in, single.data(), scratch, one);
          ASSERT_TRUE(std::equal(single.begin(), single.begin() + width, out.begin() + t * width)) << width;
        }
        std::vector<float> products(active.size()), all(static_cast<std::size_t>(neurons));
        dot_rows(up.interleaved, active, x.data(), {}, products.data(), pool);
        linear(up.interleaved, x.data(), 1, {}, all.data(), pool);
        for (std::size_t k = 0; k < active.size(); ++k)
          ASSERT_EQ(products[k], all[static_cast<std::size_t>(active[k])]) << width;
      }
}

TEST(Interleaved, RefusedWhereTheyCannotBeMultiplied) {
  ThreadPool pool(1);
  const Matrix m(NumberFormat::q8_0, 8, 64, 1);
  std::vector<float> x(64), y(64), values(8, 1.0F);
  const std::vector<std::int32_t> active{1};
  EXPECT_THROW(linear_turned(m.interleaved, x.data(), 1, {}, y.data(), pool), InvalidArgument);
  SparseScratch scratch;
  simd::vnni::switched_off = true;
  EXPECT_THROW(sparse_ffn({m.interleaved, {}, m.plain}, active, values.data(), x.data(), y.data(), scratch, pool),
               InvalidArgument);
  simd::vnni::switched_off = false;
  EXPECT_THROW(sparse_ffn({{}, {}, m.interleaved}, active, values.data(), x.data(), y.data(), scratch, pool),
               InvalidArgument);
  WeightMatrix together = m.interleaved;
  together.together = 8;
  EXPECT_THROW(dot_rows(together, active, x.data(), {}, y.data(), pool), InvalidArgument);
  together.together = 4;
  EXPECT_THROW(linear(together, x.data(), 1, {}, y.data(), pool), InvalidArgument) << "rows of 64: 8 lie together";
  if (!simd::vnni::available()) return;
  NeuronRows mixed{.multiplier = m.plain, .multiplier_bias = {}, .down = m.plain};
  mixed.gate = m.interleaved;
  EXPECT_THROW(sparse_ffn(mixed, active, values.data(), x.data(), y.data(), scratch, pool), InvalidArgument);
}

}  // namespace
}  // namespace torpor
