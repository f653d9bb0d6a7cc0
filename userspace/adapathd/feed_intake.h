// Where the messages of a relay (app select) or a sender (app qp) come in: every field is checked, what is sound goes
// to the kernel side, where there is one, and to the trainer's stream, and all is counted. The gRPC service
// (feed_service.h) and the tests call this.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/measured_mean.h"
#include "userspace/adapathd/select_feed.h"
#include "userspace/proto/control.pb.h"
#include "userspace/proto/select.pb.h"

namespace adapath {

class FeedIntake {
public:
    // With the camera's id (adp_select_sample.camera, adp_qp_sample.camera) filled in. False: there was no room for it.
    using Reports = std::function<bool(const pb::CameraReport& report)>;

    // `cameras`: their numbers are below this. `feed` outlives this; null where only the trainer wants to know.
    FeedIntake(SelectFeed* feed, uint32_t cameras, Reports reports);

    // One stream at a time. False: there is one already.
    bool claim();
    void release();

    // The error names the field and its value; nothing of that message was applied. Any thread.
    Status take(const pb::FeedRequest& request);

    void fill(pb::FeedStatus& status) const;

private:
    Status take(const pb::Market& market);
    Status take(const pb::CameraReport& report);

    SelectFeed* feed_;
    const uint32_t cameras_;
    const Reports reports_;
    std::atomic<bool> claimed_{false};
    mutable std::mutex mutex_;  // all below
    pb::FeedStatus counters_;
    std::vector<MeasuredMean> measured_;  // by the camera's number
    uint64_t market_us_ = 0;              // CLOCK_MONOTONIC of the last one; 0 = never
};

}  // namespace adapath
