// What both targets do with a model that was accepted: run it.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "core/base/error.h"
#include "engine/decode/session.h"
#include "engine/models/model_files.h"

namespace torpor {

/// An accepted model must run, prefill and decode, or say that its numbers outgrow f32; and be the same model twice.
inline void run_model(const ModelFiles& files) {
  const auto model = build_model(files);
  if (model->fingerprint() != build_model(files)->fingerprint()) std::abort();
  static ThreadPool pool(1);
  const std::int64_t context = std::min(8, model->config().context_length);
  Session session(model, pool, {.sequences = 2, .context = context, .rows_per_pass = 3});
  const TokenId last = model->config().vocab_size - 1;
  const TokenId text[] = {0, last, last / 2, 0, last};
  const auto length = static_cast<std::size_t>(std::min<std::int64_t>(context, 5));
  const SequenceTokens batch[] = {{1, std::span(text).first(1)}, {0, std::span(text).first(length)}};
  session.forward(batch, Logits::all);
  if (context > 1) session.forward(std::span<const SequenceTokens>(batch).first(1));
}

}  // namespace torpor
