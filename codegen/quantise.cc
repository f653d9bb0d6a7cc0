// Float to integers, layer by layer.
//
// The network's inputs are codes already, so nothing is lost there. Three roundings remain: of the weights to 8 bits,
// of a hidden pre-activation to a table index, and of a hidden activation to a code. The last two are fixed by the
// layout. The first is where calibration helps: the weights of a row need not be near the float ones, only the sum over
// the inputs that occur. So each row is rounded one weight after the other, each error carried on to the weights still
// to be rounded, by the inputs' correlations (optimal brain quantisation; Frantar and others, "GPTQ", ICLR 2023), then
// improved by single steps. Each layer is fitted on the codes that the integer layers before it really give, so it also
// makes up for part of their error.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include <adapath/net.h>

#include "codegen/codegen.h"
#include "codegen/interpreter.h"

namespace adapath {

namespace {

// More vectors cost time and change little: the fit has some 30 unknowns a row.
constexpr size_t kMaxVectors = 1024;
// What the float weights count for against the calibration, as a fraction of the inputs' mean variance: keeps
// directions that the calibration hardly saw near the float model.
constexpr double kDamping = 0.01;
constexpr double kTanhSpan = 4;     // tanh(4) = 0.9993: less than a code from 1
constexpr double kSigmoidSpan = 8;  // sigmoid(8) = 0.9997
// relu and identity have no natural range: what the calibration showed, widened by this, and clamped.
constexpr double kHeadroom = 1.1;
constexpr double kOutputUnit = 65536;

// Row-major; small and dense.
struct Matrix {
    size_t rows = 0;
    size_t columns = 0;
    std::vector<double> cells;

    Matrix(size_t r, size_t c) : rows(r), columns(c), cells(r * c, 0.0) {}
    double* row(size_t r) { return cells.data() + r * columns; }
    const double* row(size_t r) const { return cells.data() + r * columns; }
    double& at(size_t r, size_t c) { return cells[r * columns + c]; }
    double at(size_t r, size_t c) const { return cells[r * columns + c]; }
};

bool is_curve(Activation a) { return a == Activation::tanh || a == Activation::sigmoid; }

// In place: the lower triangle becomes L with L L^T = m. The caller's damping makes m positive definite.
void cholesky(Matrix& m) {
    for (size_t j = 0; j < m.rows; ++j) {
        for (size_t i = j; i < m.rows; ++i) {
            double sum = m.at(i, j);
            for (size_t k = 0; k < j; ++k) {
                sum -= m.at(i, k) * m.at(j, k);
            }
            m.at(i, j) = i == j ? std::sqrt(std::max(sum, 1e-12)) : sum / m.at(j, j);
        }
    }
}

// x := (L L^T)^-1 x
void solve(const Matrix& l, double* x) {
    for (size_t i = 0; i < l.rows; ++i) {
        for (size_t k = 0; k < i; ++k) {
            x[i] -= l.at(i, k) * x[k];
        }
        x[i] /= l.at(i, i);
    }
    for (size_t i = l.rows; i-- > 0;) {
        for (size_t k = i + 1; k < l.rows; ++k) {
            x[i] -= l.at(k, i) * x[k];
        }
        x[i] /= l.at(i, i);
    }
}

// What a layer's rows are fitted on: its input codes over the calibration, their mean and covariance, and the order in
// which a row's weights are rounded (the inputs that vary most first, while there are still weights to carry their
// error to).
struct Inputs {
    Matrix codes;  // [vector][input]
    std::vector<double> mean;
    Matrix covariance;  // damped
    double damping;
    Matrix factor;  // Cholesky factor of it
    std::vector<size_t> order;
    Matrix carry;  // upper Cholesky factor of the covariance's inverse, in that order
};

Inputs study_inputs(Matrix codes) {
    const size_t n = codes.columns;
    const auto count = static_cast<double>(codes.rows);
    std::vector<double> mean(n, 0);
    for (size_t v = 0; v < codes.rows; ++v) {
        for (size_t i = 0; i < n; ++i) {
            mean[i] += codes.at(v, i) / count;
        }
    }
    Matrix covariance(n, n);
    std::vector<double> centred(n);
    for (size_t v = 0; v < codes.rows; ++v) {
        for (size_t i = 0; i < n; ++i) {
            centred[i] = codes.at(v, i) - mean[i];
        }
        for (size_t i = 0; i < n; ++i) {
            double* row = covariance.row(i);
            for (size_t k = 0; k <= i; ++k) {
                row[k] += centred[i] * centred[k];
            }
        }
    }
    double trace = 0;
    for (size_t i = 0; i < n; ++i) {
        for (size_t k = 0; k <= i; ++k) {
            covariance.at(i, k) /= count;
            covariance.at(k, i) = covariance.at(i, k);
        }
        trace += covariance.at(i, i);
    }
    // Never 0: inputs that all stand still in the calibration leave the float weights as they are.
    const double damping = std::max(kDamping * trace / static_cast<double>(n), 1e-3);
    for (size_t i = 0; i < n; ++i) {
        covariance.at(i, i) += damping;
    }
    Matrix factor = covariance;
    cholesky(factor);

    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return covariance.at(a, a) > covariance.at(b, b); });
    Matrix inverse(n, n);
    std::vector<double> column(n);
    for (size_t k = 0; k < n; ++k) {
        std::fill(column.begin(), column.end(), 0.0);
        column[order[k]] = 1;
        solve(factor, column.data());
        for (size_t i = 0; i < n; ++i) {
            inverse.at(i, k) = column[order[i]];
        }
    }
    cholesky(inverse);  // L L^T; its transpose is the upper factor
    Matrix carry(n, n);
    for (size_t i = 0; i < n; ++i) {
        for (size_t k = i; k < n; ++k) {
            carry.at(i, k) = inverse.at(k, i);
        }
    }
    return {std::move(codes),  std::move(mean),  std::move(covariance), damping,
            std::move(factor), std::move(order), std::move(carry)};
}

