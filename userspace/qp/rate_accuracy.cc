// See rate_accuracy.h.
#include "userspace/qp/rate_accuracy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace adapath {

namespace {

Status add(const std::vector<RatePoint>& from, std::vector<RatePoint>& to) {
    if (to.empty()) to.resize(from.size());
    if (to.size() != from.size())
        return Error{fmt::format("chunks with {} and with {} settings in one trial", to.size(), from.size())};
    for (size_t i = 0; i < from.size(); i++) to[i] += from[i];
    return {};
}

Result<Saving> saving_of(std::span<const TrialChunk* const> chunks, F1Kind kind) {
    std::vector<RatePoint> uniform;
    std::vector<RatePoint> region;
    for (const TrialChunk* chunk : chunks) {
        if (Status s = add(chunk->uniform, uniform); !s) return s.error();
        if (Status s = add(chunk->region, region); !s) return s.error();
    }
    auto first = RateCurve::fit(uniform, kind);
    if (!first) return first.error();
    auto second = RateCurve::fit(region, kind);
    if (!second) return second.error();
    return saving(*first, *second);
}

}  // namespace

void RatePoint::add_picture(const Matches& picture) {
    matches += picture;
    mean += picture;
}

RatePoint& RatePoint::operator+=(const RatePoint& other) {
    bytes += other.bytes;
    matches += other.matches;
    mean += other.mean;
    return *this;
}

Result<RateCurve> RateCurve::fit(std::span<const RatePoint> points, F1Kind kind) {
    RateCurve curve;
    std::vector<RatePoint> sorted(points.begin(), points.end());
    std::sort(sorted.begin(), sorted.end(), [](const RatePoint& a, const RatePoint& b) { return a.bytes < b.bytes; });
    if (sorted.size() < 2 || !(sorted.front().bytes > 0))
        return Error{fmt::format("{} points of rate and accuracy: at least two, with bytes", sorted.size())};
    // Pools of neighbours: each point first alone, then joined with what lies before it while that is higher.
    struct Pool {
        double f1;
        double log_bytes;
        double count;
    };
    std::vector<Pool> pools;
    for (const RatePoint& point : sorted) {
        pools.push_back({point.f1(kind), std::log(point.bytes), 1});
        while (pools.size() > 1 &&
               pools[pools.size() - 2].f1 / pools[pools.size() - 2].count >= pools.back().f1 / pools.back().count) {
            const Pool last = pools.back();
            pools.pop_back();
            pools.back().f1 += last.f1;
            pools.back().log_bytes += last.log_bytes;
            pools.back().count += last.count;
        }
    }
    for (const Pool& pool : pools) curve.knots_.push_back({pool.log_bytes / pool.count, pool.f1 / pool.count});
    return curve;
}

std::optional<double> RateCurve::bytes_at(double f1) const {
    if (f1 < least_f1() || f1 > most_f1()) return std::nullopt;
    const auto reached = std::find_if(knots_.begin(), knots_.end(), [&](const Knot& k) { return k.f1 >= f1; });
    if (reached == knots_.begin()) return std::exp(reached->log_bytes);
    const Knot& before = *(reached - 1);
    const double part = (f1 - before.f1) / (reached->f1 - before.f1);
    return std::exp(before.log_bytes + part * (reached->log_bytes - before.log_bytes));
}

Result<Saving> saving(const RateCurve& uniform, const RateCurve& region, int levels) {
    const double from = std::max(uniform.least_f1(), region.least_f1());
    const double to = std::min(uniform.most_f1(), region.most_f1());
    if (levels < 1 || !(from < to))
        return Error{fmt::format("F1 of {:.3f} to {:.3f} and of {:.3f} to {:.3f}: nothing in common",
                                 uniform.least_f1(), uniform.most_f1(), region.least_f1(), region.most_f1())};
    Saving result;
    std::vector<double> values;
    for (int i = 0; i < levels; i++) {
        // Not the ends themselves: they hang on one point each.
        const double f1 = from + (to - from) * (i + 0.5) / levels;
        const double value = 1 - *region.bytes_at(f1) / *uniform.bytes_at(f1);
        result.levels.push_back({f1, value});
        values.push_back(value);
    }
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    result.median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    const size_t third = (values.size() + 2) / 3;
    result.worst = std::accumulate(values.begin(), values.begin() + static_cast<ptrdiff_t>(third), 0.0) /
                   static_cast<double>(third);
    return result;
}

Result<Saving> saving(std::span<const TrialChunk> chunks, F1Kind kind) {
    std::vector<const TrialChunk*> all;
    for (const TrialChunk& chunk : chunks) all.push_back(&chunk);
    return saving_of(all, kind);
}

Verdict judge_trial(std::span<const TrialChunk> chunks, const TrialOptions& options) {
    Verdict verdict;
    auto whole = saving(chunks);
    if (!whole || options.resamples == 0) return verdict;
    const auto good = [&](const Saving& s) { return s.median >= options.margin && s.worst >= -options.cost; };
    verdict.saving = whole->median;
    verdict.worst = whole->worst;
    std::mt19937_64 random(options.seed);
    uint32_t over = 0;
    std::vector<const TrialChunk*> drawn(chunks.size());
    for (uint32_t i = 0; i < options.resamples; i++) {
        for (const TrialChunk*& chunk : drawn) chunk = &chunks[random() % chunks.size()];
        auto one = saving_of(drawn, F1Kind::pooled);
        over += one.ok() && good(*one) ? 1 : 0;
    }
    verdict.certainty = static_cast<double>(over) / options.resamples;
    verdict.pays = good(*whole) && verdict.certainty >= options.confidence && chunks.size() >= options.least_chunks;
    return verdict;
}

}  // namespace adapath
