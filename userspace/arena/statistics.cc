// See statistics.h.
#include "userspace/arena/statistics.h"

#include <algorithm>

namespace adapath::arena {

std::optional<double> median(std::vector<double> values) {
    if (values.empty()) {
        return std::nullopt;
    }
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double jain_index(const std::vector<double>& shares) {
    double sum = 0, squares = 0;
    for (const double share : shares) {
        sum += share;
        squares += share * share;
    }
    return squares == 0 ? 0 : sum * sum / (static_cast<double>(shares.size()) * squares);
}

uint64_t quantile_since(const std::map<uint64_t, uint64_t>& before, const std::map<uint64_t, uint64_t>& after,
                        double fraction) {
    std::map<uint64_t, uint64_t> counts = after;
    uint64_t total = 0;
    for (auto& [up_to, count] : counts) {
        const auto old = before.find(up_to);
        count -= old == before.end() ? 0 : std::min(count, old->second);
        total += count;
    }
    uint64_t seen = 0;
    for (const auto& [up_to, count] : counts) {
        seen += count;
        if (seen > 0 && static_cast<double>(seen) >= fraction * static_cast<double>(total)) {
            return up_to;
        }
    }
    return 0;
}

}  // namespace adapath::arena
