// See reward_recorder.h.
#include "userspace/arena/reward_recorder.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>

#include "userspace/harness/cc_samples.h"

namespace adapath::arena {

RewardRecorder::RewardRecorder(const std::string& socket, uint64_t start_ns, size_t seconds)
    : start_us_(start_ns / 1000), client_(socket), seconds_(seconds) {
    thread_ = std::thread([this] { read(); });
}

RewardRecorder::~RewardRecorder() { stop(); }

void RewardRecorder::stop() {
    context_.TryCancel();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void RewardRecorder::read() {
    auto stream = client_.stub().StreamSamples(&context_, {});
    for (pb::SampleBatch batch; stream->Read(&batch);) {
        std::lock_guard lock(mutex_);
        dropped_ = std::max<uint64_t>(dropped_, batch.dropped());
        if (Status known = for_each_cc_sample(batch, [this](const adp_cc_sample& sample) { add(sample); }); !known) {
            error_ = known.error().message;
            break;
        }
    }
    const grpc::Status status = stream->Finish();
    std::lock_guard lock(mutex_);
    if (!status.ok() && status.error_code() != grpc::StatusCode::CANCELLED && error_.empty()) {
        error_ = status.error_message();
    }
}

void RewardRecorder::add(const adp_cc_sample& sample) {
    if (sample.time_us < start_us_ || (sample.flags & (ADP_CC_APP_LIMITED | ADP_CC_START_MADE)) != 0) {
        return;
    }
    const size_t second = (sample.time_us - start_us_) / 1000000;
    if (second >= seconds_.size()) {
        return;
    }
    const auto us = static_cast<double>(sample.interval.us);
    seconds_[second].reward += us * adp_cc_reward(&sample.interval, &sample.objective) / 65536.0;
    seconds_[second].us += us;
}

Json RewardRecorder::series() {
    std::lock_guard lock(mutex_);
    Json rewards = Json::array();
    for (const Second& second : seconds_) {
        rewards.push_back(second.us > 0 ? Json(std::round(second.reward / second.us * 1e4) / 1e4) : Json(nullptr));
    }
    return rewards;
}

uint64_t RewardRecorder::dropped() {
    std::lock_guard lock(mutex_);
    return dropped_;
}

std::string RewardRecorder::error() {
    std::lock_guard lock(mutex_);
    return error_;
}

}  // namespace adapath::arena
