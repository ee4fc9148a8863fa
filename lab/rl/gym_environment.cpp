#include "lab/rl/gym_environment.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/temporary_file.h"
#include "core/base/thread_pool.h"
#include "lab/rl/gym_server_py.h"

extern char** environ;

namespace torpor::lab {

namespace {

/// What of a line of `from` pixels lies under each of `to`: the first, and the shares.
struct Share {
  int first = 0;
  std::vector<float> parts = {};
};
std::vector<Share> shares_of(int from, int to) {
  const double size = static_cast<double>(from) / to;
  std::vector<Share> shares;
  for (int i = 0; i < to; ++i) {
    const double begin = i * size, end = begin + size;
    Share share{static_cast<int>(begin), {}};
    for (int k = share.first; k < std::min<double>(end, from); ++k)
      share.parts.push_back(
          static_cast<float>((std::min(end, k + 1.0) - std::max(begin, static_cast<double>(k))) / size));
    shares.push_back(std::move(share));
  }
  return shares;
}

}  // namespace

void resize_by_area(const std::uint8_t* from, int from_height, int from_width, float* to, int height, int width) {
  const std::vector<Share> rows = shares_of(from_height, height), columns = shares_of(from_width, width);
  std::vector<float> line(static_cast<std::size_t>(from_width));
  for (const Share& row : rows) {
    std::fill(line.begin(), line.end(), 0.0F);
    for (std::size_t k = 0; k < row.parts.size(); ++k) {
      const std::uint8_t* const pixels = from + (row.first + static_cast<int>(k)) * from_width;
      for (std::size_t x = 0; x < line.size(); ++x) line[x] += row.parts[k] * static_cast<float>(pixels[x]);
    }
    for (const Share& column : columns) {
      float sum = 0;
      for (std::size_t k = 0; k < column.parts.size(); ++k)
        sum += column.parts[k] * line[static_cast<std::size_t>(column.first) + k];
      *to++ = sum;
    }
  }
}

namespace {

constexpr std::size_t kHead = 8 * (8 + 64);
constexpr int kSide = 84, kFrames = 4;
constexpr std::size_t kPixels = static_cast<std::size_t>(kSide) * kSide;

/// The Python process, and the memory that is shared with it.
class Server {
 public:
  Server(const std::string& id, std::uint64_t seed, const GymOptions& options)
      : id_(id),
        patience_(options.patience),
        script_("torpor-gym-server"),
        errors_("torpor-gym-errors"),
        memory_file_("torpor-gym-memory") {
    const std::string_view text = kGymServer;
    script_.append(std::as_bytes(std::span(text)));
    script_.flush();
    const char* const chosen = std::getenv("TORPOR_PYTHON");
    std::string python = !options.python.empty() ? options.python : chosen != nullptr ? chosen : "python3";
    std::vector<std::string> words = {python, script_.path(), id, std::to_string(seed % 2147483647),
                                      fmt::format("{}", options.sticky)};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    std::array<int, 2> in{}, out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
      throw IoError("a pipe cannot be made: {}", std::strerror(errno));
    to_ = in[1];
    from_ = out[0];
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    ::posix_spawn_file_actions_addopen(&actions, 2, errors_.path().c_str(), O_WRONLY | O_APPEND, 0);
    const int code = ::posix_spawnp(&process_, python.c_str(), &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    if (code != 0) {
      process_ = -1;
      close();
      throw Error(1, fmt::format("gym:{}: \"{}\" cannot be started: {}. Set TORPOR_PYTHON to a Python with gymnasium",
                                 id, python, std::strerror(code)));
    }
    try {
      what_ = read_line();
    } catch (...) {
      close();
      throw;
    }
    if (what_.contains("error")) {
      close();
      throw Error(1,
                  fmt::format("gym:{}: {}. The Python that TORPOR_PYTHON names, else python3, needs gymnasium and what "
                              "the environment needs besides: pip install gymnasium, gymnasium[mujoco], ale-py",
                              id, what_["error"].get<std::string>()));
    }
  }
  ~Server() { close(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const Json& what() const { return what_; }

  void share(std::size_t observation_bytes) {
    bytes_ = kHead + observation_bytes;
    const std::vector<std::byte> zeros(bytes_);
    memory_file_.append(zeros);
    memory_file_.flush();
    const int file = ::open(memory_file_.path().c_str(), O_RDWR | O_CLOEXEC);
    void* const at = file < 0 ? MAP_FAILED : ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) ::close(file);
    if (at == MAP_FAILED) throw IoError("{}: cannot be mapped: {}", memory_file_.path().string(), std::strerror(errno));
    memory_ = static_cast<std::byte*>(at);
    const std::string line = memory_file_.path().string() + "\n";
    write(line.data(), line.size());
  }

  double number(std::size_t i) const { return reinterpret_cast<const double*>(memory_)[i]; }
  double* action() { return reinterpret_cast<double*>(memory_) + 8; }
  const std::byte* observation() const { return memory_ + kHead; }

  void ask(char command) {
    write(&command, 1);
    const char answer = read_byte();
    if (answer == 'k') return;
    if (answer != 'e') fail("answered out of turn");
    const Json line = read_line();
    fail(line.value("error", std::string("failed without a word")));
  }

 private:
  [[noreturn]] void fail(const std::string& what) {
    std::string said;
    try {
      said = read_file(errors_.path());
    } catch (const Error&) {  // the process said nothing that could be read
    }
    while (!said.empty() && std::isspace(static_cast<unsigned char>(said.back())) != 0) said.pop_back();
    said = said.substr(said.rfind('\n') == std::string::npos ? 0 : said.rfind('\n') + 1);
    throw Error(
        1, fmt::format("gym:{}: the Python process {}{}{}. The run stops; --resume goes on from its last checkpoint",
                       id_, what, said.empty() ? "" : "; its last words: ", said));
  }

  void write(const char* bytes, std::size_t count) {
    // A process that is gone must not end this one.
    struct sigaction ignore {
    }, before{};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before);
    const bool written = ::write(to_, bytes, count) == static_cast<ssize_t>(count);
    ::sigaction(SIGPIPE, &before, nullptr);
    if (!written) fail("is gone");
  }

  char read_byte() {
    pollfd wait{from_, POLLIN, 0};
    int ready = 0;
    // To be woken takes as long as some frames.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(available_processors() > 1 ? 2 : 0);
    while (ready == 0 && std::chrono::steady_clock::now() < until) ready = ::poll(&wait, 1, 0);
    if (ready <= 0) do
        ready = ::poll(&wait, 1, static_cast<int>(patience_.count()));
      while (ready < 0 && errno == EINTR);
    if (ready == 0) fail(fmt::format("did not answer within {} s", std::chrono::duration<double>(patience_).count()));
    char byte = 0;
    if (::read(from_, &byte, 1) != 1) fail("is gone");
    return byte;
  }

  Json read_line() {
    std::string line;
    for (char byte = read_byte(); byte != '\n'; byte = read_byte()) line.push_back(byte);
    Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) fail("answered with something else than was asked for: " + line.substr(0, 200));
    return json;
  }

