// See select_section.h.
#include "userspace/demo/select_section.h"

#include <adapath/select.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "userspace/harness/chart.h"
#include "userspace/harness/page.h"

namespace adapath::demo {
namespace {

double second_of(const SelectRecording& r, uint64_t time_us) {
    return (static_cast<double>(time_us) - static_cast<double>(r.start_us)) / 1e6;
}

const char* choice_css(uint32_t choice) {
    static constexpr std::array<const char*, 4> names = {"none", "sub", "main", "both"};
    return names[choice & ADP_SELECT_BOTH];
}

double duration_of(const SelectRecording& r) { return std::max(1.0, second_of(r, r.end_us)); }

// A lane a camera: what passed, coloured.
std::string lanes(const SelectRecording& r) {
    constexpr double lane = 22;
    const ChartShape shape{.height = 24 + lane * std::max(1U, r.cameras), .top_space = 2};
    Chart chart(shape, {.low = 0, .high = duration_of(r)},
                {.low = 0, .high = static_cast<double>(std::max(1U, r.cameras))});
    for (uint32_t camera = 0; camera < r.cameras; camera++) {
        std::vector<const SelectDecision*> decisions;
        for (const SelectDecision& decision : r.decisions) {
            if (decision.camera == camera && decision.time_us <= r.end_us) {
                decisions.push_back(&decision);
            }
        }
        const double top = shape.top_space + lane * camera;
        for (size_t i = 0; i < decisions.size(); i++) {
            const double from = chart.x(std::max(0.0, second_of(r, decisions[i]->time_us)));
            const double to =
                chart.x(i + 1 < decisions.size() ? second_of(r, decisions[i + 1]->time_us) : duration_of(r));
            chart.add(
                fmt::format("<rect class='choice {}' x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}'>"
                            "<title>{:.1f} s: {}, generation {}, price {:.2f}</title></rect>",
                            choice_css(decisions[i]->choice), from, top + 2, std::max(0.5, to - from), lane - 4,
                            second_of(r, decisions[i]->time_us), choice_css(decisions[i]->choice),
                            decisions[i]->generation, decisions[i]->price));
        }
        chart.add(fmt::format("<text class='tick' x='{:.1f}' y='{:.1f}' text-anchor='end'>camera {}</text>",
                              chart.left() - 6, top + lane / 2 + 4, camera));
    }
    return chart.svg("select-lanes", "Which rendition of each camera passed, over time");
}

std::string link_chart(const SelectRecording& r) {
    std::map<int, std::array<double, 2>> seconds;
    for (const LinkPoint& point : r.link) {
        const double at = second_of(r, point.time_us);
        if (at >= 0 && at < duration_of(r)) {
            seconds[static_cast<int>(at)][0] += static_cast<double>(point.capacity_bytes) * 8 / 1e6;
            seconds[static_cast<int>(at)][1] += static_cast<double>(point.delivered_bytes) * 8 / 1e6;
        }
    }
    ChartLine capacity, delivered;
    double most = 0.5;
    for (const auto& [second, rates] : seconds) {
        capacity.push_back({static_cast<double>(second), rates[0]});
        delivered.push_back({static_cast<double>(second), rates[1]});
        most = std::max({most, rates[0], rates[1]});
    }
    Chart chart(ChartShape{.height = 150}, {.low = 0, .high = duration_of(r)}, {.low = 0, .high = most * 1.05});
    chart.steps(capacity, "capacity", true);
    chart.axes("Mbit/s", "s");
    chart.steps(delivered, "line delivered", false);
    return chart.svg("select-link", "The cameras' uplink: capacity and what was delivered");
}

std::string price_chart(const SelectRecording& r) {
    ChartLine price;
    double most = 0.1;
    std::vector<SelectDecision> decisions = r.decisions;
    std::ranges::sort(decisions, {}, &SelectDecision::time_us);
    for (const SelectDecision& decision : decisions) {
        const double at = second_of(r, decision.time_us);
        if (at >= 0 && at <= duration_of(r)) {
            price.push_back({at, decision.price});
            most = std::max(most, decision.price);
        }
    }
    Chart chart(ChartShape{.height = 110}, {.low = 0, .high = duration_of(r)}, {.low = 0, .high = most * 1.05});
    chart.axes("price", "s");
    chart.steps(price, "line reward", false);
    return chart.svg("select-price", "The price of the uplink's bytes, accuracy for 1 MiB/s");
}

}  // namespace

std::string embedded(const PngPicture& picture) {
    std::string base64(4 * ((picture.bytes.size() + 2) / 3) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                                       reinterpret_cast<const unsigned char*>(picture.bytes.data()),
                                       static_cast<int>(picture.bytes.size()));
    base64.resize(static_cast<size_t>(length));
    return fmt::format(
        "<figure class='frame'><img alt='{0}' src='data:image/png;base64,{1}'/><figcaption>{0}</figcaption></figure>",
        escape_html(picture.caption), base64);
}

std::string select_section(const SelectRecording& r) {
    if (!r.present) {
        return {};
    }
    std::string out = "<h2>select: which rendition of each camera is worth its bytes</h2>\n";
    if (!r.error.empty()) {
        out +=
            fmt::format("<section class='panel'><p>It did not come to its end: {}</p></section>", escape_html(r.error));
    }
    std::array<uint64_t, 4> choices{};
    for (const SelectDecision& decision : r.decisions) {
        choices[decision.choice & ADP_SELECT_BOTH]++;
    }
    const auto all = std::max<double>(1, static_cast<double>(r.decisions.size()));
    double worth = 0;
    uint64_t measured = 0;
    for (const SelectChunkPoint& chunk : r.chunks) {
        if (chunk.sub_worth >= 0 && chunk.rendition == ADP_SELECT_SUB) {
            worth += chunk.sub_worth;
            measured++;
        }
    }
    uint64_t capacity = 0, delivered = 0;
    for (const LinkPoint& point : r.link) {
        capacity += point.capacity_bytes;
        delivered += point.delivered_bytes;
    }
    out += "<section class='cards'>";
    out += card(grouped(r.pictures_undecodable), "pictures undecodable",
                grouped(r.pictures_decoded) + " decoded at the server",
                r.pictures_undecodable == 0 && r.pictures_decoded > 0);
    out += card(r.verification.ran ? grouped(r.verification.unexplained) : "?", "decisions unexplained",
                grouped(r.verification.decisions) + " run again, bit for bit",
                r.verification.ran && r.verification.unexplained == 0);
    out += card(fmt::format("{:.0f} %", 100 * static_cast<double>(choices[ADP_SELECT_ONLY_MAIN]) / all),
                "of chunks in main",
                fmt::format("{:.0f} % sub, {:.0f} % both, {:.0f} % none",
                            100 * static_cast<double>(choices[ADP_SELECT_ONLY_SUB]) / all,
                            100 * static_cast<double>(choices[ADP_SELECT_BOTH]) / all,
                            100 * static_cast<double>(choices[ADP_SELECT_NONE]) / all),
                std::nullopt);
    out +=
        card(measured == 0 ? "-" : fmt::format("{:.2f}", worth / static_cast<double>(measured)), "what sub was worth",
             fmt::format("F1 against main, of {} chunks that came in both", measured), std::nullopt);
    out += card(grouped(r.counters.switches_parameter + r.counters.switches_network), "switches under live video",
                fmt::format("{} asked for by training", r.counters.switches_trained), std::nullopt);
    out += card(
        capacity == 0 ? "-"
                      : fmt::format("{:.0f} %", 100 * static_cast<double>(delivered) / static_cast<double>(capacity)),
        "of the uplink used",
        fmt::format("{:.2f} of {:.2f} MB", static_cast<double>(delivered) / 1e6, static_cast<double>(capacity) / 1e6),
        std::nullopt);
    out += "</section>\n<section class='panel'>";
    out +=
        "<div class='legend'><span><i class='dot choice-main'></i>main</span><span><i class='dot "
        "choice-sub'></i>sub</span>"
        "<span><i class='dot choice-both'></i>both, to measure the gain</span><span><i class='dot "
        "choice-none'></i>none</span></div>";
    out += fmt::format(
        "<figure><figcaption><b>What passed</b><span class='key'>decided in the kernel, once a "
        "chunk</span></figcaption>{}</figure>",
        lanes(r));
    out += fmt::format(
        "<figure><figcaption><b>The cameras' uplink</b><span class='key capacity-key'>capacity</span><span class='key "
        "delivered-key'>delivered</span></figcaption>{}</figure>",
        link_chart(r));
    out += fmt::format(
        "<figure><figcaption><b>Price</b><span class='key reward-key'>accuracy that 1 MiB/s has to "
        "bring</span></figcaption>{}</figure>",
        price_chart(r));
    out += "</section>\n";
    if (!r.pictures.empty()) {
        out += "<h2>What the server's vision network saw</h2>\n<section class='panel frames'>";
        for (const PngPicture& picture : r.pictures) {
            out += embedded(picture);
        }
        out += "</section>\n";
    }
    return out;
}

}  // namespace adapath::demo
