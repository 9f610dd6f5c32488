#include "mmkd/report/html.h"

#include <fmt/format.h>

#include <optional>
#include <string_view>

#include "assets.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

// No request leaves the page, whatever stands in it.
constexpr std::string_view kPolicy =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'";

/// Text between tags or in a quoted attribute.
std::string escaped(std::string_view text) {
  std::string html;
  for (const char c : text) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

/// The same; a long one is broken at `_`, at `/` and at spaces that stand before no `+`.
std::string breakable(std::string_view text) {
  std::string html = "<span class=\"word\">";
  for (std::size_t i = 0; i < text.size(); ++i) {
    html += escaped(text.substr(i, 1));
    const bool space = text[i] == ' ' && text.substr(i + 1, 1) != "+";
    if (text[i] == '_' || text[i] == '/' || space) html += "</span><wbr><span class=\"word\">";
  }
  return html + "</span>";
}

/// JSON that a script element can hold: nothing in it ends the element or begins a comment.
std::string script_json(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<')
      text += "\\u003c";
    else if (c == '>')
      text += "\\u003e";
    else if (c == '&')
      text += "\\u0026";
    else
      text += c;
  }
  return text;
}

/// One cell of the table of the runs.
struct Cell {
  std::string text;
  std::optional<double> value = {};  ///< what numbers are sorted by
  bool best = false;
};

struct Column {
  std::string label;
  bool numeric = false;
  bool high_is_best = false;     ///< the highest is marked
  std::vector<Cell> cells = {};  ///< by run
};

Cell metric_cell(const Json* metric, int digits) {
  if (metric == nullptr || metric->is_null()) return {};
  const double mean = metric->at("mean").get<double>();
  const double std = metric->at("std").get<double>();
  const bool several = metric->at("values").size() > 1;
  return {several && std > 0 ? fmt::format("{:.{}f} ± {:.{}f}", mean, digits, std, digits)
                             : fmt::format("{:.{}f}", mean, digits),
          mean};
}

const Json* value_at(const Json& json, std::initializer_list<std::string> path) {
  const Json* value = &json;
  for (const auto& key : path) {
    if (!value->is_object() || !value->contains(key)) return nullptr;
    value = &value->at(key);
  }
  return value;
}

Column text_column(const Json& runs, const std::string& label, const std::string& key) {
  Column column{.label = label};
  for (const auto& run : runs) column.cells.push_back({run.at(key).get<std::string>()});
  return column;
}

Column metric_column(const Json& runs, const std::string& label, std::initializer_list<std::string> path, int digits) {
  Column column{.label = label, .numeric = true};
  for (const auto& run : runs) column.cells.push_back(metric_cell(value_at(run, path), digits));
  return column;
}

/// With more than one run, the cells of the highest mean.
void mark_best(Column& column) {
  std::optional<double> best;
  for (const auto& cell : column.cells) {
    if (cell.value && (!best || *cell.value > *best)) best = cell.value;
  }
  if (column.cells.size() < 2) return;
  for (auto& cell : column.cells) cell.best = best && cell.value == best;
}

bool empty(const Column& column) {
  for (const auto& cell : column.cells) {
    if (!cell.text.empty()) return false;
  }
  return true;
}

std::vector<Column> summary_columns(const Json& model) {
  const auto& runs = model.at("runs");
  std::vector<Column> columns{text_column(runs, "Run", "name"), text_column(runs, "Fusion", "fusion"),
                              text_column(runs, "Loss", "loss"), text_column(runs, "Towers", "towers")};
  columns.push_back(metric_column(runs, "Parameters (M)", {"parameters_m"}, 2));
  Column seeds{.label = "Seeds", .numeric = true};
  for (const auto& run : runs) {
    const auto n = run.at("seeds").size();
    seeds.cells.push_back({std::to_string(n), static_cast<double>(n)});
  }
  columns.push_back(std::move(seeds));
  for (const std::string split : {"dev", "test"}) {
    for (const auto& task : model.at("tasks")) {
      const auto label =
          fmt::format("{}\u00a0F1, {}", split == "dev" ? "Dev" : "Test", task.at("label").get<std::string>());
      columns.push_back(metric_column(runs, label, {"scores", split, task.at("key").get<std::string>()}, 3));
      mark_best(columns.back());
    }
  }
  columns.push_back(metric_column(runs, "Latency (ms)", {"latency_ms"}, 2));
  columns.push_back(metric_column(runs, "Size (MB)", {"mb"}, 1));
  std::erase_if(columns, [](const Column& column) { return empty(column); });
  return columns;
}

