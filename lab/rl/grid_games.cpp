#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include "lab/rl/environments.h"

namespace torpor::lab {
namespace {

constexpr int kSide = 10;
constexpr std::size_t kCells = static_cast<std::size_t>(kSide) * kSide;
using Board = std::array<bool, kCells>;

std::size_t cell(int y, int x) {
  return static_cast<std::size_t>(y) * kSide + static_cast<std::size_t>(x);
}
bool inside(int x) {
  return x >= 0 && x < kSide;
}

/// A game on cells: observations are [channels, 10, 10] of zeros and ones.
class GridGame : public Environment {
 public:
  Picture picture() const override {
    std::vector<float> values(static_cast<std::size_t>(spec().values()));
    observe(values);
    return picture_of_grid(values, spec().values() / static_cast<std::int64_t>(kCells), kSide, kSide, 16);
  }

 protected:
  GridGame(const char* name, std::int64_t channels, std::int64_t actions, std::uint64_t seed,
           std::int64_t most_steps = 0)
      : Environment({.name = name,
                     .observation = {channels, kSide, kSide},
                     .byte_scale = 1,
                     .actions = actions,
                     .most_steps = most_steps},
                    seed) {}

  /// The cells of a channel.
  static float* channel(std::span<float> observation, int number) {
    return observation.data() + static_cast<std::size_t>(number) * kCells;
  }
  static void show(std::span<float> observation, int number, const Board& board) {
    float* const cells = channel(observation, number);
    for (std::size_t i = 0; i < kCells; ++i) cells[i] = board[i] ? 1.0F : 0.0F;
  }
  static void visit_board(StateVisitor& visitor, Board& board) {
    for (bool& value : board) visitor(value);
  }
};

class Catch final : public Environment {
 public:
  Catch(std::uint64_t seed, bool permuted)
      : Environment({.name = permuted ? "permuted-catch" : "catch",
                     .observation = {2 * kSide * kSide},
                     .byte_scale = 1,
                     .actions = 3},
                    seed),
        permuted_(permuted) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  Picture picture() const override {
    std::vector<float> cells(2 * kCells);
    cells[cell(ball_y_, ball_x_)] = 1;
    cells[kCells + cell(kSide - 1, paddle_)] = 1;
    return picture_of_grid(cells, 2, kSide, kSide, 16);
  }

 private:
  static constexpr int kStepsOfAnOrder = 4000;

  void start() override {
    ball_x_ = static_cast<int>(below(kSide));
    ball_y_ = 0;
    paddle_ = 5;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (permuted_ && ++in_order_ >= kStepsOfAnOrder) {
      in_order_ = 0;
      result.new_task = true;
      for (std::size_t i = order_.size(); i > 1; --i)
        std::swap(order_[i - 1], order_[static_cast<std::size_t>(below(static_cast<std::int64_t>(i)))]);
    }
    paddle_ = std::clamp(paddle_ + static_cast<int>(action) - 1, 0, kSide - 1);
    ball_y_ += 1;
    if (ball_y_ < kSide - 1) return result;
    result.reward = ball_x_ == paddle_ ? 1 : -1;
    result.terminated = true;
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    observation[static_cast<std::size_t>(order_[cell(ball_y_, ball_x_)])] = 1;
    observation[static_cast<std::size_t>(order_[kCells + cell(kSide - 1, paddle_)])] = 1;
  }
  void visit_state(StateVisitor& visitor) override {
    for (int* const number : {&ball_x_, &ball_y_, &paddle_, &in_order_}) visitor(*number);
    for (int& place : order_) visitor(place);
  }

  bool permuted_;
  int ball_x_ = 0, ball_y_ = 0, paddle_ = 0, in_order_ = 0;
  std::array<int, 2 * kCells> order_{};  // which value of the observation each cell is
};

class BreakoutMini final : public GridGame {
 public:
  explicit BreakoutMini(std::uint64_t seed) : GridGame("breakout-mini", 4, 3, seed) {}

 private:
  static constexpr int kFirstRow = 1, kRows = 3;  // of bricks

