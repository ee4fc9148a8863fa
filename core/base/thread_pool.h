// Threads that stay. parallel_for splits work statically: the same thread count gives the same split, whatever the
// timing. Between jobs the workers spin briefly, then sleep.
// Workers are not pinned to processors: on two of a Xeon dense decoding was 0.98x, 1.06x and 0.98x as fast with each on
// its own, and another program's load on a pinned worker's processor would hold up all.
#pragma once

#include <functional>
#include <memory>

namespace torpor {

/// `threads` workers, the caller included. One job at a time: `run` and `parallel_for` may be called from one thread at
/// a time and not from inside a job. An exception in a job is rethrown by the caller after all workers finished.
class ThreadPool {
 public:
  /// threads >= 1; 0 = number of processors this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls job(thread) once on every thread, thread = 0 … threads-1; returns when all have returned.
  void run(const std::function<void(int thread)>& job);

  /// Splits [0, n) into `threads` contiguous parts that start at multiples of `grain` and calls job(begin, end, thread)
  /// for each that is not empty. Stays on the caller when n <= grain.
  void parallel_for(long n, long grain, const std::function<void(long begin, long end, int thread)>& job);

  /// The same parts, but taken in pieces of `grain`, and a thread that is done with its own takes pieces of others: no
  /// thread is waited for longer than a piece takes. For jobs whose results do not depend on the split; `job` may be
  /// called many times by a thread.
  void parallel_for_balanced(long n, long grain, const std::function<void(long begin, long end, int thread)>& job);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Processors this process may use (affinity mask), at least 1.
int available_processors();

}  // namespace torpor
