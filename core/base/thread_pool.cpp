#include "core/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/error.h"

namespace torpor {
namespace {

// About 20 microseconds: longer than the gaps between the kernels of one token, shorter than anything a person waits
// for.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

struct ThreadPool::State {
  struct alignas(128) Part {  // of its own lines: all threads write here
    std::atomic<long> next{0};
    long end = 0;
  };
  std::atomic<unsigned> generation{0};  // raised once per job; workers wait for it to change
  std::atomic<int> pending{0};          // workers still inside the current job
  std::atomic<bool> stop{false};
  const std::function<void(int)>* job = nullptr;
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;
  std::vector<Part> parts;  // of a balanced loop, one a thread

  void call(int thread) {
    try {
      (*job)(thread);
    } catch (...) {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  void work(int thread) {
    unsigned seen = 0;
    for (;;) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpins)
          relax();
        else
          generation.wait(seen, std::memory_order_acquire);
      }
      ++seen;
      if (stop.load(std::memory_order_acquire)) return;
      call(thread);
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 0 || threads > 4096) throw InvalidArgument("[ThreadPool] expected 0 to 4096 threads, got {}", threads);
  if (threads == 0) threads = available_processors();
  state_->parts = std::vector<State::Part>(static_cast<std::size_t>(threads));
  for (int t = 1; t < threads; ++t) state_->workers.emplace_back([state = state_.get(), t] { state->work(t); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->generation.fetch_add(1, std::memory_order_acq_rel);
  state_->generation.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::run(const std::function<void(int)>& job) {
  State& state = *state_;
  state.job = &job;
  state.error = nullptr;
  if (!state.workers.empty()) {
    state.pending.store(static_cast<int>(state.workers.size()), std::memory_order_release);
    state.generation.fetch_add(1, std::memory_order_acq_rel);
    state.generation.notify_all();
  }
  state.call(0);
  int spins = 0;
  for (int left = state.pending.load(std::memory_order_acquire); left != 0;
       left = state.pending.load(std::memory_order_acquire)) {
    if (++spins < kSpins)
      relax();
    else
      state.pending.wait(left, std::memory_order_acquire);
  }
  if (state.error) std::rethrow_exception(state.error);
}

void ThreadPool::parallel_for(long n, long grain, const std::function<void(long, long, int)>& job) {
  if (n <= 0) return;
  if (grain < 1) throw InvalidArgument("[ThreadPool::parallel_for] expected grain >= 1, got {}", grain);
  const long blocks = (n + grain - 1) / grain;
  const int parts = static_cast<int>(std::min<long>(blocks, threads()));
  if (parts == 1) return job(0, n, 0);
  const auto part = [&](int thread) {
    if (thread >= parts) return;
    const long begin = std::min(n, blocks * thread / parts * grain);
    const long end = std::min(n, blocks * (thread + 1) / parts * grain);
    if (begin < end) job(begin, end, thread);
  };
  run(std::ref(part));  // by reference: a std::function of this size would allocate
}

void ThreadPool::parallel_for_balanced(long n, long grain, const std::function<void(long, long, int)>& job) {
  if (n <= 0) return;
  if (grain < 1) throw InvalidArgument("[ThreadPool::parallel_for_balanced] expected grain >= 1, got {}", grain);
  const long blocks = (n + grain - 1) / grain;
  const int count = static_cast<int>(std::min<long>(blocks, threads()));
  if (count == 1) return job(0, n, 0);
  State::Part* const parts = state_->parts.data();
  for (int p = 0; p < count; ++p) {
    parts[p].next.store(std::min(n, blocks * p / count * grain), std::memory_order_relaxed);
    parts[p].end = std::min(n, blocks * (p + 1) / count * grain);
  }
  const auto work = [&](int thread) {
    for (int i = 0; i < count; ++i) {
      State::Part& part = parts[(thread + i) % count];
      for (long begin; (begin = part.next.fetch_add(grain, std::memory_order_relaxed)) < part.end;)
        job(begin, std::min(part.end, begin + grain), thread);
    }
  };
  run(std::ref(work));
}

}  // namespace torpor