  bool& brick(int y, int x) { return bricks_[cell(y - kFirstRow, x)]; }
  bool has_brick(int y, int x) { return y >= kFirstRow && y < kFirstRow + kRows && brick(y, x); }

  void start() override {
    const bool left = below(2) == 0;
    x_ = left ? 0 : kSide - 1;
    dx_ = left ? 1 : -1;
    y_ = 3;
    dy_ = 1;
    paddle_ = 4;
    bricks_.fill(true);
    hit_ = false;
    last_x_ = x_;
    last_y_ = y_;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (action == 1) paddle_ = std::max(0, paddle_ - 1);
    if (action == 2) paddle_ = std::min(kSide - 1, paddle_ + 1);
    last_x_ = x_;
    last_y_ = y_;
    int x = x_ + dx_, y = y_ + dy_;
    if (!inside(x)) {  // a side wall
      x = std::clamp(x, 0, kSide - 1);
      dx_ = -dx_;
    }
    bool hits = false;
    if (y < 0) {  // the ceiling
      y = 0;
      dy_ = -dy_;
    } else if (has_brick(y, x)) {
      // A brick met right after another one lets the ball through.
      hits = true;
      if (!hit_) {
        result.reward = 1;
        hit_ = true;
        brick(y, x) = false;
        y = last_y_;
        dy_ = -dy_;
      }
    } else if (y == kSide - 1) {  // the paddle's row
      if (std::none_of(bricks_.begin(), bricks_.end(), [](bool b) { return b; })) bricks_.fill(true);
      if (x_ == paddle_) {
        dy_ = -dy_;
        y = last_y_;
      } else if (x == paddle_) {  // met at its edge: back the way it came
        dx_ = -dx_;
        dy_ = -dy_;
        y = last_y_;
      } else {
        result.terminated = true;
      }
    }
    if (!hits) hit_ = false;
    x_ = x;
    y_ = y;
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    channel(observation, 0)[cell(kSide - 1, paddle_)] = 1;
    channel(observation, 1)[cell(y_, x_)] = 1;
    channel(observation, 2)[cell(last_y_, last_x_)] = 1;
    float* const bricks = channel(observation, 3) + cell(kFirstRow, 0);
    for (std::size_t i = 0; i < bricks_.size(); ++i) bricks[i] = bricks_[i] ? 1.0F : 0.0F;
  }
  void visit_state(StateVisitor& visitor) override {
    for (int* const number : {&x_, &y_, &dx_, &dy_, &last_x_, &last_y_, &paddle_}) visitor(*number);
    visitor(hit_);
    for (bool& b : bricks_) visitor(b);
  }

  int x_ = 0, y_ = 0, dx_ = 0, dy_ = 0, last_x_ = 0, last_y_ = 0, paddle_ = 0;
  bool hit_ = false;  // whether the last step hit a brick
  std::array<bool, static_cast<std::size_t>(kRows* kSide)> bricks_{};
};

/// What most games do to get harder: faster now and then.
constexpr int kRampInterval = 100;

class AsterixMini final : public GridGame {
 public:
  explicit AsterixMini(std::uint64_t seed) : GridGame("asterix-mini", 4, 5, seed) {}

 private:
  struct Thing {
    bool there = false, to_right = false, gold = false;
    int x = 0;
  };
  static constexpr int kRows = 8;  // of things: rows 1 to 8, at most one in each

