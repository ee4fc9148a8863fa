// The environments that make_environment() knows. Internal.
#pragma once

#include "lab/rl/environment.h"

namespace torpor::lab {

/// A ball falls straight down a 10 x 10 board; the paddle below may move by one. 1 for a catch, -1 for a miss, at the
/// end of the episode. Permuted: the observation's values are in a random order, another one every 4000 steps.
std::unique_ptr<Environment> make_catch(std::uint64_t seed);
std::unique_ptr<Environment> make_permuted_catch(std::uint64_t seed);

/// Barto, Sutton & Anderson 1983, with Gymnasium's constants: CartPole-v1.
std::unique_ptr<Environment> make_cartpole(std::uint64_t seed);
/// Moore 1990, with Gymnasium's constants: MountainCar-v0.
std::unique_ptr<Environment> make_mountain_car(std::uint64_t seed);
/// Sutton 1996, with Gymnasium's constants: Acrobot-v1 ("book").
std::unique_ptr<Environment> make_acrobot(std::uint64_t seed);
/// Gymnasium's Pendulum-v1; actions are torques from -2 to 2, clipped.
std::unique_ptr<Environment> make_pendulum(std::uint64_t seed);

/// MinAtar's Breakout (Young & Tian 2019) without sticky actions: channels paddle, ball, trail, bricks of 10 x 10;
/// actions stay, left, right. A brick gives 1; three new rows of bricks come when all are gone.
std::unique_ptr<Environment> make_breakout_mini(std::uint64_t seed);

}  // namespace torpor::lab
