// Models of random weights are what their shape says, and what is measured on them adds up.
#include <cmath>

#include "core/base/error.h"
#include "engine/bench/decode_bench.h"
#include "engine/bench/decode_report.h"
#include "engine/bench/memory_rate.h"
#include "engine/bench/random_model.h"
#include "engine/decode/session.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

using ::testing::HasSubstr;

TEST(RandomModel, HasTheSizesOfItsShape) {
  const ModelConfig gemma = shape_config("gemma2-2b", 0.08);
  // 26 x (3 x 2304 x 9216 + 2304 x (2048 + 1024 + 1024 + 2048)) + 256000 x 2304, and the norms (f32)
  EXPECT_EQ(random_model_bytes(gemma, NumberFormat::bf16),
            2 * (26LL * (3 * 2304 * 9216 + 2304 * 6144) + 256000LL * 2304) + 4 * 2304 * (26 * 4 + 1));
  const ModelConfig spark = shape_config("gemma2-2b-spark", 0.08);
  EXPECT_EQ(random_model_bytes(spark, NumberFormat::bf16), random_model_bytes(gemma, NumberFormat::bf16));
  for (const std::string& name : shape_names())
    EXPECT_GT(random_model_bytes(shape_config(name, 0.1), NumberFormat::q8_0), 1'000'000'000) << name;
  ThreadPool pool(2);
  const ModelConfig own = shape_config("128,352,3,1000", 0.08);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0}) {
    const auto model = random_model(own, format, 1, pool);
    EXPECT_EQ(model->weight_bytes(), random_model_bytes(own, format));
    EXPECT_EQ(model->layers()[2].ffn.up.format, format);
    EXPECT_EQ(model->layers()[2].ffn.up.out, 352);
  }
}

TEST(RandomModel, ProjectionsKeepTheSizeOfTheirInput) {
  ThreadPool pool(1);
  for (const NumberFormat format : {NumberFormat::f32, NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::q4_0}) {
    const auto model = random_model(shape_config("256,2048,1,512", 1), format, 3, pool);
    const WeightMatrix& up = model->layers()[0].ffn.up;
    std::vector<float> x(256, 1.0F), y(2048);
    linear(up, x.data(), 1, {}, y.data(), pool);
    double sum = 0, squares = 0;
    for (const float v : y) sum += v, squares += static_cast<double>(v) * v;
    const double mean = sum / 2048;
    // q4_0's values lie from -8 to 7: their mean is half a step below zero.
    EXPECT_NEAR(std::sqrt(squares / 2048 - mean * mean), 1, 0.1) << traits(format).name;
  }
}

TEST(RandomModel, WeightsFollowTheSeedAndNotTheThreads) {
  ThreadPool one(1), two(2);
  const ModelConfig config = shape_config("128,256,2,512", 0.08);
  const auto a = random_model(config, NumberFormat::bf16, 1, one), b = random_model(config, NumberFormat::bf16, 1, two),
             c = random_model(config, NumberFormat::bf16, 2, one);
  EXPECT_EQ(a->fingerprint(), b->fingerprint());
  EXPECT_NE(a->fingerprint(), c->fingerprint());
}