  void start() override {
    x_ = y_ = 5;
    things_.fill({});
    spawn_every_ = spawn_in_ = 10;
    move_every_ = move_in_ = 5;
    ramp_in_ = kRampInterval;
    ramps_ = 0;
  }
  void spawn() {
    const bool to_right = chance(0.5), gold = chance(1.0 / 3);
    std::array<std::size_t, kRows> free{};
    std::size_t count = 0;
    for (std::size_t row = 0; row < kRows; ++row)
      if (!things_[row].there) free[count++] = row;
    if (count == 0) return;
    things_[free[static_cast<std::size_t>(below(static_cast<std::int64_t>(count)))]] = {true, to_right, gold,
                                                                                        to_right ? 0 : kSide - 1};
  }
  /// The thing of a row where it meets the player.
  void meet(std::size_t row, StepResult& result) {
    Thing& thing = things_[row];
    if (thing.x != x_ || static_cast<int>(row) + 1 != y_) return;
    if (thing.gold) {
      thing.there = false;
      result.reward += 1;
    } else {
      result.terminated = true;
    }
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (spawn_in_ == 0) {
      spawn();
      spawn_in_ = spawn_every_;
    }
    if (action == 1) x_ = std::max(0, x_ - 1);
    if (action == 2) y_ = std::max(1, y_ - 1);
    if (action == 3) x_ = std::min(kSide - 1, x_ + 1);
    if (action == 4) y_ = std::min(kSide - 2, y_ + 1);
    for (std::size_t row = 0; row < kRows; ++row)
      if (things_[row].there) meet(row, result);
    if (move_in_ == 0) {
      move_in_ = move_every_;
      for (std::size_t row = 0; row < kRows; ++row) {
        Thing& thing = things_[row];
        if (!thing.there) continue;
        thing.x += thing.to_right ? 1 : -1;
        if (!inside(thing.x))
          thing.there = false;
        else
          meet(row, result);
      }
    }
    --spawn_in_;
    --move_in_;
    if (spawn_every_ > 1 || move_every_ > 1) {
      if (ramp_in_ >= 0) {
        --ramp_in_;
      } else {
        if (move_every_ > 1 && ramps_ % 2 == 1) --move_every_;
        if (spawn_every_ > 1) --spawn_every_;
        ++ramps_;
        ramp_in_ = kRampInterval;
      }
    }
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    channel(observation, 0)[cell(y_, x_)] = 1;
    for (int row = 0; row < kRows; ++row) {
      const Thing& thing = things_[static_cast<std::size_t>(row)];
      if (!thing.there) continue;
      channel(observation, thing.gold ? 3 : 1)[cell(row + 1, thing.x)] = 1;
      const int behind = thing.to_right ? thing.x - 1 : thing.x + 1;
      if (inside(behind)) channel(observation, 2)[cell(row + 1, behind)] = 1;
    }
  }
  void visit_state(StateVisitor& visitor) override {
    for (int* const number : {&x_, &y_, &spawn_every_, &spawn_in_, &move_every_, &move_in_, &ramp_in_, &ramps_})
      visitor(*number);
    for (Thing& thing : things_) {
      for (bool* const flag : {&thing.there, &thing.to_right, &thing.gold}) visitor(*flag);
      visitor(thing.x);
    }
  }

  int x_ = 0, y_ = 0;
  int spawn_every_ = 0, spawn_in_ = 0, move_every_ = 0, move_in_ = 0, ramp_in_ = 0, ramps_ = 0;
  std::array<Thing, kRows> things_{};
};

class SpaceInvadersMini final : public GridGame {
 public:
  explicit SpaceInvadersMini(std::uint64_t seed) : GridGame("space-invaders-mini", 6, 4, seed) {}

 private:
  static constexpr int kReload = 5, kMostMoveEvery = 12, kLeastMoveEvery = 6, kAliensShootEvery = 10;

