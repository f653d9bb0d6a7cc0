// Loads the modules under test for as long as the program runs.
#include <gtest/gtest.h>

#include "tests/support/kernel_modules.h"

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
    KernelModules modules_;
};

[[maybe_unused]] const auto* const environment = ::testing::AddGlobalTestEnvironment(new ModulesLoaded);

}  // namespace
}  // namespace adapath::testing
