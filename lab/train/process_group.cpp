#include "lab/train/process_group.h"

// The wheel has c10d's Gloo backend but not Gloo's own headers, which are Debian's libgloo-dev: of them only types that
// pass through pointers are used (docs/dependencies.md).
#define USE_C10D_GLOO

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int number(const char* name, int least, int most) {
  const std::string text = variable(name);
  int value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw UsageError(
        "the environment variable {}: expected a number from {} to {}, found \"{}\". torchrun sets RANK, WORLD_SIZE, "
        "MASTER_ADDR and MASTER_PORT; unset WORLD_SIZE to train with one process",
        name, least, most, text);
  return value;
}

/// Exceptions of c10 carry a stack; the first line says what happened.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

struct ProcessGroup::Parts {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};

ProcessGroup::ProcessGroup(int rank, int size, std::unique_ptr<Parts> parts)
    : rank_(rank), size_(size), parts_(std::move(parts)) {}
ProcessGroup::~ProcessGroup() = default;

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment(std::chrono::seconds timeout) {
  if (variable("WORLD_SIZE").empty()) return nullptr;
  const int size = number("WORLD_SIZE", 1, 1 << 20);
  if (size == 1) return nullptr;
  const int rank = number("RANK", 0, size - 1);
  const std::string address = variable("MASTER_ADDR");
  if (address.empty()) throw UsageError("the environment variable MASTER_ADDR: expected the host of the first process");
  const int port = number("MASTER_PORT", 1, 65535);
  auto parts = std::make_unique<Parts>();
  try {
    c10d::TCPStoreOptions store_options;
    store_options.port = static_cast<std::uint16_t>(port);
    // torchrun keeps a store of its own there, and says so.
    store_options.isServer = rank == 0 && variable("TORCHELASTIC_USE_AGENT_STORE") != "True";
    store_options.numWorkers = static_cast<std::size_t>(size);
    store_options.waitWorkers = false;
    store_options.timeout = timeout;
    const auto tcp = c10::make_intrusive<c10d::TCPStore>(address, store_options);
    const auto store = c10::make_intrusive<c10d::PrefixStore>("torpor/" + variable("TORCHELASTIC_RESTART_COUNT"), tcp);
    const auto gloo_options = c10d::ProcessGroupGloo::Options::create(timeout);
    const std::string interface = variable("GLOO_SOCKET_IFNAME");
    gloo_options->devices.push_back(interface.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                                                      : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    parts->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, gloo_options);
    parts->group = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
    parts->group->setDefaultBackend(c10d::ProcessGroup::GLOO);
    parts->group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::GLOO,
                             c10::static_intrusive_pointer_cast<c10d::Backend>(parts->gloo));
  } catch (const std::exception& error) {
    throw Error(1, fmt::format("process {} of {}: the others were not met at {}:{} ({})", rank, size, address, port,
                               first_line(error.what())));
  }
  return std::shared_ptr<ProcessGroup>(new ProcessGroup(rank, size, std::move(parts)));
}

void ProcessGroup::guard(const std::function<void()>& f) const {
  try {
    f();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(1,
                fmt::format("process {} of {}: another process was lost, or the way to it ({}). Its own message says "
                            "why it ended, if it could write one",
                            rank_, size_, first_line(error.what())));
  }
}

void ProcessGroup::sum(at::Tensor tensor) const {
  guard([&] {
    std::vector<at::Tensor> tensors = {std::move(tensor)};
    parts_->gloo->allreduce(tensors)->wait();
  });
}

void ProcessGroup::broadcast(at::Tensor tensor) const {
  guard([&] {
    std::vector<at::Tensor> tensors = {std::move(tensor)};
    parts_->gloo->broadcast(tensors)->wait();
  });
}

std::string ProcessGroup::broadcast(const std::string& text) const {
  at::Tensor size = torch::tensor({static_cast<std::int64_t>(text.size())}, at::kLong);
  broadcast(size);
  at::Tensor bytes = torch::empty({size.item<std::int64_t>()}, at::kByte);
  if (first()) std::memcpy(bytes.data_ptr(), text.data(), text.size());
  if (bytes.numel() > 0) broadcast(bytes);
  return {static_cast<const char*>(bytes.data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

struct GradientReducer::Parts {
  std::shared_ptr<const ProcessGroup> group;
  std::unique_ptr<c10d::Reducer> reducer;
};

GradientReducer::GradientReducer(std::shared_ptr<const ProcessGroup> group, std::vector<at::Tensor> parameters,
                                 std::int64_t bucket_bytes)
    : parts_(std::make_unique<Parts>()) {
  parts_->group = std::move(group);
  parts_->group->guard([&] {
    const std::vector<bool> sparse(parameters.size(), false);
    const auto size = static_cast<std::size_t>(bucket_bytes);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(parameters, {size / 4, size}, sparse);
    std::reverse(buckets.begin(), buckets.end());  // gradients come from the last layer on
    parts_->reducer = std::make_unique<c10d::Reducer>(
        std::move(parameters), std::move(buckets), parts_->group->parts_->group, sparse, bucket_bytes, false, false,
        std::unordered_map<std::size_t, std::string>(), bucket_bytes / 4, false, false, std::vector<std::int64_t>());
  });
}

GradientReducer::~GradientReducer() = default;

void GradientReducer::reduce_next(const at::Tensor& objective) {
  parts_->group->guard([&] {
    parts_->reducer->rebuild_buckets();  // once, in the order in which gradients came
    parts_->reducer->prepare_for_backward({objective});
  });
}

}  // namespace torpor::lab
