#include "lab/rl/picture.h"

#include <gif_lib.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/base/atomic_file.h"
#include "core/base/error.h"

namespace torpor::lab {

Painter::Painter(int width, int height, std::vector<Colour> colours)
    : picture_{width, height, std::move(colours),
               std::vector<std::uint8_t>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height))} {}

void Painter::line(double x0, double y0, double x1, double y1, double thickness, std::uint8_t colour) {
  // Distances are those of the shorter side, so that discs are round.
  const double width = picture_.width, height = picture_.height, unit = std::min(width, height);
  const double ax = x0 * width, ay = (1 - y0) * height, bx = x1 * width, by = (1 - y1) * height;
  const double radius = std::max(0.5, thickness * unit / 2), length = (bx - ax) * (bx - ax) + (by - ay) * (by - ay);
  const auto first = [&](double a, double b) { return std::max(0, static_cast<int>(std::min(a, b) - radius)); };
  const auto last = [&](double a, double b, int size) {
    return std::min(size - 1, static_cast<int>(std::max(a, b) + radius));
  };
  for (int y = first(ay, by); y <= last(ay, by, picture_.height); ++y)
    for (int x = first(ax, bx); x <= last(ax, bx, picture_.width); ++x) {
      const double px = x + 0.5, py = y + 0.5;
      const double along =
          length == 0 ? 0 : std::clamp(((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / length, 0.0, 1.0);
      if (std::hypot(px - ax - along * (bx - ax), py - ay - along * (by - ay)) <= radius) pixel(x, y) = colour;
    }
}

void Painter::box(double x0, double y0, double x1, double y1, std::uint8_t colour) {
  const auto place = [](double part, int size) {
    return std::clamp(static_cast<int>(std::lround(part * size)), 0, size);
  };
  for (int y = place(1 - y1, picture_.height); y < place(1 - y0, picture_.height); ++y)
    for (int x = place(x0, picture_.width); x < place(x1, picture_.width); ++x) pixel(x, y) = colour;
}

Picture picture_of_grid(std::span<const float> cells, std::int64_t channels, std::int64_t rows, std::int64_t columns,
                        int scale) {
  static constexpr Colour kColours[] = {{24, 24, 32},    {240, 196, 60},  {90, 190, 240},  {110, 110, 130},
                                        {220, 100, 70},  {120, 200, 120}, {200, 120, 210}, {250, 250, 250},
                                        {255, 150, 150}, {60, 130, 200},  {190, 190, 90}};
  Picture picture{static_cast<int>(columns) * scale, static_cast<int>(rows) * scale, {}, {}};
  for (std::int64_t c = 0; c <= channels; ++c)
    picture.colours.push_back(kColours[c == 0 ? 0 : 1 + static_cast<std::size_t>(c - 1) % (std::size(kColours) - 1)]);
  for (std::int64_t y = 0; y < rows * scale; ++y)
    for (std::int64_t x = 0; x < columns * scale; ++x) {
      std::uint8_t colour = 0;
      for (std::int64_t c = 0; c < channels; ++c)
        if (cells[static_cast<std::size_t>((c * rows + y / scale) * columns + x / scale)] != 0)
          colour = static_cast<std::uint8_t>(c + 1);
      picture.pixels.push_back(colour);
    }
  return picture;
}

namespace {

int append(GifFileType* file, const GifByteType* bytes, int count) {
  static_cast<std::string*>(file->UserData)
      ->append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
  return count;
}

}  // namespace

void write_gif(const std::filesystem::path& path, std::span<const Picture> pictures, int milliseconds) {
  if (pictures.empty() || pictures.front().empty()) throw InvalidArgument("[write_gif] expected pictures, got none");
  const Picture& first = pictures.front();
  std::string bytes;
  int error = 0;
  GifFileType* const file = EGifOpen(&bytes, append, &error);
  const auto check = [&](int done) {
    if (done == GIF_ERROR) throw IoError("{}: cannot be encoded: {}", path.string(), GifErrorString(file->Error));
  };
  if (file == nullptr) throw IoError("{}: cannot be encoded: {}", path.string(), GifErrorString(error));
  struct Closer {
    GifFileType* file;
    ~Closer() {
      int ignored = 0;
      if (file != nullptr) EGifCloseFile(file, &ignored);
    }
  } closer{file};
  EGifSetGifVersion(file, true);
  const int bits = std::max(1, GifBitSize(static_cast<int>(first.colours.size())));
  ColorMapObject* const map = GifMakeMapObject(1 << bits, nullptr);
  for (std::size_t i = 0; i < first.colours.size(); ++i)
    map->Colors[i] = {first.colours[i][0], first.colours[i][1], first.colours[i][2]};
  const int opened = EGifPutScreenDesc(file, first.width, first.height, bits, 0, map);
  GifFreeMapObject(map);
  check(opened);
  // Without an end: the extension that Netscape's browser brought.
  const std::uint8_t again[] = {1, 0, 0};
  check(EGifPutExtensionLeader(file, APPLICATION_EXT_FUNC_CODE));
  check(EGifPutExtensionBlock(file, 11, "NETSCAPE2.0"));
  check(EGifPutExtensionBlock(file, sizeof again, again));
  check(EGifPutExtensionTrailer(file));
  for (const Picture& picture : pictures) {
    if (picture.width != first.width || picture.height != first.height)
      throw InvalidArgument("[write_gif] expected pictures of {} x {}, got one of {} x {}", first.width, first.height,
                            picture.width, picture.height);
    const GraphicsControlBlock control{DISPOSE_DO_NOT, false, milliseconds / 10, NO_TRANSPARENT_COLOR};
    GifByteType extension[4];
    EGifGCBToExtension(&control, extension);
    check(EGifPutExtension(file, GRAPHICS_EXT_FUNC_CODE, sizeof extension, extension));
    check(EGifPutImageDesc(file, 0, 0, picture.width, picture.height, false, nullptr));
    std::vector<GifByteType> line(static_cast<std::size_t>(picture.width));
    for (int y = 0; y < picture.height; ++y) {
      std::copy_n(picture.pixels.begin() + static_cast<std::ptrdiff_t>(y) * picture.width, picture.width, line.begin());
      check(EGifPutLine(file, line.data(), picture.width));
    }
  }
  closer.file = nullptr;
  if (EGifCloseFile(file, &error) == GIF_ERROR)
    throw IoError("{}: cannot be encoded: {}", path.string(), GifErrorString(error));
  write_file_atomically(path, bytes);
}

}  // namespace torpor::lab
