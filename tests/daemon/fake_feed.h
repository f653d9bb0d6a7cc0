// The kernel side of the app select as far as the relay's messages go, without a kernel.
#pragma once

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/select_feed.h"

namespace adapath::test {

// What was told, instead of a kernel.
struct Told {
    std::mutex mutex;
    adp_select_market market{};
    double price = -1;
    std::map<uint32_t, adp_select_feedback> cameras;
    uint32_t calls = 0;
};

class FakeFeed final : public SelectFeed {
public:
    explicit FakeFeed(std::shared_ptr<Told> told) : told_(std::move(told)) {}
    Status set_market(const SelectMarket& market) override {
        std::lock_guard lock(told_->mutex);
        told_->price = market.price;
        told_->market.main_limit = market.main_limit;
        told_->market.used_q16 = to_q16(market.used);
        told_->market.cameras = market.cameras;
        told_->market.main_late_q16 = to_q16(market.main_late);
        told_->calls++;
        return {};
    }
    Status set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) override {
        std::lock_guard lock(told_->mutex);
        told_->cameras[camera].objects = objects;
        told_->cameras[camera].confidence_q16 = to_q16(confidence);
        told_->cameras[camera].accuracy_q16 = to_q16(accuracy);
        told_->calls++;
        return {};
    }
    Status set_measured(uint32_t camera, double sub_worth, double gain) override {
        std::lock_guard lock(told_->mutex);
        told_->cameras[camera].sub_worth_q16 = to_q16(sub_worth);
        told_->cameras[camera].gain_q16 = static_cast<int32_t>(std::lround(gain * 65536));
        told_->calls++;
        return {};
    }
    [[nodiscard]] Result<adp_select_camera> camera(uint32_t camera) const override {
        adp_select_camera state{};
        state.id = 100 + camera;
        return state;
    }

private:
    std::shared_ptr<Told> told_;
};

}  // namespace adapath::test
