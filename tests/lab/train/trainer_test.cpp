#include "lab/train/trainer.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/tensor/safetensors.h"
#include "engine/profile/evaluate.h"
#include "lab/nn/tensor_views.h"
#include "lab/train/presets.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using testing::golden;
using testing::TemporaryFolder;

std::shared_ptr<const Windows> novel(std::int64_t window = 64) {
  return std::make_shared<ByteWindows>(TextCorpus::open(golden("apps/text.txt")), window);
}

TrainOptions few_steps() {
  TrainOptions options;
  options.steps = 12;
  options.batch = 4;
  options.warm_up = 4;
  options.learning_rate = 3e-3;
  options.checkpoint_every = 5;
  options.evaluate_every = 6;
  options.held_out_windows = 8;
  return options;
}

class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }

 private:
  int before_;
};

std::vector<StepReport> run(Trainer& trainer) {
  std::vector<StepReport> out;
  trainer.run([&](const StepReport& report) { out.push_back(report); });
  return out;
}

struct Stop {};

TEST(StagedWeight, GrowsByHalfASineFromPointToPoint) {
  const StagedWeight weight = parse_staged_weight("0.1@100,0.5@300,0.4@400");
  EXPECT_DOUBLE_EQ(weight.at(0), 0.1);
  EXPECT_DOUBLE_EQ(weight.at(100), 0.1);
  EXPECT_NEAR(weight.at(150), 0.1 + 0.4 * (1 - std::sqrt(0.5)) / 2, 1e-12) << "slow at first";
  EXPECT_NEAR(weight.at(200), 0.3, 1e-12);
  EXPECT_DOUBLE_EQ(weight.at(300), 0.5);
  EXPECT_NEAR(weight.at(350), 0.45, 1e-12);
  EXPECT_DOUBLE_EQ(weight.at(5000), 0.4);
  EXPECT_DOUBLE_EQ(parse_staged_weight("0.25").at(7), 0.25);
  EXPECT_TRUE(parse_staged_weight("0").zero());
  EXPECT_FALSE(weight.zero());
  EXPECT_EQ(StagedWeight().at(3), 0);
  for (const char* text :
       {"", "x", "-1", "0.1,0.2", "0.1@5,0.2", "0.1@5,", "0.1@5,0.2@5", "0.1@x", "0.1@-3", "nan", "1@2@3"})
    EXPECT_THROW(parse_staged_weight(text), UsageError) << text;
}

TEST(StagedWeight, ARunIsOnlyGoneOnWithUnderTheSameStages) {
  TrainOptions options;
  EXPECT_EQ(to_json(options)["activation_l1"], 0.0);
  options.activation_l1 = parse_staged_weight("0.5");
  EXPECT_EQ(to_json(options)["activation_l1"], 0.5);
  options.activation_l1 = parse_staged_weight("0.5@3,1@9");
  EXPECT_EQ(to_json(options)["activation_l1"].dump(), R"([{"step":3,"weight":0.5},{"step":9,"weight":1.0}])");
}

TEST(LearningRate, RisesInALineAndFallsAsACosine) {
  TrainOptions options;
  options.steps = 100;
  options.warm_up = 10;
  options.learning_rate = 2;
  options.last_learning_rate = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 9), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 10), 2);
  EXPECT_NEAR(learning_rate_at(options, 55), 2 * 0.55, 1e-12) << "half way: the mean of 1 and 0.1";
  EXPECT_NEAR(learning_rate_at(options, 100), 0.2, 1e-12);
  options.warm_up = 0;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0), 2);
}

TEST(Trainer, LearnsEveryPreset) {
  for (const char* name : {"relu2-tiny", "relu-tiny", "reglu-tiny", "swiglu-tiny", "geglu-tiny", "spark-tiny"}) {
    const TemporaryFolder folder;
    TrainOptions options = few_steps();
    options.steps = 60;
    options.batch = 8;
    Trainer trainer(preset(name).config, options, folder / "run", novel(), novel(), false);
    const std::vector<StepReport> reports = run(trainer);
    ASSERT_EQ(reports.size(), 60U);
    EXPECT_NEAR(reports.front().loss_nats_per_token, std::log(256), 1) << name << ": knows nothing at first";
    EXPECT_LT(reports.back().loss_nats_per_token, 3.6) << name;
    ASSERT_TRUE(reports.back().held_out_bits_per_byte.has_value());
    EXPECT_NEAR(*reports.back().held_out_bits_per_byte * std::log(2), reports.back().loss_nats_per_token, 0.4) << name;
  }
}

