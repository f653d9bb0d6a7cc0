// Snapshot files: what goes in comes out, equal snapshots have equal names, and whatever else is in a file gives a
// reason, not a crash.
#include <filesystem>
#include <fstream>
#include <random>

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "codegen/proto_convert.h"
#include "codegen/snapshot_hash.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

namespace fs = std::filesystem;
using testing_support::cc_network;
using testing_support::random_network;
using testing_support::random_weights;
using testing_support::uniform_codes;

// A folder of its own that goes with the test.
class Folder {
public:
    Folder() {
        std::string name = (fs::temp_directory_path() / "adapath-snapshot-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) {
            throw std::runtime_error("no temporary folder");
        }
        path_ = name;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { fs::remove_all(path_); }

    [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }
    [[nodiscard]] size_t entries() const {
        return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
    }

private:
    fs::path path_;
};

Snapshot make_snapshot(const Network& network, uint64_t seed) {
    std::mt19937_64 random(seed);
    Snapshot snapshot;
    snapshot.reference = random_weights(network, random);
    snapshot.probes = uniform_codes(network.input_count(), 5, random);
    snapshot.model = *quantise(snapshot.reference, uniform_codes(network.input_count(), 50, random));
    snapshot.fidelity = measure_fidelity(snapshot.reference, snapshot.model, snapshot.probes);
    snapshot.provenance = {"adapath-trainer 0.1.0", "a test", 12345, 1700000000, "ümlaut"};
    snapshot.explore = 0.05F;
    snapshot.source_c = "int x;\n";
    snapshot.bpf_object = {0x7f, 'E', 'L', 'F', 0, 255};
    return snapshot;
}

std::string message_of(const std::string& bytes) {
    const Result<Snapshot> parsed = parse_snapshot(bytes, "foo.snap");
    return parsed.ok() ? "accepted" : parsed.error().message;
}

void expect_equal_models(const QuantModel& a, const QuantModel& b) {
    EXPECT_EQ(a.network, b.network);
    ASSERT_EQ(a.layers.size(), b.layers.size());
    for (size_t l = 0; l < a.layers.size(); ++l) {
        EXPECT_EQ(a.layers[l].weights, b.layers[l].weights);
        EXPECT_EQ(a.layers[l].mult, b.layers[l].mult);
        EXPECT_EQ(a.layers[l].bias, b.layers[l].bias);
        EXPECT_EQ(a.layers[l].shift, b.layers[l].shift);
        EXPECT_EQ(a.layers[l].code_table, b.layers[l].code_table);
        EXPECT_EQ(a.layers[l].output_table, b.layers[l].output_table);
        EXPECT_EQ(a.layers[l].scale, b.layers[l].scale);
        EXPECT_EQ(a.layers[l].zero_point, b.layers[l].zero_point);
    }
}

TEST(Snapshot, ComesBackAsItWas) {
    std::mt19937_64 random(21);
    for (int m = 0; m < 10; ++m) {
        const Snapshot snapshot = make_snapshot(random_network(random), static_cast<uint64_t>(m));
        const Result<std::string> bytes = serialise(snapshot);
        ASSERT_TRUE(bytes.ok()) << bytes.error().message;
        const Result<Snapshot> back = parse_snapshot(*bytes, "foo.snap");
        ASSERT_TRUE(back.ok()) << back.error().message;
        expect_equal_models(back->model, snapshot.model);
        EXPECT_EQ(back->reference.weights, snapshot.reference.weights);
        EXPECT_EQ(back->reference.biases, snapshot.reference.biases);
        EXPECT_EQ(back->probes, snapshot.probes);
        EXPECT_EQ(back->fidelity.p99_error, snapshot.fidelity.p99_error);
        EXPECT_EQ(back->provenance.note, snapshot.provenance.note);
        EXPECT_EQ(back->provenance.created_unix_s, snapshot.provenance.created_unix_s);
        EXPECT_EQ(back->explore, snapshot.explore);
        EXPECT_EQ(back->source_c, snapshot.source_c);
        EXPECT_EQ(back->bpf_object, snapshot.bpf_object);
        EXPECT_EQ(serialise(*back).value(), *bytes) << "not deterministic";
    }
}

TEST(Snapshot, NamesFollowContent) {
    const Snapshot first = *seal(make_snapshot(cc_network(), 1));
    EXPECT_EQ(first.hash.size(), 64U);
    EXPECT_EQ(seal(make_snapshot(cc_network(), 1))->hash, first.hash);
    EXPECT_EQ(seal(first)->hash, first.hash) << "sealing twice changes nothing";

    const Snapshot other = *seal(make_snapshot(cc_network(), 2));
    EXPECT_NE(other.hash, first.hash);
    EXPECT_EQ(other.program_hash, first.program_hash) << "new weights, same program";
    Network wider = cc_network();
    wider.layers[0].outputs = wider.layers[1].inputs = 33;
    EXPECT_NE(seal(make_snapshot(wider, 1))->program_hash, first.program_hash);

    Snapshot noted = first;
    noted.provenance.note = "other";
    EXPECT_NE(seal(noted)->hash, first.hash);
}

TEST(Snapshot, FilesAreReplacedWhole) {
    const Folder folder;
    const std::string path = folder.file("a.snap");
    const Snapshot first = *seal(make_snapshot(cc_network(), 1));
    const Snapshot second = *seal(make_snapshot(cc_network(), 2));
    ASSERT_TRUE(write_snapshot(first, path).ok());
    ASSERT_TRUE(write_snapshot(second, path).ok());
    const Result<Snapshot> back = read_snapshot(path);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(back->hash, second.hash);
    EXPECT_EQ(folder.entries(), 1U) << "a temporary file stayed behind";

    const Status nowhere = write_snapshot(first, folder.file("missing/a.snap"));
    ASSERT_FALSE(nowhere.ok());
    EXPECT_NE(nowhere.error().message.find("missing/a.snap"), std::string::npos) << nowhere.error().message;
    // A folder can't be replaced by a file: the temporary one must go.
    ASSERT_TRUE(fs::create_directory(folder.file("folder")));
    EXPECT_FALSE(write_snapshot(first, folder.file("folder")).ok());
    EXPECT_EQ(folder.entries(), 2U);
    EXPECT_FALSE(read_snapshot(folder.file("none.snap")).ok());
    EXPECT_FALSE(read_snapshot(folder.file("folder")).ok());
}

TEST(Snapshot, ReasonsAreDistinct) {
    const std::string bytes = serialise(make_snapshot(cc_network(), 1)).value();
    EXPECT_EQ(message_of(bytes), "accepted");
    EXPECT_EQ(message_of("\x7f"
                         "ELF\x02\x01\x01 and more"),
              "foo.snap: not an Adapath snapshot (magic 7f454c4602010120, expected \"ADAPSNAP\")");
    EXPECT_EQ(message_of(""), "foo.snap: truncated: 0 bytes are not even a header");
    EXPECT_EQ(message_of(bytes.substr(0, 10)), "foo.snap: truncated: 10 bytes are not even a header");

    std::string newer = bytes;
    newer[8] = 3;
    EXPECT_EQ(message_of(newer), "foo.snap: format 3 is newer than this program's 1: upgrade adapath");
    std::string older = bytes;
    older[8] = 0;
    EXPECT_EQ(message_of(older), "foo.snap: format 0 is not one that this program reads (1)");

    EXPECT_NE(message_of(bytes.substr(0, bytes.size() - 1)).find("truncated or damaged"), std::string::npos);
    std::string damaged = bytes;
    damaged[damaged.size() - 1] ^= 1;  // in the object's last byte: still a sound message
    EXPECT_NE(message_of(damaged).find("content hash mismatch"), std::string::npos) << message_of(damaged);
}

// Where the hash is right, the content may still be hostile.
TEST(Snapshot, AHashMakesNothingTrue) {
    pb::Snapshot sound;
    to_proto(*seal(make_snapshot(cc_network(), 1)), &sound);
    ASSERT_TRUE(from_proto(sound).ok());
    const auto refusal = [&](auto change) {
        pb::Snapshot message = sound;
        change(message);
        message.set_hash(content_hash(message));
        const Result<Snapshot> result = from_proto(message);
        return result.ok() ? std::string("accepted") : result.error().message;
    };
    const auto expect_refusal = [&](const char* part, auto change) {
        const std::string message = refusal(change);
        EXPECT_NE(message.find(part), std::string::npos) << message;
    };
    EXPECT_EQ(refusal([](pb::Snapshot&) {}), "accepted");
    expect_refusal("activation 9 is unknown", [](pb::Snapshot& s) {
        s.mutable_network()->mutable_layers(0)->set_activation(static_cast<pb::Activation>(9));
    });
    expect_refusal("shift 300", [](pb::Snapshot& s) { s.mutable_layers(0)->set_shift(300); });
    expect_refusal("is over 65535", [](pb::Snapshot& s) { s.mutable_layers(0)->set_code_table(3, 70000); });
    expect_refusal("outputs in its table", [](pb::Snapshot& s) { s.mutable_layers(2)->add_output_table(1); });
    expect_refusal("is outside -32768", [](pb::Snapshot& s) { s.mutable_layers(2)->add_output_table(1 << 20); });
    expect_refusal("62 bits", [](pb::Snapshot& s) { s.mutable_layers(1)->set_bias(0, INT64_MIN); });
    expect_refusal("probe 5 has 31 codes", [](pb::Snapshot& s) { s.add_probes(std::string(31, 'x')); });
    expect_refusal("exploration noise", [](pb::Snapshot& s) { s.set_explore(-1); });
    expect_refusal("exploration noise", [](pb::Snapshot& s) { s.set_explore(NAN); });
    expect_refusal("reference model", [](pb::Snapshot& s) { s.mutable_reference(0)->set_weights(0, NAN); });
    expect_refusal("program hash (none)", [](pb::Snapshot& s) { s.set_program_hash("\x1b[2J not for a terminal"); });
    expect_refusal("program hash", [](pb::Snapshot& s) { s.mutable_network()->set_feature_schema(77); });
    EXPECT_EQ(refusal([](pb::Snapshot& s) { s.clear_reference(); }), "accepted")
        << "foreign files may have no reference";
}

TEST(Snapshot, EveryFlippedBitIsNoticed) {
    const google::protobuf::LogSilencer quiet;  // it says on stderr what it refuses
    Network network = cc_network();
    network.layers = {{ADP_CC_INPUTS, 2, Activation::identity}};  // small, so that every bit can have its turn
    const std::string bytes = serialise(make_snapshot(network, 1)).value();
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        std::string flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        ASSERT_NE(message_of(flipped), "accepted") << "bit " << bit;
    }
    for (size_t length = 0; length < bytes.size(); ++length) {
        ASSERT_NE(message_of(bytes.substr(0, length)), "accepted") << length << " bytes";
    }
}

