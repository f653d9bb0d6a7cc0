// The reader of the per-CPU sample rings against a model of the writers: rings in this process's memory, written as
// adapath.ko writes them, with every order in which the writes of several CPUs can become visible.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <adapath/abi.h>

#include "userspace/kmod_backend/ring_reader.h"

namespace adapath::kmod {
namespace {

// What a record holds here: enough to know it again.
struct Record {
    uint64_t flow;
    uint64_t seq;
    uint64_t check;
};
uint64_t check_of(uint64_t flow, uint64_t seq) { return (flow << 32 ^ seq) * 0x9e3779b97f4a7c15ULL; }

// The kernel's half.
class Rings {
public:
    Rings(uint32_t cpus, uint32_t records) : cpus_(cpus), records_(records) {
        const uint32_t stride = ADP_RING_HEADER_BYTES + sizeof(Record);
        const uint32_t cpu_bytes = (records * stride + 4095) / 4096 * 4096;
        bytes_ = ADP_RING_INFO_BYTES + size_t{cpus} * cpu_bytes;
        memory_.reset(static_cast<std::byte*>(std::aligned_alloc(4096, bytes_)));
        std::memset(memory_.get(), 0, bytes_);
        adp_ring_info& i = info();
        i.version = ADP_ABI_VERSION;
        i.cpus = cpus;
        i.record_bytes = sizeof(Record);
        i.stride = stride;
        i.records = records;
        i.cpu_bytes = cpu_bytes;
        i.map_bytes = bytes_;
    }
    adp_ring_info& info() { return *reinterpret_cast<adp_ring_info*>(memory_.get()); }
    adp_ring_tails& tails() { return tails_; }
    [[nodiscard]] size_t bytes() const { return bytes_; }
    RingReader reader() {
        Result<RingReader> made = RingReader::create(&info(), bytes_, &tails_);
        EXPECT_TRUE(made) << made.error().message;
        return std::move(*made);
    }

    // The writer's steps, apart, so that a test can put others' in between. False: no room, counted as lost.
    struct Pending {
        uint32_t cpu;
        uint64_t number;
    };
    bool begin(uint32_t cpu, const Record& record, Pending& pending) {
        adp_ring_head& head = info().heads[cpu];
        if (head.head - __atomic_load_n(&tails_.tail[cpu], __ATOMIC_ACQUIRE) >= records_) {
            __atomic_store_n(&head.lost, head.lost + 1, __ATOMIC_RELAXED);
            return false;
        }
        pending = {cpu, __atomic_add_fetch(&info().last, 1, __ATOMIC_SEQ_CST)};
        std::byte* place = memory_.get() + ADP_RING_INFO_BYTES + size_t{cpu} * info().cpu_bytes +
                           (head.head & (records_ - 1)) * info().stride;
        std::memcpy(place, &pending.number, sizeof(pending.number));
        std::memcpy(place + ADP_RING_HEADER_BYTES, &record, sizeof(record));
        return true;
    }
    void complete(const Pending& pending) {
        adp_ring_head& head = info().heads[pending.cpu];
        __atomic_store_n(&head.head, head.head + 1, __ATOMIC_RELEASE);
    }
    bool put(uint32_t cpu, const Record& record) {
        Pending pending{};
        if (!begin(cpu, record, pending)) return false;
        complete(pending);
        return true;
    }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    uint32_t cpus_;
    uint32_t records_;
    size_t bytes_ = 0;
    std::unique_ptr<std::byte, Free> memory_;
    adp_ring_tails tails_ = {};
};

Record parse(std::span<const std::byte> bytes) {
    Record record{};
    EXPECT_EQ(bytes.size(), sizeof(record));
    std::memcpy(&record, bytes.data(), sizeof(record));
    EXPECT_EQ(record.check, check_of(record.flow, record.seq)) << "a record that was never written";
    return record;
}
Record make(uint64_t flow, uint64_t seq) { return {flow, seq, check_of(flow, seq)}; }

TEST(KmodRing, AnEmptyRingGivesNothing) {
    Rings rings(4, 16);
    RingReader reader = rings.reader();
    EXPECT_EQ(reader.read([](auto) { FAIL(); }), 0U);
}

TEST(KmodRing, RecordsOfSeveralCpusComeInTheOrderTheyWereMade) {
    Rings rings(4, 16);
    RingReader reader = rings.reader();
    const std::vector<uint32_t> cpus = {2, 0, 0, 3, 1, 2, 2, 0, 3};
    for (uint64_t i = 0; i < cpus.size(); ++i) ASSERT_TRUE(rings.put(cpus[i], make(1, i)));
    uint64_t next = 0;
    EXPECT_EQ(reader.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, next++); }), cpus.size());
    EXPECT_EQ(reader.read([](auto) { FAIL() << "delivered twice"; }), 0U);
}

TEST(KmodRing, AFullRingLosesAndSaysSo) {
    Rings rings(2, 8);
    RingReader reader = rings.reader();
    for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(rings.put(1, make(1, i)), i < 8);
    EXPECT_EQ(reader.lost(), 12U);
    uint64_t next = 0;
    EXPECT_EQ(reader.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, next++); }), 8U);
    EXPECT_TRUE(rings.put(1, make(1, 20))) << "what was read is free again";
}

