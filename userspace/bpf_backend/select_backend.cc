// See select_backend.h.
#include "userspace/bpf_backend/select_backend.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "userspace/bpf_backend/bpf_backend.h"
#include "userspace/bpf_backend/select_side.h"

namespace adapath {
namespace {

// The clock of bpf_ktime_get_ns().
uint64_t monotonic_us() {
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

int32_t q16(double value, double lowest, double highest) {
    return static_cast<int32_t>(std::lround(std::clamp(value, lowest, highest) * ADP_Q16_ONE));
}

template <typename T>
void store(T& word, T value) {
    __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

}  // namespace

Result<Backend> open_select_backend(const SelectBackendOptions& options) {
    if (const std::vector<std::string> obstacles = bpf_backend_obstacles(); !obstacles.empty())
        return no_bpf_backend(obstacles);
    Result<std::unique_ptr<SelectSide>> opened = open_select_side(options);
    if (!opened) return opened.error();
    const std::shared_ptr<SelectSide> side = std::move(*opened);
    Backend backend;
    backend.name = "bpf";
    backend.adopted = side->adopted;
    backend.warnings = side->warnings;
    backend.installer = make_bpf_installer(side);
    Result<std::unique_ptr<Collector>> collector = open_bpf_collector(side);
    if (!collector) return collector.error();
    backend.collector = std::move(*collector);
    Result<SelectPanel> panel = SelectPanel::open(options.pin_directory);
    if (!panel) return panel.error();
    backend.select_feed = std::make_unique<SelectPanel>(std::move(*panel));
    return backend;
}

Result<SelectPanel> SelectPanel::open(const std::string& pin_directory) {
    SelectPanel panel;
    const auto pinned = [&](const char* name) { return UniqueFd(bpf_obj_get(pin_path(pin_directory, name).c_str())); };
    const UniqueFd market = pinned("market");
    const UniqueFd feedback = pinned("feedback");
    panel.cameras_map_ = pinned("cameras");
    if (!market.valid() || !feedback.valid() || !panel.cameras_map_.valid())
        return Error{
            fmt::format("{}: {}: no kernel side of the app select is pinned there: is adapathd running with it?",
                        pin_directory, std::strerror(errno))};
    Result<Mapping> mapped = map_array(market, sizeof(adp_select_market), "market");
    if (!mapped) return mapped.error();
    panel.market_ = std::move(*mapped);
    mapped = map_array(feedback, sizeof(adp_select_feedback) * ADP_SELECT_CAMERAS, "feedback");
    if (!mapped) return mapped.error();
    panel.feedback_ = std::move(*mapped);
    return panel;
}

Status SelectPanel::set_market(const SelectMarket& told) {
    auto& market = *market_.as<adp_select_market>();
    store(market.price_q16, static_cast<adp_u32>(q16(told.price, 0, ADP_SELECT_PRICE_MAX_Q16 / 65536.0)));
    store(market.main_limit, told.main_limit);
    store(market.used_q16, static_cast<adp_u32>(q16(told.used, 0, 2)));
    store(market.cameras, told.cameras);
    store(market.main_late_q16, static_cast<adp_u32>(q16(told.main_late, 0, 1)));
    store(market.time_us, adp_u64{monotonic_us()});
    return {};
}

Status SelectPanel::set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) {
    if (camera >= ADP_SELECT_CAMERAS) return {};
    auto& feedback = feedback_.as<adp_select_feedback>()[camera];
    store(feedback.objects, objects);
    store(feedback.confidence_q16, static_cast<adp_u32>(q16(confidence, 0, 1)));
    store(feedback.accuracy_q16, static_cast<adp_u32>(q16(accuracy, 0, 1)));
    store(feedback.seen_us, adp_u64{monotonic_us()});
    return {};
}

Status SelectPanel::set_measured(uint32_t camera, double sub_worth, double gain) {
    if (camera >= ADP_SELECT_CAMERAS) return {};
    auto& feedback = feedback_.as<adp_select_feedback>()[camera];
    store(feedback.sub_worth_q16, static_cast<adp_u32>(q16(sub_worth, 0, 1)));
    store(feedback.gain_q16, q16(gain, -1, 1));
    store(feedback.measured_us, adp_u64{monotonic_us()});
    return {};
}

Result<adp_select_camera> SelectPanel::camera(uint32_t camera) const {
    adp_select_entry entry = {};
    if (bpf_map_lookup_elem_flags(cameras_map_.get(), &camera, &entry, BPF_F_LOCK) != 0)
        return Error{fmt::format("camera {}: {}", camera, std::strerror(errno))};
    return entry.camera;
}

}  // namespace adapath
