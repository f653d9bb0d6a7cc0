// What comes over the wire, taken apart: the relay's records, and RTP to access units. Real video, damaged video, and
// bytes that are nothing.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/server/sender.h"
#include "userspace/server/depacketiser.h"
#include "userspace/server/record_reader.h"
#include "userspace/video/decoder.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;

// Feeds bytes in pieces of a size; gives the error, or "" where all was taken.
std::string read_all(RecordReader& reader, std::span<const uint8_t> bytes, size_t piece,
                     const std::function<void(RecordReader::State)>& on = {}) {
    while (!bytes.empty()) {
        const std::span<uint8_t> space = reader.space();
        const size_t size = std::min({piece, bytes.size(), space.size()});
        std::copy_n(bytes.begin(), size, space.begin());
        reader.filled(size);
        bytes = bytes.subspan(size);
        for (;;) {
            Result<RecordReader::State> state = reader.next();
            if (!state) return state.error().message;
            if (*state == RecordReader::State::more) break;
            if (on) on(*state);
        }
    }
    return "";
}

TEST(RecordReader, WholeInPiecesOfAnySize) {
    Bytes all = hello_bytes("roof-1.A_b", 259);
    std::vector<Bytes> packets;
    for (size_t size : {size_t{1}, size_t{1200}, size_t{ADP_RELAY_PACKET_MAX}}) {
        packets.emplace_back(size, static_cast<uint8_t>(size));
        append(all, record_bytes(packets.size() % 2, 1'000'000'000'000 + size, packets.back(),
                                 packets.size() == 2 ? ADP_RELAY_AFTER_DROP : 0));
    }
    append(all, record_bytes(0, 0, {}, ADP_RELAY_END));
    for (size_t piece : {size_t{1}, size_t{7}, size_t{1000}, all.size()}) {
        RecordReader reader;
        size_t records = 0;
        bool ended = false;
        EXPECT_EQ(read_all(reader, all, piece,
                           [&](RecordReader::State state) {
                               if (state == RecordReader::State::hello) {
                                   EXPECT_EQ(reader.hello().gateway, "roof-1.A_b");
                                   EXPECT_EQ(reader.hello().camera, 259);
                                   return;
                               }
                               const Record& record = reader.record();
                               ended = record.end;
                               if (ended) return;
                               ASSERT_LT(records, packets.size());
                               EXPECT_EQ(Bytes(record.packet.begin(), record.packet.end()), packets[records]);
                               EXPECT_EQ(record.received_us, 1'000'000'000'000 + packets[records].size());
                               records++;
                               EXPECT_EQ(record.rendition, records % 2);
                               EXPECT_EQ(record.after_drop, records == 2);
                           }),
                  "");
        EXPECT_EQ(records, 3U);
        EXPECT_TRUE(ended);
        EXPECT_EQ(reader.partial_bytes(), 0U);
    }
}

TEST(RecordReader, SaysWhatIsMalformed) {
    const Bytes good = hello_bytes("roof", 0);
    const Bytes packet = {0x80, 96};
    const auto changed = [&](size_t at, uint8_t value) {
        Bytes bytes = good;
        bytes[at] = value;
        return bytes;
    };
    const auto after_hello = [&](const Bytes& more) {
        Bytes bytes = good;
        append(bytes, more);
        return bytes;
    };
    Bytes after_end = record_bytes(0, 5, {}, ADP_RELAY_END);
    append(after_end, record_bytes(0, 5, packet));
    Bytes backwards = record_bytes(0, 5'000'000, packet);
    append(backwards, record_bytes(0, 3'000'000, packet));
    const std::vector<std::pair<Bytes, std::string>> cases = {
        {changed(0, 'X'), "no adapath-relay"},
        {changed(4, 9), "version 9"},
        {changed(5, 1), "malformed hello"},
        {changed(8, 0), "malformed hello"},     // no name
        {changed(8, '/'), "malformed hello"},   // a name that could be a path
        {changed(8, '\n'), "malformed hello"},  // or a line of its own in the log
        {changed(40, 'x'), "malformed hello"},  // bytes behind its end
        {hello_bytes(std::string(64, 'a'), 0), "malformed hello"},
        {after_hello(record_bytes(2, 5, packet)), "rendition 2"},
        {after_hello(record_bytes(0, 5, packet, 4)), "unknown flags 0x04"},
        {after_hello(record_bytes(0, 5, {})), "a packet of 0 bytes"},
        {after_hello(record_bytes(0, 5, packet, ADP_RELAY_END)), "a packet of 2 bytes"},
        {after_hello(record_bytes(0, 5, Bytes(65535, 0))), "a packet of 65535 bytes"},
        {after_hello(record_bytes(0, ~0ULL, packet)), "no time"},
        {after_hello(backwards), "before that of an earlier one"},
        {after_hello(after_end), "after the record that ends"},
    };
    for (const auto& [bytes, expected] : cases) {
        RecordReader reader;
        EXPECT_NE(read_all(reader, bytes, 4096).find(expected), std::string::npos) << expected;
    }
    RecordReader reader;
    EXPECT_EQ(read_all(reader, hello_bytes(std::string(63, 'a'), 0), 4096), "");
}