// Another CPU's record that got its number earlier and is not complete yet must not come before what was made later:
// what has a number above the newest at the time of reading waits for the next.
TEST(KmodRing, WhatBecameVisibleOutOfOrderIsDeliveredOnce) {
    Rings rings(2, 8);
    RingReader reader = rings.reader();
    Rings::Pending slow{};
    ASSERT_TRUE(rings.begin(0, make(1, 0), slow));
    ASSERT_TRUE(rings.put(1, make(2, 0)));
    std::map<uint64_t, uint64_t> seen;
    const auto count = [&](auto bytes) { seen[parse(bytes).flow]++; };
    EXPECT_EQ(reader.read(count), 1U) << "the complete one does not wait for the other";
    rings.complete(slow);
    EXPECT_EQ(reader.read(count), 1U);
    EXPECT_EQ(seen[1], 1U);
    EXPECT_EQ(seen[2], 1U);
}

// The reader loads `last` first and the heads after it: a head may be further on by then.
TEST(KmodRing, WhatIsNewerThanTheNumberLoadedFirstWaits) {
    Rings rings(2, 8);
    RingReader reader = rings.reader();
    for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(rings.put(i % 2, make(1, i)));
    rings.info().last = 1;
    EXPECT_EQ(reader.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, 0U); }), 1U);
    rings.info().last = 3;
    uint64_t next = 1;
    EXPECT_EQ(reader.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, next++); }), 2U);
}

TEST(KmodRing, AReaderThatDiesInMidBatchLosesNothing) {
    Rings rings(2, 8);
    for (uint64_t i = 0; i < 6; ++i) rings.put(i % 2, make(1, i));
    struct Died {};
    {
        RingReader reader = rings.reader();
        int left = 3;
        EXPECT_THROW(reader.read([&](auto) {
            if (--left == 0) throw Died();
        }),
                     Died);
    }
    RingReader next_daemon = rings.reader();
    uint64_t next = 0;
    EXPECT_EQ(next_daemon.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, next++); }), 6U);
}

TEST(KmodRing, AWrongTailCostsItsSamplesAndNothingElse) {
    for (const uint64_t wrong : {uint64_t{1} << 40, uint64_t{7}, ~uint64_t{0}}) {
        Rings rings(2, 8);
        RingReader reader = rings.reader();
        for (uint64_t i = 0; i < 3; ++i) rings.put(0, make(1, i));
        for (uint64_t i = 0; i < 3; ++i) rings.put(1, make(2, i));
        rings.tails().tail[0] = wrong;
        uint64_t other = 0;
        reader.read([&](auto bytes) { other += parse(bytes).flow == 2 ? 1 : 0; });
        EXPECT_EQ(other, 3U);
        ASSERT_TRUE(rings.put(0, make(1, 3)));
        EXPECT_EQ(reader.read([&](auto bytes) { EXPECT_EQ(parse(bytes).seq, 3U); }), 1U) << "the ring works again";
    }
}

TEST(KmodRing, AGeometryThatLeavesTheMappingIsRefused) {
    const auto refused = [](const std::function<void(adp_ring_info&)>& damage) {
        Rings rings(2, 8);
        damage(rings.info());
        return !RingReader::create(&rings.info(), rings.bytes(), &rings.tails()).ok();
    };
    EXPECT_FALSE(refused([](adp_ring_info&) {}));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.version++; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.cpus = 0; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.cpus = ADP_RING_MAX_CPUS + 1; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.cpus++; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.records = 7; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.records = 1 << 20; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.stride = i.record_bytes; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.stride = 0xfffffff8; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.record_bytes = 0xffffffff; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.cpu_bytes = 0xfffff000; }));
    EXPECT_TRUE(refused([](adp_ring_info& i) { i.map_bytes += 4096; }));
}

// What a reader sees that loads one word after the other while the writers go on: each word as it was at some moment
// since the last reading, `last` first, then the heads.
class SpreadReading {
public:
    explicit SpreadReading(Rings& rings) : rings_(rings) { note(); }
    // After every step of a writer.
    void note() {
        Moment now{rings_.info().last, {}};
        for (uint32_t cpu = 0; cpu < rings_.info().cpus; ++cpu) now.heads.push_back(rings_.info().heads[cpu].head);
        moments_.push_back(std::move(now));
    }
    void read(RingReader& reader, const RingReader::Sink& sink, std::mt19937_64& random) {
        const Moment now = moments_.back();
        size_t at = random() % moments_.size();
        rings_.info().last = moments_[at].last;
        for (uint32_t cpu = 0; cpu < now.heads.size(); ++cpu) {
            at += random() % (moments_.size() - at);
            rings_.info().heads[cpu].head = moments_[at].heads[cpu];
        }
        reader.read(sink);
        rings_.info().last = now.last;
        for (uint32_t cpu = 0; cpu < now.heads.size(); ++cpu) rings_.info().heads[cpu].head = now.heads[cpu];
        moments_ = {now};
    }

private:
    struct Moment {
        uint64_t last;
        std::vector<uint64_t> heads;
    };
    Rings& rings_;
    std::vector<Moment> moments_;
};

