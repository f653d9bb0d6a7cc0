// How long a test waits for something: limits that a slow machine stretches.
#pragma once

#include <chrono>
#include <cstdlib>
#include <thread>

namespace adapath::testing {

// ADAPATH_VM_SLOW: the factor that tests/vm/suite.sh gives the debug kernel's tests.
inline int slowness() {
    const char* text = std::getenv("ADAPATH_VM_SLOW");
    const int factor = text != nullptr ? std::atoi(text) : 1;
    return factor > 0 ? factor : 1;
}

// Waits for a condition; never longer than the limit.
template <typename Condition>
bool wait_until(Condition condition, std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit * slowness();
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // between two looks, not instead of one
    }
    return true;
}

}  // namespace adapath::testing
