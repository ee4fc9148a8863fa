// What every verb's command line has in common. Parsing only.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace torpor::apps {

struct CommonOptions {
  bool json = false;
  std::filesystem::path output;  // -o; empty: none given
  std::uint64_t seed = 0;
  int threads = 0;  // 0: all processors this process may use
  bool quiet = false, verbose = false;
};

/// The command line of one verb. `usage`: what follows "torpor VERB"; `examples`: lines shown under "Examples".
class VerbOptions {
 public:
  VerbOptions(const std::string& verb, const std::string& purpose, const std::string& usage,
              const std::vector<std::string>& examples);

  CLI::App& app() { return app_; }
  CommonOptions& common() { return common_; }

  /// Reads the arguments and sets the log level. False if help was asked for and printed: the verb is then done.
  /// Throws UsageError with one line; an unknown option is answered with the nearest known one.
  bool parse(std::span<const std::string> arguments);

 private:
  std::string verb_;
  CommonOptions common_;
  CLI::App app_;
};

namespace detail {
CLI::Option* add_integer_option(CLI::App& app, const std::string& name, std::function<void(std::int64_t)> set,
                                std::int64_t min, std::int64_t max, const std::string& help);
template <typename T>
CLI::Option* add_number_option(CLI::App& app, const std::string& name, std::function<void(T)> set,
                               const std::string& help);
}  // namespace detail

/// A whole number from min to max; anything else is an error that says so.
template <typename T>
CLI::Option* add_integer_option(CLI::App& app, const std::string& name, T& value, std::int64_t min, std::int64_t max,
                                const std::string& help) {
  return detail::add_integer_option(
      app, name, [&value](std::int64_t number) { value = static_cast<T>(number); }, min, max, help);
}

/// A finite number, float or double; also into an optional. Its range is the library's business.
template <typename T>
CLI::Option* add_number_option(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  using Number = std::conditional_t<std::is_same_v<T, float>, float, double>;
  return detail::add_number_option<Number>(
      app, name, [&value](Number number) { value = number; }, help);
}

/// A share: "1%" or "0.01"; a bare "1" is refused, since it may mean either. Stays unset if not given.
CLI::Option* add_share_option(CLI::App& app, const std::string& name, std::optional<double>& share,
                              const std::string& help);

/// The word of `known` that differs least from `word`, if by little enough to be a slip of the fingers.
std::optional<std::string> nearest_word(const std::string& word, std::span<const std::string> known);

}  // namespace torpor::apps