// The property: whatever the interleaving, every record comes exactly once or is counted as lost, and each flow's come
// in their order. A flow moves between CPUs, and writes its next record only after its last is complete, as a socket
// under its lock does.
TEST(KmodRing, AnyInterleavingKeepsEveryFlowsOrderAndLosesNothingUncounted) {
    for (uint64_t seed = 0; seed < 300; ++seed) {
        std::mt19937_64 random(seed);
        const uint32_t cpus = 1 + random() % 5;
        const uint32_t flows = 1 + random() % 6;
        Rings rings(cpus, 1U << (random() % 6));
        // As after months: indices near the end of 32 bits, and CPUs that never wrote.
        for (uint32_t cpu = 0; cpu < cpus; ++cpu) {
            rings.info().heads[cpu].head = rings.tails().tail[cpu] = random() % 3 == 0 ? 0xfffffff0 + random() % 32 : 0;
        }
        RingReader reader = rings.reader();
        std::vector<uint64_t> next_seq(flows, 0);  // to write
        std::vector<std::vector<uint64_t>> written(flows);
        std::vector<std::vector<uint64_t>> seen(flows);
        std::vector<std::optional<Rings::Pending>> on_cpu(
            cpus);  // begun, not complete: no other on that CPU, nor by that flow
        std::vector<uint64_t> flow_on_cpu(cpus, 0);
        std::vector<bool> busy(flows, false);
        uint64_t lost = 0;
        SpreadReading spread(rings);
        const auto sink = [&](auto bytes) {
            const Record record = parse(bytes);
            seen[record.flow].push_back(record.seq);
        };
        for (int step = 0; step < 400; ++step) {
            const uint32_t cpu = random() % cpus;
            switch (random() % 4) {
                case 0:
                case 1:
                    if (on_cpu[cpu]) {
                        rings.complete(*on_cpu[cpu]);
                        on_cpu[cpu].reset();
                        busy[flow_on_cpu[cpu]] = false;
                    } else {
                        const uint64_t flow = random() % flows;
                        if (busy[flow]) break;
                        const uint64_t seq = next_seq[flow]++;
                        Rings::Pending pending{};
                        if (!rings.begin(cpu, make(flow, seq), pending)) {
                            ++lost;
                            break;
                        }
                        written[flow].push_back(seq);
                        on_cpu[cpu] = pending;
                        flow_on_cpu[cpu] = flow;
                        busy[flow] = true;
                    }
                    break;
                default:
                    if (random() % 8 == 0) spread.read(reader, sink, random);
                    break;
            }
            spread.note();
        }
        for (uint32_t cpu = 0; cpu < cpus; ++cpu)
            if (on_cpu[cpu]) rings.complete(*on_cpu[cpu]);
        reader.read(sink);
        for (uint32_t flow = 0; flow < flows; ++flow)
            ASSERT_EQ(seen[flow], written[flow]) << "seed " << seed << " flow " << flow;
        ASSERT_EQ(reader.lost(), lost) << "seed " << seed;
        ASSERT_EQ(reader.read(sink), 0U);
    }
}

// The same with real threads, for what only a real memory model shows: one a CPU, and flows that are handed from one to
// the next.
TEST(KmodRing, ThreadsThatWriteWhileOneReads) {
    constexpr uint32_t kCpus = 3;
    constexpr uint64_t kRecords = 8000;
    Rings rings(kCpus, 256);
    RingReader reader = rings.reader();
    std::atomic<uint64_t> turn{0};  // flow 0 belongs to the thread whose turn it is; flow 1 + cpu to its CPU alone
    std::vector<std::thread> writers;
    std::atomic<uint32_t> ended{0};
    for (uint32_t cpu = 0; cpu < kCpus; ++cpu) {
        writers.emplace_back([&, cpu] {
            uint64_t own = 0;
            for (;;) {
                const uint64_t seq = turn.load(std::memory_order_acquire);
                if (seq >= kRecords) break;
                while (!rings.put(cpu, make(1 + cpu, own))) std::this_thread::yield();
                ++own;
                if (seq % kCpus == cpu) {
                    while (!rings.put(cpu, make(0, seq))) std::this_thread::yield();
                    turn.store(seq + 1, std::memory_order_release);
                }
            }
            ++ended;
        });
    }
    std::vector<uint64_t> next(1 + kCpus, 0);
    uint64_t wrong = 0;
    const auto sink = [&](auto bytes) {
        const Record record = parse(bytes);
        if (record.seq != next[record.flow]) ++wrong;
        next[record.flow] = record.seq + 1;
    };
    while (ended < kCpus) {
        if (reader.read(sink) == 0) std::this_thread::yield();
    }
    for (std::thread& writer : writers) writer.join();
    reader.read(sink);
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(next[0], kRecords);
}

}  // namespace
}  // namespace adapath::kmod
