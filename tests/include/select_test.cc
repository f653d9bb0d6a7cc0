// include/adapath/select.h on simulated cameras: chunks stay whole whatever the network does to the packets and the
// policy to the choice; and each rule of the header's.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/selected_camera.h"

namespace adapath::testing {
namespace {

using Outputs = std::array<int32_t, ADP_SELECT_OUTPUTS>;
constexpr uint64_t kSecond = 1000000;
constexpr Outputs kWantsSub = {ADP_Q16_ONE / 2, 0};
constexpr Outputs kWantsMain = {ADP_Q16_ONE / 2, ADP_Q16_ONE / 4};
constexpr Outputs kWantsNone = {0, 0};

auto always(Outputs outputs) {
    return [outputs](std::span<const uint8_t>) { return outputs; };
}

size_t passed(const SelectedCamera& camera, uint32_t rendition) {
    size_t count = 0;
    for (const auto& [key, chunk] : camera.chunks()) count += key.first == rendition && !chunk.none() ? 1 : 0;
    return count;
}

// Every packet is in just one of the counters.
void expect_counters_add_up(const SelectedCamera& camera, uint64_t packets) {
    const adp_select_counters& n = camera.state().counters;
    EXPECT_EQ(camera.passed() + camera.dropped(), packets);
    EXPECT_LE(n.waiting + n.late + n.duplicates + n.foreign + n.malformed, camera.dropped());
    EXPECT_EQ(n.torn, 0U);
}

TEST(Rounds, OfCoincidingChunksJustOnePasses) {
    for (const uint64_t lead_us : {0ULL, 3000ULL}) {
        for (const uint32_t first : {0U, 1U}) {
            CameraShape shape;
            shape.phase_us[first] = lead_us;
            SelectedCamera camera;
            std::mt19937_64 random(5);
            camera.network = [&](std::span<const uint8_t>) { return random() % 2 != 0 ? kWantsMain : kWantsSub; };
            const auto sent = send(shape, 60 * kSecond);
            camera.run(sent);
            EXPECT_EQ(camera.halves(), 0U);
            uint32_t changes = 0;
            for (uint32_t i = 0; i < 60; ++i) {
                const bool sub = camera.chunk(ADP_SELECT_SUB, i).whole();
                const bool main = camera.chunk(ADP_SELECT_MAIN, i).whole();
                EXPECT_NE(sub, main) << "pair " << i << ", lead " << lead_us << " of " << first;
                changes += i > 0 && sub != camera.chunk(ADP_SELECT_SUB, i - 1).whole() ? 1 : 0;
            }
            EXPECT_GT(changes, 15U);
            // One is left out where the rendition that leads takes the lead.
            EXPECT_GE(camera.samples().size(), 59U);
            EXPECT_LE(camera.samples().size(), 60U);
            expect_counters_add_up(camera, sent.size());
        }
    }
}

// At any time something passes, or the gap is at most half a chunk.
TEST(Rounds, ApartTheShorterOfGapAndOverlap) {
    for (uint64_t phase_us = 100000; phase_us < kSecond; phase_us += 100000) {
        CameraShape shape;
        shape.phase_us[ADP_SELECT_SUB] = phase_us;
        SelectedCamera camera;
        std::mt19937_64 random(phase_us);
        camera.network = [&](std::span<const uint8_t>) { return random() % 2 != 0 ? kWantsMain : kWantsSub; };
        camera.run(send(shape, 120 * kSecond));
        EXPECT_EQ(camera.halves(), 0U);
        std::vector<std::pair<uint64_t, uint64_t>> spans;
        uint64_t overlap = 0;
        for (const auto& [key, chunk] : camera.chunks())
            if (!chunk.none()) spans.emplace_back(chunk.first_us, chunk.first_us + kSecond);
        std::ranges::sort(spans);
        for (size_t i = 1; i < spans.size(); ++i) {
            EXPECT_LE(spans[i].first, spans[i - 1].second + kSecond / 2) << "phase " << phase_us;
            if (spans[i].first < spans[i - 1].second) overlap += spans[i - 1].second - spans[i].first;
            EXPECT_LE(static_cast<int64_t>(spans[i - 1].second - spans[i].first), static_cast<int64_t>(kSecond / 2))
                << "phase " << phase_us;
        }
        EXPECT_GT(passed(camera, ADP_SELECT_SUB), 20U);
        EXPECT_GT(passed(camera, ADP_SELECT_MAIN), 20U);
        EXPECT_LT(overlap, 40 * kSecond);
    }
}

TEST(Rounds, GroupsOfDifferentLengthStayWhole) {
    CameraShape shape;
    shape.renditions[ADP_SELECT_MAIN].group = 40;
    shape.phase_us[ADP_SELECT_SUB] = 300000;
    SelectedCamera camera;
    std::mt19937_64 random(9);
    camera.network = [&](std::span<const uint8_t>) { return random() % 2 != 0 ? kWantsMain : kWantsSub; };
    const auto sent = send(shape, 200 * kSecond);
    camera.run(sent);
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_GT(passed(camera, ADP_SELECT_MAIN), 8U);
    EXPECT_GT(passed(camera, ADP_SELECT_SUB), 20U);
    EXPECT_LT(passed(camera, ADP_SELECT_SUB), 150U) << "sub stream beside main all the time";
    expect_counters_add_up(camera, sent.size());
}

TEST(Rounds, ADecisionPerChunkAndSamplesInSequence) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.run(send({}, 30 * kSecond));
    ASSERT_EQ(camera.samples().size(), 30U);
    for (uint32_t i = 0; i < 30; ++i) {
        const adp_select_sample& s = camera.samples()[i];
        EXPECT_EQ(s.seq, i);
        EXPECT_EQ(s.camera, 1U);
        EXPECT_EQ((s.flags & ADP_SELECT_NOT_DECIDED) == 0, i >= 2) << i << ": two chunks to learn from";
    }
}

TEST(Choice, FollowsFromTheSampleAlone) {
    SelectedCamera camera;
    std::mt19937_64 random(3);
    camera.network = [&](std::span<const uint8_t>) {
        return Outputs{static_cast<int32_t>(random() % 100000) - 10000, static_cast<int32_t>(random() % 80000) - 20000};
    };
    camera.explore_q16 = ADP_Q16_ONE / 10;  // that much where it costs nothing
    for (uint32_t i = 0; i < 10; ++i) {
        camera.market.price_q16 = i * 20000;
        camera.random = static_cast<uint32_t>(random());
        CameraShape shape;
        shape.phase_us = {i * 40 * kSecond, i * 40 * kSecond + 200000};
        for (RtpRendition& r : shape.renditions) r.ssrc += i;
        camera.run(send(shape, (i * 40 + 30) * kSecond));
    }
    std::set<uint32_t> choices;
    for (const adp_select_sample& s : camera.samples()) {
        if ((s.flags & ADP_SELECT_NOT_DECIDED) != 0) continue;
        uint32_t flags = 0;
        EXPECT_EQ(adp_select_choose(s.output, &s.offer, &flags), s.choice);
        EXPECT_EQ(flags, s.flags & ~ADP_SELECT_BRIDGED);
        choices.insert(s.choice);
    }
    EXPECT_EQ(choices.size(), 4U);
}

TEST(Choice, WorthLessPriceTimesBytes) {
    adp_select_offer offer = {};
    offer.rate[ADP_SELECT_SUB] = 1 << 17;   // 1/8 MiB/s
    offer.rate[ADP_SELECT_MAIN] = 1 << 20;  // 1 MiB/s
    offer.available = ADP_SELECT_BOTH;
    const auto choose = [&](int32_t sub, int32_t gain, uint32_t price) {
        offer.price_q16 = price;
        uint32_t flags = 0;
        const int32_t output[ADP_SELECT_OUTPUTS] = {sub, gain};
        return adp_select_choose(output, &offer, &flags);
    };
    EXPECT_EQ(choose(0, 0, 0), ADP_SELECT_NONE) << "of equals the cheaper";
    EXPECT_EQ(choose(1, 0, 0), ADP_SELECT_ONLY_SUB);
    EXPECT_EQ(choose(1, 1, 0), ADP_SELECT_ONLY_MAIN);
    // 7/8 MiB/s more for a gain of 0.25: worth it up to a price of 2/7.
    EXPECT_EQ(choose(32768, 16384, 65536 * 2 / 7 - 2), ADP_SELECT_ONLY_MAIN);
    EXPECT_EQ(choose(32768, 16384, 65536 * 2 / 7 + 2), ADP_SELECT_ONLY_SUB);
    // 1/8 MiB/s for 0.5: up to 4.
    EXPECT_EQ(choose(32768, 16384, 4 * 65536 - 1), ADP_SELECT_ONLY_SUB);
    EXPECT_EQ(choose(32768, 16384, 4 * 65536), ADP_SELECT_NONE);
    EXPECT_EQ(choose(32768, -16384, 0), ADP_SELECT_ONLY_SUB) << "a main stream that harms";
    // Out of any range: clamped, so that no output outbids a price for ever.
    EXPECT_EQ(choose(2147483647, 2147483647, ADP_SELECT_PRICE_MAX_Q16), ADP_SELECT_NONE);
    EXPECT_EQ(choose(-2147483647 - 1, 2147483647, 0), ADP_SELECT_ONLY_MAIN);
    EXPECT_EQ(choose(2147483647, -2147483647 - 1, 0), ADP_SELECT_ONLY_SUB);
    offer.rate[ADP_SELECT_SUB] = offer.rate[ADP_SELECT_MAIN] = 0xffffffff;
    EXPECT_EQ(choose(65536, 65536, 0xffffffff), ADP_SELECT_NONE);
}

TEST(Choice, TheSubStreamInsuresWhatMayComeTooLate) {
    adp_select_offer offer = {};
    offer.rate[ADP_SELECT_SUB] = 1 << 17;   // 1/8 MiB/s
    offer.rate[ADP_SELECT_MAIN] = 1 << 20;  // 1 MiB/s
    offer.available = ADP_SELECT_BOTH;
    const auto choose = [&](double price, double late) {
        offer.price_q16 = static_cast<uint32_t>(std::lround(price * ADP_Q16_ONE));
        offer.main_late_q16 = static_cast<uint32_t>(std::lround(late * ADP_Q16_ONE));
        uint32_t flags = 0;
        const int32_t output[ADP_SELECT_OUTPUTS] = {ADP_Q16_ONE / 2, ADP_Q16_ONE / 4};
        const uint32_t choice = adp_select_choose(output, &offer, &flags);
        EXPECT_EQ(flags, 0U);
        return choice;
    };
    EXPECT_EQ(choose(0, 0), ADP_SELECT_ONLY_MAIN) << "what is never late needs no insurance, even for nothing";
    // A 64th of main is late: the sub stream is worth 1/128 beside it, and costs an eighth of the price.
    EXPECT_EQ(choose(0.06, 1.0 / 64), ADP_SELECT_BOTH);
    EXPECT_EQ(choose(0.07, 1.0 / 64), ADP_SELECT_ONLY_MAIN);
    // A quarter of it: main alone would be worth it up to a price of 1/14, both are up to 3/16.
    EXPECT_EQ(choose(0.18, 0.25), ADP_SELECT_BOTH);
    EXPECT_EQ(choose(0.19, 0.25), ADP_SELECT_ONLY_SUB);
    EXPECT_EQ(choose(0.001, 1), ADP_SELECT_ONLY_SUB) << "main never comes";
    offer.available = ADP_SELECT_ONLY_MAIN;
    EXPECT_EQ(choose(0.18, 0.25), ADP_SELECT_ONLY_MAIN);
}

// What each set is worth less what it costs, in real numbers.
std::array<double, 4> real_values(const Outputs& outputs, const adp_select_offer& offer) {
    const double sub = outputs[ADP_SELECT_OUT_SUB] / 65536.0;
    const double main = std::clamp(sub + outputs[ADP_SELECT_OUT_GAIN] / 65536.0, 0.0, 1.0);
    const double late = std::min(offer.main_late_q16 / 65536.0, 1.0);
    const double price = offer.price_q16 / 65536.0 / (1 << 20);
    return {0, sub - price * offer.rate[ADP_SELECT_SUB], main * (1 - late) - price * offer.rate[ADP_SELECT_MAIN],
            main * (1 - late) + sub * late -
                price * (double{1} * offer.rate[ADP_SELECT_SUB] + offer.rate[ADP_SELECT_MAIN])};
}

// Of all four sets the best, as real numbers say.
TEST(Choice, IsTheBestOfAllSets) {
    std::mt19937_64 random(23);
    std::array<uint32_t, 4> chosen{};
    for (int i = 0; i < 100'000; i++) {
        adp_select_offer offer{};
        offer.available = random() % 8 == 0 ? static_cast<uint32_t>(random() % 4) : ADP_SELECT_BOTH;
        offer.rate[ADP_SELECT_SUB] = 1 + random() % 100'000;
        offer.rate[ADP_SELECT_MAIN] = 1 + random() % 1'000'000;
        offer.price_q16 = random() % (2 * ADP_Q16_ONE);
        offer.main_late_q16 = random() % 4 == 0 ? static_cast<uint32_t>(random()) : random() % (ADP_Q16_ONE / 2);
        const Outputs outputs{static_cast<int32_t>(random() % ADP_Q16_ONE),
                              static_cast<int32_t>(random() % ADP_Q16_ONE) - ADP_Q16_ONE / 4};
        const std::array<double, 4> value = real_values(outputs, offer);
        uint32_t flags = 0;
        const uint32_t choice = adp_select_choose(outputs.data(), &offer, &flags);
        ASSERT_EQ(choice & ~offer.available, 0U);
        for (uint32_t set = 0; set < 4; set++) {
            if ((set & ~offer.available) == 0) {
                EXPECT_GE(value[choice], value[set] - 1e-4) << choice << " or " << set;
            }
        }
        chosen[choice]++;
    }
    for (const uint32_t times : chosen) EXPECT_GT(times, 1000U);
}

TEST(Choice, SafeRange) {
    adp_select_offer offer = {};
    offer.rate[ADP_SELECT_SUB] = 1000;
    offer.rate[ADP_SELECT_MAIN] = 10000;
    offer.available = ADP_SELECT_BOTH;
    uint32_t flags = 0;
    offer.main_limit = 9999;
    EXPECT_EQ(adp_select_choose(kWantsMain.data(), &offer, &flags), ADP_SELECT_ONLY_SUB);
    EXPECT_EQ(flags, ADP_SELECT_LIMITED);
    offer.explore_q16 = ADP_Q16_ONE;
    EXPECT_EQ(adp_select_choose(kWantsMain.data(), &offer, &flags), ADP_SELECT_ONLY_SUB) << "not explored either";
    offer.main_limit = 10000;
    flags = 0;
    EXPECT_EQ(adp_select_choose(kWantsNone.data(), &offer, &flags), ADP_SELECT_BOTH);
    EXPECT_EQ(flags, ADP_SELECT_EXPLORED);
    offer.available = ADP_SELECT_ONLY_MAIN;
    flags = 0;
    EXPECT_EQ(adp_select_choose(kWantsSub.data(), &offer, &flags), ADP_SELECT_ONLY_MAIN);
    EXPECT_EQ(flags, 0U);
}

// Both are sent: often where main passes anyway, at the share that was asked for where it does not; the more seldom the
// more that is thought to lose, and never where main costs more than there is to win.
TEST(Choice, ExploresByWhatItCosts) {
    std::mt19937_64 random(17);
    for (const uint32_t share : {0U, ADP_Q16_ONE / 100U, ADP_Q16_ONE / 20U, uint32_t{ADP_Q16_ONE}, ~0U}) {
        const double asked = std::min(1.0, share / 65536.0);
        struct Bin {
            uint32_t rounds = 0, explored = 0;
            double expected = 0;
        };
        std::array<Bin, 2> main{}, sub{};  // that lose less than 0.1, and more
        uint32_t dear = 0;
        for (int i = 0; i < 80000; i++) {
            adp_select_offer offer{};
            offer.available = ADP_SELECT_BOTH;
            offer.rate[ADP_SELECT_SUB] = 1 + random() % 50'000;
            offer.rate[ADP_SELECT_MAIN] = 1 + random() % 1'000'000;
            offer.price_q16 = random() % (8 * ADP_Q16_ONE);
            offer.main_late_q16 = random() % ADP_Q16_ONE;
            offer.random = static_cast<uint32_t>(random());
            const Outputs outputs{static_cast<int32_t>(random() % ADP_Q16_ONE),
                                  static_cast<int32_t>(random() % ADP_Q16_ONE)};
            uint32_t flags = 0;
            const uint32_t without = adp_select_choose(outputs.data(), &offer, &flags);
            offer.explore_q16 = share;
            const uint32_t choice = adp_select_choose(outputs.data(), &offer, &flags);
            const bool explored = (flags & ADP_SELECT_EXPLORED) != 0;
            EXPECT_EQ(choice, explored ? ADP_SELECT_BOTH : without);
            EXPECT_EQ(explored, (offer.random & 0xffff) < adp_select_explore_q16(outputs.data(), &offer, without));
            if (without == ADP_SELECT_BOTH) {
                EXPECT_FALSE(explored);
                continue;
            }
            const std::array<double, 4> value = real_values(outputs, offer);
            const double gap = value[without] - value[ADP_SELECT_BOTH];
            const double main_cost = offer.price_q16 / 65536.0 / (1 << 20) * offer.rate[ADP_SELECT_MAIN];
            if (without != ADP_SELECT_ONLY_MAIN && main_cost > 1) {
                dear++;
                EXPECT_FALSE(explored);
                continue;
            }
            Bin& bin = (without == ADP_SELECT_ONLY_MAIN ? main : sub)[gap > 0.1 ? 1 : 0];
            bin.rounds++;
            bin.explored += explored ? 1 : 0;
            bin.expected += std::min(1.0, (without == ADP_SELECT_ONLY_MAIN ? 8 : 1) * asked * 0.03 / (0.03 + gap));
        }
        for (const std::array<Bin, 2>& kind : {main, sub}) {
            for (const Bin& bin : kind) {
                ASSERT_GT(bin.rounds, 300U);
                EXPECT_NEAR(bin.explored / static_cast<double>(bin.rounds), bin.expected / bin.rounds, 0.03);
            }
            if (share == uint32_t{ADP_Q16_ONE} / 20) {
                EXPECT_LT(kind[1].explored * kind[0].rounds, kind[0].explored * kind[1].rounds / 2);
            }
        }
        ASSERT_GT(dear, 1000U);
    }
}

TEST(Choice, ExplorationsShare) {
    SelectedCamera camera;
    camera.network = always(kWantsSub);
    camera.explore_q16 = ADP_Q16_ONE / 8;
    std::mt19937_64 random(11);
    uint32_t explored = 0;
    CameraShape shape;
    shape.renditions[0].group = shape.renditions[1].group = 2;
    for (SentPacket& p : send(shape, 400 * kSecond)) {
        camera.random = static_cast<uint32_t>(random());
        camera.run({std::move(p)});
    }
    for (const adp_select_sample& s : camera.samples()) explored += (s.flags & ADP_SELECT_EXPLORED) != 0 ? 1 : 0;
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_NEAR(explored / static_cast<double>(camera.samples().size()), 1.0 / 8, 0.03);
    EXPECT_EQ(passed(camera, ADP_SELECT_MAIN), explored);
}

TEST(Fallback, IsTheSubStream) {
    for (const uint64_t phase_us : {0ULL, 500000ULL}) {
        CameraShape shape;
        shape.phase_us[ADP_SELECT_SUB] = phase_us;
        SelectedCamera camera;
        camera.run(send(shape, 30 * kSecond));
        EXPECT_EQ(camera.halves(), 0U);
        EXPECT_EQ(passed(camera, ADP_SELECT_MAIN), 0U);
        for (uint32_t i = 0; i < 29; ++i) EXPECT_TRUE(camera.chunk(ADP_SELECT_SUB, i).whole()) << i;
        for (const adp_select_sample& s : camera.samples()) {
            EXPECT_NE(s.flags & ADP_SELECT_NOT_DECIDED, 0U);
            EXPECT_EQ(s.generation, 0U);
            EXPECT_EQ(s.output[0], 0);
        }
    }
}

TEST(Fallback, ASubStreamThatNeverComes) {
    CameraShape shape;
    shape.begin_us[ADP_SELECT_SUB] = ~0ULL;
    SelectedCamera camera;
    camera.run(send(shape, 30 * kSecond));
    EXPECT_EQ(camera.halves(), 0U);
    for (uint32_t i = 0; i < 30; ++i) EXPECT_EQ(camera.chunk(ADP_SELECT_MAIN, i).whole(), i >= 5) << i;
}

TEST(Absent, TheNetworkIsAskedAboutOneRendition) {
    for (const uint32_t absent : {0U, 1U}) {
        CameraShape shape;
        shape.begin_us[absent] = ~0ULL;
        SelectedCamera camera;
        camera.network = always(kWantsMain);
        camera.run(send(shape, 40 * kSecond));
        EXPECT_EQ(camera.halves(), 0U);
        for (uint32_t i = 10; i < 40; ++i) EXPECT_TRUE(camera.chunk(absent ^ 1, i).whole()) << i;
        const adp_select_sample& s = camera.samples().back();
        EXPECT_EQ(s.flags, 0U);
        for (uint32_t i = 0; i < ADP_SELECT_FEATURES; ++i) EXPECT_EQ(s.input[absent * ADP_SELECT_FEATURES + i], 0);
        EXPECT_EQ(s.choice, 1U << (absent ^ 1));
    }
}

TEST(Absent, AMainStreamThatStopsIsNotWaitedFor) {
    CameraShape shape;
    shape.end_us[ADP_SELECT_MAIN] = 10500000;  // in the middle of a chunk
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.run(send(shape, 30 * kSecond));
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_TRUE(camera.chunk(ADP_SELECT_MAIN, 9).whole());
    for (uint32_t i = 13; i < 30; ++i) EXPECT_TRUE(camera.chunk(ADP_SELECT_SUB, i).whole()) << i;
}

TEST(Absent, ACameraThatStopsAndComesBack) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    CameraShape shape;
    shape.end_us = {10500000, 10500000};
    camera.run(send(shape, 30 * kSecond));
    // The same SSRCs, somewhere else in the sequence, in the middle of a group: as after a power cut of the switch.
    CameraShape again;
    for (RtpRendition& r : again.renditions) {
        r.sequence = 30000;
        r.timestamp = 5;
        r.pictures = 3;
    }
    again.phase_us = {60 * kSecond, 60 * kSecond};
    std::vector<SentPacket> sent = send(again, 90 * kSecond);
    for (SentPacket& p : sent) {
        p.chunk += 100;
        p.number += 1000000;
    }
    camera.run(sent);
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_EQ(camera.state().counters.jumps, 4U) << "two packets a rendition until the jump is believed";
    EXPECT_TRUE(camera.chunk(ADP_SELECT_MAIN, 100).none()) << "no IDR picture yet";
    EXPECT_TRUE(camera.chunk(ADP_SELECT_SUB, 100).none());
    for (uint32_t i = 103; i < 129; ++i) EXPECT_TRUE(camera.chunk(ADP_SELECT_MAIN, i).whole()) << i;
}

