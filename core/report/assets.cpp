#include "core/report/assets.h"

extern "C" {  // NOLINTBEGIN(readability-identifier-naming): labels of assets.S
extern const char torpor_chart_js_begin[], torpor_chart_js_end[];
extern const char torpor_report_js_begin[], torpor_report_js_end[];
extern const char torpor_report_css_begin[], torpor_report_css_end[];
}  // NOLINTEND(readability-identifier-naming)

namespace torpor::assets {

std::string_view chart_js() {
  return {torpor_chart_js_begin, torpor_chart_js_end};
}
std::string_view report_js() {
  return {torpor_report_js_begin, torpor_report_js_end};
}
std::string_view report_css() {
  return {torpor_report_css_begin, torpor_report_css_end};
}

}  // namespace torpor::assets
