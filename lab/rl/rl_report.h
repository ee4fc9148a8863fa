// A training run of an agent, made ready for readers.
#pragma once

#include <string>
#include <vector>

#include "core/report/page.h"
#include "lab/rl/rl_options.h"
#include "lab/rl/rl_run.h"

namespace torpor::lab {

struct RlResult {
  std::string environment;
  Json options;             // of the first seed, as to_json(RlOptions) writes them
  std::vector<RlRun> runs;  // one a seed
  std::string command;
};

ReportPage page_of(const RlResult& result);

/// Interquartile mean: of the middle half of the values. Throws InvalidArgument for none.
double interquartile_mean(std::vector<double> values);

struct Interval {
  double value = 0, low = 0, high = 0;
};
/// The interquartile mean of one value a seed with its 95 % interval by the bootstrap, 2000 draws from `seed`.
Interval interquartile_mean_interval(const std::vector<double>& values, std::uint64_t seed);

}  // namespace torpor::lab
