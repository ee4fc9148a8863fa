#include "lab/study/active_set_predictor.h"

#include <torch/torch.h>

#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "lab/recycle/unit_adam.h"

namespace torpor::lab {

PredictionQuality train_predictor(const PredictorTokens& train, const PredictorTokens& test, float epsilon,
                                  const PredictorOptions& options) {
  for (const PredictorTokens* tokens : {&train, &test})
    if (tokens->x.dim() != 2 || tokens->m.dim() != 2 || tokens->x.size(0) != tokens->m.size(0) ||
        tokens->x.size(0) < 1 || tokens->x.size(1) != train.x.size(1) || tokens->m.size(1) != train.m.size(1))
      throw InvalidArgument("[train_predictor] expected x [tokens, d_model] and m [tokens, neurons]");
  const std::int64_t tokens = train.x.size(0), d = train.x.size(1), neurons = train.m.size(1);
  const std::int64_t width = options.width > 0 ? options.width : d;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const auto weight = [&](std::int64_t out, std::int64_t in) {
    return (at::randn({out, in}, generator, at::TensorOptions()) / std::sqrt(static_cast<double>(in)))
        .requires_grad_(true);
  };
  const at::Tensor first = weight(width, d), second = weight(neurons, width);
  const at::Tensor first_bias = torch::zeros({width}, torch::requires_grad());
  const at::Tensor second_bias = torch::zeros({neurons}, torch::requires_grad());
  const auto logits_of = [&](const at::Tensor& x) {
    return at::linear(at::relu(at::linear(x, first, first_bias)), second, second_bias);
  };

  UnitAdam optimizer({{"first", first}, {"first_bias", first_bias}, {"second", second}, {"second_bias", second_bias}},
                     {.weight_decay = options.weight_decay, .decoupled = true});
  const at::Tensor labels = train.m.gt(epsilon);
  const std::int64_t batches = (tokens + options.batch - 1) / options.batch, steps = batches * options.passes;
  std::int64_t step = 0;
  for (int pass = 0; pass < options.passes; ++pass)
    for (const at::Tensor& rows : at::randperm(tokens, generator, at::kLong).split(options.batch)) {
      optimizer.zero_grad();
      at::binary_cross_entropy_with_logits(logits_of(train.x.index_select(0, rows)),
                                           labels.index_select(0, rows).to(at::kFloat))
          .backward();
      const double done = static_cast<double>(step++) / static_cast<double>(steps);
      optimizer.step(options.learning_rate * (1 + std::cos(std::numbers::pi * done)) / 2);
    }

  const at::NoGradGuard no_gradient;
  const at::Tensor scores = logits_of(test.x).contiguous(), m = test.m.contiguous();
  const at::Tensor active = m.gt(epsilon).to(at::kByte);
  const auto size = static_cast<std::size_t>(m.numel());
  return prediction_quality({scores.const_data_ptr<float>(), size}, {active.const_data_ptr<std::uint8_t>(), size},
                            {m.const_data_ptr<float>(), size});
}

}  // namespace torpor::lab
