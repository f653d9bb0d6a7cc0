// See results.h.
#include "userspace/server/results.h"

#include <adapath/select.h>

#include <cmath>

#include "userspace/video/report.h"

namespace adapath::server {

namespace {

const char* look_text(Look look) {
    switch (look) {
        case Look::seen:
            return "seen";
        case Look::left_out:
            return "left_out";
        case Look::failed:
            return "failed";
        case Look::waiting:
        case Look::none:
            break;
    }
    return "none";
}

double thousandth(double value) { return std::round(value * 1000) / 1000; }

double share(uint64_t part, uint64_t all) {
    return all == 0 ? 0 : thousandth(static_cast<double>(part) / static_cast<double>(all));
}

Json picture_json(const PictureResult& picture, const ResultOptions& options) {
    Json json = {{"received_us", picture.received_us},
                 {"arrived_ns", picture.arrived_ns},
                 {"decoded_ns", picture.decoded_ns},
                 {"rtp", picture.timestamp},
                 {"bytes", picture.bytes}};
    if (options.same_clock)
        json["delay_us"] = static_cast<int64_t>(picture.arrived_ns / 1000) - static_cast<int64_t>(picture.received_us);
    json["vision"] = look_text(picture.look);
    if (picture.look != Look::seen) return json;
    json["key"] = picture.key.text();
    if (!options.boxes) return json;
    Json boxes = Json::array();
    for (const Box& box : picture.boxes)
        if (box.score >= options.score)
            boxes.push_back({thousandth(box.x0), thousandth(box.y0), thousandth(box.x1), thousandth(box.y1),
                             thousandth(box.score), box.class_id});
    json["boxes"] = std::move(boxes);
    return json;
}

Json stream_json(const Depacketiser::Counters& stream) {
    return {{"packets", stream.packets},
            {"lost", stream.lost},
            {"late", stream.late},
            {"malformed", stream.malformed},
            {"foreign", stream.foreign},
            {"pictures", stream.pictures},
            {"incomplete", stream.incomplete},
            {"skipped", stream.skipped},
            {"relay_drops", stream.relay_drops},
            {"cut", stream.cut}};
}

}  // namespace

Json chunk_json(const std::string& gateway, uint32_t camera, const ChunkResult& chunk, const ResultOptions& options) {
    Json json = {{"gateway", gateway},
                 {"camera", camera},
                 {"rendition", chunk.rendition == ADP_SELECT_MAIN ? "main" : "sub"},
                 {"chunk_us", chunk.chunk_us}};
    if (chunk.continued) json["continued"] = true;
    json["received"] = chunk.received;
    json["decoded"] = chunk.pictures.size();
    json["incomplete"] = chunk.incomplete;
    json["bytes"] = chunk.bytes;
    if (!chunk.pictures.empty()) {
        json["width"] = chunk.pictures.front().width;
        json["height"] = chunk.pictures.front().height;
    }
    if (chunk.accuracy) {
        json["accuracy"] = *chunk.accuracy;
        json["measured"] = chunk.measured;
    }
    if (chunk.matches) {
        json["sub_worth"] = chunk.sub_worth;
        json["compared"] = chunk.compared;
        json["found"] = chunk.matches->found;
        json["missed"] = chunk.matches->missed;
        json["wrong"] = chunk.matches->wrong;
    }
    Json pictures = Json::array();
    for (const PictureResult& picture : chunk.pictures) pictures.push_back(picture_json(picture, options));
    json["pictures"] = std::move(pictures);
    return json;
}

Json summary_json(const Server& server, const ReportHub& reports, const Detections* detections, bool same_clock) {
    const ServerCounters connections = server.counters();
    Json json = {{"connections",
                  {{"accepted", connections.connections},
                   {"ended", connections.ended},
                   {"refused", connections.refused},
                   {"malformed", connections.malformed},
                   {"broken", connections.broken},
                   {"replaced", connections.replaced}}}};
    Json cameras = Json::array();
    for (const auto& [gateway, of_gateway] : server.cameras())
        for (const auto& [number, counters] : of_gateway)
            cameras.push_back({{"gateway", gateway},
                               {"camera", number},
                               {"chunks", counters.chunks},
                               {"measured", counters.measured},
                               {"decoded", counters.decoded},
                               {"undecodable", counters.undecodable},
                               {"seen", counters.seen},
                               {"from_cache", counters.cached},
                               {"left_out", counters.left_out},
                               {"failed", counters.failed},
                               {"background",
                                {{"notes", counters.background.notes},
                                 {"epochs", counters.background.epochs},
                                 {"lost", counters.background.lost},
                                 {"asked", counters.background_asked},
                                 {"as_decoded", counters.background.as_decoded},
                                 {"malformed", counters.background.malformed},
                                 {"no_room", counters.background.no_room},
                                 {"recalled", share(counters.background.recalled, counters.background.blocks)}}},
                               {"sub", stream_json(counters.streams[ADP_SELECT_SUB])},
                               {"main", stream_json(counters.streams[ADP_SELECT_MAIN])}});
    json["cameras"] = std::move(cameras);
    const ReportHub::Counters told = reports.counters();
    json["reports"] = {{"made", told.reports}, {"unwatched", told.unwatched}, {"dropped", told.dropped}};
    if (detections != nullptr) {
        const Detections::Counters cache = detections->counters();
        json["detections"] = {{"known", detections->size()}, {"hits", cache.hits},
                              {"misses", cache.misses},      {"loaded", cache.loaded},
                              {"evicted", cache.evicted},    {"passed_over", cache.passed_over}};
    }
    if (same_clock) {
        const video::Delays delays = server.delays();
        json["delay_us"] = {{"pictures", delays.count()},
                            {"p50", delays.percentile_us(50)},
                            {"p95", delays.percentile_us(95)},
                            {"p99", delays.percentile_us(99)},
                            {"max", delays.max_us()}};
    }
    json["cpu_seconds"] = video::cpu_seconds();
    return json;
}

}  // namespace adapath::server
