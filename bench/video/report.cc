// See report.h.
#include "bench/video/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "bench/video/report_page.h"
#include "userspace/harness/chart.h"
#include "userspace/harness/page.h"

namespace adapath::video_bench {
namespace {

// Of one second there are too few objects to see anything in a curve of F1.
constexpr int smooth_s = 5;

double figure_of(const Json& cell, const char* name) { return cell.at("figures").value(name, 0.0); }
std::string policy_of(const Json& cell) { return cell.at("inputs").value("policy", ""); }

// What cells must have in common to be compared: all inputs that are not the cell's own, or the learned policy's.
Json settings_of(const Json& row) {
    Json settings = Json::object();
    for (const char* name : {"measurement", "load", "seconds", "warm_up_s", "delay_ms", "queue_ms", "video", "contents",
                             "kernel", "cc", "cc_config", "programs", "relay_arguments"}) {
        if (row["inputs"].contains(name)) {
            settings[name] = row["inputs"][name];
        }
    }
    return settings;
}

std::string css_of(const std::string& policy) {
    for (const char* known : {learned_policy, sub_policy, "always-main", mix_policy, threshold_policy}) {
        if (policy == known) {
            return known;
        }
    }
    return "other";
}

std::string policy_name(const std::string& policy) {
    return fmt::format("<i class='dot {}'></i>{}", css_of(policy), escape_html(policy));
}

double share_of_capacity(const Json& cell) {
    const double capacity = figure_of(cell, "capacity_bytes");
    return capacity > 0 ? figure_of(cell, "bytes") / capacity : 0;
}

double share_of_pictures(const Json& cell, const char* name) {
    const double pictures = figure_of(cell, "pictures");
    return pictures > 0 ? figure_of(cell, name) / pictures : 0;
}

struct Verdicts {
    size_t above = 0;
    size_t frugal = 0;  // and above each rival at its bytes
    size_t of = 0;
    size_t undecided = 0;  // of them: a rival failed there
};

Verdicts verdicts_of(const std::vector<Comparison>& comparisons, unsigned cameras) {
    Verdicts v;
    for (const Comparison& c : comparisons) {
        if (c.cameras == cameras && c.of(learned_policy) != nullptr) {
            v.of++;
            if (!lacks(c, comparisons).empty()) {
                v.undecided++;
                continue;
            }
            v.above += c.above_all() ? 1 : 0;
            v.frugal += c.above_all() && c.above_at_its_bytes() ? 1 : 0;
        }
    }
    return v;
}

std::vector<unsigned> camera_counts(const std::vector<Comparison>& comparisons) {
    std::vector<unsigned> counts;
    for (const Comparison& c : comparisons) {
        if (std::ranges::find(counts, c.cameras) == counts.end()) {
            counts.push_back(c.cameras);
        }
    }
    return counts;
}

// Five of six.
bool enough(size_t of_them, size_t all) { return all > 0 && 6 * of_them >= 5 * all; }

std::string verdict_list(const std::vector<Comparison>& comparisons) {
    std::string out = "<ul class='verdicts'>";
    const auto line = [&](size_t there, size_t all, const std::string& what) {
        out += fmt::format("<li class='{}'><b>{} of {} traces</b>{}</li>", enough(there, all) ? "good" : "wrong", there,
                           all, escape_html(what));
    };
    for (const unsigned cameras : camera_counts(comparisons)) {
        const Verdicts v = verdicts_of(comparisons, cameras);
        if (v.of == 0) {
            continue;
        }
        line(v.above, v.of, fmt::format("{} cameras: mean F1 above every rival's (asked: 5 of 6)", cameras));
        line(v.frugal, v.of,
             fmt::format("{} cameras: and at no more bytes: above each rival that sends main, with no more than its "
                         "bytes (kept to them where it would take more)",
                         cameras));
        if (v.undecided > 0) {
            out += fmt::format("<li class='wrong'><b>{} traces</b>{} cameras: not decided, since a rival failed</li>",
                               v.undecided, cameras);
        }
    }
    return out + "</ul>";
}

std::string title_of(const Comparison& c) {
    return fmt::format("{}, {} cameras{}", c.trace, c.cameras,
                       c.seeds > 1   ? fmt::format(", mean of {} seeds", c.seeds)
                       : c.seed == 1 ? ""
                                     : fmt::format(", seed {}", c.seed));
}

// The policy's cell with the figures' means over all of `seeds`; nothing where one of them does not have it.
std::optional<Json> mean_cell(const std::vector<const Comparison*>& seeds, const std::string& policy) {
    Json mean;
    for (const Comparison* c : seeds) {
        const Json* cell = c->of(policy);
        if (cell == nullptr) {
            return std::nullopt;
        }
        if (mean.is_null()) {
            mean = {{"inputs", cell->at("inputs")}, {"figures", Json::object()}, {"series", Json::object()}};
        }
        for (const auto& [name, value] : cell->at("figures").items()) {
            if (value.is_number()) {
                Json& sum = mean["figures"][name];
                sum =
                    (sum.is_null() ? 0.0 : sum.get<double>()) + value.get<double>() / static_cast<double>(seeds.size());
            }
        }
    }
    return mean;
}

std::string table_of(const Comparison& c) {
    std::string out =
        "<div class='scroll'><table><tr><th>policy</th><th class='n'>mean F1</th><th class='n'>pooled</th><th "
        "class='n'>least camera</th>"
        "<th class='n'>delivered</th><th class='n'>of capacity</th><th class='n'>seen in main</th><th class='n'>in "
        "sub</th><th class='n'>late</th><th class='n'>never came</th><th class='n'>decisions</th></tr>";
    for (const Json& cell : c.cells) {
        const double none = 1 - share_of_pictures(cell, "by_main") - share_of_pictures(cell, "by_sub") -
                            share_of_pictures(cell, "late");
        out += fmt::format(
            "<tr><td class='p'>{}</td><td class='n'>{:.3f}</td><td class='n'>{:.3f}</td><td class='n'>{:.3f}</td>"
            "<td class='n'>{:.2f} MB</td>"
            "<td class='n'>{:.0f} %</td><td class='n'>{:.0f} %</td><td class='n'>{:.0f} %</td><td class='n'>{:.1f} "
            "%</td><td class='n'>{:.1f} %</td><td class='n'>{}</td></tr>",
            policy_name(policy_of(cell)), figure_of(cell, "f1"), figure_of(cell, "f1_pooled"),
            figure_of(cell, "f1_least"), figure_of(cell, "bytes") / 1e6, 100 * share_of_capacity(cell),
            100 * share_of_pictures(cell, "by_main"), 100 * share_of_pictures(cell, "by_sub"),
            100 * share_of_pictures(cell, "late"), 100 * std::max(0.0, none),
            grouped(static_cast<uint64_t>(figure_of(cell, "decisions"))));
    }
    return out + "</table></div>";
}

// F1 of the seconds around each one.
ChartLine f1_line(const Json& cell) {
    ChartLine line;
    const Json& series = cell.at("series");
    if (!series.contains("f1")) {
        return line;
    }
    const auto seconds = static_cast<int>(series["f1"].size());
    for (int s = 0; s < seconds; s++) {
        double sum = 0;
        const int from = std::max(0, s - smooth_s / 2), to = std::min(seconds - 1, s + smooth_s / 2);
        for (int at = from; at <= to; at++) {
            sum += series["f1"][static_cast<size_t>(at)].get<double>();
        }
        line.push_back({s + 0.5, sum / (to - from + 1)});
    }
    return line;
}

std::string chart_of(const Comparison& c, const std::string& id) {
    double seconds = 1, most = 1;
    for (const Json& cell : c.cells) {
        seconds = std::max(seconds, cell.at("inputs").value("seconds", 0.0));
    }
    ChartLine capacity;
    if (!c.cells.empty() && c.cells.front().at("series").contains("capacity_bytes")) {
        double at = 0;
        for (const Json& bytes : c.cells.front()["series"]["capacity_bytes"]) {
            capacity.push_back({at, bytes.get<double>() * 8 / 1e6});
            most = std::max(most, capacity.back().y);
            at += 1;
        }
    }
    Chart chart(ChartShape{}, {.low = 0, .high = seconds}, {.low = 0, .high = 1});
    // The uplink, in the background, up to its own greatest.
    for (ChartPoint& point : capacity) {
        point.y /= most;
    }
    chart.steps(capacity, "capacity", true);
    chart.axes("F1", "s");
    for (const Json& cell : c.cells) {
        chart.curve(f1_line(cell), "line " + css_of(policy_of(cell)), 1e9);
    }
    return fmt::format(
        "<figure><figcaption><b>Accuracy over time</b><span class='facts'>F1 of all cameras' objects, {} s at a time; "
        "behind it the uplink's capacity, at most {:.1f} Mbit/s</span></figcaption>{}</figure>",
        smooth_s, most, chart.svg(id, fmt::format("F1 over time, {} cameras, {}", c.cameras, c.trace)));
}

}  // namespace

const Json* Comparison::of(const std::string& policy) const {
    const auto found = std::ranges::find(cells, policy, policy_of);
    return found == cells.end() ? nullptr : &*found;
}

bool Comparison::above_all() const {
    const Json* own = of(learned_policy);
    return own != nullptr && std::ranges::any_of(rivals, [&](const char* rival) { return of(rival) != nullptr; }) &&
           std::ranges::all_of(rivals, [&](const char* rival) {
               const Json* other = of(rival);
               return other == nullptr || figure_of(*other, "f1") < figure_of(*own, "f1");
           });
}

bool Comparison::above_at_its_bytes() const {
    // The sub stream alone, under whatever name: a threshold that is best where no chunk reaches it is that too.
    const auto sends_main = [](const Json* rival) { return rival != nullptr && figure_of(*rival, "by_main") > 0; };
    const bool any = std::ranges::any_of(rivals, [&](const char* rival) { return sends_main(of(rival)); });
    return any && std::ranges::all_of(rivals, [&](const char* rival) {
               const Json* other = of(rival);
               return !sends_main(other) || std::ranges::any_of(budgets, [&](const char* policy) {
                   const Json* own = of(policy);
                   return own != nullptr && figure_of(*own, "f1") > figure_of(*other, "f1") &&
                          figure_of(*own, "bytes") <= figure_of(*other, "bytes");
               });
           });
}

std::vector<std::string> lacks(const Comparison& comparison, const std::vector<Comparison>& all) {
    std::vector<std::string> missing;
    for (const char* rival : rivals) {
        if (comparison.of(rival) == nullptr && std::ranges::any_of(all, [&](const Comparison& other) {
                return other.cameras == comparison.cameras && other.of(rival) != nullptr;
            })) {
            missing.emplace_back(rival);
        }
    }
    return missing;
}

std::vector<Comparison> compare(const std::vector<Json>& results, const Json& settings) {
    const auto counts = [](const Json& row) {
        return row.contains("figures") && row.contains("inputs") && !row.contains("error");
    };
    Json wanted = settings;
    if (wanted.is_null()) {
        const auto newest = std::find_if(results.rbegin(), results.rend(), counts);
        wanted = newest == results.rend() ? Json::object() : settings_of(*newest);
    } else {
        wanted = settings_of({{"inputs", settings}});
    }
    std::vector<Comparison> comparisons;
    for (const Json& row : results) {
        if (!counts(row) || settings_of(row) != wanted) {
            continue;
        }
        const Json& inputs = row["inputs"];
        const auto same = [&](const Comparison& c) {
            return c.trace == inputs.value("trace", "") && c.cameras == inputs.value("cameras", 0U) &&
                   c.seed == inputs.value("seed", uint64_t{1});
        };
        auto found = std::ranges::find_if(comparisons, same);
        if (found == comparisons.end()) {
            comparisons.push_back({.trace = inputs.value("trace", ""),
                                   .cameras = inputs.value("cameras", 0U),
                                   .seed = inputs.value("seed", uint64_t{1}),
                                   .cells = {}});
            found = std::prev(comparisons.end());
        }
        const auto before = std::ranges::find(found->cells, policy_of(row), policy_of);
        if (before == found->cells.end()) {
            found->cells.push_back(row);
        } else {
            *before = row;
        }
    }
    return comparisons;
}

std::vector<Comparison> over_seeds(const std::vector<Comparison>& comparisons) {
    std::vector<Comparison> means;
    std::vector<std::vector<const Comparison*>> seeds;  // of each mean
    for (const Comparison& c : comparisons) {
        const auto found = std::ranges::find_if(
            means, [&](const Comparison& mean) { return mean.trace == c.trace && mean.cameras == c.cameras; });
        if (found == means.end()) {
            means.push_back(c);
            seeds.push_back({&c});
        } else {
            seeds[static_cast<size_t>(found - means.begin())].push_back(&c);
        }
    }
    for (size_t i = 0; i < means.size(); i++) {
        Comparison& mean = means[i];
        if (seeds[i].size() == 1) {
            continue;
        }
        const std::vector<Json> first = std::move(mean.cells);
        mean.cells.clear();
        mean.seeds = static_cast<unsigned>(seeds[i].size());
        for (const Json& cell : first) {
            if (std::optional<Json> of_all = mean_cell(seeds[i], policy_of(cell))) {
                mean.cells.push_back(std::move(*of_all));
            }
        }
    }
    return means;
}

std::string to_html(const std::vector<Comparison>& comparisons, const std::string& more_sections) {
    const std::vector<Comparison> means = over_seeds(comparisons);
    bool good = !means.empty();
    for (const unsigned cameras : camera_counts(means)) {
        const Verdicts v = verdicts_of(means, cameras);
        good = good && enough(v.above, v.of);
    }
    std::string sections =
        fmt::format("<h2>What was asked</h2>\n<section class='panel'>{}</section>\n", verdict_list(means));
    for (const Comparison& c : means) {
        if (c.seeds > 1) {
            sections += fmt::format("<h2>{}</h2>\n<section class='panel'>{}</section>\n", escape_html(title_of(c)),
                                    table_of(c));
        }
    }
    size_t number = 0;
    for (const Comparison& c : comparisons) {
        sections += fmt::format("<h2>{}</h2>\n<section class='panel'>{}{}</section>\n", escape_html(title_of(c)),
                                table_of(c), chart_of(c, fmt::format("f1-{}", number++)));
    }
    std::string facts;
    if (!comparisons.empty()) {
        const Json& inputs = comparisons.front().cells.front()["inputs"];
        facts = fmt::format("{:g} s a cell, policies side by side; kernel {}", inputs.value("seconds", 0.0),
                            escape_html(inputs.value("kernel", "?")));
    }
    return fmt::format(report_page, fmt::arg("style", page_style), fmt::arg("facts", facts),
                       fmt::arg("verdict", comparisons.empty() ? std::string()
                                                               : fmt::format("<span class='verdict {}'>{}</span>",
                                                                             good ? "good" : "wrong",
                                                                             good ? "as asked" : "not as asked")),
                       fmt::arg("sections", sections + more_sections));
}

std::string to_table(const std::vector<Comparison>& comparisons) {
    const std::vector<Comparison> means = over_seeds(comparisons);
    std::string out;
    const auto add = [&](const Comparison& c) {
        out += fmt::format("{}\n{:<15} {:>8} {:>8} {:>8} {:>9} {:>9} {:>6} {:>6} {:>6}\n", title_of(c), "policy",
                           "mean F1", "pooled", "least", "MB", "of link", "main", "sub", "late");
        for (const Json& cell : c.cells) {
            out += fmt::format(
                "{:<15} {:>8.3f} {:>8.3f} {:>8.3f} {:>9.2f} {:>7.0f} % {:>4.0f} % {:>4.0f} % {:>4.0f} %\n",
                policy_of(cell), figure_of(cell, "f1"), figure_of(cell, "f1_pooled"), figure_of(cell, "f1_least"),
                figure_of(cell, "bytes") / 1e6, 100 * share_of_capacity(cell), 100 * share_of_pictures(cell, "by_main"),
                100 * share_of_pictures(cell, "by_sub"), 100 * share_of_pictures(cell, "late"));
        }
        out += "\n";
    };
    std::ranges::for_each(comparisons, add);
    for (const Comparison& c : means) {
        if (c.seeds > 1) {
            add(c);
        }
    }
    for (const unsigned cameras : camera_counts(means)) {
        const Verdicts v = verdicts_of(means, cameras);
        if (v.of > 0) {
            out += fmt::format(
                "{} cameras: mean F1 above every rival's on {} of {} traces, on {} above each that sends main at no "
                "more than its bytes, too{}\n",
                cameras, v.above, v.of, v.frugal,
                v.undecided > 0 ? fmt::format("; {} not decided, since a rival failed", v.undecided) : "");
        }
    }
    return out;
}

}  // namespace adapath::video_bench
