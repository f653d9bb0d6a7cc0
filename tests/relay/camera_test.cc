// Cameras made of a clip: which pictures they see, that the same options give the same bytes, and that what they send
// decodes to what was encoded.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cmath>
#include <map>
#include <thread>

#include "tests/support/rtp_camera.h"
#include "tests/video/pattern.h"
#include "userspace/camera/encoded.h"
#include "userspace/camera/player.h"
#include "userspace/camera/rtp_muxer.h"
#include "userspace/camera/view.h"
#include "userspace/video/decoder.h"
#include "userspace/video/net.h"

namespace adapath::camera {
namespace {

using testing::append;
using testing::Bytes;
using testing::depacketise;

constexpr video::Size clip_size{320, 240};
constexpr uint32_t clip_pictures = 40;

video::Clip test_clip() {
    auto clip = video::Clip::from_i420(video::pattern(clip_size, clip_pictures), clip_size);
    EXPECT_TRUE(clip);
    return std::move(*clip);
}

// The 4:2:0 bytes of a decoded picture.
Bytes planes(const AVFrame& frame) {
    Bytes bytes;
    for (int plane = 0; plane < 3; ++plane) {
        const int width = plane == 0 ? frame.width : frame.width / 2;
        const int height = plane == 0 ? frame.height : frame.height / 2;
        for (int y = 0; y < height; ++y)
            append(bytes,
                   {frame.data[plane] + static_cast<ptrdiff_t>(y) * frame.linesize[plane], static_cast<size_t>(width)});
    }
    return bytes;
}

std::vector<Bytes> decoded(const std::vector<Bytes>& access_units) {
    auto decoder = video::Decoder::open();
    EXPECT_TRUE(decoder);
    std::vector<Bytes> pictures;
    for (size_t i = 0; i < access_units.size(); ++i) {
        auto picture = decoder->decode(access_units[i], i);
        EXPECT_TRUE(picture) << i << ": " << picture.error().message;
        pictures.push_back(picture ? planes(**picture) : Bytes());
    }
    return pictures;
}

double psnr(const Bytes& a, const video::Picture& b, size_t bytes) {
    double sum = 0;
    for (size_t i = 0; i < bytes; ++i) {
        const double difference = static_cast<double>(a[i]) - b.y[i];
        sum += difference * difference;
    }
    return 10 * std::log10(255.0 * 255.0 * static_cast<double>(bytes) / std::max(sum, 1e-9));
}

LayoutOptions layout(unsigned cameras) {
    LayoutOptions options;
    options.cameras = cameras;
    options.window = {192, 144};
    return options;
}

EncodingOptions encoding() {
    EncodingOptions options;
    options.fps = 50;
    options.group = 5;
    options.quality = {{{30, 0}, {24, 0}}};
    return options;
}

TEST(Views, OfOneClipDiffer) {
    const auto views = lay_out({{clip_size, clip_pictures}}, layout(8));
    ASSERT_TRUE(views);
    for (size_t i = 0; i < views->size(); ++i) {
        const View& view = (*views)[i];
        EXPECT_EQ(view.sizes[ADP_SELECT_SUB].width, 96);
        EXPECT_LE(view.window.x + 192, 320);
        EXPECT_LE(view.window.y + 144, 240);
        EXPECT_EQ(view.first, i * 5);
        EXPECT_EQ(view.clip_picture(0), view.first);
        EXPECT_EQ(view.clip_picture(39), (view.first + 39) % 40);
        EXPECT_EQ(view.clip_picture(40), view.first) << "a loop";
        for (size_t k = 0; k < i; ++k) EXPECT_FALSE(view.window == (*views)[k].window) << i << " and " << k;
    }
}

TEST(Views, KeepToTheirPartOfTheClip) {
    LayoutOptions options = layout(4);
    options.from = 30;
    options.to = 40;
    options.pictures = 7;
    const auto views = lay_out({{clip_size, clip_pictures}, {clip_size, clip_pictures}}, options);
    ASSERT_TRUE(views);
    EXPECT_EQ((*views)[0].clip, 0U);
    EXPECT_EQ((*views)[1].clip, 1U);
    EXPECT_TRUE((*views)[0].window == (*views)[1].window) << "each clip's first";
    for (const View& view : *views) {
        for (uint64_t i = 0; i < 30; ++i) {
            EXPECT_GE(view.clip_picture(i), 30U);
            EXPECT_LT(view.clip_picture(i), 40U);
            EXPECT_EQ(view.clip_picture(i), view.clip_picture(i + 7));
        }
    }
    for (const auto& change : std::vector<std::function<void(LayoutOptions&)>>{
             [](LayoutOptions& o) { o.window = {322, 144}; }, [](LayoutOptions& o) { o.window = {192, 145}; },
             [](LayoutOptions& o) { o.sub = {8, 8}; }, [](LayoutOptions& o) { o.to = 41; },
             [](LayoutOptions& o) { o.from = 40; }}) {
        LayoutOptions wrong = layout(1);
        change(wrong);
        EXPECT_FALSE(lay_out({{clip_size, clip_pictures}}, wrong));
    }
}

TEST(Views, MainIsTheWindowAsItIs) {
    const video::Clip clip = test_clip();
    const auto views = lay_out({{clip_size, clip_pictures}}, layout(5));
    ASSERT_TRUE(views);
    const View& view = (*views)[4];  // in the middle
    ASSERT_EQ(view.window.x, 64);
    ASSERT_EQ(view.window.y, 48);
    auto pictures = ViewPictures::open(clip, view, ADP_SELECT_MAIN);
    ASSERT_TRUE(pictures);
    const video::Picture cut = pictures->picture(3);
    const video::Picture whole = clip.picture(view.clip_picture(3));
    for (int y = 0; y < 144; ++y) {
        for (int x = 0; x < 192; ++x) {
            ASSERT_EQ(cut.y[y * 192 + x], whole.y[(y + 48) * 320 + x + 64]);
            ASSERT_EQ(cut.u[y / 2 * 96 + x / 2], whole.u[(y / 2 + 24) * 160 + x / 2 + 32]);
            ASSERT_EQ(cut.v[y / 2 * 96 + x / 2], whole.v[(y / 2 + 24) * 160 + x / 2 + 32]);
        }
    }
    View outside = view;
    outside.window.x = 130;
    EXPECT_FALSE(ViewPictures::open(clip, outside, ADP_SELECT_MAIN));
}

TEST(Encoding, IsTheSameEachTime) {
    const video::Clip clip = test_clip();
    const auto views = lay_out({{clip_size, clip_pictures}}, layout(2));
    ASSERT_TRUE(views);
    for (const bool rate : {false, true}) {
        EncodingOptions options = encoding();
        if (rate) options.quality = {{{0, 100}, {0, 600}}};
        uint64_t told = 0;
        const auto first = encode(clip, (*views)[1], options, [&told](uint64_t done) { return (told = done) > 0; });
        const auto again = encode(clip, (*views)[1], options);
        const auto other = encode(clip, (*views)[0], options);
        ASSERT_TRUE(first && again && other);
        EXPECT_EQ(told, 2 * clip_pictures);
        for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            const EncodedRendition& a = first->renditions[which];
            const EncodedRendition& b = again->renditions[which];
            ASSERT_EQ(a.pictures(), clip_pictures);
            ASSERT_EQ(b.pictures(), clip_pictures);
            for (uint32_t i = 0; i < clip_pictures; ++i) {
                ASSERT_TRUE(std::ranges::equal(a.access_unit(i), b.access_unit(i))) << i;
                EXPECT_EQ(a.key(i), i % 5 == 0) << i;
            }
            EXPECT_NE(a.bytes(), other->renditions[which].bytes());
        }
        EXPECT_LT(first->renditions[ADP_SELECT_SUB].bytes() * 2, first->renditions[ADP_SELECT_MAIN].bytes());
    }
    EXPECT_FALSE(encode(clip, (*views)[0], encoding(), [](uint64_t) { return false; })) << "stopped";
    EncodingOptions wrong = encoding();
    wrong.quality[0].qp = 52;
    EXPECT_FALSE(encode(clip, (*views)[0], wrong));
}

TEST(Rtp, DecodesToWhatWasEncoded) {
    const video::Clip clip = test_clip();
    const auto views = lay_out({{clip_size, clip_pictures}}, layout(2));
    ASSERT_TRUE(views);
    const auto camera = encode(clip, (*views)[1], encoding());
    ASSERT_TRUE(camera);
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        const EncodedRendition& rendition = camera->renditions[which];
        const video::Size size = camera->view.sizes[which];
        RtpOptions options;
        options.ssrc = 77;
        options.sequence = 65530;
        options.timestamp = 0xffffff00U;
        options.packet_bytes = 400;
        auto muxer = RtpMuxer::open(options, size);
        ASSERT_TRUE(muxer) << muxer.error().message;
        std::vector<Bytes> direct;
        std::vector<Bytes> carried;
        auto sequence = options.sequence;
        size_t largest = 0;
        for (uint32_t i = 0; i < rendition.pictures(); ++i) {
            const auto packets = muxer->packets(rendition.access_unit(i), int64_t{i} * 1800);
            ASSERT_TRUE(packets);
            ASSERT_FALSE(packets->empty());
            Bytes unit;
            for (size_t k = 0; k < packets->size(); ++k) {
                const Bytes& packet = (*packets)[k];
                const adp_view view{packet.data(), packet.data() + packet.size()};
                adp_rtp rtp{};
                ASSERT_EQ(adp_rtp_parse(&view, 0, static_cast<adp_u32>(packet.size()), &rtp), ADP_RTP_PACKET);
                EXPECT_EQ(rtp.sequence, sequence++);
                EXPECT_EQ(rtp.timestamp, options.timestamp + i * 1800);
                EXPECT_EQ(rtp.ssrc, 77U);
                EXPECT_EQ(rtp.payload_type, 96);
                EXPECT_EQ(rtp.marker != 0, k + 1 == packets->size());
                const adp_u32 contents = adp_h264_look(&view, rtp.offset, rtp.bytes);
                EXPECT_EQ((contents & ADP_H264_BEGINS) != 0, rendition.key(i)) << "picture " << i << ", packet " << k;
                largest = std::max(largest, packet.size());
                depacketise(packet, unit);
            }
            carried.push_back(unit);
            const auto bytes = rendition.access_unit(i);
            direct.emplace_back(bytes.begin(), bytes.end());
        }
        EXPECT_LE(largest, 400U);
        EXPECT_GT(largest, 300U);
        const std::vector<Bytes> expected = decoded(direct);
        const std::vector<Bytes> came = decoded(carried);
        auto source = ViewPictures::open(clip, camera->view, which);
        ASSERT_TRUE(source);
        const auto luma = static_cast<size_t>(size.width) * static_cast<size_t>(size.height);
        for (uint32_t i = 0; i < rendition.pictures(); ++i) {
            ASSERT_EQ(came[i].size(), video::picture_bytes(size)) << i;
            ASSERT_EQ(came[i], expected[i]) << i;
            EXPECT_GT(psnr(came[i], source->picture(i), luma), 30) << i;
        }
    }
    EXPECT_FALSE(RtpMuxer::open({.packet_bytes = 50}, {320, 240}));
    EXPECT_FALSE(RtpMuxer::open({.payload_type = 26}, {320, 240}));
}

