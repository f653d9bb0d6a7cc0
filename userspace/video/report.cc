// What both tools write.
#include "userspace/video/report.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>

#include <sys/resource.h>

#include <fmt/format.h>

namespace adapath::video {

namespace {

double round_to(double value, double unit) { return std::round(value / unit) * unit; }

double ms(uint64_t us) { return static_cast<double>(us) / 1000; }

double kbps(uint64_t bytes, uint64_t ns) {
    return ns == 0 ? 0 : std::round(static_cast<double>(bytes) * 8e6 / static_cast<double>(ns));
}

Json delay_json(const Delays& delay) {
    return {{"p50", ms(delay.percentile_us(50))},
            {"p95", ms(delay.percentile_us(95))},
            {"p99", ms(delay.percentile_us(99))},
            {"max", ms(delay.max_us())},
            {"mean", std::round(delay.mean_us()) / 1000}};
}

double mean_qp(const CameraStats& stats) {
    return stats.frames_encoded == 0
               ? 0
               : std::round(10.0 * static_cast<double>(stats.qp_sum) / static_cast<double>(stats.frames_encoded)) / 10;
}

double thousandth(double value) { return std::round(value * 1000) / 1000; }

Json background_json(const BackgroundStats& background) {
    return {{"sending", background.sending},
            {"chunks", background.chunks},
            {"epochs", background.epochs},
            {"lost", background.lost},
            {"trials", background.trials},
            {"bytes_over_uniform", thousandth(background.ratio)},
            {"also_encoded", background.also},
            {"shown", thousandth(background.shown)},
            {"remembered", thousandth(background.remembered)}};
}

Json regions_json(const RegionStats& regions) {
    Json json = {{"generation", regions.generation},
                 {"chunks", regions.chunks},
                 {"cut", regions.cut},
                 {"decided", regions.decided},
                 {"explored", regions.explored},
                 {"uniform", regions.uniform},
                 {"switches", regions.switches},
                 {"samples_lost", regions.samples_lost},
                 {"share_high", thousandth(regions.share)},
                 {"qp_high", regions.qp_high},
                 {"qp_low", regions.qp_low},
                 {"bytes_over_budget", thousandth(regions.bytes_over_budget)},
                 {"state", regions.state},
                 {"asked", regions.asked},
                 {"asked_share", thousandth(regions.asked_share)}};
    if (regions.background) {
        json["background"] = background_json(*regions.background);
    }
    return json;
}

Json link_json(const LinkStats& link) {
    return {{"connected", link.connected},
            {"connections", link.connections},
            {"failures", link.failures},
            {"frames_away", link.frames_away},
            {"frames_abandoned", link.frames_abandoned},
            {"bytes_abandoned", link.bytes_abandoned}};
}

}  // namespace

Result<std::unique_ptr<LineFile>> LineFile::open(const std::string& path) {
    std::FILE* file = path == "-" ? stdout : std::fopen(path.c_str(), "we");
    if (file == nullptr) {
        return Error{fmt::format("cannot write {}: {}", path, errno_text(errno))};
    }
    return std::unique_ptr<LineFile>(new LineFile(path == "-" ? "standard output" : path, file));
}

LineFile::~LineFile() {
    if (file_ != stdout) {
        std::fclose(file_);
    }
}

void LineFile::write(std::string_view line) {
    std::lock_guard lock(mutex_);
    bool written = std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fputc('\n', file_) != EOF &&
                   std::fflush(file_) == 0;
    if (!written && error_ == 0) {
        error_ = errno != 0 ? errno : EIO;
    }
}

Status LineFile::status() const {
    std::lock_guard lock(mutex_);
    if (error_ != 0) {
        return Error{fmt::format("{} is incomplete: {}", path_, errno_text(error_))};
    }
    return {};
}

Json second_json(const CameraStats& stats, uint64_t now_ns) {
    Json json = {{"time_us", now_ns / 1000},
                 {"camera", stats.camera},
                 {"local_port", stats.local_port},
                 {"cc", stats.congestion_control},
                 {"frames_encoded", stats.frames_encoded},
                 {"frames_sent", stats.frames_sent},
                 {"frames_skipped", stats.frames_skipped},
                 {"frames_overrun", stats.frames_overrun},
                 {"bytes", stats.bytes},
                 {"target_kbps", std::round(stats.target_kbps)},
                 {"mean_qp", mean_qp(stats)},
                 {"delivery_kbps", std::round(static_cast<double>(stats.tcp.delivery_rate) * 8 / 1000)},
                 {"app_limited", stats.tcp.app_limited},
                 {"srtt_us", stats.tcp.srtt_us},
                 {"min_rtt_us", stats.tcp.min_rtt_us},
                 {"retransmits", stats.tcp.retransmits},
                 {"cwnd", stats.tcp.cwnd},
                 {"pacing_kbps", std::round(static_cast<double>(stats.tcp.pacing_rate) * 8 / 1000)},
                 {"notsent_bytes", stats.tcp.notsent_bytes},
                 {"backlog_bytes", stats.tcp.backlog_bytes},
                 {"process_bytes", stats.process_bytes}};
    if (stats.link) {
        json["connection"] = link_json(*stats.link);
    }
    if (stats.regions) {
        json["qp"] = regions_json(*stats.regions);
    }
    return json;
}

Json second_json(const StreamStats& stats, const StreamInterval& interval) {
    return {
        {"time_us", interval.now_ns / 1000},
        {"camera", stats.camera},
        {"frames_received", stats.frames_received},
        {"frames_decoded", stats.frames_decoded},
        {"frames_late", stats.frames_late},
        {"frames_lost", stats.frames_lost()},
        {"frames_skipped", stats.frames_skipped},
        {"bytes", stats.bytes},
        {"kbps", kbps(interval.bytes, interval.ns)},
        {"fps",
         interval.ns == 0
             ? 0
             : round_to(static_cast<double>(interval.frames_decoded) * 1e9 / static_cast<double>(interval.ns), 0.1)},
        {"delay_ms", delay_json(interval.delay)},
        {"stalls", stats.stalls}};
}

Json summary_json(const CameraStats& stats) {
    uint64_t ns = stats.end_ns > stats.start_ns ? stats.end_ns - stats.start_ns : 0;
    const uint64_t ms = ns / 1'000'000;
    Json json = {{"camera", stats.camera},
                 {"local_port", stats.local_port},
                 {"cc", stats.congestion_control},
                 {"seconds", static_cast<double>(ms) / 1000},
                 {"frames_encoded", stats.frames_encoded},
                 {"frames_sent", stats.frames_sent},
                 {"frames_skipped", stats.frames_skipped},
                 {"frames_overrun", stats.frames_overrun},
                 {"bytes", stats.bytes},
                 {"kbps", kbps(stats.bytes, ns)},
                 {"mean_qp", mean_qp(stats)},
                 {"min_rtt_us", stats.tcp.min_rtt_us},
                 {"retransmits", stats.tcp.retransmits},
                 {"ended", stats.ended}};
    if (stats.link) {
        json["connection"] = link_json(*stats.link);
    }
    if (stats.regions) {
        json["qp"] = regions_json(*stats.regions);
    }
    if (!stats.error.empty()) {
        json["error"] = stats.error;
    }
    return json;
}

Json summary_json(const StreamStats& stats) {
    uint64_t ns = stats.last_ns - stats.first_ns;
    const uint64_t ms = ns / 1'000'000;
    Json json = {{"camera", stats.camera},
                 {"peer", stats.peer},
                 {"frames_sent", stats.frames_sent},
                 {"frames_received", stats.frames_received},
                 {"frames_decoded", stats.frames_decoded},
                 {"frames_late", stats.frames_late},
                 {"frames_lost", stats.frames_lost()},
                 {"frames_undecoded", stats.frames_undecoded()},
                 {"frames_skipped", stats.frames_skipped},
                 {"bytes", stats.bytes},
                 {"seconds", static_cast<double>(ms) / 1000},
                 {"kbps", kbps(stats.bytes, ns)},
                 {"delay_ms", delay_json(stats.delay)},
                 {"stalls", stats.stalls},
                 {"stall_ms", stats.stall_ns / 1'000'000},
                 {"longest_gap_ms", stats.longest_gap_ns / 1'000'000},
                 {"ended", stats.ended}};
    if (!stats.error.empty()) {
        json["error"] = stats.error;
    }
    return json;
}

Json summary_json(const std::vector<CameraStats>& cameras) {
    CameraStats total;
    uint64_t away = 0;
    uint64_t abandoned = 0;
    double rate = 0;
    Json list = Json::array();
    for (const CameraStats& stats : cameras) {
        Json one = summary_json(stats);
        rate += one["kbps"].get<double>();
        list.push_back(std::move(one));
        total.frames_encoded += stats.frames_encoded;
        total.frames_sent += stats.frames_sent;
        total.frames_skipped += stats.frames_skipped;
        total.frames_overrun += stats.frames_overrun;
        total.bytes += stats.bytes;
        total.tcp.retransmits += stats.tcp.retransmits;
        away += stats.link ? stats.link->frames_away : 0;
        abandoned += stats.link ? stats.link->frames_abandoned : 0;
    }
    return {{"cameras", std::move(list)},
            {"total",
             {{"frames_encoded", total.frames_encoded},
              {"frames_sent", total.frames_sent},
              {"frames_skipped", total.frames_skipped},
              {"frames_overrun", total.frames_overrun},
              {"frames_away", away},
              {"frames_abandoned", abandoned},
              {"bytes", total.bytes},
              {"kbps", rate},
              {"retransmits", total.tcp.retransmits}}}};
}

Json summary_json(const std::vector<StreamStats>& streams) {
    StreamStats total;
    double rate = 0;
    Json list = Json::array();
    for (const StreamStats& stats : streams) {
        Json one = summary_json(stats);
        rate += one["kbps"].get<double>();
        list.push_back(std::move(one));
        total.frames_sent += stats.frames_sent;
        total.frames_received += stats.frames_received;
        total.frames_decoded += stats.frames_decoded;
        total.frames_late += stats.frames_late;
        total.frames_skipped += stats.frames_skipped;
        total.bytes += stats.bytes;
        total.stalls += stats.stalls;
        total.stall_ns += stats.stall_ns;
        total.longest_gap_ns = std::max(total.longest_gap_ns, stats.longest_gap_ns);
        total.delay.add_all(stats.delay);
    }
    return {{"cameras", std::move(list)},
            {"total",
             {{"frames_sent", total.frames_sent},
              {"frames_received", total.frames_received},
              {"frames_decoded", total.frames_decoded},
              {"frames_late", total.frames_late},
              {"frames_lost", total.frames_lost()},
              {"frames_undecoded", total.frames_undecoded()},
              {"frames_skipped", total.frames_skipped},
              {"bytes", total.bytes},
              {"kbps", rate},
              {"delay_ms", delay_json(total.delay)},
              {"stalls", total.stalls},
              {"stall_ms", total.stall_ns / 1'000'000},
              {"longest_gap_ms", total.longest_gap_ns / 1'000'000}}}};
}

std::string frames_csv_header() { return "camera,frame,sent_ns,received_ns,decoded_ns,bytes,key,picture"; }

std::string frames_csv(const FrameRecord& record) {
    return fmt::format("{},{},{},{},{},{},{},{}", record.camera, record.frame, record.sent_ns, record.received_ns,
                       record.decoded_ns, record.bytes, record.key ? 1 : 0, record.picture);
}

Status write_json(const Json& json, const std::string& path) {
    Result<std::unique_ptr<LineFile>> file = LineFile::open(path);
    if (!file) {
        return file.error();
    }
    (*file)->write(json.dump(2));
    return (*file)->status();
}

double cpu_seconds() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace adapath::video