TEST(Starved, TheSubStreamIsSeenNowAndThen) {
    SelectedCamera camera;
    camera.network = always(kWantsNone);
    camera.run(send({}, 100 * kSecond));
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_EQ(passed(camera, ADP_SELECT_MAIN), 0U);
    EXPECT_GE(passed(camera, ADP_SELECT_SUB), 9U);
    EXPECT_LE(passed(camera, ADP_SELECT_SUB), 12U);
}

// Loss, reordering and duplicates at random: of each chunk of which any IDR packet came, all that came passes, or
// nothing.
TEST(Hostile, LossReorderingAndDuplicates) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        std::mt19937_64 random(seed);
        CameraShape shape;
        shape.phase_us[ADP_SELECT_SUB] = random() % kSecond;
        shape.renditions[0].sequence = static_cast<uint16_t>(random());
        shape.renditions[1].sequence = static_cast<uint16_t>(random());
        shape.renditions[0].timestamp = static_cast<uint32_t>(random());
        shape.renditions[1].timestamp = 0xffffffff - 90000;
        const std::vector<SentPacket> sent = send(shape, 60 * kSecond);
        // Order: each packet is late by up to 3 places of its own rendition, a sub stream's IDR picture having 6
        // packets.
        std::array<std::vector<SentPacket>, 2> each;
        std::set<uint64_t> copies;
        uint64_t lost = 0;
        for (const SentPacket& p : sent) {
            if (random() % 50 == 0) {
                ++lost;
                continue;
            }
            each[p.rendition].push_back(p);
        }
        std::vector<SentPacket> arriving;
        for (auto& packets : each) {
            std::vector<std::pair<size_t, size_t>> order;
            for (size_t i = 0; i < packets.size(); ++i)
                order.emplace_back(i + (random() % 10 == 0 ? random() % 4 : 0), i);
            std::ranges::stable_sort(order, {}, &std::pair<size_t, size_t>::first);
            for (size_t i = 0; i < order.size(); ++i) {
                SentPacket p = packets[order[i].second];
                p.us = packets[i].us;
                arriving.push_back(p);
                if (random() % 40 == 0) {
                    p.number += 10000000;
                    copies.insert(p.number);
                    arriving.push_back(p);
                }
            }
        }
        std::ranges::stable_sort(arriving, {}, &SentPacket::us);
        SelectedCamera camera;
        camera.network = [&](std::span<const uint8_t>) {
            return random() % 3 == 0 ? kWantsMain : random() % 2 != 0 ? kWantsSub : kWantsNone;
        };
        camera.run(arriving);
        size_t torn = 0;
        for (const auto& [key, chunk] : camera.chunks()) {
            std::set<uint64_t> originals;
            for (const uint64_t number : chunk.arrived)
                if (!copies.contains(number)) originals.insert(number);
            size_t through = 0;
            for (const uint64_t number : chunk.passed) {
                EXPECT_FALSE(copies.contains(number) && chunk.passed.contains(number - 10000000))
                    << "both copies passed";
                through += 1;
            }
            torn += through == 0 || through == originals.size() ? 0 : 1;
        }
        EXPECT_EQ(torn, 0U) << "seed " << seed;
        const adp_select_counters& n = camera.state().counters;
        EXPECT_EQ(n.duplicates, copies.size());
        EXPECT_EQ(n.jumps, 0U);
        expect_counters_add_up(camera, arriving.size());
        EXPECT_GT(lost, 10U);
    }
}