// Mutated messages with their hash made right again, so that the checks behind the hash get their turn. What is
// accepted must be safe to run.
TEST(Snapshot, MutationsGiveAnErrorOrASoundModel) {
    const google::protobuf::LogSilencer quiet;
    std::mt19937_64 random(31);
    std::vector<std::string> seeds;
    for (uint64_t s = 0; s < 4; ++s) {
        seeds.push_back(serialise(make_snapshot(random_network(random), s)).value());
    }
    int accepted = 0;
    int refused = 0;
    for (int round = 0; round < 3000; ++round) {
        std::string bytes = seeds[random() % seeds.size()];
        const int changes = 1 + static_cast<int>(random() % 6);
        for (int c = 0; c < changes; ++c) {
            // Half of them near the start, where shapes and lengths are.
            const size_t at =
                12 + random() % (random() % 2 == 0 ? std::min<size_t>(600, bytes.size() - 12) : bytes.size() - 12);
            switch (random() % 5) {
                case 0:
                    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
                    break;
                case 1:
                    bytes[at] = static_cast<char>(random());
                    break;
                case 2:
                    bytes.resize(at);
                    break;
                case 3:  // a huge length or number
                    bytes.replace(at, std::min<size_t>(5, bytes.size() - at), "\xff\xff\xff\xff\x07");
                    break;
                default:
                    bytes.insert(at, bytes.substr(12 + random() % (bytes.size() - 12), random() % 64));
                    break;
            }
            if (bytes.size() < 40) {
                break;
            }
        }
        (void)message_of(bytes);  // with its hash as it is
        pb::Snapshot message;
        if (bytes.size() < 12 || !message.ParseFromArray(bytes.data() + 12, static_cast<int>(bytes.size() - 12))) {
            ++refused;
            continue;
        }
        Network network;
        if (Result<Network> changed = from_proto(message.network()); changed.ok()) {
            message.set_program_hash(program_hash(*changed));
        }
        message.set_hash(content_hash(message));
        const Result<Snapshot> result = from_proto(message);
        if (!result.ok()) {
            ++refused;
            EXPECT_FALSE(result.error().message.empty());
            continue;
        }
        ++accepted;
        ASSERT_TRUE(pack(result->model).ok());
        const size_t inputs = result->model.network.input_count();
        for (const uint8_t code : {uint8_t{0}, uint8_t{255}}) {
            ASSERT_EQ(interpret(result->model, InputCodes(inputs, code)).size(), result->model.network.output_count());
        }
    }
    EXPECT_GT(accepted, 30) << "the mutations are too coarse to reach what is behind the first check";
    EXPECT_GT(refused, 30);
}

