// The programs of the kernel module for any network, generic and SIMD, agree with the reference interpreter bit for
// bit. They are compiled as the kernel compiles them (kmod/userspace/programs.cmake).
#include <gtest/gtest.h>

#include "tests/codegen/kmod_fixtures.h"

namespace adapath::test {
namespace {

class Programs : public ::testing::TestWithParam<Program> {
protected:
    void SetUp() override {
        if (!cpu_runs(GetParam())) {
            GTEST_SKIP() << "this CPU has no " << name_of(GetParam());
        }
    }

    static void expect_interpreter(const QuantModel& model, const std::vector<InputCodes>& inputs) {
        const Result<std::vector<uint8_t>> params = pack(model);
        ASSERT_TRUE(params.ok()) << params.error().message;
        const Installed installed(model.network, *params);
        for (const InputCodes& in : inputs) {
            ASSERT_EQ(installed.run(GetParam(), in), interpret(model, in)) << describe(model.network);
        }
    }
};

TEST_P(Programs, NetworksAtTheLimits) {
    Random random(21);
    for (const Network& network : limit_networks()) {
        for (int m = 0; m < 4; ++m) {
            const QuantModel model = m % 2 == 0 ? random_model(network, random) : extreme_model(network, random);
            ASSERT_NO_FATAL_FAILURE(expect_interpreter(model, edge_inputs(model, 60, random)));
        }
    }
}

TEST_P(Programs, RandomNetworks) {
    Random random(environment("ADAPATH_TEST_SEED", 22));
    const uint64_t networks = environment("ADAPATH_TEST_NETWORKS", 500);
    bool depths[ADP_MAX_LAYERS + 1] = {};
    uint32_t widest = 0;
    for (uint64_t n = 0; n < networks; ++n) {
        const Network network = edge_network(random);
        depths[network.layers.size()] = true;
        for (const LayerShape& shape : network.layers) {
            widest = std::max(widest, shape.inputs);
        }
        const QuantModel model = n % 2 == 0 ? random_model(network, random) : extreme_model(network, random);
        ASSERT_NO_FATAL_FAILURE(expect_interpreter(model, edge_inputs(model, 40, random)));
    }
    // The generator does reach what the name of this test says.
    EXPECT_EQ(std::count(std::begin(depths) + 1, std::end(depths), true), ADP_MAX_LAYERS);
    EXPECT_GE(widest, 250U);
}

// Any width of a layer's inputs and outputs, first and hidden, with one output and with four.
TEST_P(Programs, EveryWidth) {
    Random random(23);
    for (uint32_t width = 1; width <= ADP_MAX_WIDTH; ++width) {
        const auto activation = static_cast<Activation>(width % 4);
        for (const Network& network : {network_of({width, 1 + width % 4}, {activation}),
                                       network_of({2, width, 1 + width % 4}, {Activation::relu, activation})}) {
            const QuantModel model = extreme_model(network, random);
            ASSERT_NO_FATAL_FAILURE(expect_interpreter(model, edge_inputs(model, 8, random)));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kmod, Programs, ::testing::Values(Program::generic, Program::avx2, Program::vnni),
                         [](const auto& info) {
                             return info.param == Program::generic ? "generic"
                                    : info.param == Program::avx2  ? "avx2"
                                                                   : "vnni";
                         });

// A prepared block's size is known before it is made, and bounded.
TEST(Simd, BlocksAreOfBoundedSize) {
    Random random(24);
    for (int n = 0; n < 300; ++n) {
        const Network network = edge_network(random);
        const adp_layout layout = layout_of(network);
        size_t padded_weights = 0;
        for (const LayerShape& shape : network.layers) {
            const size_t rows = (shape.outputs + 15) / 16 * 16;
            padded_weights += rows * (((shape.inputs + 7) / 8 * 8) * 2 + 16);
        }
        EXPECT_EQ(adp_kernel_simd_bytes(&layout), padded_weights);
        EXPECT_EQ(adp_kernel_simd_bytes(&layout) % ADP_SIMD_ALIGN, 0U);
        EXPECT_LE(adp_kernel_simd_bytes(&layout), 1U << 20);
    }
}

}  // namespace
}  // namespace adapath::test
