#include "core/base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor {
namespace {

TEST(ThreadPool, RunsTheJobOnceOnEveryThread) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    std::vector<int> calls(static_cast<std::size_t>(threads),
                           0);  // not atomic on purpose: the pool must order the accesses
    std::vector<std::thread::id> ids(calls.size());
    for (int round = 0; round < 200; ++round)
      pool.run([&](int thread) {
        calls[static_cast<std::size_t>(thread)] += 1;
        ids[static_cast<std::size_t>(thread)] = std::this_thread::get_id();
      });
    EXPECT_THAT(calls, ::testing::Each(200));
    EXPECT_EQ(ids[0], std::this_thread::get_id()) << "the caller is thread 0";
    for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_NE(ids[i], ids[i - 1]);
  }
}

TEST(ThreadPool, DefaultsToTheProcessorsOfThisProcess) {
  EXPECT_EQ(ThreadPool().threads(), available_processors());
}

TEST(ThreadPool, RefusesImpossibleCounts) {
  EXPECT_THROW(ThreadPool(-1), InvalidArgument);
  EXPECT_THROW(ThreadPool(5000), InvalidArgument);
}

TEST(ThreadPool, ParallelForCoversEachIndexOnceInPartsThatStartAtTheGrain) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const long n : {0L, 1L, 2L, 7L, 8L, 9L, 63L, 64L, 65L, 1000L})
      for (const long grain : {1L, 2L, 8L, 64L}) {
        std::vector<int> seen(static_cast<std::size_t>(n), 0);
        std::atomic<int> parts = 0;
        pool.parallel_for(n, grain, [&](long begin, long end, int thread) {
          parts += 1;
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LT(begin, end);
          EXPECT_GE(thread, 0);
          EXPECT_LT(thread, threads);
          for (long i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)] += 1;
        });
        EXPECT_THAT(seen, ::testing::Each(1)) << threads << " threads, n=" << n << ", grain=" << grain;
        EXPECT_EQ(parts, std::min<long>(threads, (n + grain - 1) / grain));
      }
  }
}

TEST(ThreadPool, ParallelForSplitsTheSameWayEveryTimeAndEvenly) {
  ThreadPool pool(3);
  const auto split = [&] {
    std::vector<long> ends(3, 0);
    pool.parallel_for(100, 1, [&](long, long end, int thread) { ends[static_cast<std::size_t>(thread)] = end; });
    return ends;
  };
  EXPECT_EQ(split(), (std::vector<long>{33, 66, 100}));
  EXPECT_EQ(split(), split());
}

TEST(ThreadPool, ParallelForStaysOnTheCallerForOneGrain) {
  ThreadPool pool(4);
  const auto caller = std::this_thread::get_id();
  pool.parallel_for(16, 16, [&](long begin, long end, int thread) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 16);
    EXPECT_EQ(thread, 0);
  });
  EXPECT_THROW(pool.parallel_for(4, 0, [](long, long, int) {}), InvalidArgument);
}

TEST(ThreadPool, BalancedParallelForCoversEachIndexOnceInPieces) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const long n : {0L, 1L, 2L, 7L, 8L, 9L, 63L, 64L, 65L, 1000L})
      for (const long grain : {1L, 2L, 8L, 64L}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        pool.parallel_for_balanced(n, grain, [&](long begin, long end, int thread) {
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LT(begin, end);
          EXPECT_LE(end - begin, threads > 1 ? grain : n);
          EXPECT_GE(thread, 0);
          EXPECT_LT(thread, threads);
          for (long i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)] += 1;
        });
        for (const auto& times : seen) EXPECT_EQ(times.load(), 1) << threads << " threads, n=" << n << ", " << grain;
      }
  }
  EXPECT_THROW(ThreadPool(2).parallel_for_balanced(4, 0, [](long, long, int) {}), InvalidArgument);
}

TEST(ThreadPool, BalancedParallelForTakesOverWhatASlowThreadLeaves) {
  ThreadPool pool(2);
  std::atomic<int> by_the_other = 0;
  std::atomic<bool> others_done = false;
  pool.parallel_for_balanced(20, 1, [&](long begin, long, int thread) {
    if (thread == 0 && begin == 0) {  // does not come back before the other has done all that is left
      for (int i = 0; i < 5000 && !others_done; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } else if (thread == 1 && ++by_the_other == 19) {
      others_done = true;
    }
  });
  EXPECT_EQ(by_the_other, 19);
}

TEST(ThreadPool, RethrowsAnExceptionAfterAllHaveFinishedAndGoesOnWorking) {
  ThreadPool pool(4);
  for (int bad = 0; bad < 4; ++bad) {
    std::atomic<int> finished = 0;
    try {
      pool.run([&](int thread) {
        if (thread == bad) throw std::runtime_error("thread " + std::to_string(bad));
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        finished += 1;
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "thread " + std::to_string(bad));
    }
    EXPECT_EQ(finished, 3);
    pool.run([&](int) { finished += 1; });
    EXPECT_EQ(finished, 7) << "an earlier exception is not rethrown again";
  }
}

TEST(ThreadPool, ReportsOneOfSeveralExceptions) {
  ThreadPool pool(4);
  EXPECT_THROW(pool.run([](int) { throw std::runtime_error("all"); }), std::runtime_error);
}

TEST(ThreadPool, WakesWorkersThatWentToSleep) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spinning
    std::atomic<int> calls = 0;
    pool.run([&](int) { calls += 1; });
    EXPECT_EQ(calls, 3);
  }
}

TEST(ThreadPool, WaitsForASlowWorker) {
  ThreadPool pool(2);
  int result = 0;
  pool.run([&](int thread) {
    if (thread == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      result = 1;
    }
  });
  EXPECT_EQ(result, 1);
}

TEST(ThreadPool, GivesAndTakesDataWithoutRaces) {
  // The thread sanitizer watches: each round reads what all threads wrote in the round before.
  ThreadPool pool(4);
  std::vector<long> now(4, 1);
  std::vector<long> next(4, 0);
  for (int round = 0; round < 2000; ++round) {
    pool.run([&](int thread) {
      next[static_cast<std::size_t>(thread)] = (std::accumulate(now.begin(), now.end(), 0L) + thread) % 1000003;
    });
    std::swap(now, next);
  }
  std::vector<long> expected(4, 1);
  for (int round = 0; round < 2000; ++round) {
    const long sum = std::accumulate(expected.begin(), expected.end(), 0L);
    for (long t = 0; t < 4; ++t) expected[static_cast<std::size_t>(t)] = (sum + t) % 1000003;
  }
  EXPECT_EQ(now, expected);
}

TEST(ThreadPool, CanBeMadeAndDestroyedQuickly) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(4);
    if (i % 2 == 0) pool.run([](int) {});
  }
}

}  // namespace
}  // namespace torpor
