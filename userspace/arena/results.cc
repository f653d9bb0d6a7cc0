// See results.h.
#include "userspace/arena/results.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "userspace/arena/hash.h"
#include "userspace/common/file.h"

namespace adapath::arena {
namespace {

// Counted up when figures are measured in another way, so that old lines are not taken for new ones.
constexpr int measurement = 2;

}  // namespace

Json inputs_json(const CellInputs& inputs) {
    Json json{{"measurement", measurement},
              {"traffic", name_of(inputs.traffic)},
              {"trace", inputs.trace},
              {"trace_sha256", inputs.trace_hash},
              {"seed", inputs.seed},
              {"policy", inputs.policy},
              {"policy_parts", inputs.policy_parts},
              {"seconds", inputs.seconds},
              {"delay_ms", inputs.link.delay_ms},
              {"queue_ms", inputs.link.queue_ms},
              {"queue_bytes", inputs.queue_bytes},
              {"down_mbit", inputs.link.down_mbit},
              {"loss", inputs.link.loss},
              {"kernel", inputs.kernel}};
    if (inputs.traffic == Traffic::fairness) {
        json["second_flow_after_s"] = inputs.second_flow_after_s;
    }
    if (inputs.video) {
        json["video"] = {{"programs", inputs.video->programs}, {"clip_sha256", inputs.video->clip_hash},
                         {"size", inputs.video->size},         {"fps", inputs.video->fps},
                         {"min_kbps", inputs.video->min_kbps}, {"max_kbps", inputs.video->max_kbps}};
    }
    if (inputs.regimes) {
        json["regimes"] = {{"phase_s", inputs.regimes->phase_s},
                           {"mbit", inputs.regimes->mbit},
                           {"period_ms", inputs.regimes->period_ms},
                           {"served_ms", inputs.regimes->served_ms},
                           {"flows", inputs.regimes->flows}};
    }
    if (inputs.traffic == Traffic::crowd) {
        json["crowd_flows"] = inputs.crowd_flows;
    }
    // Left out where there are none, so that what was measured before there could be any is still known.
    if (inputs.busy > 0) {
        json["busy"] = inputs.busy;
    }
    if (inputs.daemon_stops_s > 0) {
        json["daemon_stops_s"] = inputs.daemon_stops_s;
    }
    if (inputs.bulk_flows > 1) {
        json["bulk_flows"] = inputs.bulk_flows;
    }
    return json;
}

std::string cell_key(const CellInputs& inputs) { return sha256_text(inputs_json(inputs).dump()).substr(0, 16); }

Result<std::vector<Json>> read_results(const std::string& path) {
    std::vector<Json> lines;
    if (access(path.c_str(), F_OK) != 0) {
        return lines;
    }
    Result<std::string> text = read_file(path);
    if (!text) {
        return text.error();
    }
    size_t number = 0;
    for (size_t from = 0; from < text->size();) {
        const size_t end = text->find('\n', from);
        if (end == std::string::npos) {
            break;
        }
        number++;
        const std::string_view line(text->data() + from, end - from);
        from = end + 1;
        Json parsed = Json::parse(line, nullptr, false);
        if (parsed.is_object() && parsed.contains("key") && parsed["key"].is_string() && parsed.contains("inputs") &&
            parsed.contains("figures")) {
            lines.push_back(std::move(parsed));
        } else if (!line.empty()) {
            return Error{fmt::format(
                "{}: line {} is no result of the arena: '{}'; take the line out, or start over with --fresh", path,
                number, line.substr(0, 60))};
        }
    }
    return lines;
}

Result<ResultFile> ResultFile::open(const std::string& path, bool fresh) {
    ResultFile file;
    file.path_ = path;
    file.fd_ = UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!file.fd_.valid()) {
        return Error{fmt::format("{}: can't write: {}", path, strerror(errno))};
    }
    if (flock(file.fd_.get(), LOCK_EX | LOCK_NB) != 0) {
        return Error{
            fmt::format("{}: another adapath-arena writes it; wait for it, or give this one another --out", path)};
    }
    uint64_t whole_bytes = 0;
    if (!fresh) {
        Result<std::vector<Json>> lines = read_results(path);
        if (!lines) {
            return lines.error();
        }
        for (const Json& line : *lines) {
            file.keys_.insert(line["key"].get<std::string>());
        }
        Result<std::string> text = read_file(path);
        if (!text) {
            return text.error();
        }
        whole_bytes = text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1;
    }
    // What a crash left of a line goes: the next line would be joined to it.
    if (ftruncate(file.fd_.get(), static_cast<off_t>(whole_bytes)) != 0) {
        return Error{fmt::format("{}: can't write: {}", path, strerror(errno))};
    }
    return file;
}

Status ResultFile::append(const Json& line) {
    const std::string text = line.dump() + "\n";
    if (Status written = write_all(fd_.get(), text.data(), text.size(), path_); !written) {
        return written;
    }
    if (fsync(fd_.get()) != 0) {
        return Error{fmt::format("{}: fsync: {}", path_, strerror(errno))};
    }
    keys_.insert(line["key"].get<std::string>());
    return {};
}

}  // namespace adapath::arena
