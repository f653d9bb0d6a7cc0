// Freezing image networks: the whole pipeline, what it refuses, and a program that lies is found out.
#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_images.h"

namespace adapath {
namespace {

using namespace testing_support::images;

struct Case {
    ImageFloatModel model;
    std::vector<ImageCodes> calibration;
    std::vector<ImageCodes> held_out;
};

Case make_case(uint64_t seed) {
    Random random(seed);
    ImageNetwork network{.app = "qp", .feature_schema = 1, .inputs = {{1.0F / 128, 0}, {1.0F / 64, 0}}, .layers = {}};
    network.layers = {{ImageLayerKind::convolution, 2, 8, 3, 2},
                      {ImageLayerKind::depthwise, 8, 8, 3, 2},
                      {ImageLayerKind::convolution, 8, 1, 1, 1}};
    Case result{random_model(network, random), {}, {}};
    for (int i = 0; i < 6; i++) {
        result.calibration.push_back(random_picture(network, {60, 44}, random));
        result.held_out.push_back(random_picture(network, {60, 44}, random));
    }
    return result;
}

TEST(ImageFreezes, GiveASealedSnapshotThatItsProgramRuns) {
    ImageFreezer freezer;
    std::string program;
    for (const uint64_t seed : {1, 2}) {
        const Case from = make_case(seed);
        Result<Snapshot> snapshot = freezer.freeze(from.model, from.calibration, from.held_out, {});
        ASSERT_TRUE(snapshot) << snapshot.error().message;
        EXPECT_EQ(snapshot->hash.size(), 64U);
        EXPECT_GT(snapshot->fidelity.samples, 0U);
        EXPECT_LT(snapshot->fidelity.p99_error, 1.0 / 20);
        ASSERT_TRUE(snapshot->image);
        EXPECT_EQ(snapshot->image->probes.size(), kImageProbes);
        EXPECT_EQ(snapshot->image->probes[3].size, (ImageSize{32, 32}));
        EXPECT_TRUE(program.empty() || program == snapshot->program_hash);
        program = snapshot->program_hash;
        const Result<std::string> bytes = serialise(*snapshot);
        ASSERT_TRUE(bytes) << bytes.error().message;
        EXPECT_TRUE(parse_snapshot(*bytes, "a.snap"));
    }
}

TEST(ImageFreezes, RefuseWhatIsTooFarFromTheFloats) {
    const Case from = make_case(3);
    ImageFreezer::Options options;
    options.fidelity_limit = 1e-6;
    const Result<Snapshot> snapshot = ImageFreezer().freeze(from.model, from.calibration, from.held_out, options);
    ASSERT_FALSE(snapshot);
    EXPECT_NE(snapshot.error().message.find("fidelity"), std::string::npos) << snapshot.error().message;
    EXPECT_FALSE(ImageFreezer().freeze(from.model, {}, from.held_out, {}));
    std::vector<ImageCodes> torn = from.held_out;
    torn[1].codes.pop_back();
    EXPECT_FALSE(ImageFreezer().freeze(from.model, from.calibration, torn, {}));
}

TEST(ImageVerification, FindsOneWrongBit) {
    const Case from = make_case(4);
    const ImageQuantModel model = *quantise(from.model, from.calibration);
    const auto run = [&](size_t wrong) {
        size_t runs = 0;
        return verify(
            model,
            [&, wrong](const ImageCodes& picture, std::vector<int32_t>& out) {
                out = interpret(model, picture);
                if (runs++ == wrong) out.back() ^= 1;
                return Status();
            },
            from.held_out, 3, 7);
    };
    EXPECT_TRUE(run(SIZE_MAX).ok());
    for (const size_t wrong : {0, 5, 6, 20}) {
        const Status found = run(wrong);
        ASSERT_FALSE(found.ok()) << "run " << wrong;
        EXPECT_NE(found.error().message.find("differ"), std::string::npos) << found.error().message;
    }
    // One that gives nothing at all.
    EXPECT_FALSE(
        verify(model, [](const ImageCodes&, std::vector<int32_t>&) { return Status(); }, from.held_out, 1, 1).ok());
}

TEST(ImagePrograms, AnotherOneHasPlanesOfItsOwn) {
    const Case from = make_case(5);
    const ImageQuantModel model = *quantise(from.model, from.calibration);
    const std::vector<uint8_t> params = pack(model);
    Result<ImageProgram> first = ImageProgram::load(model.network, true);
    ASSERT_TRUE(first) << first.error().message;
    ImageProgram second = first->another();
    std::vector<int32_t> out;
    ASSERT_TRUE(second.run(params, from.held_out[0], out).ok());
    EXPECT_EQ(out, interpret(model, from.held_out[0]));
    // The code stays as long as anybody has it.
    {
        const ImageProgram gone = std::move(*first);
    }
    ASSERT_TRUE(second.run(params, from.held_out[1], out).ok());
    EXPECT_EQ(out, interpret(model, from.held_out[1]));
}

}  // namespace
}  // namespace adapath