TEST(Trainer, TwinsHaveEqualNumbersOfParameters) {
  const auto parameters = [](const char* name) {
    std::int64_t sum = 0;
    Transformer model(preset(name).config, 1);
    for (const auto& [_, weight] : model->weights()) sum += weight.numel();
    return static_cast<double>(sum);
  };
  const double relu2 = parameters("relu2-5m");
  for (const char* name : {"relu-5m", "reglu-5m", "swiglu-5m", "geglu-5m", "spark-5m"})
    EXPECT_NEAR(parameters(name) / relu2, 1, 0.001) << name;
}

TEST(Trainer, AResumedRunHasTheLossesOfAnUninterruptedOneBitForBit) {
  const OneThread one;
  for (const char* name : {"relu2-tiny", "spark-tiny"}) {
    const TemporaryFolder folder;
    Trainer whole(preset(name).config, few_steps(), folder / "whole", novel(), novel(), false);
    const std::vector<StepReport> wanted = run(whole);
    {
      Trainer part(preset(name).config, few_steps(), folder / "parts", novel(), novel(), false);
      EXPECT_THROW(part.run([](const StepReport& report) {
        if (report.step == 7) throw Stop();  // two steps after a checkpoint, as a lost process
      }),
                   Stop);
    }
    Trainer rest(preset(name).config, few_steps(), folder / "parts", novel(), novel(), true);
    ASSERT_EQ(rest.step(), 5);
    const std::vector<StepReport> got = run(rest);
    ASSERT_EQ(got.size(), 7U);
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].step, wanted[i + 5].step);
      EXPECT_EQ(got[i].loss_nats_per_token, wanted[i + 5].loss_nats_per_token) << name << " step " << got[i].step;
      EXPECT_EQ(got[i].gradient_norm, wanted[i + 5].gradient_norm);
      EXPECT_EQ(got[i].held_out_bits_per_byte, wanted[i + 5].held_out_bits_per_byte);
    }
    EXPECT_EQ(read_file(folder / "parts/log.csv"), read_file(folder / "whole/log.csv"));
    EXPECT_EQ(read_file(folder / "parts/checkpoint-00000012/model.safetensors"),
              read_file(folder / "whole/checkpoint-00000012/model.safetensors"));
  }
}

TEST(Trainer, AccumulatedPassesAreOneLargeBatch) {
  const OneThread one;
  const TemporaryFolder folder;
  TrainOptions large = few_steps(), accumulated = few_steps();
  large.batch = 8;
  accumulated.batch = 2;
  accumulated.accumulation = 4;
  Trainer a(preset("relu2-tiny").config, large, folder / "a", novel(), {}, false);
  Trainer b(preset("relu2-tiny").config, accumulated, folder / "b", novel(), {}, false);
  const auto of_a = run(a), of_b = run(b);
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    EXPECT_NEAR(of_a[i].loss_nats_per_token, of_b[i].loss_nats_per_token, 2e-4) << i;
    EXPECT_NEAR(of_a[i].gradient_norm, of_b[i].gradient_norm, 2e-3 * of_a[i].gradient_norm) << i;
  }
}

TEST(Trainer, AnL1PenaltyMakesActivationsSmaller) {
  const TemporaryFolder folder;
  const auto mean_activation = [&](double weight) {
    TrainOptions options = few_steps();
    options.steps = 60;
    options.activation_l1 = {{{0, weight}}};
    Trainer trainer(preset("relu-tiny").config, options, folder / fmt::format("{}", weight), novel(), {}, false);
    run(trainer);
    double sum = 0;
    Transformer model = trainer.model();
    model->set_activation_hook([&](int, const at::Tensor& a) {
      sum += a.abs().mean().item<double>();
      return a;
    });
    const std::int64_t windows[] = {0, 3, 9};
    const at::NoGradGuard no_gradient;
    model->forward(novel()->at(windows).narrow(1, 0, 64).contiguous());
    return sum;
  };
  EXPECT_LT(mean_activation(1), 0.8 * mean_activation(0));
}

TEST(Trainer, BitsPerByteAreThoseOfTheEngine) {
  const TemporaryFolder folder;
  TrainOptions options = few_steps();
  options.steps = 30;
  Trainer trainer(preset("relu2-tiny").config, options, folder / "run", novel(), {}, false);
  run(trainer);
  trainer.model()->save(folder / "model", at::kFloat);
  const auto text = novel();
  const double lab = bits_per_byte(*TransformerImpl::load(folder / "model"), *text, 0, 4);
  ThreadPool pool(1);
  Session session = evaluation_session(Model::load(folder / "model"), pool, 65);
  std::vector<TextWindow> windows;
  for (std::int64_t w = 0; w < text->size(); ++w) {
    TextWindow window{{}, 64};
    const at::Tensor row = text->at({&w, 1})[0];
    for (std::int64_t i = 0; i < 64; ++i) window.tokens.push_back(static_cast<TokenId>(row[i].item<std::int64_t>()));
    window.bytes = 63;
    windows.push_back(std::move(window));
  }
  const Evaluation engine = evaluate(session, pool, windows);
  EXPECT_NEAR(engine.loss_interval().mean / std::log(2), lab, 0.02 * lab)
      << "all but one of 64 predictions are the same";
}

