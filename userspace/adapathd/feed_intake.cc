// See feed_intake.h.
#include "userspace/adapathd/feed_intake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "userspace/common/clock.h"

namespace adapath {
namespace {

constexpr double kPriceMax = ADP_SELECT_PRICE_MAX_Q16 / 65536.0;
constexpr double kObjectsMax = 1e6;
constexpr uint32_t kPicturesMax = 1'000'000;
constexpr int kRegionsMax = 1024;
constexpr uint32_t kBlocksMax = 4096 / 16;  // a side: of the largest picture that H.264 is encoded from here
constexpr uint64_t kClockSlackUs = 1'000'000;

// NaN is in no range.
Status in_range(const char* field, double value, double lowest, double highest) {
    if (value >= lowest && value <= highest) {
        return {};
    }
    return Error{fmt::format("{} is {}: use {:g} to {:g}", field, value, lowest, highest)};
}

Status check(const pb::Seen& seen) {
    for (const Status& status :
         {in_range("seen.rendition", seen.rendition(), 0, ADP_SELECT_RENDITIONS - 1),
          in_range("seen.pictures", seen.pictures(), 0, kPicturesMax),
          in_range("seen.objects", seen.objects(), 0, kObjectsMax),
          in_range("seen.confidence", seen.confidence(), 0, 1), in_range("seen.accuracy", seen.accuracy(), 0, 1)}) {
        if (!status) {
            return status;
        }
    }
    return {};
}

Status check(const pb::Measured& measured) {
    for (const Status& status :
         {in_range("measured.sub_worth", measured.sub_worth(), 0, 1), in_range("measured.gain", measured.gain(), -1, 1),
          in_range("measured.pictures", measured.pictures(), 1, kPicturesMax)}) {
        if (!status) {
            return status;
        }
    }
    return {};
}

Status check(const pb::Regions& regions) {
    if (regions.regions_size() > kRegionsMax) {
        return Error{fmt::format("regions: {} of them: at most {}", regions.regions_size(), kRegionsMax)};
    }
    for (const pb::Regions::Region& region : regions.regions()) {
        for (const Status& status :
             {in_range("regions.x0", region.x0(), 0, 1), in_range("regions.y0", region.y0(), 0, 1),
              in_range("regions.x1", region.x1(), region.x0(), 1),
              in_range("regions.y1", region.y1(), region.y0(), 1)}) {
            if (!status) {
                return status;
            }
        }
    }
    return {};
}

Status check(const pb::BlockWeights& blocks) {
    for (const Status& status : {in_range("blocks.columns", blocks.columns(), 1, kBlocksMax),
                                 in_range("blocks.rows", blocks.rows(), 1, kBlocksMax)}) {
        if (!status) {
            return status;
        }
    }
    if (static_cast<uint32_t>(blocks.weights_size()) != blocks.columns() * blocks.rows()) {
        return Error{fmt::format("blocks.weights: {} of them for {} columns and {} rows", blocks.weights_size(),
                                 blocks.columns(), blocks.rows())};
    }
    const auto odd = std::ranges::find_if(blocks.weights(), [](float w) { return !std::isfinite(w) || w < 0; });
    if (odd != blocks.weights().end()) {
        return Error{fmt::format("blocks.weights has {}: use numbers of at least 0", *odd)};
    }
    return {};
}

Status check_what(const pb::CameraReport& report) {
    switch (report.what_case()) {
        case pb::CameraReport::kSeen:
            return check(report.seen());
        case pb::CameraReport::kMeasured:
            return check(report.measured());
        case pb::CameraReport::kRegions:
            return check(report.regions());
        case pb::CameraReport::kBlocks:
            return check(report.blocks());
        case pb::CameraReport::kBackgroundLost:  // the encoder's business: never sent here
        case pb::CameraReport::WHAT_NOT_SET:
            break;
    }
    return Error{"report: it says nothing (or something that this adapathd does not know)"};
}

// To the kernel side; the camera's id there.
Result<uint64_t> tell(SelectFeed& feed, MeasuredMean& measured, const pb::CameraReport& report) {
    Result<adp_select_camera> state = feed.camera(report.camera());
    if (!state) {
        return state.error();
    }
    Status set;
    if (report.has_seen()) {
        const pb::Seen& seen = report.seen();
        set = feed.set_seen(report.camera(), static_cast<uint32_t>(std::lround(seen.objects())), seen.confidence(),
                            seen.accuracy());
    } else if (report.has_measured()) {
        measured.add(state->id, report.measured().sub_worth(), report.measured().gain());
        set = feed.set_measured(report.camera(), measured.sub_worth(), measured.gain());
    }
    return set ? Result<uint64_t>(state->id) : Result<uint64_t>(set.error());
}

}  // namespace

FeedIntake::FeedIntake(SelectFeed* feed, uint32_t cameras, Reports reports)
    : feed_(feed), cameras_(cameras), reports_(std::move(reports)), measured_(cameras) {}

bool FeedIntake::claim() {
    bool expected = false;
    if (!claimed_.compare_exchange_strong(expected, true)) {
        return false;
    }
    std::lock_guard lock(mutex_);
    counters_.set_streams(counters_.streams() + 1);
    return true;
}

void FeedIntake::release() { claimed_ = false; }

Status FeedIntake::take(const pb::FeedRequest& request) {
    Status status;
    switch (request.what_case()) {
        case pb::FeedRequest::kMarket:
            status = take(request.market());
            break;
        case pb::FeedRequest::kReport:
            status = take(request.report());
            break;
        case pb::FeedRequest::WHAT_NOT_SET:
            status = Error{"the message holds neither market nor report"};
            break;
    }
    if (!status) {
        std::lock_guard lock(mutex_);
        counters_.set_refused(counters_.refused() + 1);
        counters_.set_last_refusal(status.error().message);
    }
    return status;
}

Status FeedIntake::take(const pb::Market& market) {
    for (const Status& status :
         {in_range("market.price", market.price(), 0, kPriceMax), in_range("market.used", market.used(), 0, 2),
          in_range("market.cameras", market.cameras(), 0, ADP_SELECT_CAMERAS),
          in_range("market.main_late", market.main_late(), 0, 1)}) {
        if (!status) {
            return status;
        }
    }
    if (feed_ != nullptr) {
        if (Status set = feed_->set_market({.price = market.price(),
                                            .main_limit = market.main_limit(),
                                            .used = market.used(),
                                            .cameras = market.cameras(),
                                            .main_late = market.main_late()});
            !set) {
            return set;
        }
    }
    std::lock_guard lock(mutex_);
    counters_.set_markets(counters_.markets() + 1);
    counters_.set_price(market.price());
    counters_.set_main_limit(market.main_limit());
    counters_.set_used(market.used());
    counters_.set_main_late(market.main_late());
    market_us_ = monotonic_us();
    return {};
}

Status FeedIntake::take(const pb::CameraReport& report) {
    if (report.camera() >= cameras_) {
        return Error{fmt::format("report.camera is {}: {} {}, from 0", report.camera(), cameras_,
                                 feed_ != nullptr ? "are configured" : "are possible")};
    }
    const uint64_t now_us = monotonic_us();
    if (report.chunk_us() == 0 || report.chunk_us() > now_us + kClockSlackUs) {
        return Error{fmt::format("report.chunk_us is {}: use this machine's CLOCK_MONOTONIC, which is at {}",
                                 report.chunk_us(), now_us)};
    }
    if (Status status = check_what(report); !status) {
        return status;
    }
    pb::CameraReport named = report;
    named.set_camera_id(report.camera());
    if (feed_ != nullptr) {
        std::lock_guard lock(mutex_);
        Result<uint64_t> id = tell(*feed_, measured_[report.camera()], report);
        if (!id) {
            return id.error();
        }
        named.set_camera_id(*id);
    }
    const bool room = reports_(named);
    std::lock_guard lock(mutex_);
    counters_.set_lost(counters_.lost() + (room ? 0 : 1));
    counters_.set_blocks(counters_.blocks() + (report.has_blocks() ? 1 : 0));
    counters_.set_reports(counters_.reports() + 1);
    counters_.set_seen(counters_.seen() + (report.has_seen() ? 1 : 0));
    counters_.set_measured(counters_.measured() + (report.has_measured() ? 1 : 0));
    return {};
}

void FeedIntake::fill(pb::FeedStatus& status) const {
    std::lock_guard lock(mutex_);
    status = counters_;
    status.set_connected(claimed_);
    status.set_market_age_s(market_us_ == 0 ? -1 : static_cast<double>(monotonic_us() - market_us_) / 1e6);
}

}  // namespace adapath