TEST(RandomModel, RoundedPromptsAreCloseAndWrittenTokensExact) {
  ThreadPool pool(2);
  for (const NumberFormat format : {NumberFormat::bf16, NumberFormat::q8_0, NumberFormat::f32}) {
    const auto model = random_model(shape_config("512,1024,2,512", 0.08), format, 3, pool);
    std::vector<TokenId> prompt;
    for (TokenId i = 0; i < 40; ++i) prompt.push_back(i * 11 % 512);
    Session exact(model, pool, {.context = 64}), rounded(model, pool, {.context = 64, .products = Products::rounded});
    const auto one = exact.forward({&prompt[0], 1}), other = rounded.forward({&prompt[0], 1});
    EXPECT_TRUE(std::equal(one.begin(), one.end(), other.begin()));
    const auto wanted = exact.forward(prompt), got = rounded.forward(prompt);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      difference += std::pow(static_cast<double>(got[i] - wanted[i]), 2);
      size += std::pow(static_cast<double>(wanted[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference / size), 0.15) << traits(format).name;
    EXPECT_EQ(difference > 0, are_rounded(format, Products::rounded)) << traits(format).name;
  }
}

TEST(RandomModel, RefusesWhatItDoesNotKnow) {
  for (const char* shape : {"gemma3", "", "100,200,3", "128,256", "128,256,2,3,4", "128,x,2", "128,,2", "128,256,-1"})
    EXPECT_THAT([&] { shape_config(shape, 0.1); },
                ::testing::ThrowsMessage<InvalidArgument>(HasSubstr("gemma2-2b-spark")))
        << shape;
  EXPECT_THROW(shape_config("gemma2-2b", 0), InvalidArgument);
  EXPECT_THROW(shape_config("gemma2-2b", 1.5), InvalidArgument);
  ThreadPool pool(1);
  EXPECT_THROW(random_model(shape_config("128,256,1,64", 1), NumberFormat::q6_k, 1, pool), InvalidArgument);
  EXPECT_THAT([&] { random_model(shape_config("131072,1048576,100", 1), NumberFormat::f32, 1, pool); },
              ::testing::ThrowsMessage<IoError>(::testing::AllOf(HasSubstr("the weights need"), HasSubstr("GB"))));
}

TEST(NeuronMajorWeights, QuantisedDownProjectionsAreRoundedAgain) {
  ThreadPool pool(2);
  for (const NumberFormat format : {NumberFormat::q8_0, NumberFormat::q4_0}) {
    const auto model = random_model(shape_config("256,1056,2,512", 0.08), format, 1, pool);
    const auto weights = NeuronMajorWeights::pack(model, pool);
    for (int l = 0; l < 2; ++l) {
      const WeightMatrix& down = weights->layers()[static_cast<std::size_t>(l)].down;
      EXPECT_EQ(down.format, NumberFormat::q8_0);
      const auto wanted = model->outgoing_rows(l);
      std::vector<float> rows(wanted.size());
      for (std::int64_t i = 0; i < down.out; ++i)
        to_f32(down.format, down.row(i),
               std::span(rows).subspan(static_cast<std::size_t>(i * down.in), static_cast<std::size_t>(down.in)));
      float largest = 0;
      for (const float v : wanted) largest = std::max(largest, std::fabs(v));
      for (std::size_t i = 0; i < rows.size(); ++i)
        ASSERT_NEAR(rows[i], wanted[i], static_cast<double>(largest) / 127) << traits(format).name << " at " << i;
    }
  }
}

DecodeBench measure(const std::string& shape, double density, DecodeBenchOptions options, Skip skip) {
  options.probe_bytes = 8 << 20;
  ThreadPool pool(2);
  const auto model = random_model(shape_config(shape, density), NumberFormat::bf16, 1, pool);
  return bench_decode(model, prepare_skipping(model, nullptr, skip, pool), options, pool);
}

TEST(DecodeBench, CountsTheBytesOfATokenAndTheActiveNeurons) {
  const DecodeBenchOptions options{.context = 10, .tokens = 5, .rounds = 3};
  const DecodeBench bench = measure("256,2048,4,512", 0.08, options, Skip::always);
  const double layer = 2.0 * 2 * 256 * 2048;
  EXPECT_EQ(bench.dense.bytes.ffn, 4 * layer);
  EXPECT_EQ(bench.dense.bytes.projections, 4 * 4 * 2.0 * 256 * 256);
  EXPECT_EQ(bench.dense.bytes.unembedding, 2.0 * 512 * 256);
  EXPECT_EQ(bench.dense.bytes.attention, 4 * 2 * 4.0 * 256 * 13);  // the third of five tokens sees 13 positions
  ASSERT_TRUE(bench.sparse.has_value());
  EXPECT_NEAR(bench.sparse->density, 0.08, 0.03);
  EXPECT_NEAR(bench.sparse->bytes.ffn, 4 * layer * (1 + bench.sparse->density) / 2, 1);
  EXPECT_EQ(bench.sparse->bytes.projections, bench.dense.bytes.projections);
  EXPECT_EQ(bench.speedups().size(), 3U);
  EXPECT_NEAR(bench.byte_limit(), bench.dense.bytes.all() / bench.sparse->bytes.all(), 1e-12);
  for (const DecodeSide* side : {&bench.dense, &*bench.sparse})
    for (std::size_t r = 0; r < 3; ++r) {
      const PartTimes& t = side->parts[r];
      EXPECT_GT(side->read_bandwidth[r], 1e8);
      EXPECT_LE(t.ffn + t.attention + t.projections + t.unembedding, t.all);
      EXPECT_LE(t.all, side->seconds_per_token[r] * options.tokens);
      EXPECT_GT(t.ffn, 0);
      EXPECT_GT(t.projections, 0);
      EXPECT_GT(t.unembedding, 0);
    }
}

TEST(BatchBench, MeasuresBothSidesAndTheUnionThatGrows) {
  ThreadPool pool(2);
  const auto model = random_model(shape_config("256,2048,2,512", 0.08), NumberFormat::bf16, 1, pool);
  const Skipping skipping = prepare_skipping(model, nullptr, Skip::always, pool);
  skipping.ffn->set_together_from(0);
  int done = 0;
  const auto curve = bench_batches(model, skipping, {.sequences = {1, 4, 16}, .context = 3, .steps = 2, .rounds = 2},
                                   pool, [&](int rounds) { done = rounds; });
  ASSERT_EQ(curve.size(), 3U);
  EXPECT_EQ(done, 9);
  for (const BatchPoint& point : curve) {
    EXPECT_EQ(point.speedups().size(), 2U);
    // Each of n sequences has drawn 8 %: some has 1 - 0.92^n.
    EXPECT_NEAR(point.united, 1 - std::pow(0.92, point.sequences), 0.06) << point.sequences;
  }
  EXPECT_EQ(to_json(curve)[2]["sequences"], 16);
  EXPECT_THROW(bench_batches(model, skipping, {.sequences = {0}}, pool), InvalidArgument);
  EXPECT_THROW(bench_batches(model, {}, {}, pool), InvalidArgument);
}

TEST(DecodeBench, MeasuresTheDenseSideAloneWhereNothingIsSkipped) {
  const DecodeBench bench = measure("128,256,2,512", 0.08, {.context = 0, .tokens = 2, .rounds = 1}, Skip::never);
  EXPECT_FALSE(bench.sparse.has_value());
  EXPECT_EQ(bench.dense.seconds_per_token.size(), 1U);
  EXPECT_TRUE(bench.speedups().empty());
  EXPECT_TRUE(to_json(bench)["speedup"].is_null());
}

TEST(DecodeBench, RefusesImpossibleOptions) {
  EXPECT_THROW(measure("128,256,2,512", 0.08, {.context = 0, .tokens = 0}, Skip::never), InvalidArgument);
  EXPECT_THROW(measure("128,256,2,512", 0.08, {.context = -1}, Skip::never), InvalidArgument);
  EXPECT_THROW(measure("128,256,2,512", 0.08, {.rounds = 0}, Skip::never), InvalidArgument);
}

TEST(DecodeReport, ShowsBothSidesAndTheRoofline) {
  Json bench = to_json(measure("128,256,2,512", 0.08, {.context = 4, .tokens = 2, .rounds = 2}, Skip::always));
  bench.update({{"shape", "<b>128"},
                {"model", nullptr},
                {"weights", "bf16"},
                {"weight_bytes", 1000},
                {"threads", 2},
                {"dense_reason", nullptr}});
  const std::string page = render_decode_report(bench, {{"version", "0.1.0"}});
  for (const char* words : {"roofline", "skipping", "&lt;b&gt;128", "Where the time of a token goes", "unembedding"})
    EXPECT_THAT(page, HasSubstr(words));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("<b>128")));
  bench["sparse"] = nullptr;
  bench["dense_reason"] = "silu has no zeros";
  EXPECT_THAT(render_decode_report(bench, Json::object()), HasSubstr("silu has no zeros"));
  bench.erase("dense");
  EXPECT_THROW(render_decode_report(bench, Json::object()), BadInput);
}

}  // namespace
}  // namespace torpor
