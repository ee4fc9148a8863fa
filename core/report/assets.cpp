#include "core/report/assets.h"

extern "C" {
extern const char torpor_chart_js_begin[], torpor_chart_js_end[];
extern const char torpor_report_js_begin[], torpor_report_js_end[];
extern const char torpor_report_css_begin[], torpor_report_css_end[];
}

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