// One row as integers: weight = step * q.
struct Row {
    double step = 0;
    std::vector<int> q;
    double error = std::numeric_limits<double>::infinity();  // mean square over the calibration, damped
};

int clamp_weight(double w) { return static_cast<int>(std::clamp(std::round(w), -127.0, 127.0)); }

// Rounds in order, carrying each error on.
void round_row(const Inputs& in, const std::vector<double>& target, Row& row) {
    const size_t n = target.size();
    std::vector<double> left(n);
    for (size_t k = 0; k < n; ++k) {
        left[k] = target[in.order[k]];
    }
    row.q.assign(n, 0);
    for (size_t k = 0; k < n; ++k) {
        const int q = clamp_weight(left[k] / row.step);
        row.q[in.order[k]] = q;
        const double error = (left[k] - row.step * q) / in.carry.at(k, k);
        const double* carry = in.carry.row(k);
        for (size_t j = k + 1; j < n; ++j) {
            left[j] -= error * carry[j];
        }
    }
}

// gradient := covariance (target - step q); returns the error.
double residual(const Inputs& in, const std::vector<double>& target, const Row& row, std::vector<double>& gradient) {
    const size_t n = target.size();
    std::vector<double> difference(n);
    for (size_t i = 0; i < n; ++i) {
        difference[i] = target[i] - row.step * row.q[i];
    }
    double error = 0;
    for (size_t i = 0; i < n; ++i) {
        const double* covariance = in.covariance.row(i);
        double sum = 0;
        for (size_t k = 0; k < n; ++k) {
            sum += covariance[k] * difference[k];
        }
        gradient[i] = sum;
        error += difference[i] * sum;
    }
    return error;
}

// Single weights one step up or down, the best first, until none helps.
void improve_row(const Inputs& in, const std::vector<double>& target, Row& row) {
    const size_t n = target.size();
    std::vector<double> gradient(n);
    row.error = residual(in, target, row, gradient);
    for (size_t round = 0; round < 4 * n; ++round) {
        size_t best = n;
        int best_delta = 0;
        double best_gain = 1e-9 * row.error;
        for (size_t i = 0; i < n; ++i) {
            const int delta = gradient[i] > 0 ? 1 : -1;
            const double gain = 2 * row.step * std::abs(gradient[i]) - row.step * row.step * in.covariance.at(i, i);
            if (gain > best_gain && std::abs(row.q[i] + delta) <= 127) {
                best = i;
                best_delta = delta;
                best_gain = gain;
            }
        }
        if (best == n) {
            return;
        }
        row.q[best] += best_delta;
        row.error -= best_gain;
        const double* covariance = in.covariance.row(best);
        for (size_t k = 0; k < n; ++k) {
            gradient[k] -= best_delta * row.step * covariance[k];
        }
    }
}

