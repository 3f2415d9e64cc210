#include "codebook_plot.h"

#include <fmt/format.h>

namespace neap::cli {
namespace {

constexpr int kPanel = 440, kLine = 24, kTop = 46, kMargin = 34, kUnit = 6;  // pixels

double position(int panel, int entry) {
  return panel * kPanel + kMargin + (entry + kLargestEntry) * kUnit;
}

std::string panel_text(int panel, const char* title, const Codebooks& codebooks) {
  std::string svg = fmt::format("<text x=\"{}\" y=\"18\" font-weight=\"bold\">{}</text>\n",
                                position(panel, -kLargestEntry), title);
  const int bottom = kTop + kLine * static_cast<int>(codebooks.size());
  for (const int mark : {-31, -16, 0, 16, 31}) {
    svg += fmt::format(
        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"middle\" fill=\"#777\">{2}</text>"
        "<path d=\"M{0} {3}V{4}\" stroke=\"#ddd\"/>\n",
        position(panel, mark), kTop - 10, mark, kTop - 6, bottom - 8);
  }
  for (std::size_t c = 0; c < codebooks.size(); ++c) {
    const int y = kTop + kLine * static_cast<int>(c) + 6;
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#777\">{}</text>\n",
                       position(panel, -kLargestEntry) - 8, y + 4, c);
    std::string path = fmt::format("M{} {}H{}", position(panel, codebooks[c].front()), y,
                                   position(panel, codebooks[c].back()));
    for (const int entry : codebooks[c])
      path += fmt::format("M{} {}v14", position(panel, entry), y - 7);
    svg += fmt::format("<path d=\"{}\" stroke=\"#0b6e8f\" stroke-width=\"2\"/>\n", path);
  }
  return svg;
}

}  // namespace

std::string codebook_plot(const CodebookSet& set) {
  const int height = kTop + kLine * set.layout.codebooks + 10;
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
             "height=\"{1}\" "
             "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" "
             "fill=\"#fff\"/>\n",
             2 * kPanel, height) +
         panel_text(0, "weights", set.weights) + panel_text(1, "activations", set.activations) +
         "</svg>\n";
}

}  // namespace neap::cli