std::string cell_html(const Column& column, const Cell& cell) {
  const std::string text = cell.text.empty() ? "–" : escaped(cell.text);
  if (!column.numeric) return fmt::format("<td>{}</td>", cell.text.empty() ? text : breakable(cell.text));
  const auto value = cell.value ? fmt::format(" data-value=\"{}\"", *cell.value) : "";
  if (!cell.best) return fmt::format("<td class=\"number\"{}>{}</td>", value, text);
  return fmt::format("<td class=\"number\"{}><strong>{}<span class=\"hidden\"> (highest)</span></strong></td>", value,
                     text);
}

/// The table of the runs, which is there without JavaScript; the script makes it sortable.
std::string summary_table(const Json& model) {
  const auto columns = summary_columns(model);
  std::string html =
      "<table id=\"summary-table\"><caption><span>One row for each run. Macro F1; mean ± sample standard "
      "deviation over the seeds; the highest mean of a column is bold.</span></caption>\n<thead><tr>";
  for (const auto& column : columns)
    html +=
        fmt::format("<th scope=\"col\"{}>{}</th>", column.numeric ? " class=\"number\"" : "", escaped(column.label));
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < model.at("runs").size(); ++i) {
    html += fmt::format("<tr data-run=\"{}\"><th scope=\"row\">{}</th>", i, breakable(columns.front().cells[i].text));
    for (std::size_t c = 1; c < columns.size(); ++c) html += cell_html(columns[c], columns[c].cells[i]);
    html += "</tr>\n";
  }
  return html + "</tbody></table>";
}

std::string counted(std::size_t n, std::string_view one, std::string_view several) {
  return fmt::format("{} {}", n, n == 1 ? one : several);
}

/// "2026-01-31T08:30:00Z" as people read it.
std::string readable_time(std::string time) {
  if (time.size() != 20) return time;
  return time.substr(0, 10) + " " + time.substr(11, 5) + " UTC";
}

std::string header(const Json& model) {
  std::size_t results = 0;
  for (const auto& run : model.at("runs")) results += run.at("seeds").size();
  const auto made = model.at("made").get<std::string>();
  auto facts = counted(model.at("runs").size(), "run", "runs");
  if (results != model.at("runs").size()) facts += fmt::format(", {} with their seeds", results);
  return fmt::format(
      "<header><h1>{}</h1>\n<p class=\"facts\"><span>{}</span> <span><time datetime=\"{}\">{}</time></span> "
      "<span>mmkd {}</span></p></header>\n",
      escaped(model.at("title").get<std::string>()), facts, escaped(made), escaped(readable_time(made)),
      escaped(model.at("version").get<std::string>()));
}

std::string left_out(const Json& model) {
  const auto& folders = model.at("left_out");
  if (folders.empty()) return "";
  std::string html = "<div class=\"note\"><p>Not finished, so left out:</p><ul>";
  for (const auto& folder : folders)
    html += fmt::format("<li><code>{}</code></li>", escaped(folder.get<std::string>()));
  return html + "</ul></div>\n";
}

std::string body(const Json& model) {
  return "<a class=\"skip\" href=\"#summary\">Skip to the summary</a>\n" + header(model) +
         "<nav id=\"contents\" aria-label=\"Sections\" hidden></nav>\n<main>\n" +
         "<section id=\"summary\" aria-labelledby=\"summary-title\"><h2 id=\"summary-title\">Summary</h2>\n" +
         left_out(model) + "<div id=\"highlights\"></div>\n<div class=\"scroll\">" + summary_table(model) + "</div>\n" +
         "<p id=\"sorted\" class=\"hidden\" role=\"status\"></p>\n" +
         "<noscript><p class=\"note\">The other sections and the charts need JavaScript.</p></noscript></section>\n" +
         "<div id=\"sections\"></div>\n</main>\n<footer><p>Made by mmkd report. The charts are drawn by Chart.js. This "
         "page loads nothing from elsewhere.</p></footer>\n";
}

}  // namespace

std::string report_page(const Json& model) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  page += fmt::format("<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n", kPolicy);
  page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  page += "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n";
  page += fmt::format("<title>{}</title>\n", escaped(model.at("title").get<std::string>()));
  page += fmt::format("<style>\n{}</style>\n</head>\n<body>\n", assets::report_css);
  page += body(model);
  page += fmt::format("<script type=\"application/json\" id=\"report-data\">{}</script>\n", script_json(model));
  page += fmt::format("<script>{}</script>\n<script>\n{}</script>\n</body>\n</html>\n", assets::chart_js,
                      assets::report_js);
  return page;
}

}  // namespace mmkd
