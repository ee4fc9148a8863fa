#include "lab/rl/mujoco_environment.h"

#include <mujoco/mujoco.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/log.h"
#include "lab/rl/mujoco_models.h"

namespace torpor::lab {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Range {
  double low = -kInfinity, high = kInfinity;
  bool holds(double value) const { return low < value && value < high; }
};

/// What tells one task from another; Gymnasium's defaults.
struct Task {
  const char* name;
  std::string_view model;  // MJCF
  int frame_skip;
  int hidden_positions = 1;        // the first ones, how far it came, are not observed
  double speed_limit = kInfinity;  // of observed velocities
  double reset_noise;
  bool normal_velocities = false;  // at the start; else uniform
  double control_cost;
  double healthy_reward = 0;
  bool reward_only_healthy = true;           // v4 gave it for the last step too
  Range height = {}, angle = {}, rest = {};  // of the healthy; the rest: positions after the first two, and velocities
  bool on_legs = false;     // its velocity is the torso's, whose height is its third position; no angle
  double contact_cost = 0;  // above 0, contact forces are observed as well
};

constexpr Task kHopper{.name = "Hopper-v5",
                       .model = kHopperModel,
                       .frame_skip = 4,
                       .speed_limit = 10,
                       .reset_noise = 5e-3,
                       .control_cost = 1e-3,
                       .healthy_reward = 1,
                       .height = {.low = 0.7},
                       .angle = {-0.2, 0.2},
                       .rest = {-100, 100}};
constexpr Task kWalker2d{.name = "Walker2d-v5",
                         .model = kWalker2dV5Model,
                         .frame_skip = 4,
                         .speed_limit = 10,
                         .reset_noise = 5e-3,
                         .control_cost = 1e-3,
                         .healthy_reward = 1,
                         .height = {0.8, 2},
                         .angle = {-1, 1}};
constexpr Task kHalfCheetah{.name = "HalfCheetah-v5",
                            .model = kHalfCheetahModel,
                            .frame_skip = 5,
                            .reset_noise = 0.1,
                            .normal_velocities = true,
                            .control_cost = 0.1};
constexpr Task kAnt{.name = "Ant-v5",
                    .model = kAntModel,
                    .frame_skip = 5,
                    .hidden_positions = 2,
                    .reset_noise = 0.1,
                    .normal_velocities = true,
                    .control_cost = 0.5,
                    .healthy_reward = 1,
                    .height = {0.2, 1},
                    .on_legs = true,
                    .contact_cost = 5e-4};

constexpr Task version_4(Task task, const char* name) {
  task.name = name;
  task.reward_only_healthy = false;
  task.contact_cost = 0;
  return task;
}
constexpr Task with_model(Task task, std::string_view model) {
  task.model = model;
  return task;
}

constexpr Task kTasks[] = {kHalfCheetah,
                           kHopper,
                           kWalker2d,
                           kAnt,
                           version_4(kHalfCheetah, "HalfCheetah-v4"),
                           version_4(kHopper, "Hopper-v4"),
                           version_4(with_model(kWalker2d, kWalker2dModel), "Walker2d-v4"),
                           version_4(kAnt, "Ant-v4")};

struct Free {
  void operator()(mjModel* model) const { mj_deleteModel(model); }
  void operator()(mjData* data) const { mj_deleteData(data); }
};
using Model = std::unique_ptr<mjModel, Free>;
using Data = std::unique_ptr<mjData, Free>;

/// Without this, the library writes warnings into a file in the user's folder.
void take_messages() {
  mju_user_warning = [](const char* message) { log_warning("MuJoCo: {}", message); };
}

Model load(const Task& task) {
  take_messages();
  mjVFS files;
  mj_defaultVFS(&files);
  mj_addBufferVFS(&files, "model.xml", task.model.data(), static_cast<int>(task.model.size()));
  std::array<char, 500> problem{};
  Model model(mj_loadXML("model.xml", &files, problem.data(), static_cast<int>(problem.size())));
  mj_deleteVFS(&files);
  if (!model) throw Error(1, fmt::format("[{}] MuJoCo does not take its model: {}", task.name, problem.data()));
  return model;
}

Data make_data(const Task& task, const mjModel& model) {
  Data data(mj_makeData(&model));
  if (!data) throw Error(1, fmt::format("[{}] MuJoCo has no memory for its simulation", task.name));
  return data;
}

class Locomotion final : public Environment {
 public:
  Locomotion(const Task& task, Model model, std::uint64_t seed)
      : Environment({.name = task.name,
                     .observation = {model->nq - task.hidden_positions + model->nv +
                                     (task.contact_cost > 0 ? kForces * (model->nbody - 1) : 0)},
                     .action_values = model->nu,
                     .action_bound = 1,
                     .most_steps = 1000},
                    seed),
        task_(task),
        model_(std::move(model)),
        data_(make_data(task, *model_)),
        first_positions_(data_->qpos, data_->qpos + model_->nq) {}

