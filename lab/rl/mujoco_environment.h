// Locomotion in MuJoCo: Gymnasium's HalfCheetah, Hopper, Walker2d and Ant, by its rules v4 and v5, without Python.
// Internal.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "lab/rl/environment.h"

namespace torpor::lab {

/// "HalfCheetah-v5", …: as gymnasium.make() takes them.
std::vector<std::string_view> mujoco_environment_names();

/// Rewards, ends and observations as Gymnasium's under its default settings, from models that are Gymnasium's; one
/// action is four or five steps of the simulation. Beyond -1 to 1 an action moves no more and costs more, as there.
/// nullptr for a name that is none of them.
std::unique_ptr<Environment> make_mujoco_environment(std::string_view name, std::uint64_t seed);

}  // namespace torpor::lab
