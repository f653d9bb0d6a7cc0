// The arithmetic of the verdicts.
#pragma once

#include <optional>
#include <vector>

namespace adapath::arena {

// Of an even number of values the mean of the middle two; nothing for none.
std::optional<double> median(std::vector<double> values);
// (sum x)^2 / (n sum x^2): 1 = all alike, 1/n = one has all. 0 for nothing at all.
double jain_index(const std::vector<double>& shares);

}  // namespace adapath::arena
