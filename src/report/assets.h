#pragma once
#include <string_view>

// Files that were put into the program when it was built (cmake/MmkdAssets.cmake).
namespace mmkd::assets {

extern const std::string_view chart_js;    ///< Chart.js
extern const std::string_view report_js;   ///< src/report/assets/report.js
extern const std::string_view report_css;  ///< src/report/assets/report.css

}  // namespace mmkd::assets