  void line_up() {
    for (int y = 0; y < 4; ++y)
      for (int x = 2; x < 8; ++x) aliens_[cell(y, x)] = true;
  }
  void start() override {
    x_ = 5;
    shots_.fill(false);
    alien_shots_.fill(false);
    aliens_.fill(false);
    line_up();
    direction_ = -1;
    move_every_ = move_in_ = kMostMoveEvery;
    aliens_shoot_in_ = kAliensShootEvery;
    reload_in_ = 0;
  }
  static void roll_down(Board& board) { std::rotate(board.begin(), board.end() - kSide, board.end()); }
  bool any_in_column(int x) const {
    for (int y = 0; y < kSide; ++y)
      if (aliens_[cell(y, x)]) return true;
    return false;
  }
  bool any_in_last_row() const {
    return std::any_of(aliens_.end() - kSide, aliens_.end(), [](bool alien) { return alien; });
  }
  void move_aliens(StepResult& result) {
    move_in_ = std::min(static_cast<int>(std::count(aliens_.begin(), aliens_.end(), true)), move_every_);
    if (any_in_column(direction_ < 0 ? 0 : kSide - 1)) {
      direction_ = -direction_;
      if (any_in_last_row()) result.terminated = true;
      roll_down(aliens_);
    } else {
      for (int y = 0; y < kSide; ++y) {
        const auto row = aliens_.begin() + y * kSide;
        std::rotate(row, direction_ < 0 ? row + 1 : row + kSide - 1, row + kSide);
      }
    }
    if (aliens_[cell(kSide - 1, x_)]) result.terminated = true;
  }
  /// The lowest alien of the nearest column, the left one of two, shoots.
  void shoot_back() {
    for (int distance = 0; distance < kSide; ++distance) {
      for (const int x : {x_ - distance, x_ + distance}) {
        if (!inside(x)) continue;
        for (int y = kSide - 1; y >= 0; --y) {
          if (!aliens_[cell(y, x)]) continue;
          alien_shots_[cell(y, x)] = true;
          return;
        }
      }
    }
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (action == 1) x_ = std::max(0, x_ - 1);
    if (action == 2) x_ = std::min(kSide - 1, x_ + 1);
    if (action == 3 && reload_in_ == 0) {
      shots_[cell(kSide - 1, x_)] = true;
      reload_in_ = kReload;
    }
    std::copy(shots_.begin() + kSide, shots_.end(), shots_.begin());
    std::fill(shots_.end() - kSide, shots_.end(), false);
    std::copy_backward(alien_shots_.begin(), alien_shots_.end() - kSide, alien_shots_.end());
    std::fill(alien_shots_.begin(), alien_shots_.begin() + kSide, false);
    const std::size_t cannon = cell(kSide - 1, x_);
    if (alien_shots_[cannon] || aliens_[cannon]) result.terminated = true;
    if (move_in_ == 0) move_aliens(result);
    if (aliens_shoot_in_ == 0) {
      aliens_shoot_in_ = kAliensShootEvery;
      shoot_back();
    }
    int hits = 0, left = 0;
    for (std::size_t i = 0; i < kCells; ++i) {  // without branches: over all cells at once
      const bool hit = aliens_[i] & shots_[i];
      hits += hit;
      aliens_[i] = aliens_[i] & !hit;
      shots_[i] = shots_[i] & !hit;
      left += aliens_[i];
    }
    result.reward += hits;
    reload_in_ = std::max(0, reload_in_ - 1);
    --move_in_;
    --aliens_shoot_in_;
    if (left == 0) {
      move_every_ = std::max(kLeastMoveEvery, move_every_ - 1);
      line_up();
    }
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    channel(observation, 0)[cell(kSide - 1, x_)] = 1;
    show(observation, 1, aliens_);
    show(observation, direction_ < 0 ? 2 : 3, aliens_);
    show(observation, 4, shots_);
    show(observation, 5, alien_shots_);
  }
  void visit_state(StateVisitor& visitor) override {
    for (int* const number : {&x_, &direction_, &move_every_, &move_in_, &aliens_shoot_in_, &reload_in_})
      visitor(*number);
    for (Board* const board : {&aliens_, &shots_, &alien_shots_}) visit_board(visitor, *board);
  }

  int x_ = 0, direction_ = -1, move_every_ = 0, move_in_ = 0, aliens_shoot_in_ = 0, reload_in_ = 0;
  Board aliens_{}, shots_{}, alien_shots_{};
};

class FreewayMini final : public GridGame {
 public:
  explicit FreewayMini(std::uint64_t seed) : GridGame("freeway-mini", 7, 3, seed, 2501) {}

 private:
  static constexpr int kPlayerEvery = 3, kColumn = 4;
  struct Car {
    int x = 0, move_in = 0, every = 0;
    bool to_right = false;
  };

