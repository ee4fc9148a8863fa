// Products of small networks that pass over what is inactive: inputs of zero in a convolution, neurons without a
// gradient in the backward pass. f32, one thread. Internal to lab/recycle.
#pragma once

#include <cstdint>
#include <vector>

namespace torpor::lab::detail {

/// y[b, o] = bias[o] + x[b] . w[o], at least 0 where relu. x: [batch, in], w: [out, in], y: [batch, out].
void dense_forward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                   const float* bias, bool relu, float* y);
/// The same of w_columns: [in, out]. The cost is that of the inputs that are not 0.
void dense_forward_active(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w_columns,
                          const float* bias, bool relu, float* y);
/// to: [columns, rows] of from: [rows, columns].
void transpose(std::int64_t rows, std::int64_t columns, const float* from, float* to);
std::int64_t count_active(std::int64_t n, const float* x);
/// gradient = 0 where values are not above 0.
void mask_inactive(std::int64_t n, const float* values, float* gradient);

/// dw[o] = sum of dy[b, o] x[b], db[o] = sum of dy[b, o], and unless null dx[b] = sum of dy[b, o] w[o]; terms with a
/// dy of zero cost nothing. dy: [batch, out].
void dense_backward(std::int64_t batch, std::int64_t in, std::int64_t out, const float* x, const float* w,
                    const float* dy, float* dw, float* db, float* dx);

struct ConvSizes {
  ConvSizes(std::int64_t channels, std::int64_t height, std::int64_t width, std::int64_t maps, std::int64_t kernel,
            std::int64_t stride);

  std::int64_t channels, height, width;  // of the input
  std::int64_t maps, kernel, stride;

  /// Which weight of the patch reads an input, for which position of the output.
  struct Reader {
    std::int32_t weight, position;
  };
  std::vector<Reader> readers;       // of all inputs, one after the other
  std::vector<std::int32_t> begins;  // of each input's, and the end

  std::int64_t out_height() const { return (height - kernel) / stride + 1; }
  std::int64_t out_width() const { return (width - kernel) / stride + 1; }
  std::int64_t inputs() const { return channels * height * width; }
  std::int64_t positions() const { return out_height() * out_width(); }
  std::int64_t patch() const { return channels * kernel * kernel; }
};

/// A convolution without padding and a ReLU: x [batch, channels, height, width], w [maps, channels, kernel, kernel],
/// y [batch, maps, positions]. The cost is that of the inputs that are not 0.
void conv_forward(std::int64_t batch, const ConvSizes& sizes, const float* x, const float* w, const float* bias,
                  float* y);
/// dw and db of its gradient dy, which is 0 where y is.
void conv_backward(std::int64_t batch, const ConvSizes& sizes, const float* x, const float* dy, float* dw, float* db);

}  // namespace torpor::lab::detail
