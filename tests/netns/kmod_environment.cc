// Loads the modules under test for as long as the program runs. ADAPATH_TEST_MODULES: all of them but adapath.ko.
#include <gtest/gtest.h>

#include "tests/support/kernel_modules.h"

#ifndef ADAPATH_TEST_MODULES
#define ADAPATH_TEST_MODULES "adapath_cc"
#endif

namespace adapath::testing {
namespace {

class ModulesLoaded final : public ::testing::Environment {
public:
    void SetUp() override {
        Status loaded = modules_.load();
        ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    }
    void TearDown() override {
        Status unloaded = modules_.unload();
        EXPECT_TRUE(unloaded.ok()) << unloaded.error().message;
    }

private:
    KernelModules modules_{std::vector<std::string>{ADAPATH_TEST_MODULES}};
};

[[maybe_unused]] const auto* const environment = ::testing::AddGlobalTestEnvironment(new ModulesLoaded);

}  // namespace
}  // namespace adapath::testing
