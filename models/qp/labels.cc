// See labels.h.
#include "models/qp/labels.h"

#include <fmt/format.h>

#include <algorithm>

namespace adapath {

Result<BlockMap> object_gradients(Detector& detector, std::span<const Image> low, std::span<const Image> high,
                                  size_t every) {
    if (low.empty() || low.size() != high.size() || every == 0)
        return Error{fmt::format("a chunk of {} pictures in low and {} in high quality, of which every {}th counts",
                                 low.size(), high.size(), every)};
    BlockMap sum;
    size_t looked = 0;
    for (size_t i = 0; i < low.size(); i += every, looked++) {
        auto reference = detector.detect(high[i]);
        if (!reference) return reference.error();
        auto gradient = detector.gradient(low[i], *reference);
        if (!gradient) return gradient.error();
        auto map = block_gradients(*gradient, low[i], high[i]);
        if (!map) return map.error();
        if (sum.values.empty()) sum = empty_block_map(low[i].width, low[i].height);
        if (map->columns != sum.columns || map->rows != sum.rows)
            return Error{
                fmt::format("picture {} of the chunk is {}x{}, unlike the first", i, low[i].width, low[i].height)};
        for (size_t b = 0; b < sum.values.size(); b++)
            sum.values[b] += map->values[b] * static_cast<float>(reference->size());
    }
    for (float& value : sum.values) value /= static_cast<float>(looked);
    return sum;
}

BlockMap smoothed(const BlockMap& map) {
    BlockMap result = map;
    for (int row = 0; row < map.rows; row++)
        for (int column = 0; column < map.columns; column++) {
            float sum = 0;
            float weights = 0;
            for (int y = std::max(0, row - 1); y <= std::min(map.rows - 1, row + 1); y++)
                for (int x = std::max(0, column - 1); x <= std::min(map.columns - 1, column + 1); x++) {
                    const float weight = (y == row ? 2.0F : 1.0F) * (x == column ? 2.0F : 1.0F);
                    sum += weight * map.at(x, y);
                    weights += weight;
                }
            result.values[static_cast<size_t>(row * map.columns + column)] = sum / weights;
        }
    return result;
}

float value_at_share(std::span<const BlockMap> maps, double share) {
    std::vector<float> all;
    for (const BlockMap& map : maps) all.insert(all.end(), map.values.begin(), map.values.end());
    if (all.empty()) return 0;
    const auto count = static_cast<size_t>(share * static_cast<double>(all.size()));
    const size_t index = std::min(all.size() - 1, std::max<size_t>(count, 1) - 1);
    std::nth_element(all.begin(), all.begin() + static_cast<ptrdiff_t>(index), all.end(), std::greater<>());
    return all[index];
}

Agreement& Agreement::operator+=(const Agreement& other) {
    both += other.both;
    only_truth += other.only_truth;
    only_guess += other.only_guess;
    return *this;
}

double Agreement::precision() const {
    return both + only_guess == 0 ? 1 : static_cast<double>(both) / static_cast<double>(both + only_guess);
}

double Agreement::recall() const {
    return both + only_truth == 0 ? 1 : static_cast<double>(both) / static_cast<double>(both + only_truth);
}

Agreement agreement(const BlockMap& truth, float truth_threshold, const BlockMap& guess, float guess_threshold) {
    Agreement result;
    for (size_t i = 0; i < truth.values.size(); i++) {
        const bool is = truth.values[i] >= truth_threshold;
        const bool guessed = guess.values[i] >= guess_threshold;
        result.both += is && guessed ? 1 : 0;
        result.only_truth += is && !guessed ? 1 : 0;
        result.only_guess += !is && guessed ? 1 : 0;
    }
    return result;
}

}  // namespace adapath