// The step that suits the integers best: least squares along them.
void refit_step(const Inputs& in, const std::vector<double>& target, Row& row) {
    const size_t n = target.size();
    double with_target = 0;
    double with_itself = 0;
    for (size_t i = 0; i < n; ++i) {
        const double* covariance = in.covariance.row(i);
        double sum_target = 0;
        double sum_q = 0;
        for (size_t k = 0; k < n; ++k) {
            sum_target += covariance[k] * target[k];
            sum_q += covariance[k] * row.q[k];
        }
        with_target += row.q[i] * sum_target;
        with_itself += row.q[i] * sum_q;
    }
    if (with_itself > 0 && with_target > 0) {
        row.step = with_target / with_itself;
    }
}

Row fit_row(const Inputs& in, const std::vector<double>& target) {
    double greatest = 0;
    for (const double w : target) {
        greatest = std::max(greatest, std::abs(w));
    }
    Row best;
    best.q.assign(target.size(), 0);
    if (greatest == 0) {
        return best;
    }
    // A smaller step clamps the greatest weight and rounds the others finer; which is better depends on the row.
    for (const double shrink : {1.0, 0.95, 0.85}) {
        Row row;
        row.step = shrink * greatest / 127;
        round_row(in, target, row);
        refit_step(in, target, row);
        improve_row(in, target, row);
        if (row.error < best.error) {
            best = std::move(row);
        }
    }
    return best;
}

// A layer's float weights per input code instead of per real unit. (The bias is fitted, so the zero points play no
// part.)
Matrix weights_per_code(const FloatModel& model, size_t l, const std::vector<float>& scales) {
    const LayerShape& shape = model.network.layers[l];
    Matrix weights(shape.outputs, shape.inputs);
    for (uint32_t r = 0; r < shape.outputs; ++r) {
        for (uint32_t i = 0; i < shape.inputs; ++i) {
            weights.at(r, i) = double{model.weights[l][size_t{r} * shape.inputs + i]} * scales[i];
        }
    }
    return weights;
}

// Float pre-activations over the calibration, from the float activations of the layer before.
Matrix pre_activations(const FloatModel& model, size_t l, const Matrix& in) {
    const LayerShape& shape = model.network.layers[l];
    // Inputs outside, rows inside: independent sums, which the compiler can vectorise, instead of one long chain.
    Matrix transposed(shape.inputs, shape.outputs);
    for (uint32_t r = 0; r < shape.outputs; ++r) {
        for (uint32_t i = 0; i < shape.inputs; ++i) {
            transposed.at(i, r) = model.weights[l][size_t{r} * shape.inputs + i];
        }
    }
    Matrix z(in.rows, shape.outputs);
    for (size_t v = 0; v < in.rows; ++v) {
        double* sums = z.row(v);
        std::copy(model.biases[l].begin(), model.biases[l].end(), sums);
        for (uint32_t i = 0; i < shape.inputs; ++i) {
            const double x = in.at(v, i);
            const double* w = transposed.row(i);
            for (uint32_t r = 0; r < shape.outputs; ++r) {
                sums[r] += w[r] * x;
            }
        }
    }
    return z;
}

double activate(Activation a, double z) {
    switch (a) {
        case Activation::relu:
            return std::max(z, 0.0);
        case Activation::tanh:
            return std::tanh(z);
        case Activation::sigmoid:
            return 1 / (1 + std::exp(-z));
        case Activation::identity:
            break;
    }
    return z;
}

// How t counts: t = floor(z * per_unit + offset).
struct Index {
    double per_unit = 0;
    double offset = 0;
};