class Video : public ::testing::Test {
protected:
    void SetUp() override {
        video::quiet_libav();
        encoded_ = encoded_pattern({160, 120}, 40);
        RtpSender sender;
        sender.payload_limit = 200;
        for (const Encoded& one : encoded_) packets_.push_back(sender.packets(one.bytes));
        ASSERT_GT(packets_[1].size(), 2U);
    }
    // All pictures that come out, decoded to the last.
    struct Seen {
        std::vector<AccessUnit> units;
        size_t decoded = 0;
    };
    static Seen play(Depacketiser& depacketiser, const std::vector<Bytes>& packets) {
        Seen seen;
        Result<video::Decoder> decoder = video::Decoder::open();
        if (!decoder) throw std::runtime_error(decoder.error().message);
        for (const Bytes& packet : packets) {
            // In an allocation of just its size, so that a sanitizer sees what is read behind it.
            const std::unique_ptr<uint8_t[]> exact(new uint8_t[packet.size()]);
            std::ranges::copy(packet, exact.get());
            for (AccessUnit& unit : depacketiser.packet({exact.get(), packet.size()}, 1000, false)) {
                seen.decoded += decoder->decode(unit.bytes, seen.units.size()).ok() ? 1 : 0;
                seen.units.push_back(std::move(unit));
            }
        }
        return seen;
    }
    [[nodiscard]] std::vector<Bytes> all() const {
        std::vector<Bytes> joined;
        for (const std::vector<Bytes>& picture : packets_) joined.insert(joined.end(), picture.begin(), picture.end());
        return joined;
    }
    std::vector<Encoded> encoded_;
    std::vector<std::vector<Bytes>> packets_;  // by picture
};

TEST_F(Video, ComesOutAsItWentIn) {
    Depacketiser depacketiser;
    const Seen seen = play(depacketiser, all());
    ASSERT_EQ(seen.units.size(), encoded_.size());
    EXPECT_EQ(seen.decoded, encoded_.size());
    for (size_t i = 0; i < encoded_.size(); i++) {
        EXPECT_EQ(seen.units[i].idr, encoded_[i].key);
        EXPECT_EQ(seen.units[i].idr, i % group == 0);
        EXPECT_EQ(nal_units(seen.units[i].bytes), nal_units(encoded_[i].bytes)) << i;
    }
    EXPECT_EQ(depacketiser.counters().pictures, encoded_.size());
    EXPECT_EQ(depacketiser.counters().lost + depacketiser.counters().malformed + depacketiser.counters().incomplete,
              0U);
}

// Any packet that is lost costs its picture and the rest of its group, and nothing else.
TEST_F(Video, ALostPacketCostsTheRestOfItsGroup) {
    for (const size_t picture : {size_t{10}, size_t{13}, size_t{19}}) {
        for (size_t lost = 0; lost < packets_[picture].size(); lost++) {
            std::vector<Bytes> sent;
            for (size_t i = 0; i < packets_.size(); i++)
                for (size_t p = 0; p < packets_[i].size(); p++)
                    if (i != picture || p != lost) sent.push_back(packets_[i][p]);
            Depacketiser depacketiser;
            const Seen seen = play(depacketiser, sent);
            // Without its parameter sets an IDR picture can be decoded after all: those of the group before are the
            // same.
            const bool only_parameters = picture == 10 && lost == 0;
            const size_t expected = only_parameters ? 40 : 40 - (20 - picture);
            EXPECT_EQ(seen.units.size(), expected) << "picture " << picture << ", packet " << lost;
            EXPECT_EQ(seen.decoded, expected) << "picture " << picture << ", packet " << lost;
            if (!only_parameters) {
                EXPECT_GE(depacketiser.counters().incomplete, 1U)
                    << "picture " << picture << ", packet " << lost << " of " << packets_[picture].size();
            }
        }
    }
}

