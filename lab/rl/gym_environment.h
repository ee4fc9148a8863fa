// Any environment of Gymnasium, in a Python process of its own.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "lab/rl/environment.h"

namespace torpor::lab {

struct GymOptions {
  std::string python;                                              // the program; empty: TORPOR_PYTHON, else python3
  std::chrono::milliseconds patience = std::chrono::seconds(120);  // with one answer
  double sticky = 0.25;                                            // of Atari's games, by frames (Machado et al. 2018)
};

/// id: as gymnasium.make() takes it. Numbers are shown one after another, pictures as channels, Atari's games
/// ("ALE/Breakout-v5") as Dopamine prepares them: four frames a step, the brighter of the last two, 84 x 84, the last
/// four of those. Continuous actions are from -1 to 1, whatever the environment's own bounds. Its state is out of
/// reach: can_resume() is false. Throws Error where Python, Gymnasium or the environment is missing, saying what to do;
/// step() and reset() throw Error where the process dies, hangs, fails or answers with NaN.
std::unique_ptr<Environment> make_gym_environment(const std::string& id, std::uint64_t seed,
                                                  const GymOptions& options = {});

/// to: [height, width], the mean of `from` [from_height, from_width] under each pixel's area (OpenCV's
/// INTER_AREA for whole or broken factors). For pictures that become smaller.
void resize_by_area(const std::uint8_t* from, int from_height, int from_width, float* to, int height, int width);

}  // namespace torpor::lab
