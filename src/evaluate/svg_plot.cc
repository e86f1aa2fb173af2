#include "evaluate/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace hylas {
namespace {

constexpr double kWidth = 720, kHeight = 380;                       // of one plot
constexpr double kLeft = 80, kRight = 20, kTop = 40, kBottom = 55;  // around its axes
constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd"};

std::string escaped(const std::string& text) {
  std::string safe;
  for (char c : text) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else {
      safe += c;
    }
  }
  return safe;
}

// 1, 2 or 5 times a power of ten, for about five ticks up to `top`.
double tick_step(double top) {
  double rough = top / 5, power = std::pow(10, std::floor(std::log10(rough)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

struct Axis {
  double step = 1, top = 1;  // the last tick
};

Axis axis_for(double largest) {
  if (largest <= 0) return {};
  double step = tick_step(largest);
  return {step, step * std::ceil(largest / step)};
}

struct Frame {
  double offset;  // of the plot in the picture
  Axis x, y;
  double px(double value) const { return kLeft + value / x.top * (kWidth - kLeft - kRight); }
  double py(double value) const { return offset + kHeight - kBottom - value / y.top * (kHeight - kTop - kBottom); }
};

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, escaped(text));
}

std::string line_between(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2,
                     colour);
}

std::string draw_axes(const Plot& plot, const Frame& frame) {
  std::string svg;
  double bottom = frame.py(0), left = frame.px(0);
  for (int i = 0; i * frame.x.step <= frame.x.top * 1.001; ++i) {
    double value = i * frame.x.step;
    svg += line_between(frame.px(value), frame.py(frame.y.top), frame.px(value), bottom, "#ddd");
    svg += text_at(frame.px(value), bottom + 16, "middle", fmt::format("{:g}", value));
  }
  for (int i = 0; i * frame.y.step <= frame.y.top * 1.001; ++i) {
    double value = i * frame.y.step;
    svg += line_between(left, frame.py(value), frame.px(frame.x.top), frame.py(value), "#ddd");
    svg += text_at(left - 6, frame.py(value) + 4, "end", fmt::format("{:g}", value));
  }
  svg += text_at(kWidth / 2, frame.offset + 18, "middle", plot.title);
  svg += text_at(kWidth / 2, bottom + 38, "middle", plot.x_label);
  double middle = frame.offset + kHeight / 2;
  svg += fmt::format("<text transform=\"translate(18,{:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n", middle,
                     escaped(plot.y_label));
  return svg;
}

std::string draw_series(const PlotSeries& series, const Frame& frame, size_t index) {
  const char* colour = kColours[index % std::size(kColours)];
  std::string path, marks;
  for (const PlotPoint& point : series.points) {
    double x = frame.px(point.x), y = frame.py(point.y);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
    marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"/>\n", x, y, colour);
    if (!point.label.empty()) marks += text_at(x, y - 7, "middle", point.label);
  }
  double key_y = frame.offset + kTop + 10 + 16 * double(index);
  std::string key =
      line_between(kLeft + 10, key_y, kLeft + 34, key_y, colour) + text_at(kLeft + 40, key_y + 4, "start", series.name);
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", path, colour) +
         marks + key;
}

std::string draw(const Plot& plot, double offset) {
  double x_largest = 0, y_largest = 0;
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      x_largest = std::max(x_largest, point.x);
      y_largest = std::max(y_largest, point.y);
    }
  }
  Frame frame{offset, axis_for(x_largest), axis_for(y_largest)};
  std::string svg = draw_axes(plot, frame);
  for (size_t i = 0; i < plot.series.size(); ++i) svg += draw_series(plot.series[i], frame, i);
  return svg;
}

}  // namespace

std::string to_svg(std::span<const Plot> plots) {
  double height = kHeight * double(plots.size());
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" viewBox=\"0 0 {0:g} {1:g}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kWidth, height);
  for (size_t i = 0; i < plots.size(); ++i) svg += draw(plots[i], kHeight * double(i));
  return svg + "</svg>\n";
}

}  // namespace hylas
