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

// MinAtar's games (Young & Tian 2019) on 10 x 10 cells, growing harder as there, actions those that do something there.
// Without sticky actions, of which there a tenth are: see set_sticky().

/// Channels paddle, ball, trail, bricks; actions stay, left, right. A brick gives 1; new ones come when all are gone.
std::unique_ptr<Environment> make_breakout_mini(std::uint64_t seed);
/// Channels player, enemy, trail, gold; actions stay, left, up, right, down. Gold gives 1; an enemy ends the episode.
std::unique_ptr<Environment> make_asterix_mini(std::uint64_t seed);
/// Channels cannon, alien, alien to the left, to the right, own shot, alien's shot; actions stay, left, right, fire. An
/// alien that is hit gives 1; the episode ends when an alien or its shot meets the cannon.
std::unique_ptr<Environment> make_space_invaders_mini(std::uint64_t seed);
/// Channels chicken, car, and trails of cars that move every 1, 2, … 5 steps; actions stay, up, down. The other side
/// gives 1. Truncated after 2501 steps (there it is called terminated, though nothing that is seen tells the time).
std::unique_ptr<Environment> make_freeway_mini(std::uint64_t seed);
/// Channels front, back, own shot, trail, enemy's shot, fish, enemy, air, divers aboard, diver; actions stay, left, up,
/// right, down, fire. A hit gives 1, coming up with six divers up to 10.
std::unique_ptr<Environment> make_seaquest_mini(std::uint64_t seed);

}  // namespace torpor::lab
