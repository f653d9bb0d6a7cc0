// The arithmetic of the verdicts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace adapath::arena {

// Of an even number of values the mean of the middle two; nothing for none.
std::optional<double> median(std::vector<double> values);
// (sum x)^2 / (n sum x^2): 1 = all alike, 1/n = one has all. 0 for nothing at all.
double jain_index(const std::vector<double>& shares);
// Upper end of the bucket up to which that fraction lies of what was counted after `before`; 0 where nothing was.
uint64_t quantile_since(const std::map<uint64_t, uint64_t>& before, const std::map<uint64_t, uint64_t>& after,
                        double fraction);

}  // namespace adapath::arena
