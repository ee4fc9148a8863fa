// Pictures of environments, and films of them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace torpor::lab {

using Colour = std::array<std::uint8_t, 3>;  // red, green, blue

/// At most 256 colours; each pixel is the number of one.
struct Picture {
  int width = 0, height = 0;
  std::vector<Colour> colours = {};
  std::vector<std::uint8_t> pixels = {};  // [height, width]

  bool empty() const { return pixels.empty(); }
};

/// Draws what lies in [0, 1] x [0, 1], y upwards, colour 0 first. Parts outside are cut off.
class Painter {
 public:
  Painter(int width, int height, std::vector<Colour> colours);

  void line(double x0, double y0, double x1, double y1, double thickness, std::uint8_t colour);
  void disc(double x, double y, double radius, std::uint8_t colour) { line(x, y, x, y, 2 * radius, colour); }
  void box(double x0, double y0, double x1, double y1, std::uint8_t colour);
  Picture finish() { return std::move(picture_); }

 private:
  std::uint8_t& pixel(int x, int y) {
    return picture_
        .pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(picture_.width) + static_cast<std::size_t>(x)];
  }

  Picture picture_;
};

/// Cells of [channels, rows, columns], each square of `scale` pixels in the colour of its last channel that is not 0.
Picture picture_of_grid(std::span<const float> cells, std::int64_t channels, std::int64_t rows, std::int64_t columns,
                        int scale);

/// An animated GIF that starts anew at its end. The pictures have one size and the first one's colours. Atomic. Throws
/// InvalidArgument: none, or of different sizes; IoError.
void write_gif(const std::filesystem::path& path, std::span<const Picture> pictures, int milliseconds);

}  // namespace torpor::lab