TEST(Snapshot, RandomBytes) {
    const google::protobuf::LogSilencer quiet;
    std::mt19937_64 random(32);
    for (int round = 0; round < 3000; ++round) {
        std::string bytes("ADAPSNAP\x01\0\0\0", 12);
        for (size_t i = random() % 300; i-- > 0;) {
            bytes.push_back(static_cast<char>(random()));
        }
        ASSERT_NE(message_of(bytes), "accepted");
    }
}

TEST(Snapshot, WhatCouldNotBeReadIsNotWritten) {
    Snapshot snapshot = make_snapshot(cc_network(), 1);
    snapshot.probes.push_back(InputCodes(ADP_CC_INPUTS - 1));
    EXPECT_FALSE(serialise(snapshot).ok());
    snapshot = make_snapshot(cc_network(), 1);
    snapshot.model.layers[0].weights[0] = -128;
    EXPECT_FALSE(serialise(snapshot).ok());
    snapshot = make_snapshot(cc_network(), 1);
    snapshot.bpf_object.resize(17 << 20);
    EXPECT_FALSE(serialise(snapshot).ok());
}

TEST(FloatModelFile, ComesBackAndRefusesOthers) {
    const Folder folder;
    const std::string path = folder.file("cc.adapt");
    std::mt19937_64 random(41);
    const FloatModel model = random_weights(cc_network(), random);
    ASSERT_TRUE(write_float_model(model, path).ok());
    const Result<FloatModel> back = read_float_model(path);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(back->network, model.network);
    EXPECT_EQ(back->weights, model.weights);
    EXPECT_EQ(back->biases, model.biases);

    ASSERT_TRUE(write_snapshot(make_snapshot(cc_network(), 1), path).ok());
    const Result<FloatModel> wrong = read_float_model(path);
    ASSERT_FALSE(wrong.ok());
    EXPECT_NE(wrong.error().message.find("not an Adapath float model"), std::string::npos) << wrong.error().message;
    FloatModel diverged = model;
    diverged.weights[0][0] = NAN;
    EXPECT_FALSE(write_float_model(diverged, path).ok());
}

}  // namespace
}  // namespace adapath