TEST(Trainer, ALossThatIsNotFiniteNamesStepAndLayerAndKeepsTheCheckpoint) {
  const TemporaryFolder folder;
  TrainOptions options = few_steps();
  Trainer trainer(preset("relu2-tiny").config, options, folder / "run", novel(), {}, false);
  Transformer model = trainer.model();
  try {
    trainer.run([&](const StepReport& report) {
      if (report.step != 7) return;
      const at::NoGradGuard no_gradient;
      model->neuron_layers()[1].incoming[0].mul_(1e30);  // squared: infinity
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("step 8"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("layer 1"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("checkpoint-00000005"));
    EXPECT_EQ(error.exit_code(), 1);
  }
  EXPECT_EQ(Trainer(preset("relu2-tiny").config, options, folder / "run", novel(), {}, true).step(), 5);
}

TEST(Trainer, RefusesACheckpointOfAnotherRunAndSaysWhatDiffers) {
  const TemporaryFolder folder;
  {
    Trainer trainer(preset("relu2-tiny").config, few_steps(), folder / "run", novel(), {}, false);
    run(trainer);
  }
  const auto message = [&](const char* name, TrainOptions options, bool resume) -> std::string {
    try {
      Trainer(preset(name).config, options, folder / "run", novel(), {}, resume);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("relu2-tiny", few_steps(), false), ::testing::HasSubstr("--resume"));
  EXPECT_THAT(message("swiglu-tiny", few_steps(), true), ::testing::HasSubstr("another network"));
  TrainOptions other = few_steps();
  other.batch = 5;
  EXPECT_THAT(message("relu2-tiny", other, true), ::testing::HasSubstr("batch was 4, now 5"));
  EXPECT_EQ(message("relu2-tiny", few_steps(), true), "");
}

TEST(Trainer, RefusesACheckpointWhoseMomentsAreNotFinite) {
  const TemporaryFolder folder;
  Trainer first(preset("relu2-tiny").config, few_steps(), folder / "run", novel(), nullptr, false);
  run(first);
  const std::filesystem::path file = first.newest_checkpoint() / "optimizer.safetensors";
  std::string bytes = read_file(file);
  bytes.replace(bytes.size() - 4, 4, std::string("\x00\x00\xc0\x7f", 4));  // NaN
  write_file_atomically(file, bytes);
  EXPECT_THAT([&] { Trainer(preset("relu2-tiny").config, few_steps(), folder / "run", novel(), nullptr, true); },
              ::testing::ThrowsMessage<BadInput>(::testing::HasSubstr("found NaN or infinity")));
}

TrainOptions recycling() {
  TrainOptions options = few_steps();
  options.steps = 24;
  options.recycle = RecycleOptions{.tau = 0.3, .period = 4};
  options.check_recycling = true;
  return options;
}

TEST(Recycling, GivesDormantNeuronsOfEveryKindANewLifeAndKeepsTheFunction) {
  for (const char* name : {"relu2-tiny", "relu-tiny", "reglu-tiny", "swiglu-tiny", "geglu-tiny"}) {
    for (const RecycleScore score : {RecycleScore::activation, RecycleScore::gradient}) {
      const TemporaryFolder folder;
      TrainOptions options = recycling();
      options.recycle->score = score;
      if (score == RecycleScore::gradient) options.recycle->tau = 0.6;
      Trainer trainer(preset(name).config, options, folder / "run", novel(), nullptr, false);
      std::int64_t recycled = 0, counted = 0;
      double dormant = 0;
      for (const StepReport& report : run(trainer)) {
        EXPECT_EQ(report.neurons.has_value(), report.step % 4 == 0 || report.step % 6 == 0) << report.step;
        if (!report.neurons) continue;
        ++counted;
        EXPECT_EQ(report.neurons->layers.size(), 2U);
        if (report.step % 4 != 0) {
          EXPECT_EQ(report.neurons->recycled, 0);
        }
        if (report.step % 4 == 0) {
          EXPECT_EQ(report.neurons->recycled > 0, report.neurons->dormant > 0);
        }
        recycled += report.neurons->recycled;
        dormant = std::max(dormant, report.neurons->dormant);
      }
      EXPECT_GT(recycled, 0) << name;
      EXPECT_GT(dormant, 0) << name;
      const std::string rows = read_file(folder / "run" / "neurons.csv");
      EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), 1 + 2 * counted);
      EXPECT_THAT(rows, ::testing::HasSubstr("\n4,model.layers.0.mlp,"));
    }
  }
}

// The last step recycles: what it did lies open.
TEST(Recycling, LeavesColumnsOfZerosAndRowsWithoutMoments) {
  const TemporaryFolder folder;
  TrainOptions options = recycling();
  options.steps = 8;
  Trainer trainer(preset("swiglu-tiny").config, options, folder / "run", novel(), nullptr, false);
  const std::vector<StepReport> reports = run(trainer);
  ASSERT_GT(reports.back().neurons->recycled, 0);
  const TensorArchive state = open_safetensors(trainer.newest_checkpoint() / "optimizer.safetensors");
  const auto moments = [&](const std::string& name) { return tensor_of(state.at(name + ".exp_avg"), "here"); };
  std::int64_t silent = 0;
  for (const NeuronLayerTensors& layer : trainer.model()->neuron_layers()) {
    const at::Tensor gone = layer.outgoing.detach().eq(0).all(0);
    silent += gone.sum().item<std::int64_t>();
    for (const char* part : {"gate_proj", "up_proj"})
      EXPECT_TRUE(at::equal(moments(layer.name + "." + part + ".weight").eq(0).all(1), gone)) << part;
    EXPECT_TRUE(at::equal(moments(layer.name + ".down_proj.weight").eq(0).all(0), gone));
    for (const at::Tensor& incoming : layer.incoming)  // as drawn: unit norm
      EXPECT_NEAR(incoming.detach().index({gone}).norm(2, 1).mean().item<double>(), 1, 0.15);
  }
  EXPECT_EQ(silent, reports.back().neurons->recycled);
}

TEST(Recycling, ARunThatIsGoneOnWithIsTheSameBitForBit) {
  const OneThread one;
  const TemporaryFolder folder;
  Trainer whole(preset("relu2-tiny").config, recycling(), folder / "whole", novel(), novel(), false);
  const std::vector<StepReport> expected = run(whole);
  {
    Trainer first(preset("relu2-tiny").config, recycling(), folder / "run", novel(), novel(), false);
    EXPECT_THROW(first.run([&](const StepReport& report) {
      if (report.step == 13) throw Stop();  // after recyclings at 4, 8 and 12, the last checkpoint at 10
    }),
                 Stop);
  }
  Trainer second(preset("relu2-tiny").config, recycling(), folder / "run", novel(), novel(), true);
  EXPECT_EQ(second.step(), 10);
  for (const StepReport& report : run(second)) {
    const StepReport& same = expected.at(static_cast<std::size_t>(report.step) - 1);
    ASSERT_EQ(report.loss_nats_per_token, same.loss_nats_per_token) << report.step;
    ASSERT_EQ(report.neurons.has_value(), same.neurons.has_value());
    if (!same.neurons) continue;
    EXPECT_EQ(report.neurons->recycled, same.neurons->recycled);
    EXPECT_EQ(report.neurons->again, same.neurons->again);
  }
  for (const char* file : {"log.csv", "neurons.csv"})
    EXPECT_EQ(read_file(folder / "run" / file), read_file(folder / "whole" / file)) << file;
  TrainOptions other = recycling();
  other.recycle->tau = 0.1;
  other.steps = 24;
  EXPECT_THROW(Trainer(preset("relu2-tiny").config, other, folder / "run", novel(), novel(), true), BadInput);
}

TEST(Recycling, PrunedNeuronsStaySilent) {
  const TemporaryFolder folder;
  TrainOptions options = recycling();
  options.recycle->prune = true;
  options.steps = 15;
  Trainer trainer(preset("relu-tiny").config, options, folder / "run", novel(), nullptr, false);
  std::int64_t pruned = 0;
  for (const StepReport& report : run(trainer))
    if (report.neurons) pruned = std::max(pruned, report.neurons->recycled);
  ASSERT_GT(pruned, 0);
  std::int64_t silent = 0;
  for (const NeuronLayerTensors& layer : trainer.model()->neuron_layers())
    silent += layer.incoming[0].detach().eq(0).all(1).sum().item<std::int64_t>();
  EXPECT_GE(silent, pruned);
}

TEST(Recycling, RefusesWhatItCannotDoExactly) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name, const RecycleOptions& recycle) {
    TrainOptions options = few_steps();
    options.recycle = recycle;
    return [=, path = folder / "run"] { Trainer(preset(name).config, options, path, novel(), nullptr, false); };
  };
  EXPECT_THAT(refused("spark-tiny", {}), ::testing::ThrowsMessage<UsageError>(
                                             ::testing::HasSubstr("layer \"model.layers.0.mlp\" cannot be recycled")));
  EXPECT_THAT(refused("relu2-tiny", {.tau = -1}),
              ::testing::ThrowsMessage<UsageError>(::testing::HasSubstr("expected tau of at least 0, got -1")));
}

}  // namespace
}  // namespace torpor::lab