  /// From the side, along with the torso. What is further off is drawn higher.
  Picture picture() const override {
    enum : std::uint8_t { kBackground, kGround, kMark, kFar, kNear, kTorso };
    Painter painter(
        300, 200, {{250, 250, 248}, {226, 226, 220}, {160, 160, 160}, {148, 178, 214}, {42, 93, 168}, {214, 120, 41}});
    constexpr double kMetres = 4, kAspect = 1.5, kFloor = 0.25, kTilt = 0.3;
    const double middle = torso()[0];
    const auto across = [&](const double* place) { return 0.5 + (place[0] - middle + kTilt * place[1]) / kMetres; };
    const auto up = [&](const double* place) { return kFloor + (place[2] + kTilt * place[1]) * kAspect / kMetres; };
    painter.box(0, 0, 1, kFloor, kGround);
    for (double metre = std::floor(middle - kMetres); metre < middle + kMetres; ++metre) {
      const double x = 0.5 + (metre - middle) / kMetres;
      painter.line(x - 0.05, kFloor - 0.15, x, kFloor, 0.004, kMark);
    }
    for (int geom = 0; geom < model_->ngeom; ++geom) {
      const int kind = model_->geom_type[geom];
      if (kind != mjGEOM_CAPSULE && kind != mjGEOM_SPHERE) continue;
      const double* const place = data_->geom_xpos + 3 * geom;
      const double* const turned = data_->geom_xmat + 9 * geom;
      const double* const size = model_->geom_size + 3 * geom;
      const double half = kind == mjGEOM_CAPSULE ? size[1] : 0;
      std::array<double, 3> ends[2]{};
      for (std::size_t i = 0; i < 3; ++i) {
        ends[0][i] = place[i] - half * turned[3 * i + 2];
        ends[1][i] = place[i] + half * turned[3 * i + 2];
      }
      const bool far =
          place[1] > 0.01 || std::string_view(mj_id2name(model_.get(), mjOBJ_GEOM, geom)).ends_with("left_geom");
      const std::uint8_t colour = model_->geom_bodyid[geom] == kTorsoBody ? kTorso : far ? kFar : kNear;
      painter.line(across(ends[0].data()), up(ends[0].data()), across(ends[1].data()), up(ends[1].data()),
                   2 * size[0] / kMetres, colour);
    }
    return painter.finish();
  }

 private:
  static constexpr int kForces = 6;  // and torques, of contacts with one body
  static constexpr int kTorsoBody = 1;

  const double* torso() const { return data_->xpos + 3 * kTorsoBody; }
  double way() const { return task_.on_legs ? torso()[0] : data_->qpos[0]; }

  void start() override {
    mj_resetData(model_.get(), data_.get());
    const double noise = task_.reset_noise;
    for (int i = 0; i < model_->nq; ++i)
      data_->qpos[i] = first_positions_[static_cast<std::size_t>(i)] + uniform(-noise, noise);
    for (int i = 0; i < model_->nv; ++i)
      data_->qvel[i] = task_.normal_velocities ? noise * normal() : uniform(-noise, noise);
    mj_forward(model_.get(), data_.get());
  }