// Codes and table of a hidden layer, and how its index counts. `z` is the float pre-activations over the calibration.
Index choose_codes(Activation activation, const LayerLayout& layout, const Matrix& z, const Matrix& weights,
                   QuantLayer& layer) {
    constexpr double codes = ADP_HIDDEN_CODE_MAX;
    if (is_curve(activation)) {
        const bool tanh = activation == Activation::tanh;
        const double span = tanh ? kTanhSpan : kSigmoidSpan;
        layer.scale = static_cast<float>((tanh ? 2 : 1) / codes);
        layer.zero_point = tanh ? ADP_HIDDEN_CODE_MAX / 2 : 0;
        const double step = 2 * span / layout.table_entries;
        for (uint32_t i = 0; i < layout.table_entries; ++i) {
            const double y = activate(activation, -span + (i + 0.5) * step);
            layer.code_table.push_back(static_cast<uint16_t>(std::lround(y / layer.scale) + layer.zero_point));
        }
        return {1 / step, layout.table_entries / 2.0};
    }
    const auto [low, high] = std::minmax_element(z.cells.begin(), z.cells.end());
    double lo = activation == Activation::relu ? 0 : *low;
    double hi = activation == Activation::relu ? std::max(*high, 0.0) : *high;
    const double margin = (hi - lo) * (kHeadroom - 1);
    hi += margin;
    lo -= activation == Activation::relu ? 0 : margin;
    // A layer that stands still in the calibration (dead relus) still needs a scale: one that keeps the zero point in
    // its type and, by the second term, the multipliers in theirs: a weight step then moves the index by at most 64
    // codes.
    double greatest = 0;
    for (const double w : weights.cells) {
        greatest = std::max(greatest, std::abs(w));
    }
    const double range = std::max({hi - lo, greatest * codes / (127 * 64), std::abs(lo) * 1e-2, 1e-6});
    layer.scale = static_cast<float>(range / codes);
    layer.zero_point = static_cast<int32_t>(std::lround(-lo / layer.scale));
    for (uint32_t i = 0; i < layout.table_entries; ++i) {
        layer.code_table.push_back(static_cast<uint16_t>(i));
    }
    return {1 / double{layer.scale}, layer.zero_point + 0.5};
}

// The last layer's index: Q16 directly, or through a table.
Index choose_output(Activation activation, const LayerLayout& layout, QuantLayer& layer) {
    if (!is_curve(activation)) {
        return {kOutputUnit, 0.5};
    }
    const double span = activation == Activation::tanh ? kTanhSpan : kSigmoidSpan;
    const double step = 2 * span / layout.table_entries;
    for (uint32_t i = 0; i < layout.table_entries; ++i) {
        const double y = activate(activation, -span + (i + 0.5) * step);
        layer.output_table.push_back(static_cast<int16_t>(std::lround(y * kOutputUnit / 2)));
    }
    return {1 / step, layout.table_entries / 2.0};
}

// Integer multiplier and bias of a row, such that t counts as `index` says.
Status set_row(const Inputs& in, const Row& row, double mean_z, const Index& index, size_t l, size_t r,
               QuantLayer& layer) {
    const double unit = std::ldexp(1.0, layer.shift);
    const double mult = std::round(row.step * index.per_unit * unit);
    if (!(mult <= std::numeric_limits<uint32_t>::max())) {
        return Error{
            fmt::format("layer {} row {}: multiplier {:.3g} is over 2^32; its weights are too large for its input "
                        "scales: regularise the training or rescale the inputs",
                        l + 1, r, mult)};
    }
    // From the multiplier as rounded, so that its error does not shift the mean.
    double mean_t = 0;
    for (size_t i = 0; i < row.q.size(); ++i) {
        mean_t += mult * row.q[i] * in.mean[i];
    }
    const double bias = std::round((mean_z * index.per_unit + index.offset) * unit - mean_t);
    if (!(std::abs(bias) < std::ldexp(1.0, 61))) {
        return Error{
            fmt::format("layer {} row {}: bias {:.3g} needs more than 62 bits; its pre-activation averages {:.3g}: "
                        "regularise the training",
                        l + 1, r, bias, mean_z)};
    }
    layer.mult[r] = static_cast<uint32_t>(mult);
    layer.bias[r] = static_cast<int64_t>(bias);
    for (size_t i = 0; i < row.q.size(); ++i) {
        layer.weights[r * row.q.size() + i] = static_cast<int8_t>(row.q[i]);
    }
    return {};
}