  void close() {
    if (to_ >= 0) ::close(to_);
    if (from_ >= 0) ::close(from_);
    to_ = from_ = -1;
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
      process_ = -1;
    }
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
    memory_ = nullptr;
  }

  std::string id_;
  std::chrono::milliseconds patience_;
  TemporaryFile script_, errors_, memory_file_;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1;
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  Json what_;
};

EnvironmentSpec spec_of(const std::string& id, const Json& what) {
  EnvironmentSpec spec{.name = "gym:" + id,
                       .actions = what.at("actions").get<std::int64_t>(),
                       .action_values = what.at("values").get<std::int64_t>(),
                       .action_bound = 1};
  const auto shape = what.at("shape").get<std::vector<std::int64_t>>();
  if (what.at("atari").get<bool>()) {
    spec.observation = {kFrames, kSide, kSide};
    spec.frames = kFrames;
    spec.byte_scale = 1.0 / 255;
    spec.most_steps = 27'000;  // Dopamine's
    return spec;
  }
  if (what.at("bytes").get<bool>()) {
    spec.observation = shape.size() == 2 ? std::vector<std::int64_t>{1, shape[0], shape[1]}
                                         : std::vector<std::int64_t>{shape[2], shape[0], shape[1]};
    spec.byte_scale = 1.0 / 255;
  } else {
    std::int64_t values = 1;
    for (const std::int64_t size : shape) values *= size;
    spec.observation = {values};
  }
  spec.most_steps = 0;  // Gymnasium truncates by itself
  return spec;
}

class GymEnvironment final : public Environment {
 public:
  GymEnvironment(const std::string& id, std::uint64_t seed, std::unique_ptr<Server> server)
      : Environment(spec_of(id, server->what()), seed),
        server_(std::move(server)),
        atari_(server_->what().at("atari").get<bool>()),
        bytes_(server_->what().at("bytes").get<bool>()) {
    for (const Json& size : server_->what().at("shape")) raw_ *= size.get<std::size_t>();
    shape_ = server_->what().at("shape").get<std::vector<int>>();
    server_->share(raw_ * (bytes_ ? 1 : sizeof(float)));
    frames_.resize(atari_ ? static_cast<std::size_t>(kFrames) * kPixels : 0);
  }

