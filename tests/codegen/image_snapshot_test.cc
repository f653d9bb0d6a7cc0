// Snapshots of image networks: what goes in comes out, and whatever else is in a file, or in a block of parameters,
// gives a reason. And the window of one output: run alone, it gives that output.
#include <gtest/gtest.h>

#include <functional>

#include <adapath/abi.h>

#include "codegen/codegen.h"
#include "codegen/proto_convert.h"
#include "codegen/snapshot_hash.h"
#include "tests/codegen/random_images.h"

namespace adapath {
namespace {

using namespace testing_support::images;

Snapshot make_snapshot(const ImageNetwork& network, uint64_t seed) {
    Random random(seed);
    std::vector<ImageCodes> pictures;
    for (int i = 0; i < 3; i++) pictures.push_back(random_picture(network, {24, 20}, random));
    ImageSnapshot image;
    image.reference = random_model(network, random);
    image.model = *quantise(image.reference, pictures);
    image.probes = {pictures[0], random_picture(network, {7, 9}, random)};
    Snapshot snapshot;
    snapshot.fidelity = measure_fidelity(image.reference, image.model, pictures);
    snapshot.provenance = {"adapath-qp-snapshot", "a test", 12, 1700000000, "note"};
    snapshot.image = std::move(image);
    return snapshot;
}

ImageNetwork small_network(uint32_t channels = 6) {
    ImageNetwork network{.app = "qp", .feature_schema = 1, .inputs = {{1.0F / 128, 0}, {1.0F / 64, 0}}, .layers = {}};
    network.layers = {{ImageLayerKind::convolution, 2, channels, 3, 2},
                      {ImageLayerKind::depthwise, channels, channels, 3, 2},
                      {ImageLayerKind::convolution, channels, 1, 1, 1}};
    return network;
}

TEST(ImageSnapshots, ComeBackAsTheyWere) {
    Random random(31);
    for (uint64_t round = 0; round < 10; round++) {
        const Snapshot snapshot = make_snapshot(random_network(random), round);
        const Result<std::string> bytes = serialise(snapshot);
        ASSERT_TRUE(bytes) << bytes.error().message;
        const Result<Snapshot> back = parse_snapshot(*bytes, "a.snap");
        ASSERT_TRUE(back) << back.error().message;
        ASSERT_TRUE(back->image);
        EXPECT_EQ(back->image->model.network, snapshot.image->model.network);
        ASSERT_EQ(back->image->model.layers.size(), snapshot.image->model.layers.size());
        EXPECT_EQ(pack(back->image->model), pack(snapshot.image->model));
        for (size_t l = 0; l < back->image->model.layers.size(); l++)
            EXPECT_EQ(back->image->model.layers[l].scale, snapshot.image->model.layers[l].scale);
        EXPECT_EQ(back->image->reference.weights, snapshot.image->reference.weights);
        EXPECT_EQ(back->image->reference.biases, snapshot.image->reference.biases);
        ASSERT_EQ(back->image->probes.size(), 2U);
        EXPECT_EQ(back->image->probes[1].size, snapshot.image->probes[1].size);
        EXPECT_EQ(back->image->probes[1].codes, snapshot.image->probes[1].codes);
        EXPECT_EQ(back->fidelity.p99_error, snapshot.fidelity.p99_error);
        EXPECT_EQ(back->provenance.note, "note");
        EXPECT_EQ(app_of(*back), "test");
        EXPECT_EQ(describe(*back), describe(snapshot.image->model.network));
        EXPECT_EQ(*serialise(*back), *bytes) << "not deterministic";
    }
}

TEST(ImageSnapshots, NamesFollowContent) {
    const Snapshot first = *seal(make_snapshot(small_network(), 1));
    const Snapshot other = *seal(make_snapshot(small_network(), 2));
    EXPECT_NE(first.hash, other.hash);
    EXPECT_EQ(first.program_hash, other.program_hash) << "new weights, same program";
    EXPECT_EQ(seal(make_snapshot(small_network(), 1))->hash, first.hash);
    EXPECT_NE(seal(make_snapshot(small_network(5), 1))->program_hash, first.program_hash);
}

TEST(ImageSnapshots, AChangedByteIsNoticed) {
    const std::string bytes = *serialise(make_snapshot(small_network(), 1));
    for (size_t at = 12; at < bytes.size(); at += 7) {
        std::string bad = bytes;
        bad[at] = static_cast<char>(bad[at] ^ 0x21);
        EXPECT_FALSE(parse_snapshot(bad, "a.snap")) << "byte " << at;
    }
    for (size_t size = 0; size < bytes.size(); size += 11)
        EXPECT_FALSE(parse_snapshot(std::string_view(bytes).substr(0, size), "a.snap")) << size << " bytes";
}

// A message with a right hash and something wrong in it.
std::string refusal(const std::function<void(pb::Snapshot&)>& change) {
    const Snapshot snapshot = *seal(make_snapshot(small_network(), 1));
    pb::Snapshot message;
    to_proto(snapshot, &message);
    change(message);
    message.clear_hash();
    message.set_hash(content_hash(message));
    const Result<Snapshot> parsed = from_proto(message);
    return parsed ? "accepted" : parsed.error().message;
}

void expect_refused(const std::string& word, const std::function<void(pb::Snapshot&)>& change) {
    const std::string why = refusal(change);
    EXPECT_NE(why.find(word), std::string::npos) << why;
}

TEST(ImageSnapshots, WhatDoesNotHoldIsRefused) {
    EXPECT_EQ(refusal([](pb::Snapshot&) {}), "accepted");
    expect_refused("a dense one", [](pb::Snapshot& m) { m.mutable_network()->set_app("cc"); });
    expect_refused("a dense one", [](pb::Snapshot& m) { m.set_bpf_object("ELF"); });
    expect_refused("kind 7", [](pb::Snapshot& m) {
        m.mutable_image()->mutable_network()->mutable_layers(0)->set_kind(static_cast<pb::ImageLayerKind>(7));
    });
    expect_refused("shifts", [](pb::Snapshot& m) { m.mutable_image()->mutable_layers(0)->set_shift(256); });
    expect_refused("shifts", [](pb::Snapshot& m) { m.mutable_image()->mutable_layers(0)->set_shift(0); });
    expect_refused("weights",
                   [](pb::Snapshot& m) { m.mutable_image()->mutable_layers(0)->mutable_weights()->pop_back(); });
    expect_refused("do not fit", [](pb::Snapshot& m) { m.mutable_image()->mutable_layers(0)->set_bias(0, INT_MAX); });
    expect_refused("probe 0", [](pb::Snapshot& m) { m.mutable_image()->mutable_probes(0)->set_width(25); });
    // The product of these two is 0 in 64 bits less than it is.
    expect_refused("probe 0", [](pb::Snapshot& m) {
        m.mutable_image()->mutable_probes(0)->set_width(UINT32_MAX);
        m.mutable_image()->mutable_probes(0)->set_height(UINT32_MAX);
    });
    expect_refused("17 probes", [](pb::Snapshot& m) {
        while (m.image().probes_size() < 17) *m.mutable_image()->add_probes() = m.image().probes(0);
    });
    expect_refused("pixels", [](pb::Snapshot& m) {
        pb::ImageProbe* probe = m.mutable_image()->mutable_probes(0);
        probe->set_width(129);
        probe->set_height(128);
        probe->set_codes(std::string(size_t{129} * 128 * 2, 'x'));
    });
    expect_refused("program hash", [](pb::Snapshot& m) { m.set_program_hash(std::string(64, '0')); });
    expect_refused("reference", [](pb::Snapshot& m) { m.mutable_image()->mutable_reference(0)->clear_biases(); });
}

TEST(ImageSnapshots, ParametersFitASlotOrAreRefused) {
    ImageNetwork network = small_network(64);
    network.layers.insert(network.layers.begin() + 2, {ImageLayerKind::convolution, 64, 64, 3, 1});
    network.layers.insert(network.layers.begin() + 2, {ImageLayerKind::convolution, 64, 64, 3, 1});
    ASSERT_GT(params_bytes(network), size_t{ADP_PARAMS_BYTES});
    const Result<std::string> bytes = serialise(make_snapshot(network, 1));
    ASSERT_FALSE(bytes);
    EXPECT_NE(bytes.error().message.find("a slot holds"), std::string::npos) << bytes.error().message;
}

TEST(ImageParameters, AreReadBackAsTheyWerePacked) {
    Random random(5);
    for (int round = 0; round < 20; round++) {
        const ImageNetwork network = random_network(random);
        const ImageQuantModel model = wild_model(network, random);
        const std::vector<uint8_t> params = pack(model);
        ASSERT_EQ(params.size(), params_bytes(network));
        const Result<ImageQuantModel> back = unpack(network, params);
        ASSERT_TRUE(back) << back.error().message;
        const ImageCodes picture = random_picture(network, {19, 13}, random);
        EXPECT_EQ(interpret(*back, picture), interpret(model, picture));
        EXPECT_FALSE(unpack(network, std::span(params).first(params.size() - 1)));
        // Each byte is a number that counts, or has to be 0.
        std::vector<uint8_t> other = params;
        const size_t at = random.pick(0, static_cast<uint32_t>(other.size() - 1));
        other[at] ^= 0x40;
        const Result<ImageQuantModel> changed = unpack(network, other);
        EXPECT_TRUE(!changed || pack(*changed) == other);
    }
    EXPECT_FALSE(parse_image_network("rubbish"));
    const Result<ImageNetwork> network = parse_image_network(serialise(small_network()));
    ASSERT_TRUE(network);
    EXPECT_EQ(*network, small_network());
}

// Every place of pictures of all sizes up to a few windows: the window alone gives the picture's number.
TEST(ImageWindows, GiveTheirOutputAlone) {
    Random random(6);
    for (int round = 0; round < 40; round++) {
        const ImageNetwork network = random_network(random);
        SCOPED_TRACE(describe(network));
        const ImageQuantModel model = wild_model(network, random);
        const ImageSize size{random.pick(1, 70), random.pick(1, 50)};
        ImageCodes picture = random_picture(network, size, random);
        for (uint8_t& code : picture.codes) code = static_cast<uint8_t>(code ^ random.pick(0, 255));
        const std::vector<int32_t> all = interpret(model, picture);
        const ImageSize out = output_size(network, size);
        for (int n = 0; n < 30; n++) {
            const uint32_t column = n == 0 ? 0 : n == 1 ? out.width - 1 : random.pick(0, out.width - 1);
            const uint32_t row = n == 0 ? 0 : n == 1 ? out.height - 1 : random.pick(0, out.height - 1);
            const ImageWindow window = window_of(network, size, column, row);
            ASSERT_LE(window.x + window.size.width, size.width);
            ASSERT_LE(window.y + window.size.height, size.height);
            ASSERT_LE(std::max(window.size.width, window.size.height), widest_window(network));
            const std::vector<int32_t> part = interpret(model, cut(network, picture, window));
            const ImageSize inner = output_size(network, window.size);
            for (uint32_t c = 0; c < network.layers.back().outputs; c++) {
                ASSERT_EQ(part[(size_t{c} * inner.height + window.at.height) * inner.width + window.at.width],
                          all[(size_t{c} * out.height + row) * out.width + column])
                    << size.width << "x" << size.height << " at " << column << "," << row;
            }
        }
    }
}

}  // namespace
}  // namespace adapath