  void draw_speeds() {
    for (Car& car : cars_) car.every = 1 + static_cast<int>(below(5));
    for (Car& car : cars_) {
      car.to_right = !chance(0.5);
      car.move_in = car.every;
    }
  }
  void start() override {
    cars_.fill({});
    draw_speeds();
    y_ = kSide - 1;
    move_in_ = kPlayerEvery;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (action != 0 && move_in_ == 0) {
      move_in_ = kPlayerEvery;
      y_ = std::clamp(y_ + (action == 1 ? -1 : 1), 0, kSide - 1);
    }
    if (y_ == 0) {
      result.reward = 1;
      draw_speeds();
      y_ = kSide - 1;
    }
    for (std::size_t i = 0; i < cars_.size(); ++i) {
      Car& car = cars_[i];
      const auto meets = [&] { return car.x == kColumn && y_ == static_cast<int>(i) + 1; };
      if (meets()) y_ = kSide - 1;
      if (car.move_in == 0) {
        car.move_in = car.every;
        car.x = (car.x + (car.to_right ? 1 : kSide - 1)) % kSide;
        if (meets()) y_ = kSide - 1;
      } else {
        --car.move_in;
      }
    }
    move_in_ = std::max(0, move_in_ - 1);
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    channel(observation, 0)[cell(y_, kColumn)] = 1;
    for (std::size_t i = 0; i < cars_.size(); ++i) {
      const Car& car = cars_[i];
      const int y = static_cast<int>(i) + 1, behind = (car.x + (car.to_right ? kSide - 1 : 1)) % kSide;
      channel(observation, 1)[cell(y, car.x)] = 1;
      channel(observation, 1 + car.every)[cell(y, behind)] = 1;
    }
  }
  void visit_state(StateVisitor& visitor) override {
    visitor(y_);
    visitor(move_in_);
    for (Car& car : cars_) {
      for (int* const number : {&car.x, &car.move_in, &car.every}) visitor(*number);
      visitor(car.to_right);
    }
  }

  int y_ = 0, move_in_ = 0;
  std::array<Car, 8> cars_{};
};

class SeaquestMini final : public GridGame {
 public:
  explicit SeaquestMini(std::uint64_t seed) : GridGame("seaquest-mini", 10, 6, seed) {}

 private:
  static constexpr int kMostAir = 200, kMostDivers = 6, kReload = 5, kEnemyShootsEvery = 10, kDiverMovesEvery = 5,
                       kDiverEvery = 30;
  struct Thing {
    int x = 0, y = 0;
    bool to_right = false;
    int move_in = 0, shoot_in = 0;

    void advance() { x += to_right ? 1 : -1; }
    bool meets(int other_x, int other_y) const { return x == other_x && y == other_y; }
    bool operator==(const Thing&) const = default;
  };
  using Things = std::vector<Thing>;

  void start() override {
    air_ = kMostAir;
    divers_aboard_ = 0;
    x_ = 5;
    y_ = 0;
    to_right_ = false;
    for (Things* const things : all()) things->clear();
    enemy_every_ = enemy_in_ = 20;
    diver_in_ = kDiverEvery;
    move_every_ = 5;
    ramps_ = 0;
    reload_in_ = 0;
    at_surface_ = true;
  }
  std::array<Things*, 5> all() { return {&shots_, &enemy_shots_, &fish_, &enemies_, &divers_}; }

  void spawn_enemy() {
    const bool to_right = chance(0.5), shoots = chance(1.0 / 3);
    const int y = 1 + static_cast<int>(below(kSide - 2));
    const auto blocks = [&](const Thing& other) { return other.y == y && other.to_right != to_right; };
    if (std::any_of(enemies_.begin(), enemies_.end(), blocks) || std::any_of(fish_.begin(), fish_.end(), blocks))
      return;
    (shoots ? enemies_ : fish_)
        .push_back({to_right ? 0 : kSide - 1, y, to_right, move_every_, shoots ? kEnemyShootsEvery : 0});
  }
  void spawn_diver() {
    const bool to_right = chance(0.5);
    const int y = 1 + static_cast<int>(below(kSide - 2));
    divers_.push_back({to_right ? 0 : kSide - 1, y, to_right, kDiverMovesEvery, 0});
  }
  /// Calls visit(i) for the last thing, the one before it, …; what visit() takes out lies at or behind i.
  template <class Visit>
  static void from_last(const Things& things, const Visit& visit) {
    for (std::size_t i = things.size(); i-- > 0;)
      if (i < things.size()) visit(i);
  }
  static void take_out(Things& things, std::size_t i) { things.erase(things.begin() + static_cast<std::ptrdiff_t>(i)); }
  /// Takes out the first thing at a place.
  static bool take_from(Things& things, int x, int y) {
    const auto at = std::find_if(things.begin(), things.end(), [&](const Thing& t) { return t.meets(x, y); });
    if (at == things.end()) return false;
    things.erase(at);
    return true;
  }