// The gateway leaves out whole chunks: no loss, and all that comes can be decoded.
TEST_F(Video, ChunksThatWereLeftOutAreNoLoss) {
    std::vector<Bytes> sent;
    for (size_t i = 0; i < packets_.size(); i++)
        if (i / group != 1) sent.insert(sent.end(), packets_[i].begin(), packets_[i].end());
    Depacketiser depacketiser;
    const Seen seen = play(depacketiser, sent);
    EXPECT_EQ(seen.units.size(), 30U);
    EXPECT_EQ(seen.decoded, 30U);
    EXPECT_EQ(depacketiser.counters().lost, 0U);
    EXPECT_EQ(depacketiser.counters().incomplete, 0U);
}

// Nor is the rest of a picture that was late when half of it was gone.
TEST_F(Video, APictureWhoseRestTheRelayLeftOutIsNoLoss) {
    Depacketiser depacketiser;
    size_t pictures = 0;
    const auto send = [&](size_t picture, size_t packets, bool after_drop) {
        for (size_t p = 0; p < packets; p++)
            pictures += depacketiser.packet(packets_[picture][p], 1000, after_drop && p == 0).size();
    };
    for (size_t i = 0; i < group; i++) send(i, packets_[i].size(), false);
    send(group, packets_[group].size() - 1, false);
    for (size_t i = 2 * group; i < 4 * group; i++) send(i, packets_[i].size(), i == 2 * group);
    EXPECT_EQ(pictures, 3 * group);
    EXPECT_EQ(depacketiser.counters().cut, 1U);
    EXPECT_EQ(depacketiser.counters().relay_drops, 1U);
    EXPECT_EQ(depacketiser.counters().incomplete + depacketiser.counters().lost + depacketiser.counters().skipped, 0U);
}

TEST_F(Video, TwiceAndLateAndForeignPacketsAreLeftOut) {
    std::vector<Bytes> sent;
    for (const Bytes& packet : all()) {
        sent.push_back(packet);
        sent.push_back(packet);
        Bytes control = packet;
        control[1] = 200;  // RTCP
        sent.push_back(control);
        Bytes sound = packet;
        sound[1] = static_cast<uint8_t>((sound[1] & 0x80) | 97);
        sent.push_back(sound);
    }
    Depacketiser depacketiser;
    const Seen seen = play(depacketiser, sent);
    EXPECT_EQ(seen.decoded, encoded_.size());
    EXPECT_EQ(depacketiser.counters().late, all().size());
    EXPECT_EQ(depacketiser.counters().foreign, 2 * all().size());
}

TEST_F(Video, ACameraThatStartsAgainIsFollowed) {
    Depacketiser depacketiser;
    EXPECT_EQ(play(depacketiser, all()).decoded, 40U);
    RtpSender again;  // the same SSRC, its sequence from another place
    again.sequence = 20000;
    std::vector<Bytes> sent;
    for (const Encoded& one : encoded_)
        for (Bytes& packet : again.packets(one.bytes)) sent.push_back(std::move(packet));
    EXPECT_GE(play(depacketiser, sent).decoded, 10U);
    RtpSender other(99);
    sent.clear();
    for (const Encoded& one : encoded_)
        for (Bytes& packet : other.packets(one.bytes)) sent.push_back(std::move(packet));
    EXPECT_EQ(play(depacketiser, sent).decoded, 40U);
}