// The short way is the long way's result: same verdicts, same counts, same decisions.
TEST(Quick, IsTheSame) {
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        std::array<std::unique_ptr<SelectedCamera>, 2> cameras;
        std::array<std::vector<bool>, 2> verdicts;
        uint64_t packets = 0;
        for (const size_t quick : {0U, 1U}) {
            std::mt19937_64 random(seed);
            cameras[quick] = std::make_unique<SelectedCamera>();
            SelectedCamera& camera = *cameras[quick];
            camera.quick = quick != 0;
            camera.network = [](std::span<const uint8_t> in) {
                uint64_t sum = 1;
                for (const uint8_t code : in) sum = sum * 31 + code;
                return sum % 3 == 0 ? kWantsMain : sum % 2 != 0 ? kWantsSub : kWantsNone;
            };
            std::vector<SentPacket> sent = send({}, 40 * kSecond);
            packets = 0;
            for (SentPacket& p : sent) {
                if (random() % 60 == 0) continue;
                for (uint64_t n = random() % 8; n > 0 && random() % 30 == 0; --n)
                    p.bytes[random() % 20] = static_cast<uint8_t>(random());
                verdicts[quick].push_back(camera.packet(p.us, p.rendition, p.bytes));
                ++packets;
                if (random() % 60 == 0) {
                    verdicts[quick].push_back(camera.packet(p.us, p.rendition, p.bytes));
                    ++packets;
                }
            }
        }
        EXPECT_EQ(verdicts[0], verdicts[1]);
        ASSERT_EQ(cameras[0]->samples().size(), cameras[1]->samples().size());
        for (size_t i = 0; i < cameras[0]->samples().size(); ++i)
            EXPECT_EQ(std::memcmp(&cameras[0]->samples()[i], &cameras[1]->samples()[i], sizeof(adp_select_sample)), 0);
        EXPECT_EQ(
            std::memcmp(&cameras[0]->state().counters, &cameras[1]->state().counters, sizeof(adp_select_counters)), 0);
        EXPECT_EQ(cameras[0]->passed(), cameras[1]->passed());
        EXPECT_EQ(cameras[0]->quick_ones(), 0U);
        EXPECT_GT(cameras[1]->quick_ones(), packets / 2);
    }
}