  bool can_resume() const override { return false; }

  Picture picture() const override {
    if (!atari_) return {};
    Picture picture{2 * kSide, 2 * kSide, {}, {}};
    for (int i = 0; i < 256; ++i) {
      const auto grey = static_cast<std::uint8_t>(i);
      picture.colours.push_back({grey, grey, grey});
    }
    const float* const newest = frames_.data() + (kFrames - 1) * kPixels;
    for (int y = 0; y < 2 * kSide; ++y)
      for (int x = 0; x < 2 * kSide; ++x)
        picture.pixels.push_back(static_cast<std::uint8_t>(std::lround(newest[y / 2 * kSide + x / 2] * 255)));
    return picture;
  }

 private:
  void start() override {
    server_->ask('r');
    std::fill(frames_.begin(), frames_.end(), 0.0F);
    take();
  }
  StepResult choose(std::int64_t action) override {
    server_->action()[0] = static_cast<double>(action);
    return advance();
  }
  StepResult apply(std::span<const float> action) override {
    for (std::size_t i = 0; i < action.size(); ++i)
      server_->action()[i] = static_cast<double>(std::clamp(action[i], -1.0F, 1.0F));
    return advance();
  }
  StepResult advance() {
    server_->ask('s');
    StepResult result{
        .reward = server_->number(0), .terminated = server_->number(1) != 0, .truncated = server_->number(2) != 0};
    if (!std::isfinite(result.reward))
      throw Error(1, fmt::format("{}: expected a finite reward, found {}", spec().name, result.reward));
    take();
    return result;
  }
  /// Atari's next picture: the brighter of the last two frames, made smaller.
  void take() {
    if (!atari_) return;
    const auto* const two = reinterpret_cast<const std::uint8_t*>(server_->observation());
    const std::size_t half = raw_ / 2;
    brighter_.resize(half);
    std::transform(two, two + half, two + half, brighter_.begin(),
                   [](std::uint8_t a, std::uint8_t b) { return std::max(a, b); });
    std::copy(frames_.begin() + static_cast<std::ptrdiff_t>(kPixels), frames_.end(), frames_.begin());
    float* const newest = frames_.data() + (kFrames - 1) * kPixels;
    resize_by_area(brighter_.data(), shape_[1], shape_[2], newest, kSide, kSide);
    for (std::size_t i = 0; i < kPixels; ++i) newest[i] = std::round(newest[i]) / 255.0F;  // whole pixels, as stored
  }
  void observe(std::span<float> observation) const override {
    if (atari_) {
      std::copy(frames_.begin(), frames_.end(), observation.begin());
    } else if (bytes_) {
      const auto* const pixels = reinterpret_cast<const std::uint8_t*>(server_->observation());
      const std::size_t channels = shape_.size() == 2 ? 1 : static_cast<std::size_t>(shape_[2]);
      const std::size_t area = raw_ / channels;
      for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t i = 0; i < area; ++i)
          observation[c * area + i] = static_cast<float>(pixels[i * channels + c]) / 255.0F;
    } else {
      std::memcpy(observation.data(), server_->observation(), raw_ * sizeof(float));
      for (const float value : observation)
        if (!std::isfinite(value))
          throw Error(1, fmt::format("{}: expected observations of finite numbers, found {}", spec().name, value));
    }
  }
  void visit_state(StateVisitor&) override {}

  std::unique_ptr<Server> server_;
  bool atari_, bytes_;
  std::size_t raw_ = 1;  // numbers that are shared
  std::vector<int> shape_;
  std::vector<float> frames_;
  std::vector<std::uint8_t> brighter_;
};

}  // namespace

std::unique_ptr<Environment> make_gym_environment(const std::string& id, std::uint64_t seed,
                                                  const GymOptions& options) {
  return std::make_unique<GymEnvironment>(id, seed, std::make_unique<Server>(id, seed, options));
}

}  // namespace torpor::lab