TEST(Depacketiser, MalformedUnitsAreCountedAndNothingOfThemComesOut) {
    const auto payloads = [](std::initializer_list<Bytes> list) { return std::vector<Bytes>(list); };
    const Bytes sps = stap_a({nal_unit(7, 20), nal_unit(8, 6)});
    Bytes oversize = stap_a({nal_unit(5, 30)});
    oversize[1] = 0xff;  // of 65 kB, it says
    Bytes cut = stap_a({nal_unit(7, 20), nal_unit(5, 30)});
    cut.resize(cut.size() - 5);
    const Bytes fu_end = {0x7c, 0x40 | 5, 1, 2, 3};
    const Bytes fu_middle = {0x7c, 5, 1, 2, 3};
    const Bytes fu_both = {0x7c, 0xc0 | 5, 1, 2, 3};
    const Bytes fu_start = {0x7c, 0x80 | 5, 0x88, 2, 3};
    const Bytes fu_short = {0x7c, 0x80 | 5};
    Bytes forbidden = nal_unit(5, 30);
    forbidden[0] |= 0x80;
    const std::vector<std::vector<Bytes>> cases = {
        payloads({sps, oversize}),
        payloads({sps, cut}),
        payloads({sps, fu_end}),
        payloads({sps, fu_middle, fu_end}),
        payloads({sps, fu_both}),
        payloads({sps, fu_start, fu_start, fu_end}),
        payloads({sps, fu_short}),
        payloads({sps, forbidden}),
        payloads({sps, {0x79, 0, 0, 0, 1}}),     // STAP-B
        payloads({sps, {0x7d, 0x85, 0, 0, 1}}),  // FU-B
        payloads({sps, {0x60}}),                 // type 0
        payloads({sps, fu_start, nal_unit(5, 30)}),
        payloads({sps, {0x78}}),  // a STAP-A of nothing
    };
    for (size_t i = 0; i < cases.size(); i++) {
        Depacketiser depacketiser;
        RtpSender sender;
        size_t out = 0;
        for (size_t p = 0; p < cases[i].size(); p++)
            out += depacketiser.packet(sender.packet(cases[i][p], p + 1 == cases[i].size()), 1, false).size();
        sender.next();
        // A picture that depends on the damaged one, and a whole group.
        out += depacketiser.packet(sender.packet(nal_unit(1, 40), true), 2, false).size();
        EXPECT_EQ(out, 0U) << "case " << i;
        EXPECT_GE(depacketiser.counters().malformed, 1U) << "case " << i;
        sender.next();
        EXPECT_EQ(depacketiser.packet(sender.packet(sps, false), 3, false).size(), 0U);
        EXPECT_EQ(depacketiser.packet(sender.packet(nal_unit(5, 40), true), 3, false).size(), 1U) << "case " << i;
    }
}

// An access unit without an end takes no more memory than the limit.
TEST(Depacketiser, EndlessPicturesAreBounded) {
    Depacketiser depacketiser;
    RtpSender sender;
    size_t out = depacketiser.packet(sender.packet(stap_a({nal_unit(7, 20), nal_unit(8, 6)}), false), 1, false).size();
    const Bytes unit = nal_unit(5, 60000);
    for (size_t sent = 0; sent < 2 * Depacketiser::most_bytes; sent += unit.size())
        out += depacketiser.packet(sender.packet(unit, false), 1, false).size();
    out += depacketiser.packet(sender.packet(unit, true), 1, false).size();
    EXPECT_EQ(out, 0U);
    EXPECT_EQ(depacketiser.counters().incomplete, 1U);
}

// Cut at every length and with bytes changed: what comes out is never larger than what went in, and all is counted.
TEST_F(Video, CutAndChangedPacketsDoNoHarm) {
    std::mt19937 random(5);
    std::vector<Bytes> sent;
    for (int round = 0; round < 20; round++)
        for (const Bytes& packet : all()) {
            Bytes bytes = packet;
            for (uint32_t n = random() % 3; n > 0; n--)
                bytes[random() % std::min<size_t>(bytes.size(), 40)] = static_cast<uint8_t>(random());
            if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
            sent.push_back(std::move(bytes));
        }
    Depacketiser depacketiser;
    const Seen seen = play(depacketiser, sent);
    EXPECT_EQ(depacketiser.counters().packets, sent.size());
    EXPECT_GT(depacketiser.counters().malformed, 50U);
    EXPECT_EQ(seen.units.size() + depacketiser.counters().skipped, depacketiser.counters().pictures);
    // And whole video afterwards.
    RtpSender sender(1234);
    std::vector<Bytes> good;
    for (const Encoded& one : encoded_)
        for (Bytes& packet : sender.packets(one.bytes)) good.push_back(std::move(packet));
    EXPECT_GE(play(depacketiser, good).decoded, 30U);
}

TEST(Depacketiser, RandomBytesDoNoHarm) {
    std::mt19937 random(6);
    Depacketiser depacketiser;
    for (int i = 0; i < 50'000; i++) {
        const size_t size = random() % 60;
        const std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);
        for (size_t b = 0; b < size; b++) exact[b] = static_cast<uint8_t>(random());
        if (size > 1) {  // often enough like RTP to be looked into
            exact[0] = static_cast<uint8_t>(0x80 | (exact[0] & 0x3f));
            exact[1] = static_cast<uint8_t>((exact[1] & 0x80) | 96);
        }
        (void)depacketiser.packet({exact.get(), size}, static_cast<uint64_t>(i), false);
    }
    EXPECT_EQ(depacketiser.counters().packets, 50'000U);
    EXPECT_GT(depacketiser.counters().malformed, 1000U);
}

}  // namespace
}  // namespace adapath::server