TEST(Hostile, LossIsCounted) {
    SelectedCamera camera;
    std::vector<SentPacket> sent = send({}, 10 * kSecond);
    uint32_t of_main = 0;
    std::erase_if(sent, [&](const SentPacket& p) {
        return p.rendition == ADP_SELECT_MAIN && p.chunk == 8 && ++of_main > 30 && of_main <= 37;
    });
    camera.run(sent);
    EXPECT_EQ(camera.state().streams[ADP_SELECT_MAIN].last.lost, 7U);
    EXPECT_EQ(camera.state().streams[ADP_SELECT_SUB].last.lost, 0U);
}

TEST(Hostile, AnIdrPictureWithoutItsFirstPackets) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    std::vector<SentPacket> sent = send({}, 20 * kSecond);
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> seen;
    std::erase_if(sent, [&](const SentPacket& p) { return seen[{p.rendition, p.chunk}]++ < 2; });
    camera.run(sent);
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_EQ(camera.samples().size(), 20U);
}

TEST(Hostile, AFloodOfSendersDisplacesNobody) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    std::mt19937_64 random(1);
    const std::vector<SentPacket> sent = send({}, 20 * kSecond);
    uint64_t flood = 0;
    for (const SentPacket& p : sent) {
        camera.run({p});
        for (int i = 0; i < 3; ++i) {
            RtpHeader header;
            header.ssrc = static_cast<uint32_t>(random() | 0x100);
            header.sequence = static_cast<uint16_t>(random());
            header.timestamp = static_cast<uint32_t>(random());
            EXPECT_FALSE(camera.packet(p.us, p.rendition, rtp_packet(header, nal_unit(5, 500))));
            ++flood;
        }
    }
    EXPECT_EQ(camera.halves(), 0U);
    for (uint32_t i = 3; i < 20; ++i) EXPECT_TRUE(camera.chunk(ADP_SELECT_MAIN, i).whole());
    const adp_select_counters& n = camera.state().counters;
    EXPECT_EQ(n.foreign, flood);
    EXPECT_EQ(n.evicted, flood - 2 * ADP_SELECT_CANDIDATES);
    EXPECT_EQ(n.taken_over, 0U);
}