  StepResult apply(std::span<const float> action) override {
    std::copy(action.begin(), action.end(), data_->ctrl);
    const double before = way();
    for (int i = 0; i < task_.frame_skip; ++i) mj_step(model_.get(), data_.get());
    mj_rnePostConstraint(model_.get(), data_.get());
    const double speed = (way() - before) / (model_->opt.timestep * task_.frame_skip);
    double effort = 0;
    for (const float value : action) effort += static_cast<double>(value) * static_cast<double>(value);

    StepResult result;
    const bool healthy = is_healthy();
    result.reward = speed - task_.control_cost * effort;
    if (healthy || !task_.reward_only_healthy) result.reward += task_.healthy_reward;
    if (task_.contact_cost > 0)
      for (int i = 0; i < kForces * model_->nbody; ++i) {
        const double force = contact_force(i);
        result.reward -= task_.contact_cost * force * force;
      }
    result.terminated = !healthy;
    return result;
  }

  double contact_force(int i) const { return std::clamp(data_->cfrc_ext[i], -1.0, 1.0); }

  bool is_healthy() const {
    const auto all = [](const double* values, int count, const auto& holds) {
      return std::all_of(values, values + count, holds);
    };
    if (task_.on_legs) {
      const auto finite = [](double value) { return std::isfinite(value); };
      const double height = data_->qpos[2];
      return all(data_->qpos, model_->nq, finite) && all(data_->qvel, model_->nv, finite) &&
             task_.height.low <= height && height <= task_.height.high;
    }
    const auto fits = [&](double value) { return task_.rest.holds(value); };
    return task_.height.holds(data_->qpos[1]) && task_.angle.holds(data_->qpos[2]) &&
           all(data_->qpos + 2, model_->nq - 2, fits) && all(data_->qvel, model_->nv, fits);
  }

  void observe(std::span<float> observation) const override {
    const auto number = [](double value) { return static_cast<float>(value); };
    auto next =
        std::transform(data_->qpos + task_.hidden_positions, data_->qpos + model_->nq, observation.begin(), number);
    next = std::transform(data_->qvel, data_->qvel + model_->nv, next, [&](double speed) {
      return number(std::clamp(speed, -task_.speed_limit, task_.speed_limit));
    });
    if (task_.contact_cost > 0)
      for (int i = kForces; i < kForces * model_->nbody; ++i) *next++ = number(contact_force(i));
  }

  void visit_state(StateVisitor& visitor) override {
    std::vector<double> numbers(static_cast<std::size_t>(mj_stateSize(model_.get(), mjSTATE_INTEGRATION)));
    mj_getState(model_.get(), data_.get(), numbers.data(), mjSTATE_INTEGRATION);
    for (double& value : numbers) visitor(value);
    mj_setState(model_.get(), data_.get(), numbers.data(), mjSTATE_INTEGRATION);
    // Of what a step works out, that which outlives it.
    for (int i = 0; i < 3; ++i) visitor(data_->xpos[3 * kTorsoBody + i]);
    if (task_.contact_cost > 0)
      for (int i = 0; i < kForces * model_->nbody; ++i) visitor(data_->cfrc_ext[i]);
  }

  const Task& task_;
  Model model_;
  Data data_;
  std::vector<double> first_positions_;
};

}  // namespace

std::vector<std::string_view> mujoco_environment_names() {
  std::vector<std::string_view> names;
  for (const Task& task : kTasks) names.emplace_back(task.name);
  return names;
}

std::unique_ptr<Environment> make_mujoco_environment(std::string_view name, std::uint64_t seed) {
  for (const Task& task : kTasks)
    if (name == task.name) return std::make_unique<Locomotion>(task, load(task), seed);
  return nullptr;
}

}  // namespace torpor::lab
