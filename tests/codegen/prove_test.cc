// What validate() and prove() refuse, and what they say.
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <adapath/abi.h>
#include <adapath/net.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

using testing_support::cc_network;
using testing_support::random_network;
using testing_support::random_weights;
using testing_support::uniform_codes;

QuantModel sound_model() {
    std::mt19937_64 random(5);
    const FloatModel model = random_weights(cc_network(), random);
    return *quantise(model, uniform_codes(ADP_CC_INPUTS, 100, random));
}

void expect_refused(const Status& status, const std::string& part) {
    ASSERT_FALSE(status.ok()) << "accepted; expected a refusal with: " << part;
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
}

TEST(Prove, EveryQuantisedRandomNetwork) {
    std::mt19937_64 random(6);
    for (int m = 0; m < 100; ++m) {
        const Network network = random_network(random);
        const FloatModel model = random_weights(network, random, 0.1 * static_cast<double>(1 + random() % 50));
        const Result<QuantModel> quant =
            quantise(model, uniform_codes(network.input_count(), 1 + random() % 64, random));
        ASSERT_TRUE(quant.ok()) << describe(network) << ": " << quant.error().message;
        const Status proven = prove(*quant);
        EXPECT_TRUE(proven.ok()) << describe(network) << ": " << proven.error().message;
    }
}

TEST(Prove, RefusesSumsThatLeave62Bits) {
    QuantModel model = sound_model();
    EXPECT_TRUE(prove(model).ok());
    model.layers[1].bias[7] = (int64_t{1} << 62) - 1;
    expect_refused(prove(model), "layer 2 row 7: accumulator range");
    EXPECT_FALSE(pack(model).ok());
    model.layers[1].bias[7] = std::numeric_limits<int64_t>::min();
    expect_refused(prove(model), "needs more than 62 bits");
    model.layers[1].bias[7] = std::numeric_limits<int64_t>::max();
    expect_refused(prove(model), "needs more than 62 bits");
}

TEST(Prove, TheBoundIsExact) {
    // One input of weight 1: acc in 0..255. The greatest bias that fits is 2^62 - 1 - 255 * mult.
    QuantModel model;
    model.network.app = "one";
    model.network.inputs = {{1.0F, 0}};
    model.network.layers = {{1, 1, Activation::identity}};
    QuantLayer layer;
    layer.weights = {1};
    layer.mult = {1000};
    layer.shift = network_layout(model.network)->layers[0].shift;
    layer.bias = {(int64_t{1} << 62) - 1 - 255 * 1000};
    model.layers = {layer};
    EXPECT_TRUE(prove(model).ok());
    ++model.layers[0].bias[0];
    EXPECT_FALSE(prove(model).ok());
}

TEST(Validate, Networks) {
    Network network = cc_network();
    EXPECT_TRUE(validate(network).ok());

    network.app = "cc\"\n#include";
    expect_refused(validate(network), "app name");
    network = cc_network();
    network.inputs.pop_back();
    expect_refused(validate(network),
                   fmt::format("layer 1: {} inputs, the network gives {}", ADP_CC_INPUTS, ADP_CC_INPUTS - 1));
    network = cc_network();
    network.layers[1].inputs = 31;
    expect_refused(validate(network), "layer 2: 31 inputs, layer 1 gives 32");
    network = cc_network();
    network.layers[2].outputs = ADP_MAX_OUTPUTS + 1;
    expect_refused(validate(network), "layer 3: 5 outputs");
    network = cc_network();
    network.layers[0].activation = static_cast<Activation>(4);
    expect_refused(validate(network), "activation 4");
    network = cc_network();
    network.inputs[3].scale = std::numeric_limits<float>::quiet_NaN();
    expect_refused(validate(network), "scale of input 3");
    network = cc_network();
    network.layers.clear();
    expect_refused(validate(network), "0 layers");
    network = cc_network();
    network.layers[0].outputs = 0xffffffff;
    expect_refused(validate(network), "4294967295 outputs");

    const Result<NetworkLayout> large = network_layout(cc_network(
        {{ADP_CC_INPUTS, 256, Activation::relu}, {256, 256, Activation::relu}, {256, 1, Activation::identity}}));
    ASSERT_FALSE(large.ok());
    EXPECT_NE(large.error().message.find("a slot holds 65472"), std::string::npos) << large.error().message;
}

TEST(Validate, FloatModels) {
    std::mt19937_64 random(7);
    FloatModel model = random_weights(cc_network(), random);
    EXPECT_TRUE(validate(model).ok());
    model.weights[1][5] = std::numeric_limits<float>::infinity();
    expect_refused(validate(model), "layer 2: weight 5 is inf");
    EXPECT_FALSE(quantise(model, uniform_codes(ADP_CC_INPUTS, 10, random)).ok());
    model = random_weights(cc_network(), random);
    model.biases[0].pop_back();
    expect_refused(validate(model), "layer 1: 31 biases, the network has 32");
    model = random_weights(cc_network(), random);
    model.weights.pop_back();
    expect_refused(validate(model), "2 layers");
}

TEST(Validate, QuantModels) {
    QuantModel model = sound_model();
    model.layers[0].weights[4] = -128;
    expect_refused(validate(model), "layer 1: weight 4 is -128");
    model = sound_model();
    model.layers[1].weights.push_back(0);
    expect_refused(validate(model), "layer 2: 513 weights");
    model = sound_model();
    model.layers[1].mult.pop_back();
    expect_refused(validate(model), "15 multipliers");
    model = sound_model();
    ++model.layers[2].shift;
    expect_refused(validate(model), "layer 3: shift 21");
    model = sound_model();
    model.layers[0].code_table[9] = ADP_HIDDEN_CODE_MAX + 1;
    expect_refused(validate(model), "table entry 9");
    model = sound_model();
    model.layers[1].code_table.back() = 0;
    expect_refused(validate(model), "layers 1 and 2 share a table");
    model = sound_model();
    model.layers[0].code_table.clear();
    expect_refused(validate(model), "0 codes in its table");
    model = sound_model();
    model.layers[2].output_table.push_back(1);
    expect_refused(validate(model), "1 outputs in its table");
    model = sound_model();
    model.layers[0].scale = 0;
    expect_refused(validate(model), "scale of its codes");
    model = sound_model();
    model.layers.pop_back();
    expect_refused(validate(model), "parameters for 2 layers");
}

}  // namespace
}  // namespace adapath