TEST(Hostile, ARestartedCameraTakesItsPlaceAgainEvenInAFlood) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.run(send({}, 10 * kSecond));
    CameraShape again;
    again.renditions[ADP_SELECT_SUB].ssrc = 0x52;
    again.renditions[ADP_SELECT_MAIN].ssrc = 0x3b;
    again.phase_us = {10 * kSecond, 10 * kSecond};
    std::vector<SentPacket> sent = send(again, 30 * kSecond);
    std::mt19937_64 random(1);
    for (SentPacket& p : sent) {
        p.chunk += 100;
        p.number += 1000000;
        camera.run({p});
        if (random() % 4 == 0) {
            RtpHeader header;
            header.ssrc = static_cast<uint32_t>(random() | 0x100);
            header.sequence = static_cast<uint16_t>(random());
            camera.packet(p.us, p.rendition, rtp_packet(header, nal_unit(5, 500)));
        }
    }
    EXPECT_EQ(camera.state().counters.taken_over, 2U);
    EXPECT_EQ(camera.state().streams[ADP_SELECT_MAIN].ssrc, 0x3bU);
    EXPECT_EQ(camera.halves(), 0U);
    for (uint32_t i = 105; i < 119; ++i) EXPECT_TRUE(camera.chunk(ADP_SELECT_MAIN, i).whole()) << i;
}