  void move_shots(StepResult& result) {
    from_last(shots_, [&](std::size_t i) {
      Thing& shot = shots_[i];
      shot.advance();
      const bool out = !inside(shot.x);
      const bool hits = !out && (take_from(fish_, shot.x, shot.y) || take_from(enemies_, shot.x, shot.y));
      if (hits) result.reward += 1;
      if (out || hits) take_out(shots_, i);
    });
  }
  void move_divers() {
    from_last(divers_, [&](std::size_t i) {
      Thing& diver = divers_[i];
      const auto picked_up = [&] { return diver.meets(x_, y_) && divers_aboard_ < kMostDivers; };
      bool out = false, aboard = picked_up();
      if (!aboard && diver.move_in == 0) {
        diver.move_in = kDiverMovesEvery;
        diver.advance();
        out = !inside(diver.x);
        aboard = !out && picked_up();
      } else if (!aboard) {
        --diver.move_in;
      }
      if (aboard) ++divers_aboard_;
      if (aboard || out) take_out(divers_, i);
    });
  }
  /// One of fish or enemies; whether it is gone.
  bool swim(Thing& thing, StepResult& result) {
    if (thing.meets(x_, y_)) result.terminated = true;
    if (thing.move_in > 0) {
      --thing.move_in;
      return false;
    }
    thing.move_in = move_every_;
    thing.advance();
    if (!inside(thing.x)) return true;
    if (thing.meets(x_, y_)) {
      result.terminated = true;
      return false;
    }
    if (!take_from(shots_, thing.x, thing.y)) return false;
    result.reward += 1;
    return true;
  }
  void move_enemies(StepResult& result) {
    from_last(enemies_, [&](std::size_t i) {
      Thing& enemy = enemies_[i];
      const bool gone = swim(enemy, result);
      if (enemy.shoot_in == 0) {  // with its last breath too
        enemy.shoot_in = kEnemyShootsEvery;
        enemy_shots_.push_back({enemy.x, enemy.y, enemy.to_right, 0, 0});
      } else {
        --enemy.shoot_in;
      }
      if (gone) take_out(enemies_, i);
    });
    from_last(enemy_shots_, [&](std::size_t i) {
      Thing& shot = enemy_shots_[i];
      if (shot.meets(x_, y_)) result.terminated = true;
      shot.advance();
      if (!inside(shot.x))
        take_out(enemy_shots_, i);
      else if (shot.meets(x_, y_))
        result.terminated = true;
    });
    from_last(fish_, [&](std::size_t i) {
      if (swim(fish_[i], result)) take_out(fish_, i);
    });
  }
  /// As published: behind six divers one more goes than there were.
  double surface() {
    at_surface_ = true;
    double reward = 0;
    if (divers_aboard_ == kMostDivers) {
      divers_aboard_ = 0;
      const int tenths = air_ * 10 / kMostAir;
      reward = tenths;
    }
    air_ = kMostAir;
    --divers_aboard_;
    if (enemy_every_ > 1 || move_every_ > 2) {
      if (move_every_ > 2 && ramps_ % 2 == 1) --move_every_;
      if (enemy_every_ > 1) --enemy_every_;
      ++ramps_;
    }
    return reward;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (enemy_in_ == 0) {
      spawn_enemy();
      enemy_in_ = enemy_every_;
    }
    if (diver_in_ == 0) {
      spawn_diver();
      diver_in_ = kDiverEvery;
    }
    if (action == 1 || action == 3) {
      to_right_ = action == 3;
      x_ = std::clamp(x_ + (to_right_ ? 1 : -1), 0, kSide - 1);
    } else if (action == 2) {
      y_ = std::max(0, y_ - 1);
    } else if (action == 4) {
      y_ = std::min(kSide - 2, y_ + 1);
    } else if (action == 5 && reload_in_ == 0) {
      shots_.push_back({x_, y_, to_right_, 0, 0});
      reload_in_ = kReload;
    }
    move_shots(result);
    move_divers();
    move_enemies(result);
    for (int* const timer : {&enemy_in_, &diver_in_, &reload_in_}) *timer = std::max(0, *timer - 1);
    if (air_ <= 0) result.terminated = true;
    if (y_ > 0) {
      --air_;
      at_surface_ = false;
    } else if (!at_surface_) {
      if (divers_aboard_ == 0)
        result.terminated = true;
      else
        result.reward += surface();
    }
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    channel(observation, 0)[cell(y_, x_)] = 1;
    channel(observation, 1)[cell(y_, to_right_ ? x_ - 1 : x_ + 1)] = 1;
    std::fill_n(channel(observation, 7) + cell(kSide - 1, 0), std::max(0, air_) * 10 / kMostAir, 1.0F);
    if (divers_aboard_ > 0)
      std::fill_n(channel(observation, 8) + cell(kSide - 1, kSide - 1 - divers_aboard_), divers_aboard_, 1.0F);
    const auto show_things = [&](const Things& things, int number, bool trail) {
      for (const Thing& thing : things) {
        channel(observation, number)[cell(thing.y, thing.x)] = 1;
        const int behind = thing.to_right ? thing.x - 1 : thing.x + 1;
        if (trail && inside(behind)) channel(observation, 3)[cell(thing.y, behind)] = 1;
      }
    };
    show_things(shots_, 2, false);
    show_things(enemy_shots_, 4, false);
    show_things(fish_, 5, true);
    show_things(enemies_, 6, true);
    show_things(divers_, 9, true);
  }
  void visit_state(StateVisitor& visitor) override {
    for (int* const number :
         {&x_, &y_, &air_, &divers_aboard_, &enemy_every_, &enemy_in_, &diver_in_, &move_every_, &ramps_, &reload_in_})
      visitor(*number);
    visitor(to_right_);
    visitor(at_surface_);
    for (Things* const things : all()) {
      std::size_t count = things->size();
      visitor(count);
      things->resize(std::min<std::size_t>(count, 1000));
      for (Thing& thing : *things) {
        for (int* const number : {&thing.x, &thing.y, &thing.move_in, &thing.shoot_in}) visitor(*number);
        visitor(thing.to_right);
      }
    }
  }

