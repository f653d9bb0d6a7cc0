// What adapath-server writes down: a JSON line a chunk, and a summary. Field names carry their units.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "userspace/server/camera.h"
#include "userspace/server/report_hub.h"
#include "userspace/server/server.h"

namespace adapath::server {

using Json = nlohmann::ordered_json;

struct ResultOptions {
    bool same_clock = false;  // delays can be told
    bool boxes = false;
    double score = 0.3;  // boxes from this score on
};

[[nodiscard]] Json chunk_json(const std::string& gateway, uint32_t camera, const ChunkResult& chunk,
                              const ResultOptions& options);
[[nodiscard]] Json summary_json(const Server& server, const ReportHub& reports, const Detections* detections,
                                bool same_clock);

}  // namespace adapath::server
