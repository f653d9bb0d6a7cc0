// What the quality selector sees, and its checkpoint.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include <adapath/qp.h>

#include "models/qp/selector.h"
#include "tests/detector/graph_file.h"

namespace adapath {
namespace {

ImageFloatModel random_model(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 0.1F);
    ImageFloatModel model;
    model.network = selector_network();
    for (const ImageLayerShape& layer : model.network.layers) {
        const uint32_t inputs = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
        std::vector<float> weights(size_t{layer.outputs} * inputs * layer.kernel * layer.kernel);
        std::vector<float> biases(layer.outputs);
        for (auto* values : {&weights, &biases})
            for (float& value : *values) value = normal(random);
        model.weights.push_back(weights);
        model.biases.push_back(biases);
    }
    return model;
}

TEST(QpPlanes, AreMeansAndTheirChange) {
    // 10x6: two whole cells and one of 2 pixels in a row; the second row of cells has 2 rows of pixels.
    std::vector<uint8_t> luma(16 * 6, 0);  // rows 16 bytes apart
    for (uint32_t y = 0; y < 6; y++)
        for (uint32_t x = 0; x < 10; x++) luma[y * 16 + x] = static_cast<uint8_t>(x < 4 ? 10 : x < 8 ? 100 + y : 250);
    const ImageCodes alone = selector_codes({luma.data(), 10, 6, 16}, {});
    ASSERT_EQ(alone.size, (ImageSize{3, 2}));
    ASSERT_EQ(alone.codes.size(), 12U);
    EXPECT_EQ(std::vector<uint8_t>(alone.codes.begin(), alone.codes.begin() + 6),
              (std::vector<uint8_t>{10, 102, 250, 10, 105, 250}));  // 101.5 and 104.5, rounded up
    EXPECT_EQ(std::accumulate(alone.codes.begin() + 6, alone.codes.end(), 0), 0);

    std::vector<uint8_t> before = luma;
    for (uint32_t y = 0; y < 4; y++)
        for (uint32_t x = 0; x < 10; x++) before[y * 16 + x] = static_cast<uint8_t>(x < 4 ? 15 : x < 8 ? 0 : 250);
    const ImageCodes both = selector_codes({luma.data(), 10, 6, 16}, {before.data(), 10, 6, 16});
    EXPECT_EQ(std::vector<uint8_t>(both.codes.begin() + 6, both.codes.end()),
              (std::vector<uint8_t>{20, 255, 0, 0, 0, 0}));
}

TEST(QpSelector, GivesOneNumberAMacroblock) {
    const ImageNetwork network = selector_network();
    ASSERT_TRUE(validate(network).ok());
    for (auto [width, height] : {std::pair{16, 16}, std::pair{384, 288}, std::pair{34, 50}, std::pair{1280, 720}}) {
        const BlockMap map = empty_block_map(width, height);
        const ImageSize out = output_size(
            network, {adp_qp_side(static_cast<uint32_t>(width)), adp_qp_side(static_cast<uint32_t>(height))});
        EXPECT_EQ(out.width, static_cast<uint32_t>(map.columns)) << width << "x" << height;
        EXPECT_EQ(out.height, static_cast<uint32_t>(map.rows)) << width << "x" << height;
    }
    ImageCodes wrong{{4, 4}, std::vector<uint8_t>(32, 7)};
    EXPECT_TRUE(selector_logits(random_model(1), wrong, 16, 16).ok());
    EXPECT_FALSE(selector_logits(random_model(1), wrong, 32, 16).ok());
}

TEST(QpSelector, CheckpointComesBack) {
    ScratchDirectory directory;
    const std::string path = directory.file("selector.json");
    const ImageFloatModel model = random_model(2);
    ASSERT_TRUE(write_selector(model, path).ok());
    auto back = read_selector(path);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(back->network, model.network);
    ASSERT_EQ(back->weights.size(), model.weights.size());
    for (size_t i = 0; i < model.weights.size(); i++) {
        ASSERT_EQ(back->weights[i].size(), model.weights[i].size());
        for (size_t k = 0; k < model.weights[i].size(); k++)
            ASSERT_NEAR(back->weights[i][k], model.weights[i][k], 1e-5 * std::abs(model.weights[i][k]));
    }
}

TEST(QpSelector, BrokenCheckpointsAreErrorsThatNameTheFile) {
    ScratchDirectory directory;
    const std::string path = directory.file("selector.json");
    ASSERT_TRUE(write_selector(random_model(3), path).ok());
    std::ifstream in(path);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    const nlohmann::json whole = nlohmann::json::parse(text);
    auto refused = [&](const std::string& content, const char* what) {
        write_text(path, content);
        auto model = read_selector(path);
        ASSERT_FALSE(model.ok()) << what;
        EXPECT_NE(model.error().message.find(path), std::string::npos) << model.error().message;
    };
    refused("", "empty");
    refused(text.substr(0, text.size() / 2), "cut off");
    refused("[1, 2]", "another document");
    for (const char* field : {"format", "app", "feature_schema", "inputs", "layers"}) {
        nlohmann::json broken = whole;
        broken.erase(field);
        refused(broken.dump(), field);
    }
    nlohmann::json broken = whole;
    broken["layers"][2]["weights"].erase(5);
    refused(broken.dump(), "a weight is missing");
    broken = whole;
    broken["layers"][1]["kind"] = "dense";
    refused(broken.dump(), "unknown kind");
    broken = whole;
    broken["layers"][0]["outputs"] = 4000000000U;
    refused(broken.dump(), "too many channels");
    broken = whole;
    broken["feature_schema"] = ADP_QP_SCHEMA + 1;
    refused(broken.dump(), "another schema");
    broken = whole;
    broken["layers"].erase(broken["layers"].size() - 1);
    refused(broken.dump(), "32 numbers a macroblock");
    EXPECT_FALSE(read_selector(directory.file("none.json")).ok());
}

TEST(QpSelector, CommittedCheckpointIsThisNetworks) {
    auto model = read_selector(ADAPATH_TEST_CHECKPOINT);
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_EQ(model->network, selector_network());
    EXPECT_LT(std::filesystem::file_size(ADAPATH_TEST_CHECKPOINT), 100'000U);
}

}  // namespace
}  // namespace adapath