TEST(Hostile, IdrPicturesInEveryPacketMakeFewDecisions) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    RtpHeader header;
    for (uint32_t i = 0; i < 10000; ++i) {
        header.sequence = static_cast<uint16_t>(i);
        header.timestamp = i;
        camera.packet(i * 1000, ADP_SELECT_MAIN, rtp_packet(header, nal_unit(5, 100)));
    }
    EXPECT_LE(camera.samples().size(), 101U);
    EXPECT_GT(camera.state().counters.hasty, 9000U);
}

TEST(Hostile, AChunkWithoutEndIsCutOff) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    CameraShape shape;
    std::vector<SentPacket> sent = send(shape, 5 * kSecond);
    // As before for 5 s, then one chunk of main for ever; the sub stream goes on.
    RtpRendition& main = shape.renditions[ADP_SELECT_MAIN];
    for (int i = 0; i < 50; ++i) main.picture();
    main.group = 100000;
    main.pictures = 0;
    for (int i = 0; i < 50; ++i) shape.renditions[ADP_SELECT_SUB].picture();
    shape.phase_us = {5 * kSecond, 5 * kSecond};
    std::vector<SentPacket> rest = send(shape, 60 * kSecond);
    for (SentPacket& p : rest) p.chunk += p.rendition == ADP_SELECT_MAIN ? 50 : 0;
    for (SentPacket& p : rest) p.number += 1000000;
    camera.run(sent);
    camera.run(rest);
    EXPECT_EQ(camera.state().counters.overlong, 1U);
    EXPECT_EQ(camera.halves(), 1U);
    EXPECT_LT(camera.chunk(ADP_SELECT_MAIN, 50).passed.size(),
              camera.chunk(ADP_SELECT_MAIN, 50).arrived.size() * 6 / 10);
}