// With sockets: everything, in order, in real time, over the loop's end.
TEST(Player, SendsBothRenditionsInRealTime) {
    const video::Clip clip = test_clip();
    LayoutOptions where = layout(2);
    where.pictures = 13;
    const auto views = lay_out({{clip_size, clip_pictures}}, where);
    ASSERT_TRUE(views);
    std::vector<EncodedCamera> cameras;
    for (const View& view : *views) {
        auto camera = encode(clip, view, encoding());
        ASSERT_TRUE(camera);
        cameras.push_back(std::move(*camera));
    }
    std::array<video::Fd, 2> sockets;
    std::array<uint16_t, 2> ports{};
    for (size_t i = 0; i < 2; ++i) {
        sockets[i] = video::Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ASSERT_EQ(bind(sockets[i].get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
        ports[i] = video::local_port(sockets[i].get());
    }
    std::vector<Route> routes;
    for (unsigned i = 0; i < 2; ++i) {
        const auto address = address_plus("127.0.0.30", i);
        ASSERT_TRUE(address);
        routes.push_back({*address, "127.0.0.1", ports, {10 + i, 20 + i}});
    }
    PlayOptions options;
    options.fps = 50;
    options.duration_s = 1;
    std::vector<PlayTotals> totals;
    std::atomic<bool> done{false};
    std::jthread player;
    player = std::jthread([&](const std::stop_token& stop) {
        auto played = play(cameras, routes, options, stop);
        EXPECT_TRUE(played) << played.error().message;
        if (played) totals = *played;
        done = true;
    });
    // By address and port.
    std::map<std::pair<uint32_t, size_t>, std::vector<Bytes>> came;
    const uint64_t begin = video::now_ns();
    uint64_t last = begin;
    for (;;) {
        const bool all_sent = done;
        pollfd fds[2] = {{sockets[0].get(), POLLIN, 0}, {sockets[1].get(), POLLIN, 0}};
        const int ready = poll(fds, 2, 20);
        if (ready == 0 && all_sent) break;
        for (size_t i = 0; i < 2; ++i) {
            if (fds[i].revents == 0) continue;
            Bytes packet(2000);
            sockaddr_in from{};
            socklen_t length = sizeof from;
            const ssize_t got = recvfrom(sockets[i].get(), packet.data(), packet.size(), 0,
                                         reinterpret_cast<sockaddr*>(&from), &length);
            ASSERT_GT(got, 0);
            packet.resize(static_cast<size_t>(got));
            came[{ntohl(from.sin_addr.s_addr), i}].push_back(packet);
            last = video::now_ns();
        }
    }
    player.join();
    EXPECT_GT(last - begin, 900'000'000U) << "in real time, not at once";
    ASSERT_EQ(came.size(), 4U);
    ASSERT_EQ(totals.size(), 2U);
    for (unsigned c = 0; c < 2; ++c) {
        for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            const std::vector<Bytes>& packets = came[{0x7f00001eU + c, which}];
            EXPECT_EQ(packets.size(), totals[c].packets[which]);
            std::vector<Bytes> units;
            uint32_t timestamp = 0;
            for (size_t i = 0; i < packets.size(); ++i) {
                EXPECT_LE(packets[i].size(), 1400U);
                const uint8_t* p = packets[i].data();
                const uint16_t before = i == 0 ? 0 : static_cast<uint16_t>(adp_be16(packets[i - 1].data() + 2));
                if (i > 0) {
                    EXPECT_EQ(static_cast<uint16_t>(adp_be16(p + 2)), static_cast<uint16_t>(before + 1));
                }
                if (i == 0 || adp_be32(p + 4) != timestamp) {
                    if (i > 0) {
                        EXPECT_EQ(adp_be32(p + 4), timestamp + 1800);
                    }
                    units.emplace_back();
                    timestamp = adp_be32(p + 4);
                }
                depacketise(packets[i], units.back());
            }
            ASSERT_GE(units.size(), 40U) << "three times round and more";
            units.resize(units.size() - 1);  // the last may have been cut off by the end
            const std::vector<Bytes> pictures = decoded(units);
            std::vector<Bytes> direct;
            for (uint32_t i = 0; i < units.size(); ++i) {
                const auto bytes = cameras[c].renditions[which].access_unit(i % 13);
                direct.emplace_back(bytes.begin(), bytes.end());
            }
            EXPECT_EQ(pictures, decoded(direct));
        }
    }
}

TEST(Player, StopsWhenAsked) {
    const video::Clip clip = test_clip();
    const auto views = lay_out({{clip_size, clip_pictures}}, layout(1));
    ASSERT_TRUE(views);
    std::vector<EncodedCamera> cameras;
    auto camera = encode(clip, (*views)[0], encoding());
    ASSERT_TRUE(camera);
    cameras.push_back(std::move(*camera));
    std::stop_source source;
    std::jthread player([&] {
        // Nobody listens there.
        EXPECT_TRUE(play(cameras, {{"", "127.0.0.1", {9, 9}, {1, 2}}}, {.fps = 50}, source.get_token()));
    });
    source.request_stop();
    player.join();
    EXPECT_FALSE(play(cameras, {{"192.0.2.1", "127.0.0.1", {9, 9}, {1, 2}}}, {.duration_s = 1}, {}))
        << "an address that this machine does not have";
    EXPECT_FALSE(play(cameras, {}, {}, {}));
}

TEST(Player, CountsAddressesUp) {
    EXPECT_EQ(*address_plus("192.168.1.254", 3), "192.168.2.1");
    EXPECT_EQ(*address_plus("fd00::ffff", 1), "fd00::1:0");
    EXPECT_FALSE(address_plus("255.255.255.255", 1));
    EXPECT_FALSE(address_plus("camera", 1));
}

}  // namespace
}  // namespace adapath::camera
