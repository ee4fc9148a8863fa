#include "apps/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <string_view>

#include "apps/terminal.h"
#include "core/base/edit_distance.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/thread_pool.h"

namespace torpor::apps {
namespace {

constexpr const char* kGeneral = "General options";

/// Purpose, usage, arguments, options, examples.
class HelpLayout : public CLI::Formatter {
 public:
  HelpLayout(std::string usage, std::vector<std::string> examples)
      : usage_(std::move(usage)), examples_(std::move(examples)) {}

  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    std::string text = wrapped(app->get_description()) + "\n\nUsage: " + usage_ + "\n";
    std::vector<std::string> groups = app->get_groups();
    std::stable_partition(groups.begin(), groups.end(), [](const std::string& group) { return group != kGeneral; });
    text += section("Arguments", app->get_options([](const CLI::Option* option) { return option->get_positional(); }));
    for (const std::string& group : groups)
      text += section(group, app->get_options([&](const CLI::Option* option) {
        return !option->get_positional() && option->get_group() == group;
      }));
    text += "\nExamples:\n";
    for (const std::string& example : examples_) text += "  " + example + "\n";
    return text + "\nExit codes: 0 done, 1 the work failed, 2 the command line is wrong, 3 an input is bad.\n";
  }

 private:
  static std::string section(const std::string& title, const std::vector<const CLI::Option*>& options) {
    if (options.empty() || title.empty()) return {};
    std::string text = "\n" + title + ":\n";
    for (const CLI::Option* option : options) {
      const bool positional = option->get_positional();
      // Long names stand under each other, whether or not there is a short one.
      std::string name = positional ? "  " : option->get_snames().empty() ? "      " : "  ";
      name += positional ? option->get_name() : option->get_name(false, true);
      if (const std::size_t comma = name.find(','); comma != std::string::npos) name.insert(comma + 1, " ");
      if (!positional && !option->get_type_name().empty()) name += " " + option->get_type_name();
      text += hanging(name, option->get_description(), 30, kTerminalWidth);
    }
    return text;
  }

  std::string usage_;
  std::vector<std::string> examples_;
};

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace

std::optional<std::string> nearest_word(const std::string& word, std::span<const std::string> known) {
  std::optional<std::string> nearest;
  std::size_t least = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

VerbOptions::VerbOptions(const std::string& verb, const std::string& purpose, const std::string& usage,
                         const std::vector<std::string>& examples)
    : verb_(verb), app_(purpose, "torpor " + verb) {
  app_.formatter(std::make_shared<HelpLayout>("torpor " + verb + " " + usage, examples));
  app_.set_help_flag("-h,--help", "Show this text")->group(kGeneral);
  app_.add_flag("--json", common_.json, "Print the result as JSON")->group(kGeneral);
  app_.add_option("-o,--output", common_.output, "Write the result into this folder")
      ->type_name("DIR")
      ->group(kGeneral);
  add_integer_option(app_, "--seed", common_.seed, 0, INT64_MAX,
                     "Start of everything random; same seed, same result (0)")
      ->group(kGeneral);
  add_integer_option(app_, "--threads", common_.threads, 1, 1024, "Threads to work with (all processors)")
      ->group(kGeneral);
  CLI::Option* quiet = app_.add_flag("-q,--quiet", common_.quiet, "No progress and no notes on standard error");
  quiet->group(kGeneral);
  app_.add_flag("-v,--verbose", common_.verbose, "Tell more on standard error")->group(kGeneral)->excludes(quiet);
}

bool VerbOptions::parse(std::span<const std::string> arguments) {
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
  try {
    app_.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    print(app_.help());
    flush_output();
    return false;
  } catch (const CLI::ExtrasError&) {
    const std::string extra = app_.remaining().empty() ? "" : app_.remaining().front();
    if (!extra.starts_with("-"))
      throw UsageError("{}: expected no further argument, found \"{}\". See: torpor {} --help", verb_, extra, verb_);
    const std::string name = extra.substr(0, extra.find('='));
    const auto nearest = nearest_word(name, option_names(app_));
    throw UsageError("{}: unknown option {}. {}See: torpor {} --help", verb_, name,
                     nearest ? fmt::format("Did you mean {}? ", *nearest) : "", verb_);
  } catch (const CLI::ArgumentMismatch& error) {
    for (const CLI::Option* option : app_.get_options())
      if (option->get_expected_max() == 1 && option->count() > 1)
        throw UsageError("{}: {} is given {} times, expected once. See: torpor {} --help", verb_, option->get_name(),
                         option->count(), verb_);
    const std::string text = error.what();
    throw UsageError("{}: {} expects a value. See: torpor {} --help", verb_, text.substr(0, text.find(':')), verb_);
  } catch (const CLI::ParseError& error) {
    throw UsageError("{}: {}. See: torpor {} --help", verb_, one_line(error.what()), verb_);
  }
  if (common_.output.empty() && app_.count("--output") > 0)
    throw UsageError("{}: --output: expected a folder, found \"\". See: torpor {} --help", verb_, verb_);
  set_log_level(common_.quiet ? LogLevel::quiet : common_.verbose ? LogLevel::debug : LogLevel::warning);
  if (const int there = available_processors(); common_.threads > there)
    log_warning("{} threads on {} processors wait for each other: --threads {} is faster", common_.threads, there,
                there);
  return true;
}

namespace {

/// The whole of `text` as a number, or nothing.
template <typename T>
std::optional<T> whole_number(std::string_view text) {
  T value{};
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

CLI::Option* detail::add_integer_option(CLI::App& app, const std::string& name, std::function<void(std::int64_t)> set,
                                        std::int64_t min, std::int64_t max, const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [set = std::move(set), name, min, max](const std::string& text) {
            const auto value = whole_number<std::int64_t>(text);
            if (!value || *value < min || *value > max)
              throw CLI::ValidationError(
                  name, max == INT64_MAX
                            ? fmt::format("expected a whole number from {}, found \"{}\"", min, text)
                            : fmt::format("expected a whole number from {} to {}, found \"{}\"", min, max, text));
            set(*value);
          },
          help)
      ->type_name("N");
}

template <typename T>
CLI::Option* detail::add_number_option(CLI::App& app, const std::string& name, std::function<void(T)> set,
                                       const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [set = std::move(set), name](const std::string& text) {
            const auto number = whole_number<T>(text);
            if (!number || !std::isfinite(*number))
              throw CLI::ValidationError(name, fmt::format("expected a number, found \"{}\"", text));
            set(*number);
          },
          help)
      ->type_name("X");
}
template CLI::Option* detail::add_number_option(CLI::App&, const std::string&, std::function<void(float)>,
                                                const std::string&);
template CLI::Option* detail::add_number_option(CLI::App&, const std::string&, std::function<void(double)>,
                                                const std::string&);

CLI::Option* add_share_option(CLI::App& app, const std::string& name, std::optional<double>& share,
                              const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [&share, name](const std::string& text) {
            const bool percent = text.ends_with('%');
            const auto number = whole_number<double>(std::string_view(text).substr(0, text.size() - (percent ? 1 : 0)));
            const double value = number.value_or(-1) / (percent ? 100 : 1);
            if (!(value >= 0 && std::isfinite(value)) || (!percent && value >= 1))
              throw CLI::ValidationError(name, fmt::format("expected a share like 1% or 0.01, found \"{}\"", text));
            share = value;
          },
          help)
      ->type_name("SHARE");
}

}  // namespace torpor::apps
