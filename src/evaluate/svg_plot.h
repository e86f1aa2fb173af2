#pragma once
// Line plots as SVG text. A pure function.
#include <span>
#include <string>
#include <vector>

namespace hylas {

struct PlotPoint {
  double x = 0, y = 0;
  std::string label;  // stands beside the point; may be empty
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<PlotSeries> series;
};

// The plots one below the other; both axes begin at 0. Values must be finite and not negative.
std::string to_svg(std::span<const Plot> plots);

}  // namespace hylas
