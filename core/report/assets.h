// What is embedded in the program for its reports (assets/assets.S).
#pragma once

#include <string_view>

namespace torpor::assets {

std::string_view chart_js();    // Chart.js 3.9.1, minified, MIT licence (its notice is in its first lines)
std::string_view report_js();   // core/report/assets/report.js
std::string_view report_css();  // core/report/assets/report.css

}  // namespace torpor::assets
