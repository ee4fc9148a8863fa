// RMSNorm of single rows. f32 through Highway, f64 in plain loops, for checks by differences. Internal to lab/nn. All
// functions are thread-safe. Rows of n numbers; w_i stands for weight_i + offset.
#pragma once

#include <cstdint>

namespace torpor::lab::detail {

/// y_i = x_i r w_i with r = 1 / sqrt(mean x^2 + eps), which is returned.
float normalise_row(const float* x, const float* weight, float offset, std::int64_t n, double eps, float* y);
double normalise_row(const double* x, const double* weight, double offset, std::int64_t n, double eps, double* y);

/// From the gradient g of y: dx_i = r w_i g_i - x_i r^3 / n sum_j w_j g_j x_j, and dweight_i += g_i x_i r.
void normalise_row_gradient(const float* x, const float* weight, float offset, const float* g, float r, std::int64_t n,
                            float* dx, float* dweight);
void normalise_row_gradient(const double* x, const double* weight, double offset, const double* g, double r,
                            std::int64_t n, double* dx, double* dweight);

}  // namespace torpor::lab::detail