TEST(Hostile, NeitherIsOneOfASinglePicture) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.run(send({}, 5 * kSecond));
    RtpHeader header;
    header.ssrc = 0x3a;
    header.sequence = static_cast<uint16_t>(camera.state().streams[ADP_SELECT_MAIN].newest);
    header.timestamp = camera.state().streams[ADP_SELECT_MAIN].picture + 9000;
    uint64_t last_passed_us = 0;
    for (uint64_t us = 5 * kSecond; us < 60 * kSecond; us += 1000) {
        ++header.sequence;
        if (camera.packet(us, ADP_SELECT_MAIN, rtp_packet(header, nal_unit(5, 1000, header.sequence % 2 != 0))))
            last_passed_us = us;
    }
    EXPECT_GT(last_passed_us, 34 * kSecond);
    EXPECT_LT(last_passed_us, 36 * kSecond);
    EXPECT_EQ(camera.state().counters.overlong, 1U);
}

TEST(Hostile, TimesAndNumbersAtRandomNeverConfuseTheCounters) {
    std::mt19937_64 random(4);
    for (int run = 0; run < 50; ++run) {
        SelectedCamera camera;
        camera.network = [&](std::span<const uint8_t>) {
            return Outputs{static_cast<int32_t>(random()), static_cast<int32_t>(random())};
        };
        uint64_t us = 0;
        RtpHeader header;
        for (uint32_t i = 0; i < 4000; ++i) {
            us += random() % (random() % 100 == 0 ? 40 * kSecond : 20000);
            header.sequence = static_cast<uint16_t>(random() % 8 != 0 ? header.sequence + 1 : random());
            header.timestamp = static_cast<uint32_t>(random() % 4 != 0 ? header.timestamp : random());
            header.ssrc = static_cast<uint32_t>(random() % 3 != 0 ? 1 : random() % 6);
            const uint8_t type = random() % 3 == 0 ? 5 : random() % 5 == 0 ? 7 : 1;
            camera.packet(us, random() % 2, rtp_packet(header, nal_unit(type, random() % 300 + 1)));
            camera.market.price_q16 = static_cast<uint32_t>(random());
            camera.feedback.seen_us = random();
            camera.feedback.gain_q16 = static_cast<int32_t>(random());
            camera.objective[0] = static_cast<uint32_t>(random() % 3);
            camera.objective[1] = static_cast<uint32_t>(random());
        }
        expect_counters_add_up(camera, 4000);
        for (size_t i = 0; i < camera.samples().size(); ++i) EXPECT_EQ(camera.samples()[i].seq, i);
    }
}

// A CPU reads its clock, then waits for the lock that another one holds: what that one wrote is later than its own
// time.
TEST(Clock, MayBeBehindWhatAnotherCpuWrote) {
    CameraShape shape;
    shape.phase_us[ADP_SELECT_SUB] = kSecond / 2 + 1000;
    std::vector<SentPacket> sent = send(shape, 20 * kSecond);
    for (SentPacket& p : sent) p.us += p.rendition == ADP_SELECT_MAIN ? 4000 : 0;
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.run(sent);
    EXPECT_EQ(camera.halves(), 0U);
    size_t asked_by_sub = 0;
    for (const adp_select_sample& sample : camera.samples()) {
        if (sample.time_us < SelectedCamera::kStartUs + 3 * kSecond) continue;
        asked_by_sub += sample.rendition == ADP_SELECT_SUB ? 1 : 0;
        EXPECT_EQ(sample.offer.available, ADP_SELECT_BOTH) << "seq " << sample.seq;
        EXPECT_EQ(sample.offer.starved, 0U) << "seq " << sample.seq;
        EXPECT_LT(sample.before.us, 20 * kSecond) << "seq " << sample.seq;
    }
    EXPECT_GT(asked_by_sub, 10U);
}

TEST(Clock, ASenderThatIsAMomentBehindTakesNobodysPlace) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    RtpHeader header;
    header.ssrc = 0x666;
    for (const SentPacket& p : send({}, 5 * kSecond)) {
        camera.run({p});
        if (p.rendition != ADP_SELECT_MAIN || p.us == 0) continue;
        ++header.sequence;
        EXPECT_FALSE(camera.packet(p.us - 10, ADP_SELECT_MAIN, rtp_packet(header, nal_unit(5, 500))));
    }
    EXPECT_GT(camera.state().counters.foreign, 100U);
    EXPECT_EQ(camera.state().counters.taken_over, 0U);
    EXPECT_EQ(camera.halves(), 0U);
}

