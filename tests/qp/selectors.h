// Selectors with random weights, and pictures for them: what the switch of the app qp is tested with.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <adapath/qp.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_images.h"

namespace adapath::testing_support {

// A network that the app takes; `channels` makes another program of it.
inline ImageNetwork selector_like(uint32_t channels) {
    ImageNetwork network{
        .app = "qp", .feature_schema = ADP_QP_SCHEMA, .inputs = {{1.0F / 128, 0}, {1.0F / 64, 0}}, .layers = {}};
    network.layers = {{ImageLayerKind::convolution, ADP_QP_PLANES, channels, 3, 2},
                      {ImageLayerKind::depthwise, channels, channels, 3, 2},
                      {ImageLayerKind::convolution, channels, channels, 3, 1},
                      {ImageLayerKind::depthwise, channels, channels, 3, 1},
                      {ImageLayerKind::depthwise, channels, channels, 3, 1},
                      {ImageLayerKind::convolution, channels, 1, 1, 1}};
    return network;
}

// Sealed; without a compiler.
inline Snapshot selector_snapshot(uint64_t seed, uint32_t channels = 8) {
    images::Random random(seed);
    ImageSnapshot image;
    image.reference = images::random_model(selector_like(channels), random);
    std::vector<ImageCodes> pictures;
    for (int i = 0; i < 2; i++) pictures.push_back(images::random_picture(image.reference.network, {40, 28}, random));
    image.model = *quantise(image.reference, pictures);
    image.probes = {pictures[0]};
    Snapshot snapshot;
    snapshot.image = std::move(image);
    Result<Snapshot> sealed = seal(std::move(snapshot));
    if (!sealed) throw std::runtime_error(sealed.error().message);
    return *sealed;
}

// Luma that moves from picture to picture.
inline std::vector<uint8_t> moving_luma(uint32_t width, uint32_t height, uint32_t picture) {
    std::vector<uint8_t> luma(size_t{width} * height);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            luma[size_t{y} * width + x] = static_cast<uint8_t>(((x + picture * 3) / 9 * 37) ^ ((y + picture) / 7 * 51));
    return luma;
}

}  // namespace adapath::testing_support
