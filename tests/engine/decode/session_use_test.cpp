// The session's contract: what the hook sees and may do, what is refused, what truncation forgets, and that decoding
// allocates nothing.
#include <atomic>
#include <cstdlib>
#include <new>

#include "core/base/error.h"
#include "engine/decode/session.h"
#include "tests/engine/decode/golden_model.h"
#include "tests/engine/models/model_edit.h"

namespace {
std::atomic<long> allocations{0};
}

// Counts every allocation of this program.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace torpor {
namespace {

using testing::copy;
using testing::expected_of;
using testing::golden;
using ::testing::HasSubstr;
using testing::relative_difference;

class SessionUse : public ::testing::Test {
 protected:
  std::shared_ptr<const Model> model = Model::load(golden("models/llama_silu"));
  std::vector<TokenId> ids = expected_of("llama_silu").ids;
  ThreadPool pool{1};
};

TEST_F(SessionUse, HookSeesEveryLayerOfEveryPassWithItsRows) {
  Session session(model, pool, {.sequences = 2, .rows_per_pass = 8});
  session.forward(std::span(ids).first(3));
  std::vector<std::pair<std::int32_t, std::int64_t>> seen[2];
  session.set_ffn_hook([&](const FfnActivations& a) {
    EXPECT_EQ(a.neurons, 53);
    EXPECT_LE(a.rows, 8);
    ASSERT_EQ(static_cast<std::int64_t>(a.sequence.size()), a.rows);
    for (std::int64_t r = 0; r < a.rows; ++r)
      seen[a.layer].emplace_back(a.sequence[static_cast<std::size_t>(r)], a.position[static_cast<std::size_t>(r)]);
  });
  const SequenceTokens batch[] = {{1, std::span(ids).first(11)}, {0, std::span(ids).first(2)}};
  session.forward(batch);
  std::vector<std::pair<std::int32_t, std::int64_t>> expected;
  for (std::int64_t i = 0; i < 11; ++i) expected.emplace_back(1, i);
  expected.insert(expected.end(), {{0, 3}, {0, 4}});
  EXPECT_EQ(seen[0], expected);
  EXPECT_EQ(seen[1], expected);
}

// What the hook sees is f(gate) * up: with down as a matrix it must give the FFN's share. Independent: masking all
// neurons in a layer equals a model whose down projection is zero.
TEST_F(SessionUse, MaskingAllNeuronsEqualsAZeroDownProjection) {
  testing::TemporaryFolder folder;
  testing::write_edited("llama_silu", folder.path(), [](testing::Tensors& t) {
    t.remove("model.layers.1.mlp.down_proj.weight");
    t.add("model.layers.1.mlp.down_proj.weight", NumberFormat::f32, {24, 53});
  });
  Session zero(Model::load(folder.path()), pool);
  const auto expected = copy(zero.forward(ids, Logits::all));
  Session masked(model, pool);
  const auto plain = copy(masked.forward(ids, Logits::all));
  masked.clear(0);
  masked.set_ffn_hook([](const FfnActivations& a) {
    if (a.layer == 1) std::fill_n(a.values, a.rows * a.neurons, 0.F);
  });
  EXPECT_EQ(relative_difference(masked.forward(ids, Logits::all), expected), 0);
  EXPECT_GT(relative_difference(plain, expected), 1e-3);
}

TEST_F(SessionUse, MaskingOneNeuronEqualsZeroingItsColumn) {
  testing::TemporaryFolder folder;
  constexpr std::size_t kNeuron = 17;
  testing::write_edited("llama_silu", folder.path(), [](testing::Tensors& t) {
    for (std::size_t o = 0; o < 24; ++o) t.set("model.layers.0.mlp.down_proj.weight", o * 53 + kNeuron, 0.F);
  });
  Session zero(Model::load(folder.path()), pool);
  const auto expected = copy(zero.forward(ids, Logits::all));
  Session masked(model, pool);
  masked.set_ffn_hook([](const FfnActivations& a) {
    if (a.layer == 0)
      for (std::int64_t r = 0; r < a.rows; ++r) a.values[r * a.neurons + static_cast<std::int64_t>(kNeuron)] = 0;
  });
  EXPECT_LT(relative_difference(masked.forward(ids, Logits::all), expected), 1e-6);
}

TEST_F(SessionUse, FatReluGivesZerosBelowItsThreshold) {
  Session session(Model::load(golden("models/llama_fatrelu")), pool);
  std::int64_t zeros = 0, values = 0;
  session.set_ffn_hook([&](const FfnActivations& a) {
    values += a.rows * a.neurons;
    zeros += std::count(a.values, a.values + a.rows * a.neurons, 0.F);
  });
  session.forward(ids);
  EXPECT_GT(zeros, values * 6 / 10);  // relu alone would give about half
}

TEST_F(SessionUse, TruncationForgetsExactlyTheRest) {
  Session session(model, pool);
  session.forward(std::span(ids).first(20));
  const auto expected = copy(session.forward(std::span(ids).subspan(20, 1)));
  session.forward(std::span(ids).subspan(40, 10));
  session.truncate(0, 20);
  EXPECT_EQ(session.position(0), 20);
  EXPECT_EQ(relative_difference(session.forward(std::span(ids).subspan(20, 1)), expected), 0);
}

TEST_F(SessionUse, AHookThatThrowsLeavesTheSequencesAsTheyWere) {
  Session session(model, pool, {.rows_per_pass = 4});
  session.forward(std::span(ids).first(20));
  const auto expected = copy(session.forward(std::span(ids).subspan(20, 9), Logits::all));
  session.truncate(0, 20);
  int calls = 0;
  session.set_ffn_hook([&](const FfnActivations&) {
    if (++calls == 4) throw IoError("enough");
  });
  EXPECT_THROW(session.forward(std::span(ids).subspan(20, 9), Logits::all), IoError);
  EXPECT_EQ(session.position(0), 20);
  session.set_ffn_hook({});
  EXPECT_EQ(relative_difference(session.forward(std::span(ids).subspan(20, 9), Logits::all), expected), 0);
}

TEST_F(SessionUse, BadInputIsRefusedBeforeAnyWork) {
  Session session(model, pool, {.sequences = 2, .context = 10});
  session.forward(std::span(ids).first(4));
  const TokenId outside[] = {5, 61}, negative[] = {-1};
  const std::span<const TokenId> five = std::span(ids).first(5);
  const struct {
    std::vector<SequenceTokens> batch;
    const char* words;
  } cases[] = {
      {{{0, outside}}, "got 61"},
      {{{0, negative}}, "got -1"},
      {{{2, five}}, "got 2"},
      {{{-1, five}}, "got -1"},
      {{{0, five}, {0, five}}, "twice"},
      {{{0, std::span(ids).first(7)}}, "at most 10 positions"},
      {{{1, five}, {0, {}}}, "at least one token"},
  };
  for (const auto& one : cases) {
    try {
      session.forward(one.batch);
      ADD_FAILURE() << "accepted: " << one.words;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), HasSubstr(one.words));
    }
    EXPECT_EQ(session.position(0), 4);
    EXPECT_EQ(session.position(1), 0);
  }
  EXPECT_NO_THROW(session.forward(std::span(ids).first(6)));  // exactly full
  EXPECT_THROW(session.forward(std::span(ids).first(1)), InvalidArgument);
  EXPECT_THROW(session.truncate(0, 11), InvalidArgument);
  EXPECT_THROW(session.truncate(0, -1), InvalidArgument);
  EXPECT_THROW(session.position(7), InvalidArgument);
  EXPECT_THROW(session.forward(std::span<const SequenceTokens>{}, Session::LogitsSink{}), InvalidArgument);
}