TEST(Features, SayWhatTheyShould) {
    CameraShape shape;
    SelectedCamera camera;
    camera.network = always(kWantsSub);
    camera.market.cameras = 4;
    camera.market.used_q16 = ADP_Q16_ONE / 2;
    camera.feedback.objects = 3;
    camera.feedback.confidence_q16 = ADP_Q16_ONE;
    camera.feedback.sub_worth_q16 = ADP_Q16_ONE / 2;
    camera.feedback.gain_q16 = -ADP_Q16_ONE;
    camera.feedback.seen_us = SelectedCamera::kStartUs + 19 * kSecond;
    camera.run(send(shape, 20 * kSecond + 1000));
    const auto& in = camera.samples().back().input;
    const adp_select_chunk& sub = camera.samples().back().last[ADP_SELECT_SUB];
    const adp_select_chunk& main = camera.samples().back().last[ADP_SELECT_MAIN];
    EXPECT_EQ(sub.pictures, 10U);
    EXPECT_EQ(sub.us, kSecond);
    const auto code = [](double real, double unit, double zero) {
        return std::lround(real * unit) + static_cast<long>(zero);
    };
    EXPECT_NEAR(in[ADP_SELECT_RATE], code(std::log2(sub.bytes / 1024.0), ADP_SELECT_RATE_UNIT, ADP_SELECT_RATE_ZERO),
                1);
    EXPECT_NEAR(in[ADP_SELECT_FEATURES + ADP_SELECT_RATE],
                code(std::log2(main.bytes / 1024.0), ADP_SELECT_RATE_UNIT, ADP_SELECT_RATE_ZERO), 1);
    EXPECT_NEAR(in[ADP_SELECT_IDR],
                code(std::log2(sub.idr_bytes / 1024.0), ADP_SELECT_BYTES_UNIT, ADP_SELECT_BYTES_ZERO), 1);
    EXPECT_GT(sub.idr_bytes, 6000U);
    EXPECT_LT(sub.idr_bytes, 6300U);
    EXPECT_NEAR(in[ADP_SELECT_PICTURE],
                code(std::log2((sub.bytes - sub.idr_bytes) / 9.0 / 1024), ADP_SELECT_BYTES_UNIT, ADP_SELECT_BYTES_ZERO),
                1);
    EXPECT_EQ(in[ADP_SELECT_MOTION], ADP_SELECT_MOTION_ZERO);
    EXPECT_EQ(in[ADP_SELECT_LENGTH], ADP_SELECT_LENGTH_ZERO);
    EXPECT_EQ(in[ADP_SELECT_LOSS], 0);
    EXPECT_NEAR(
        in[ADP_SELECT_RATIO],
        code(std::log2(static_cast<double>(main.bytes) / sub.bytes), ADP_SELECT_RATIO_UNIT, ADP_SELECT_RATIO_ZERO), 1);
    EXPECT_EQ(in[ADP_SELECT_WAS_SUB], ADP_SELECT_FLAG_UNIT);
    EXPECT_EQ(in[ADP_SELECT_WAS_MAIN], 0);
    EXPECT_EQ(in[ADP_SELECT_OBJECTS], 2 * ADP_SELECT_OBJECTS_UNIT);
    EXPECT_EQ(in[ADP_SELECT_CONFIDENCE], 255);
    EXPECT_EQ(in[ADP_SELECT_SUB_WORTH], 128);
    EXPECT_EQ(in[ADP_SELECT_GAIN], 1);
    EXPECT_NEAR(in[ADP_SELECT_SEEN], ADP_SELECT_AGE_UNIT, 1);
    EXPECT_EQ(in[ADP_SELECT_MEASURED], 255);
    EXPECT_EQ(in[ADP_SELECT_OTHERS], 2 * ADP_SELECT_OTHERS_UNIT);
    EXPECT_EQ(in[ADP_SELECT_USED], 64);
}

TEST(Features, MotionShowsInTheSizeOfPictures) {
    SelectedCamera camera;
    camera.network = always(kWantsSub);
    CameraShape shape;
    RtpRendition& sub = shape.renditions[ADP_SELECT_SUB];
    std::vector<SentPacket> sent = send(shape, 10 * kSecond);
    for (int i = 0; i < 100; ++i) sub.picture();
    shape.begin_us[ADP_SELECT_MAIN] = ~0ULL;
    shape.phase_us[ADP_SELECT_SUB] = 10 * kSecond;
    sub.picture_bytes *= 4;
    const std::vector<SentPacket> more = send(shape, 11 * kSecond + 200000);
    camera.run(sent);
    camera.run(more);
    EXPECT_NEAR(camera.samples().back().input[ADP_SELECT_MOTION], ADP_SELECT_MOTION_ZERO + 2 * ADP_SELECT_MOTION_UNIT,
                3);
}

TEST(Outcome, WhatTheRoundBeforeCameTo) {
    SelectedCamera camera;
    camera.network = always(kWantsMain);
    camera.feedback.accuracy_q16 = ADP_Q16_ONE * 3 / 4;
    camera.feedback.seen_us = SelectedCamera::kStartUs + 18500000;
    camera.market.price_q16 = 6554;  // 0.1
    camera.run(send({}, 21 * kSecond));
    const std::vector<adp_select_sample>& samples = camera.samples();
    EXPECT_EQ(samples[19].before.known, 1U) << "came in the round before";
    EXPECT_EQ(samples[20].before.known, 0U) << "nothing new";
    const adp_select_outcome& o = samples[19].before;
    EXPECT_EQ(o.us, kSecond);
    EXPECT_EQ(o.choice, ADP_SELECT_ONLY_MAIN);
    EXPECT_EQ(o.price_q16, 6554U);
    EXPECT_NEAR(adp_select_reward(&o) / 65536.0, 0.75 - 0.1 * o.bytes / (1 << 20), 0.001);
    EXPECT_GT(o.bytes, 100000U);
}

TEST(Price, TheOperatorsWeights) {
    EXPECT_EQ(adp_select_price(1000, 0, 0), 1000U) << "the defaults";
    EXPECT_EQ(adp_select_price(1000, 65536, 131072), 2000U);
    EXPECT_EQ(adp_select_price(1000, 131072, 65536), 500U);
    EXPECT_EQ(adp_select_price(1000, 65536, 0), 0U);
    EXPECT_EQ(adp_select_price(0xffffffff, 1, 0xffffffff), ADP_SELECT_PRICE_MAX_Q16);
}

}  // namespace
}  // namespace adapath::testing
