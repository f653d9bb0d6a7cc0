// Reading, checking and generating traces; the format is explained in trace.h.
#include "codegen/trace/trace.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>

namespace adapath {

namespace {

// SplitMix64 and Box-Muller, written out because the standard library's distributions differ between implementations
// and a seed must name one trace everywhere.
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        state_ += 0x9e3779b97f4a7c15U;
        uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }
    // In (0, 1].
    double uniform() { return (static_cast<double>(next() >> 11) + 1.0) * 0x1p-53; }
    double normal() { return std::sqrt(-2.0 * std::log(uniform())) * std::cos(2.0 * M_PI * uniform()); }
    double exponential(double mean) { return -mean * std::log(uniform()); }

private:
    uint64_t state_;
};

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

// `value` must be in [low, high]; NaN never is.
Status check_range(const char* name, double value, double low, double high, const char* unit) {
    if (value >= low && value <= high) {
        return {};
    }
    return Error{std::string("trace generator: ") + name + " is " + number(value) + " " + unit + "; use " +
                 number(low) + " to " + number(high)};
}

Status check_generator(const TraceGenerator& options) {
    const struct {
        const char* name;
        double value;
        double low;
        double high;
        const char* unit;
    } ranges[] = {
        {"mean rate", options.mean_mbit, 0.05, 10'000, "Mbit/s"},
        {"duration", static_cast<double>(options.duration_ms), 1'000, trace_max_ms, "ms"},
        {"walk_sd", options.walk_sd, 0, 3, ""},
        {"walk_s", options.walk_s, 0.1, 3'600, "s"},
        {"flutter", options.flutter, 0, 1, ""},
        {"outage_every_s", options.outage_every_s, 0, 1e6, "s"},
        {"outage_mean_ms", options.outage_mean_ms, 0, 2'000, "ms"},
        {"service_share", options.service_share, 0.01, 1, ""},
    };
    for (const auto& range : ranges) {
        if (Status status = check_range(range.name, range.value, range.low, range.high, range.unit); !status) {
            return status;
        }
    }
    return {};
}

constexpr uint32_t step_ms = 100;

// Rate per 100 ms step, relative to nothing in particular: the caller scales the whole to the mean.
std::vector<double> rate_steps(const TraceGenerator& options, Random& random) {
    const size_t steps = (options.duration_ms + step_ms - 1) / step_ms;
    const double keep = std::exp(-(step_ms / 1000.0) / options.walk_s);
    const double kick = options.walk_sd * std::sqrt(1.0 - keep * keep);
    double walk = options.walk_sd * random.normal();
    std::vector<double> rates(steps);
    for (double& rate : rates) {
        const double slow = std::clamp(std::exp(walk), 0.25, 2.5);
        rate = slow * std::max(0.0, 1.0 + options.flutter * random.normal());
        walk = keep * walk + kick * random.normal();
    }
    return rates;
}

}  // namespace

Result<Trace> Trace::check(std::vector<uint32_t> opportunity_ms, std::string_view name_for_errors) {
    const std::string name(name_for_errors);
    if (opportunity_ms.empty()) {
        return Error{name + ": the trace is empty; it needs at least one line with a time in ms"};
    }
    if (opportunity_ms.back() == 0) {
        return Error{name + ": line " + std::to_string(opportunity_ms.size()) +
                     ": the last timestamp is 0, so the trace has no length; it must end after 0 ms"};
    }
    return Trace(std::move(opportunity_ms));
}

Result<Trace> Trace::load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return Error{path + ": can't open the trace: " + std::strerror(errno)};
    }
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (file.bad()) {
        return Error{path + ": can't read the trace: " + std::strerror(errno)};
    }
    return parse(text, path);
}

Result<Trace> Trace::parse(std::string_view text, std::string_view name_for_errors) {
    std::vector<uint32_t> opportunity_ms;
    size_t line_number = 0;
    const auto fail = [&](std::string_view line, const std::string& reason) {
        return Error{std::string(name_for_errors) + ": line " + std::to_string(line_number) + ": '" +
                     std::string(line.substr(0, 40)) + "' " + reason};
    };
    while (!text.empty()) {
        const size_t end = text.find('\n');
        std::string_view line = text.substr(0, end);
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
        line_number++;
        if (!line.empty() && line.back() == '\r') {
            line.remove_suffix(1);
        }
        uint64_t ms = 0;
        const auto [stop, code] = std::from_chars(line.data(), line.data() + line.size(), ms);
        if ((code != std::errc{} && code != std::errc::result_out_of_range) || stop != line.data() + line.size()) {
            return fail(line, "is not a time; each line is one whole number of ms");
        }
        if (code == std::errc::result_out_of_range || ms > trace_max_ms) {
            return fail(line, "is over the longest trace, " + std::to_string(trace_max_ms) + " ms (24 h)");
        }
        if (!opportunity_ms.empty() && ms < opportunity_ms.back()) {
            return fail(line, "is before the line above it (" + std::to_string(opportunity_ms.back()) +
                                  "); times must not decrease");
        }
        if (opportunity_ms.size() == trace_max_opportunities) {
            return fail(line, "is one line too many; a trace has at most " + std::to_string(trace_max_opportunities));
        }
        opportunity_ms.push_back(static_cast<uint32_t>(ms));
    }
    return check(std::move(opportunity_ms), name_for_errors);
}

Result<Trace> Trace::generate(const TraceGenerator& options) {
    if (Status status = check_generator(options); !status) {
        return status.error();
    }
    const double wanted = options.mean_mbit * 125.0 * options.duration_ms;  // bytes in all
    if (wanted / trace_opportunity_bytes > static_cast<double>(trace_max_opportunities)) {
        return Error{"trace generator: " + number(options.mean_mbit) + " Mbit/s for " +
                     std::to_string(options.duration_ms) + " ms is over " + std::to_string(trace_max_opportunities) +
                     " opportunities; ask for a lower rate or a shorter trace"};
    }
    Random random(options.seed);
    std::vector<double> rates = rate_steps(options, random);

    std::vector<bool> dark(options.duration_ms + 1, false);
    if (options.outage_every_s > 0) {
        double at_ms = random.exponential(options.outage_every_s * 1000.0);
        while (at_ms < options.duration_ms) {
            const double length_ms = std::min(random.exponential(options.outage_mean_ms), 2000.0);
            const double end_ms = std::min(at_ms + length_ms, static_cast<double>(options.duration_ms));
            for (auto ms = static_cast<uint32_t>(at_ms); ms < static_cast<uint32_t>(end_ms); ms++) {
                dark[ms] = true;
            }
            at_ms = end_ms + random.exponential(options.outage_every_s * 1000.0);
        }
    }
    // The mean that was asked for is the mean of the whole trace, outages and clamps included.
    double total = 0;
    for (uint32_t ms = 0; ms < options.duration_ms; ms++) {
        total += dark[ms] ? 0 : rates[ms / step_ms];
    }
    if (total <= 0) {
        return Error{"trace generator: the outages leave nothing of this trace; ask for fewer or a longer duration"};
    }
    const double scale = wanted / total;

    std::vector<uint32_t> opportunity_ms;
    opportunity_ms.reserve(static_cast<size_t>(wanted / trace_opportunity_bytes) + 1);
    double credit = 0;  // bytes that this user is owed by the scheduler
    for (uint32_t ms = 1; ms <= options.duration_ms; ms++) {
        credit += dark[ms - 1] ? 0 : rates[(ms - 1) / step_ms] * scale;
        // In the dark nobody is served: what is owed waits. The last millisecond pays out all, so that the mean is
        // exact and the period is the duration.
        const bool last = ms == options.duration_ms;
        if (!last && (dark[ms - 1] || random.uniform() > options.service_share)) {
            continue;
        }
        while (credit >= trace_opportunity_bytes) {
            opportunity_ms.push_back(ms);
            credit -= trace_opportunity_bytes;
        }
        if (last && (opportunity_ms.empty() || opportunity_ms.back() != ms)) {
            opportunity_ms.push_back(ms);
        }
    }
    return check(std::move(opportunity_ms), "trace generator");
}

Result<Trace> Trace::constant(double mbit) {
    if (!(mbit >= 0.012 && mbit <= 10'000)) {
        return Error{"constant trace: the rate is " + number(mbit) + " Mbit/s; use 0.012 to 10000"};
    }
    const double per_ms = mbit * 125.0 / trace_opportunity_bytes;
    // The shortest period of whole opportunities that is exact enough.
    uint32_t period_ms = 1;
    uint64_t count = 0;
    for (;; period_ms++) {
        count = static_cast<uint64_t>(std::llround(per_ms * period_ms));
        const double real = static_cast<double>(count) / period_ms;
        if (count > 0 && std::abs(real - per_ms) <= 0.001 * per_ms) {
            break;
        }
    }
    std::vector<uint32_t> opportunity_ms;
    opportunity_ms.reserve(count);
    for (uint64_t i = 1; i <= count; i++) {
        // Rounded up: a byte can't leave before the link has carried it. The last falls on the period's end.
        opportunity_ms.push_back(static_cast<uint32_t>((i * period_ms + count - 1) / count));
    }
    return check(std::move(opportunity_ms), "constant trace");
}

Trace Trace::begun_at(double share) const {
    const uint32_t period_ms = opportunity_ms_.back();
    const auto wanted_ms = static_cast<uint32_t>(std::clamp(share, 0.0, 1.0) * period_ms);
    // A period ends with an opportunity, so only at one can it be cut.
    const uint32_t cut_ms =
        wanted_ms == 0 ? period_ms : *std::lower_bound(opportunity_ms_.begin(), opportunity_ms_.end(), wanted_ms);
    if (cut_ms == period_ms) {
        return *this;
    }
    const auto after = std::upper_bound(opportunity_ms_.begin(), opportunity_ms_.end(), cut_ms);
    std::vector<uint32_t> moved;
    moved.reserve(opportunity_ms_.size());
    for (auto at = after; at != opportunity_ms_.end(); ++at) {
        moved.push_back(*at - cut_ms);
    }
    for (auto at = opportunity_ms_.begin(); at != after; ++at) {
        moved.push_back(*at + (period_ms - cut_ms));
    }
    return Trace(std::move(moved));
}

void Trace::write(std::ostream& out) const {
    for (const uint32_t ms : opportunity_ms_) {
        out << ms << '\n';
    }
}

double Trace::mean_bytes_per_s() const {
    return static_cast<double>(opportunity_ms_.size() * trace_opportunity_bytes) * 1000.0 / opportunity_ms_.back();
}

uint64_t Trace::count_until(uint64_t ns) const {
    const uint64_t ms = ns / 1'000'000;
    const uint64_t period_ms = opportunity_ms_.back();
    const auto within = static_cast<uint32_t>(ms % period_ms);
    // upper_bound over the last element's predecessor never counts the period's end, since within < period.
    const auto found = std::upper_bound(opportunity_ms_.begin(), opportunity_ms_.end(), within);
    return ms / period_ms * opportunity_ms_.size() + static_cast<uint64_t>(found - opportunity_ms_.begin());
}

uint64_t Trace::capacity_bytes(uint64_t from_ns, uint64_t to_ns) const {
    if (to_ns <= from_ns) {
        return 0;
    }
    return (count_until(to_ns) - count_until(from_ns)) * trace_opportunity_bytes;
}

}  // namespace adapath