TEST_F(SessionUse, BadOptionsAreRefused) {
  EXPECT_THROW(Session(nullptr, pool), InvalidArgument);
  EXPECT_THROW(Session(model, pool, {.sequences = 0}), InvalidArgument);
  EXPECT_THROW(Session(model, pool, {.rows_per_pass = 0}), InvalidArgument);
  EXPECT_THROW(Session(model, pool, {.context = -1}), InvalidArgument);
  EXPECT_THROW(Session(model, pool, {.context = INT64_MAX}), InvalidArgument);
  EXPECT_THROW(Session(Model::load(golden("models/opt")), pool, {.context = 97}),
               InvalidArgument);                                   // learned positions
  EXPECT_EQ(Session(model, pool, {.context = 97}).context(), 97);  // rotary ones have no end
  EXPECT_EQ(Session(model, pool).context(), 96);
}

TEST_F(SessionUse, ALongContextCostsNothingUntilItIsUsed) {
  Session session(model, pool, {.sequences = 4, .context = std::int64_t{1} << 26});  // 96 GB of addresses
  EXPECT_EQ(session.forward(std::span(ids).first(5)).size(), 61U);
}

TEST_F(SessionUse, ValuesThatOutgrowF32AreAnErrorNotAText) {
  testing::TemporaryFolder folder;
  testing::write_edited("llama_silu", folder.path(), [](testing::Tensors& t) {
    for (std::size_t i = 0; i < 24; ++i) t.set("model.norm.weight", i, 3e38F);
  });
  Session session(Model::load(folder.path()), pool);
  try {
    session.forward(ids, Logits::all);
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_THAT(error.what(), HasSubstr("position 0 of sequence 0"));
  }
}

TEST_F(SessionUse, DecodingAllocatesNothing) {
  for (const char* name : {"llama_silu", "gpt2", "gemma2", "opt_350m", "llama_fatrelu"}) {
    Session session(Model::load(golden(std::string("models/") + name)), pool, {.sequences = 3});
    const SequenceTokens step[] = {{0, std::span(ids).first(1)}, {2, std::span(ids).first(1)}};
    session.forward(step);  // buffers grow once
    const long before = allocations;
    for (int i = 0; i < 20; ++i) session.forward(step);
    EXPECT_EQ(allocations - before, 0) << name;
  }
}

}  // namespace
}  // namespace torpor
