// Runs of profile_model on the small trained model of tests/golden/apps, and the windows behind them, found by their
// losses.
#pragma once

#include <algorithm>
#include <cmath>

#include "engine/profile/profile.h"
#include "tests/engine/profile/byte_tokenizer.h"

namespace torpor::testing {

constexpr std::int64_t kWindow = 64;

/// The golden text's first `bytes` bytes as a file.
class TinyRun {
 public:
  explicit TinyRun(std::size_t bytes = 6000, int threads = 2) : pool(threads) {
    write_text(folder / "text.txt", text_of(golden("apps/text.txt")).substr(0, bytes));
    for_each_window(corpus(), *tokenizer, 320, kWindow, [&](TextWindow w) {
      if (w.tokens.size() == kWindow) windows.push_back(std::move(w));
      return true;
    });
  }
  TextCorpus corpus() const { return TextCorpus::open(folder / "text.txt"); }

  /// All windows of the text, a third of them held out, CETT on every token.
  ProfileOptions options(ProfileTarget::Kind kind, double value) const {
    const auto n = static_cast<std::int64_t>(windows.size());
    ProfileOptions out;
    out.target = {kind, value};
    out.window = kWindow;
    out.held_out_tokens = n / 3 * kWindow;
    out.calibration_tokens = (n - n / 3) * kWindow;
    out.cett_tokens = out.calibration_tokens;
    out.baselines = false;
    out.show_progress = false;
    return out;
  }
  Profile profile(const ProfileOptions& options) { return profile_model(model, *tokenizer, corpus(), options, pool); }

  Evaluation evaluate_windows(std::span<const TextWindow> some, const FfnHook& hook = {}) {
    Session session = evaluation_session(model, pool, kWindow);
    session.set_ffn_hook(hook);
    return evaluate(session, pool, some);
  }

  /// Splits the windows into those a profile held out (each has a loss of its own) and the others.
  void split(const Profile& profile, std::vector<TextWindow>& held_out, std::vector<TextWindow>& others) {
    const Evaluation all = evaluate_windows(windows);
    std::vector<bool> held(windows.size());
    for (const WindowLoss& loss : profile.dense.windows()) {
      std::size_t nearest = 0;
      for (std::size_t w = 0; w < windows.size(); ++w)
        if (std::fabs(all.windows()[w].nats - loss.nats) < std::fabs(all.windows()[nearest].nats - loss.nats))
          nearest = w;
      ASSERT_NEAR(all.windows()[nearest].nats, loss.nats, 1e-6 * loss.nats) << "held out, but no window of the text";
      ASSERT_FALSE(held[nearest]) << "window " << nearest << " twice";
      held[nearest] = true;
    }
    for (std::size_t w = 0; w < windows.size(); ++w) (held[w] ? held_out : others).push_back(windows[w]);
  }

  TemporaryFolder folder;
  std::shared_ptr<const Model> model = Model::load(golden("apps/tiny"));
  std::unique_ptr<const Tokenizer> tokenizer = load_tokenizer(golden("apps/tiny"));
  ThreadPool pool;
  std::vector<TextWindow> windows;  // full ones, in order
};

}  // namespace torpor::testing
