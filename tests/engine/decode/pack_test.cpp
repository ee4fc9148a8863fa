// Packed models: the same logits as their sources, skipping and dense, and files that are refused when they are another
// version's or damaged.
#include "engine/models/pack.h"

#include <fstream>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/random.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"
#include "engine/models/neuron_layers.h"
#include "engine/models/packed.h"
#include "tests/engine/decode/golden_model.h"

namespace torpor {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::copy;
using testing::expected_of;
using testing::golden;
using ::testing::HasSubstr;
using testing::relative_difference;
using testing::TemporaryFolder;
using ::testing::ThrowsMessage;

constexpr double kSelf = 2e-5;  // other orders of sums

std::string activation_of(const std::string& name) {
  return name == "llama_ungated" ? "relu2" : "";
}

/// Logits of all positions at once, then token by token.
std::vector<float> logits_of(const std::shared_ptr<const Model>& model, const std::vector<TokenId>& ids,
                             const std::shared_ptr<SparseFfn>& ffn = nullptr) {
  ThreadPool pool(2);
  Session session(model, pool);
  auto all = copy(session.forward(ids, Logits::all));
  session.clear(0);
  session.set_sparse_ffn(ffn);
  for (const TokenId id : ids) {
    const auto logits = session.forward({&id, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

class Packed : public ::testing::TestWithParam<const char*> {
 protected:
  std::string name = GetParam();
  ThreadPool pool{2};
  TemporaryFolder folder;
};
INSTANTIATE_TEST_SUITE_P(All, Packed, ::testing::ValuesIn(testing::kGoldenModels),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(Packed, InAnotherOrderOfNeuronsIsAModelWithTheSameLogits) {
  const auto source = testing::load_model(name);
  NeuronOrder order(source->layers().size());
  Random random(3);
  for (std::size_t l = 1; l < order.size(); ++l) {  // the first layer stays
    for (std::int32_t i = 0; i < source->config().d_ff; ++i) order[l].push_back(i);
    for (std::size_t i = order[l].size(); i-- > 1;) std::swap(order[l][i], order[l][random.below(i + 1)]);
  }
  const PackReport report =
      pack_model(golden("models/" + name), activation_of(name), NumberFormat::f32, folder.path(), pool, {}, order);
  EXPECT_TRUE(report.lossless);
  const auto packed = Model::load(folder.path());
  EXPECT_NE(packed->fingerprint(), source->fingerprint());  // a plan's neurons would be others
  const auto ids = expected_of(name).ids;
  EXPECT_LT(relative_difference(logits_of(packed, ids), logits_of(source, ids)), kSelf);
  EXPECT_EQ(packed->outgoing_rows(0), source->outgoing_rows(0));
  const auto width = static_cast<std::ptrdiff_t>(source->config().d_model);
  const auto before = source->outgoing_rows(1), after = packed->outgoing_rows(1);
  for (std::ptrdiff_t i = 0; i < source->config().d_ff; ++i)
    ASSERT_TRUE(std::equal(after.begin() + i * width, after.begin() + (i + 1) * width,
                           before.begin() + order[1][static_cast<std::size_t>(i)] * width));
}

TEST(PackModel, RefusesOrdersThatDoNotFit) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const auto with = [&](const NeuronOrder& order) {
    pack_model(golden("models/arcee"), {}, NumberFormat::f32, folder.path(), pool, {}, order);
  };
  const auto neurons = static_cast<std::size_t>(testing::load_model("arcee")->config().d_ff);
  EXPECT_THROW(with({{}}), InvalidArgument);
  EXPECT_THROW(with({{}, {0, 1}}), InvalidArgument);
  EXPECT_THROW(with({{}, std::vector<std::int32_t>(neurons, 0)}), InvalidArgument);
  EXPECT_NO_THROW(with({{}, {}}));
}

TEST_P(Packed, InF32IsTheSameModel) {
  const auto source = testing::load_model(name);
  std::int64_t done = 0;
  const PackReport report = pack_model(golden("models/" + name), activation_of(name), NumberFormat::f32, folder.path(),
                                       pool, [&](std::int64_t bytes) { done = bytes; });
  EXPECT_TRUE(report.lossless);
  EXPECT_EQ(done, report.bytes_from);
  EXPECT_EQ(report.bytes_from, source->weight_bytes());
  for (const PackedTensor& tensor : report.tensors) {
    EXPECT_EQ(tensor.relative_error, 0) << tensor.name;
    EXPECT_EQ(tensor.largest_error, 0) << tensor.name;
  }
  const auto packed = Model::load(folder.path());
  EXPECT_EQ(packed->fingerprint(), source->fingerprint());
  EXPECT_EQ(facts_of(*packed).activation, facts_of(*source).activation);
  EXPECT_EQ(packed->parameters(), source->parameters());
  const auto ids = expected_of(name).ids;
  const auto wanted = logits_of(source, ids);
  EXPECT_LT(relative_difference(logits_of(packed, ids), wanted), kSelf);
  const Skipping skipping = prepare_skipping(packed, nullptr, Skip::always, pool);
  EXPECT_LT(relative_difference(logits_of(packed, ids, skipping.ffn), wanted), kSelf);
  if (skipping.ffn) {
    // Nothing has to be turned; a gated layer's up and down are put side by side.
    EXPECT_EQ(skipping.ffn->weights()->bytes() > 0, packed->config().gated);
  }
  for (int l = 0; l < packed->config().n_layers; ++l) {
    const FfnWeights& ffn = packed->layers()[static_cast<std::size_t>(l)].ffn;
    for (const WeightMatrix* w : {&ffn.gate, &ffn.up, &ffn.down_rows})
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(w->data) % kPackedAlignment, 0U);
    EXPECT_TRUE(ffn.down.empty());
    EXPECT_EQ(packed->outgoing_rows(l), source->outgoing_rows(l));
  }
}

fs::path shipped(const std::string& name) {
  return fs::path(TORPOR_SOURCE_DIR) / "models" / name;
}

class PackedShipped : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, PackedShipped, ::testing::Values("relu2", "spark", "swiglu"),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(PackedShipped, QuantisedLosesWhatTheReportSays) {
  const fs::path path = shipped(GetParam());
  const auto source = Model::load(path);
  ThreadPool pool(2);
  const TemporaryFolder folder;
  std::vector<TokenId> ids;
  for (TokenId i = 0; i < 24; ++i) ids.push_back((i * 37 + 5) % source->config().vocab_size);
  const auto wanted = logits_of(source, ids);
  double before = 0;
  for (const NumberFormat type : {NumberFormat::q8_0, NumberFormat::q4_0}) {
    const PackReport report = pack_model(path, {}, type, folder.path(), pool);
    EXPECT_FALSE(report.lossless);
    EXPECT_NE(report.fingerprint, source->fingerprint());
    EXPECT_EQ(report.source_fingerprint, source->fingerprint());
    const auto packed = Model::load(folder.path());
    EXPECT_EQ(packed->fingerprint(), report.fingerprint);
    // Down projections, whose source is at hand the right way round: the errors once more, by other means.
    for (int l = 0; l < source->config().n_layers; ++l) {
      const auto original = source->outgoing_rows(l), rounded = packed->outgoing_rows(l);
      double squares = 0, errors = 0, largest = 0;
      for (std::size_t i = 0; i < original.size(); ++i) {
        const double difference = static_cast<double>(rounded[i]) - static_cast<double>(original[i]);
        squares += std::pow(static_cast<double>(original[i]), 2);
        errors += difference * difference;
        largest = std::max(largest, std::abs(difference));
      }
      const bool found = std::any_of(report.tensors.begin(), report.tensors.end(), [&](const PackedTensor& t) {
        return t.rows == source->config().d_ff && t.width == source->config().d_model &&
               std::abs(t.relative_error - std::sqrt(errors / squares)) < 1e-9 &&
               std::abs(t.largest_error - largest) < 1e-12;
      });
      EXPECT_TRUE(found) << "layer " << l << ", error " << std::sqrt(errors / squares);
    }
    const double difference = relative_difference(logits_of(packed, ids), wanted);
    EXPECT_LT(difference, type == NumberFormat::q8_0 ? 0.1 : 1.0);
    EXPECT_GT(difference, before);  // 4 bits lose more
    before = difference;
    // And skipping is dense here too.
    const Skipping skipping = prepare_skipping(packed, nullptr, Skip::always, pool);
    EXPECT_LT(relative_difference(logits_of(packed, ids, skipping.ffn), logits_of(packed, ids)), 2e-4);
  }
}

class PackedGguf : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, PackedGguf, ::testing::ValuesIn(testing::kGoldenGgufs),
                         [](const auto& model) { return std::string(model.param); });

TEST_P(PackedGguf, IsTheSameModel) {
  const auto path = golden(std::string("models/") + GetParam() + "/model.gguf");
  const TemporaryFolder folder;
  ThreadPool pool(2);
  pack_model(path, {}, NumberFormat::f32, folder.path(), pool);
  const auto source = Model::load(path), packed = Model::load(folder.path());
  EXPECT_EQ(packed->fingerprint(), source->fingerprint());
  const auto ids = expected_of(GetParam()).ids;
  EXPECT_LT(relative_difference(logits_of(packed, ids), logits_of(source, ids)), kSelf);
}

/// The file with one piece of its header replaced by another of the same length.
void replace_in(const fs::path& file, const std::string& from, const std::string& to) {
  ASSERT_EQ(from.size(), to.size());
  std::string bytes = read_file(file);
  const auto at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  bytes.replace(at, from.size(), to);
  write_file_atomically(file, bytes);
}

TEST(PackedFile, OfAnotherLayoutOrDamagedIsRefused) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const fs::path file = folder.path() / kPackedFile;
  const auto again = [&] { pack_model(shipped("relu2"), {}, NumberFormat::q8_0, folder.path(), pool); };
  const auto load = [&] { Model::load(folder.path()); };
  again();
  EXPECT_NO_THROW(load());
  EXPECT_NO_THROW(Model::load(file));
  replace_in(file, "\"torpor.layout\":\"1\"", "\"torpor.layout\":\"7\"");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(
                        AllOf(HasSubstr("layout version 1"), HasSubstr("\"7\""), HasSubstr("torpor pack"))));
  again();
  replace_in(file, "torpor.layout", "torpor.lavout");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("torpor.layout")));
  again();
  replace_in(file, "\"torpor.fingerprint\"", "\"torpor.fingerqrint\"");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("torpor.fingerprint")));
  again();
  replace_in(file, "\"q8_0\"", "\"q9_0\"");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("q9_0")));
  again();
  replace_in(file, "\"torpor.rope_interleaved\":\"false\"", "\"torpor.rope_interleaved\":\"maybe\"");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("true or false")));
  again();
  std::string bytes = read_file(file);
  write_file_atomically(file, bytes.substr(0, bytes.size() - 100));
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("packed.safetensors")));
  again();
  fs::remove(folder.path() / "config.json");
  EXPECT_THAT(load, ThrowsMessage<BadInput>(HasSubstr("config.json")));
}

TEST(PackedFile, IsNotMadeFromWhatCannotBePackedAndNothingIsLost) {
  const TemporaryFolder folder, again;
  ThreadPool pool(1);
  pack_model(golden("models/arcee"), {}, NumberFormat::bf16, folder.path(), pool);
  EXPECT_THAT([&] { pack_model(folder.path(), {}, NumberFormat::bf16, again.path(), pool); },
              ThrowsMessage<BadInput>(HasSubstr("Pack its source")));
  EXPECT_THAT([&] { pack_model(golden("models/arcee"), {}, NumberFormat::bf16, golden("models/arcee"), pool); },
              ThrowsMessage<BadInput>(HasSubstr("another folder")));
  EXPECT_THROW(pack_model(golden("models/arcee"), {}, NumberFormat::q6_k, again.path(), pool), InvalidArgument);
  EXPECT_THROW(pack_model("/nowhere", {}, NumberFormat::bf16, again.path(), pool), BadInput);
  EXPECT_TRUE(fs::is_empty(again.path()));
}

}  // namespace
}  // namespace torpor
