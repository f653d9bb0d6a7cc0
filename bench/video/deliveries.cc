// See deliveries.h.
#include "bench/video/deliveries.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

namespace adapath::video_bench {
namespace {

using Json = nlohmann::json;

constexpr double kRtpClock = 90000;  // RFC 6184

struct Picture {
    uint64_t received_us;  // the relay's clock, which is ours
    uint64_t arrived_ns;
    uint32_t rtp;
    std::string key;
};

// Of one rendition of one camera: place = (rtp - zero) / ticks, modulo the loop.
class Places {
public:
    Places(const std::vector<std::string>& keys, double fps)
        : loop_(static_cast<int64_t>(keys.size())), ticks_(kRtpClock / fps) {
        for (size_t i = 0; i < keys.size(); i++) {
            const auto [found, fresh] = only_.try_emplace(keys[i], static_cast<int64_t>(i));
            if (!fresh) {
                found->second = -1;
            }
        }
    }

    // A vote for where the loop begins.
    void vote(const Picture& picture) {
        const auto found = only_.find(picture.key);
        if (found == only_.end()) {
            unknown_++;
        } else if (found->second >= 0) {
            votes_[(((number(picture.rtp) - found->second) % loop_) + loop_) % loop_]++;
        }
    }
    // False: they contradict each other. Nothing to go by is no contradiction, and then place() knows nothing.
    bool settle() {
        uint64_t all = 0, most = 0;
        for (const auto& [zero, count] : votes_) {
            all += count;
            if (count > most) {
                most = count;
                zero_ = zero;
            }
        }
        return 100 * most >= 99 * all;
    }
    [[nodiscard]] std::optional<uint32_t> place(const Picture& picture) const {
        if (!zero_ || !only_.contains(picture.key)) {
            return std::nullopt;
        }
        return static_cast<uint32_t>((((number(picture.rtp) - *zero_) % loop_) + loop_) % loop_);
    }
    [[nodiscard]] uint64_t unknown() const { return unknown_; }

private:
    // Timestamps wrap after 13 hours: a bench ends before, but may begin just before it.
    [[nodiscard]] int64_t number(uint32_t rtp) const {
        return std::llround(static_cast<double>(static_cast<int32_t>(rtp - base_.value_or(rtp))) / ticks_);
    }

public:
    void set_base(uint32_t rtp) { base_ = base_.value_or(rtp); }

private:
    int64_t loop_;
    double ticks_;
    std::unordered_map<std::string, int64_t> only_;  // -1: at several places
    std::map<int64_t, uint64_t> votes_;
    std::optional<int64_t> zero_;
    std::optional<uint32_t> base_;
    uint64_t unknown_ = 0;
};

}  // namespace

Result<ServerResults> read_server_results(const std::string& path, const std::vector<MeasuredCamera>& cameras) {
    std::ifstream file(path);
    if (!file) {
        return Error{path + ": cannot be read"};
    }
    ServerResults results;
    results.cameras.resize(cameras.size());
    std::vector<std::array<std::vector<Picture>, ADP_SELECT_RENDITIONS>> pictures(cameras.size());
    size_t number = 0;
    for (std::string line; std::getline(file, line);) {
        number++;
        const Json json = Json::parse(line, nullptr, false);
        if (json.is_object() && json.contains("summary")) {
            continue;
        }
        try {
            const size_t camera = json.at("camera");
            if (camera >= cameras.size()) {
                return Error{fmt::format("{}:{}: camera {} of {}", path, number, camera, cameras.size())};
            }
            const uint32_t which = json.at("rendition") == "main" ? ADP_SELECT_MAIN : ADP_SELECT_SUB;
            results.incomplete += json.value("incomplete", 0U);
            results.measured += json.contains("sub_worth") && which == ADP_SELECT_SUB ? 1 : 0;
            results.bytes += json.value("bytes", uint64_t{0});
            for (const Json& picture : json.at("pictures")) {
                pictures[camera][which].push_back(
                    {picture.at("received_us"), picture.at("arrived_ns"), picture.at("rtp"), picture.value("key", "")});
            }
        } catch (const Json::exception& error) {
            return Error{
                fmt::format("{}:{}: not a chunk as adapath-server writes them: {}", path, number, error.what())};
        }
    }
    for (size_t camera = 0; camera < cameras.size(); camera++) {
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            Places places(cameras[camera].keys[which], cameras[camera].pictures.fps);
            for (const Picture& picture : pictures[camera][which]) {
                places.set_base(picture.rtp);
                places.vote(picture);
            }
            if (!places.settle()) {
                return Error{fmt::format("{}: camera {}: its {} pictures are not in the order of their RTP timestamps",
                                         path, camera, which == ADP_SELECT_MAIN ? "main" : "sub")};
            }
            results.unknown += places.unknown();
            for (const Picture& picture : pictures[camera][which]) {
                if (const std::optional<uint32_t> place = places.place(picture)) {
                    results.cameras[camera].push_back({which, *place, picture.received_us, picture.arrived_ns / 1000});
                }
            }
        }
    }
    return results;
}

}  // namespace adapath::video_bench
