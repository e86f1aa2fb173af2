#include "evaluate/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hylas {
namespace {

using testing::HasSubstr;
using testing::Not;

Plot two_points() { return {"Latency", "tokens/s", "ms", {{"p50", {{0, 0, "a"}, {100, 50, "b"}}}}}; }

TEST(SvgPlot, PutsValuesAtTheirPlace) {
  std::vector<Plot> plots = {two_points()};
  // The axes end at 100 and 50: from (80, 325) to (700, 40).
  EXPECT_THAT(to_svg(plots), HasSubstr("<polyline points=\"80.0,325.0 700.0,40.0\""));
}

TEST(SvgPlot, NamesAxesSeriesAndPoints) {
  std::vector<Plot> plots = {two_points()};
  std::string svg = to_svg(plots);
  for (const char* text : {">Latency<", ">tokens/s<", ">ms<", ">p50<", ">a<", ">b<", ">20<", ">100<"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
}

TEST(SvgPlot, StacksThePlots) {
  std::vector<Plot> plots = {two_points(), two_points()};
  std::string svg = to_svg(plots);
  EXPECT_THAT(svg, HasSubstr("height=\"760\""));
  EXPECT_THAT(svg, HasSubstr("<polyline points=\"80.0,705.0 700.0,420.0\""));
}

TEST(SvgPlot, KeepsMarkupOutOfTexts) {
  Plot plot = two_points();
  plot.title = "a < b & c > d";
  std::vector<Plot> plots = {plot};
  EXPECT_THAT(to_svg(plots), HasSubstr(">a &lt; b &amp; c &gt; d<"));
}

TEST(SvgPlot, SurvivesNothingButZeros) {
  Plot plot = two_points();
  for (PlotPoint& point : plot.series[0].points) point.x = point.y = 0;
  std::vector<Plot> plots = {plot};
  EXPECT_THAT(to_svg(plots), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace hylas
