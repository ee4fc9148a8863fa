#include "engine/bench/decode_report.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/report/html.h"
#include "core/report/numbers.h"
#include "core/report/page.h"

namespace torpor {
namespace {

constexpr const char* kParts[] = {"ffn", "attention", "projections", "streams", "unembedding"};
constexpr const char* kPartTitles[] = {"feed-forward layers", "attention", "projections", "residual streams",
                                       "unembedding"};

struct Side {
  std::string name;
  const Json& json;

  double rate() const { return json.at("tokens_per_second").at("median").get<double>(); }
  double gigabytes() const { return json.at("bytes_per_token").get<double>() * 1e-9; }
};

Chart roofline(const std::vector<Side>& sides, double bandwidth) {
  double least = sides.front().gigabytes(), most = least;
  for (const Side& side : sides) {
    least = std::min(least, side.gigabytes());
    most = std::max(most, side.gigabytes());
  }
  LineChart chart{
      {.title = "GB read for a token", .logarithmic = true}, {.title = "tokens a second", .logarithmic = true}, {}, {}};
  LineSeries roof{.name = fmt::format("memory: {} GB/s", format_number(bandwidth, 3)),
                  .points = {},
                  .joined = true,
                  .style = {.quiet = true}};
  for (int i = 0; i <= 8; ++i) {
    const double x = least / 1.5 * std::pow(most / least * 2.25, i / 8.0);
    roof.points.push_back({.x = x, .y = bandwidth / x});
  }
  chart.series.push_back(roof);
  for (const Side& side : sides) {
    const Json& rate = side.json.at("tokens_per_second");
    chart.series.push_back(
        {.name = side.name,
         .points = {{.x = side.gigabytes(),
                     .y = side.rate(),
                     .low = rate.at("min").get<double>(),
                     .high = rate.at("max").get<double>(),
                     .label =
                         fmt::format("{}: {}", side.name,
                                     format_share(side.json.at("share_of_bandwidth").at("median").get<double>()))}},
         .joined = false,
         .style = {}});
  }
  return {"The roofline of decoding",
          "A token reads its weights once: the line is what plain reading of memory, measured in the same run, would "
          "allow for so "
          "many bytes. A point's distance below it is what the engine leaves unused; its place further left is what "
          "skipping saves.",
          "Tokens a second against gigabytes a token, with the line that the read bandwidth allows.", chart};
}

Chart parts_chart(const std::vector<Side>& sides, bool times) {
  BarChart chart{{.title = ""}, {.title = times ? "milliseconds a token" : "GB a token", .min = 0}, {}, {}, true, {}};
  for (const Side& side : sides) chart.categories.push_back(side.name);
  const auto add = [&](const std::string& name, const auto& of) {
    BarSeries series{.name = name, .values = {}, .low = {}, .high = {}, .style = {}};
    for (const Side& side : sides) series.values.push_back(of(side.json));
    if (std::any_of(series.values.begin(), series.values.end(), [](double value) { return value != 0; }))
      chart.series.push_back(std::move(series));
  };
  for (std::size_t p = 0; p < std::size(kParts); ++p)
    add(kPartTitles[p], [&](const Json& side) {
      return times ? side.at("milliseconds_per_token_by_part").at(kParts[p]).get<double>()
                   : side.at("bytes_per_token_by_part").at(kParts[p]).get<double>() * 1e-9;
    });
  if (times) {
    add("sampling",
        [](const Json& side) { return side.at("milliseconds_per_token_by_part").at("sampling").get<double>(); });
    add("rest", [](const Json& side) { return side.at("milliseconds_per_token_by_part").at("rest").get<double>(); });
  }
  return {times ? "Where the time of a token goes" : "Where its bytes go",
          times ? "Medians of the rounds." : "Weights, and the keys and values of the positions in the cache.",
          times ? "Milliseconds of a token by part of the model." : "Bytes of a token by part of the model.", chart};
}

Chart batches_chart(const Json& batches) {
  LineChart chart{{.title = "sequences decoded together", .logarithmic = true},
                  {.title = "times as fast as dense", .min = 0},
                  {},
                  {}};
  LineSeries even{.name = "no gain", .points = {}, .joined = true, .style = {.quiet = true}};
  LineSeries gain{.name = "skipping", .points = {}, .joined = true, .style = {}};
  for (const Json& point : batches) {
    const double sequences = point.at("sequences").get<double>();
    const Json& speedup = point.at("speedup");
    even.points.push_back({.x = sequences, .y = 1});
    gain.points.push_back({.x = sequences,
                           .y = speedup.at("median").get<double>(),
                           .low = speedup.at("min").get<double>(),
                           .high = speedup.at("max").get<double>(),
                           .label = point.at("neurons_united").is_null()
                                        ? std::string("all neurons are computed")
                                        : fmt::format("{} of the neurons are used by some sequence",
                                                      format_share(point.at("neurons_united").get<double>()))});
  }
  chart.series = {even, gain};
  return {"What skipping gains when sequences are decoded together",
          "They share one pass over the weights, and each neuron that some sequence uses is read. Memory is saved "
          "while they "
          "are few, arithmetic when they are many.",
          "Speed-up over the dense model against the number of sequences.", chart};
}

std::string three(const Json& spread) {
  return fmt::format("{} to {}", format_rate(spread.at("min").get<double>()),
                     format_rate(spread.at("max").get<double>()));
}

ReportPage decode_page(const Json& bench, const Json& manifest) {
  const bool shape = !bench.at("shape").is_null();
  const std::string name = (shape ? bench.at("shape") : bench.at("model")).get<std::string>();
  std::vector<Side> sides{{"dense", bench.at("dense")}};
  const bool skips = !bench.at("sparse").is_null();
  if (skips) sides.push_back({"skipping", bench.at("sparse")});
  const double bandwidth = bench.at("dense").at("read_bandwidth_gb_per_s").at("median").get<double>();
  const std::int64_t threads = bench.at("threads").get<std::int64_t>();

  ReportPage page;
  page.kicker = "Torpor · decode speed";
  page.title = name;
  page.subtitle =
      fmt::format("{} of {} weights{} · {} positions in the cache · {} threads",
                  format_bytes(bench.at("weight_bytes").get<double>()), bench.at("weights").get<std::string>(),
                  shape ? ", drawn at random" : "", bench.at("context").get<std::int64_t>(), threads);
  page.headline =
      skips
          ? fmt::format(
                "Skipping inactive neurons makes decoding **{}x** as fast. The bytes allow {}x: {} of that is reached.",
                format_number(bench.at("speedup").at("median").get<double>(), 3),
                format_number(bench.at("speedup_byte_limit").get<double>(), 3),
                format_share(bench.at("share_of_byte_limit").get<double>()))
          : fmt::format("The dense model uses **{}** of the read bandwidth. Nothing is skipped: {}.",
                        format_share(bench.at("dense").at("share_of_bandwidth").at("median").get<double>()),
                        literal(bench.at("dense_reason").is_null() ? std::string("nothing was asked for")
                                                                   : bench.at("dense_reason").get<std::string>()));
  for (const Side& side : sides) {
    page.tiles.push_back(
        {"Tokens a second, " + side.name, format_rate(side.rate()), three(side.json.at("tokens_per_second"))});
    page.tiles.push_back({"Read for a token, " + side.name, format_bytes(side.gigabytes() * 1e9),
                          fmt::format("{} of the neurons", format_share(side.json.at("density").get<double>()))});
    page.tiles.push_back(
        {"Of the read bandwidth, " + side.name,
         format_share(side.json.at("share_of_bandwidth").at("median").get<double>()),
         fmt::format("{} GB/s", format_number(side.json.at("gb_per_s").at("median").get<double>(), 3))});
  }
  page.sections.push_back({"What memory allows", {roofline(sides, bandwidth)}});
  page.sections.push_back({"Part by part", {parts_chart(sides, true), parts_chart(sides, false)}});
  if (const auto batches = bench.find("batches"); batches != bench.end() && batches->size() > 1)
    page.sections.push_back({"Sequences together", {batches_chart(*batches)}});
  page.sections.push_back(
      {"How it was measured",
       {Paragraph{fmt::format("{} rounds of {} tokens of one sequence, dense and skipping in turn with the same "
                              "tokens; one round before them was "
                              "thrown away. Just before and after each round memory of several times the last-level "
                              "cache was read plainly: {} GB/s.",
                              bench.at("rounds").get<int>(), bench.at("tokens").get<int>(),
                              three(bench.at("dense").at("read_bandwidth_gb_per_s")))},
        Bullets{{"**Byte limit**: the bytes of a dense token over those of a skipping one, all parts included.",
                 "**Density**: the share of feed-forward neurons that were active, the mean over layers and tokens.",
                 "With Spark attention the bytes of the cache are an upper bound."}}}});
  const auto text = [&](const char* key) {
    const auto found = manifest.find(key);
    return found != manifest.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  page.footer =
      "Made by Torpor " + literal(text("version")) +
      ". This file is complete: it loads nothing from the network. Charts are drawn by Chart.js 3.9.1 (MIT licence).";
  return page;
}

}  // namespace

std::string render_decode_report(const Json& bench, const Json& manifest) {
  try {
    return render_page(decode_page(bench, manifest));
  } catch (const Json::exception& error) {
    throw BadInput("bench: expected the result of `torpor bench`, found one that lacks something: {}", error.what());
  }
}

}  // namespace torpor