  int x_ = 0, y_ = 0, air_ = 0, divers_aboard_ = 0, enemy_every_ = 0, enemy_in_ = 0, diver_in_ = 0, move_every_ = 0,
      ramps_ = 0, reload_in_ = 0;
  bool to_right_ = false, at_surface_ = true;
  Things shots_, enemy_shots_, fish_, enemies_, divers_;
};

}  // namespace

std::unique_ptr<Environment> make_catch(std::uint64_t seed) {
  return std::make_unique<Catch>(seed, false);
}
std::unique_ptr<Environment> make_permuted_catch(std::uint64_t seed) {
  return std::make_unique<Catch>(seed, true);
}
std::unique_ptr<Environment> make_breakout_mini(std::uint64_t seed) {
  return std::make_unique<BreakoutMini>(seed);
}
std::unique_ptr<Environment> make_asterix_mini(std::uint64_t seed) {
  return std::make_unique<AsterixMini>(seed);
}
std::unique_ptr<Environment> make_space_invaders_mini(std::uint64_t seed) {
  return std::make_unique<SpaceInvadersMini>(seed);
}
std::unique_ptr<Environment> make_freeway_mini(std::uint64_t seed) {
  return std::make_unique<FreewayMini>(seed);
}
std::unique_ptr<Environment> make_seaquest_mini(std::uint64_t seed) {
  return std::make_unique<SeaquestMini>(seed);
}

}  // namespace torpor::lab