// Fits all rows of a layer: to the float pre-activations z, given the codes that it really gets.
Status fit_layer(const Inputs& in, const Matrix& weights, const Matrix& z, const Index& index, size_t l,
                 QuantLayer& layer) {
    const size_t n = in.mean.size();
    const auto count = static_cast<double>(z.rows);
    std::vector<double> mean_z(z.columns, 0);
    // How codes and wanted pre-activations go together: [row][input].
    Matrix together(z.columns, n);
    for (size_t v = 0; v < z.rows; ++v) {
        const double* x = in.codes.row(v);
        for (size_t r = 0; r < z.columns; ++r) {
            const double wanted = z.at(v, r) / count;
            mean_z[r] += wanted;
            double* row = together.row(r);
            for (size_t i = 0; i < n; ++i) {
                row[i] += wanted * x[i];
            }
        }
    }
    std::vector<double> target(n);
    for (size_t r = 0; r < weights.rows; ++r) {
        // The float weights would be right for the float activations. Least squares for the codes, damped towards the
        // float weights: (covariance + damping) target = covariance of codes and z + damping * float weights.
        const double* w = weights.row(r);
        for (size_t i = 0; i < n; ++i) {
            target[i] = together.at(r, i) - mean_z[r] * in.mean[i] + in.damping * w[i];
        }
        solve(in.factor, target.data());
        if (Status s = set_row(in, fit_row(in, target), mean_z[r], index, l, r, layer); !s) {
            return s;
        }
    }
    return {};
}

Status check_calibration(const Network& network, std::span<const InputCodes> calibration) {
    if (calibration.empty()) {
        return Error{"quantise: no calibration vectors; give at least one, better some hundred recent ones"};
    }
    for (size_t v = 0; v < calibration.size(); ++v) {
        if (calibration[v].size() != network.input_count()) {
            return Error{fmt::format("quantise: calibration vector {} has {} codes, the network has {} inputs", v,
                                     calibration[v].size(), network.input_count())};
        }
    }
    return {};
}

}  // namespace

Result<QuantModel> quantise(const FloatModel& model, std::span<const InputCodes> calibration) {
    if (Status s = validate(model); !s) {
        return s.error();
    }
    const Result<NetworkLayout> layout = network_layout(model.network);
    if (!layout) {
        return layout.error();
    }
    if (Status s = check_calibration(model.network, calibration); !s) {
        return s.error();
    }

    // Evenly spread over what was given, so that every part of a long log counts.
    const size_t vectors = std::min(calibration.size(), kMaxVectors);
    Matrix codes(vectors, model.network.input_count());
    Matrix real(vectors, model.network.input_count());
    for (size_t v = 0; v < vectors; ++v) {
        const InputCodes& vector = calibration[v * calibration.size() / vectors];
        for (size_t i = 0; i < vector.size(); ++i) {
            const InputCode& code = model.network.inputs[i];
            codes.at(v, i) = vector[i];
            real.at(v, i) = double{code.scale} * (vector[i] - code.zero_point);
        }
    }

    QuantModel out;
    out.network = model.network;
    std::vector<float> scales;
    for (const InputCode& code : model.network.inputs) {
        scales.push_back(code.scale);
    }
    const size_t layers = model.network.layers.size();
    for (size_t l = 0; l < layers; ++l) {
        const LayerShape& shape = model.network.layers[l];
        const LayerLayout& where = layout->layers[l];
        const bool last = l + 1 == layers;
        QuantLayer layer;
        layer.shift = where.shift;
        layer.weights.resize(size_t{shape.outputs} * shape.inputs);
        layer.mult.resize(shape.outputs);
        layer.bias.resize(shape.outputs);

        Matrix z = pre_activations(model, l, real);
        const Matrix weights = weights_per_code(model, l, scales);
        const Index index = last ? choose_output(shape.activation, where, layer)
                                 : choose_codes(shape.activation, where, z, weights, layer);
        const Inputs in = study_inputs(std::move(codes));
        if (Status s = fit_layer(in, weights, z, index, l, layer); !s) {
            return s.error();
        }
        codes = Matrix(vectors, shape.outputs);
        std::vector<int32_t> x(shape.inputs);
        std::vector<int32_t> y(shape.outputs);
        for (size_t v = 0; v < vectors && !last; ++v) {
            for (uint32_t i = 0; i < shape.inputs; ++i) {
                x[i] = static_cast<int32_t>(in.codes.at(v, i));
            }
            interpret_layer(shape, layer, false, x, y);
            std::copy(y.begin(), y.end(), codes.row(v));
        }
        for (double& value : z.cells) {
            value = activate(shape.activation, value);
        }
        real = std::move(z);
        scales.assign(shape.outputs, layer.scale);
        out.layers.push_back(std::move(layer));
    }
    if (Status s = validate(out); !s) {
        return s.error();
    }
    return out;
}

}  // namespace adapath
