// What a server may say of the gateway's cameras.
#include "userspace/relay/reports.h"

#include <cmath>

#include <fmt/format.h>

#include <adapath/select.h>

namespace adapath::relay {

namespace {

constexpr double objects_max = 1e6;
constexpr uint32_t pictures_max = 1'000'000;
constexpr int regions_max = 4096;
// A picture of 4096 x 4096 pixels, in macroblocks.
constexpr uint32_t blocks_max = 256;
constexpr float weight_max = 1e30F;
// The chunk has come here before the server saw it; so much more is forgiven, for clocks of different programs.
constexpr uint64_t ahead_us = 1'000'000;

// Comparisons are written so that NaN fails.
bool share(double value) { return value >= 0 && value <= 1; }

std::string wrong_with(const pb::Seen& seen) {
    if (seen.rendition() >= ADP_SELECT_RENDITIONS) {
        return fmt::format("rendition {}", seen.rendition());
    }
    if (seen.pictures() > pictures_max) {
        return fmt::format("{} pictures", seen.pictures());
    }
    if (!(seen.objects() >= 0 && seen.objects() <= objects_max)) {
        return fmt::format("{} objects", seen.objects());
    }
    if (!share(seen.confidence()) || !share(seen.accuracy())) {
        return fmt::format("confidence {}, accuracy {}", seen.confidence(), seen.accuracy());
    }
    return {};
}

std::string wrong_with(const pb::Measured& measured) {
    if (!share(measured.sub_worth()) || !(measured.gain() >= -1 && measured.gain() <= 1)) {
        return fmt::format("worth {}, gain {}", measured.sub_worth(), measured.gain());
    }
    if (measured.pictures() > pictures_max) {
        return fmt::format("{} pictures", measured.pictures());
    }
    return {};
}

std::string wrong_with(const pb::Regions& regions) {
    if (regions.regions_size() > regions_max) {
        return fmt::format("{} regions", regions.regions_size());
    }
    for (const pb::Regions::Region& region : regions.regions()) {
        if (!share(region.x0()) || !share(region.y0()) || !share(region.x1()) || !share(region.y1()) ||
            region.x0() > region.x1() || region.y0() > region.y1()) {
            return fmt::format("a region from {},{} to {},{}", region.x0(), region.y0(), region.x1(), region.y1());
        }
    }
    return {};
}

std::string wrong_with(const pb::BlockWeights& blocks) {
    if (blocks.columns() < 1 || blocks.columns() > blocks_max || blocks.rows() < 1 || blocks.rows() > blocks_max ||
        static_cast<uint32_t>(blocks.weights_size()) != blocks.columns() * blocks.rows()) {
        return fmt::format("{} weights for {}x{} blocks", blocks.weights_size(), blocks.columns(), blocks.rows());
    }
    for (const float weight : blocks.weights()) {
        if (!(weight >= 0 && weight <= weight_max)) {
            return fmt::format("a block's weight of {}", weight);
        }
    }
    return {};
}

}  // namespace

std::string wrong_with(const pb::CameraReport& report, unsigned cameras, uint64_t now_us) {
    if (report.camera() >= cameras) {
        return fmt::format("camera {}: there are {}", report.camera(), cameras);
    }
    if (report.chunk_us() == 0 || report.chunk_us() > now_us + ahead_us) {
        return fmt::format("a chunk of {} us, when it is {}", report.chunk_us(), now_us);
    }
    switch (report.what_case()) {
        case pb::CameraReport::kSeen:
            return wrong_with(report.seen());
        case pb::CameraReport::kMeasured:
            return wrong_with(report.measured());
        case pb::CameraReport::kRegions:
            return wrong_with(report.regions());
        case pb::CameraReport::kBlocks:
            return wrong_with(report.blocks());
        case pb::CameraReport::kBackgroundLost:  // any epoch may be ours
            return {};
        case pb::CameraReport::WHAT_NOT_SET:
            break;
    }
    return "nothing in it that this program knows";
}

}  // namespace adapath::relay
