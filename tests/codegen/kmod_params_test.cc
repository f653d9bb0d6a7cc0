// adp_params_check(): what it lets into a kernel is exactly what pack() makes of models that are proven. A block is
// unpacked here by a reading of net.h of this file's own; where packing what was read gives the same bytes again, the
// block is sound, and must be accepted and run as the interpreter runs that model; where it does not, it must be
// refused. Blocks are sound ones, hurt in every kind of place.
#include <array>
#include <map>

#include <gtest/gtest.h>

#include "tests/codegen/kmod_fixtures.h"

namespace adapath::test {
namespace {

constexpr int64_t kLimit = int64_t{1} << 62;

// Words and halves of a block.
template <typename T>
T load(const std::vector<uint8_t>& bytes, size_t offset) {
    T value;
    if (offset + sizeof value > bytes.size()) {
        throw std::out_of_range("load behind a block's end");
    }
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}
template <typename T>
void store(std::vector<uint8_t>& bytes, size_t offset, T value) {
    if (offset + sizeof value > bytes.size()) {
        throw std::out_of_range("store behind a block's end");
    }
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// The weights of a word by rounding to the nearest from the top, where they are all within a byte; else nothing.
std::optional<std::array<int8_t, 3>> weights_of(uint64_t word) {
    const auto nearest = [](int64_t value, int shift) { return (value + (int64_t{1} << (shift - 1))) >> shift; };
    std::array<int64_t, 3> w{};
    // The topmost rounding may wrap at the end of the range; those words are no weights anyway.
    w[0] = static_cast<int64_t>(word + (uint64_t{1} << 42)) >> 43;
    auto rest = static_cast<int64_t>(word - (static_cast<uint64_t>(w[0]) << 43));
    w[1] = nearest(rest, 22);
    rest -= w[1] * (1 << 22);
    w[2] = rest;
    std::array<int8_t, 3> out{};
    for (size_t i = 0; i < 3; ++i) {
        if (w[i] < -128 || w[i] > 127) {
            return std::nullopt;
        }
        out[i] = static_cast<int8_t>(w[i]);
    }
    return out;
}

// Offsets of a row's words, for reading and for hurting.
struct RowPlace {
    std::vector<size_t> inits;    // a chunk
    std::vector<size_t> weights;  // a triple
    size_t bias = 0;
    size_t mult = 0;
};
RowPlace row_place(const LayerLayout& layout, uint32_t inputs, uint32_t row) {
    RowPlace place;
    size_t at = layout.offset + size_t{row} * layout.row_words * 8;
    for (uint32_t c = 0; c < layout.chunks; ++c) {
        place.inits.push_back(at);
        at += 8;
        for (uint32_t i = 0; i < layout.inputs_of_chunk(c, inputs); i += 3, at += 8) {
            place.weights.push_back(at);
        }
    }
    place.bias = at;
    place.mult = at + 8;
    return place;
}

// The model that a block stands for, if it stands for one. Whether it is that model's block only packing it again
// tells.
std::optional<QuantModel> unpack(const Network& network, const std::vector<uint8_t>& bytes) {
    const NetworkLayout layout = network_layout(network).value();
    if (bytes.size() != layout.bytes) {
        return std::nullopt;
    }
    QuantModel model;
    model.network = network;
    for (size_t l = 0; l < network.layers.size(); ++l) {
        const LayerShape& shape = network.layers[l];
        const LayerLayout& where = layout.layers[l];
        QuantLayer layer;
        layer.shift = where.shift;
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            const RowPlace place = row_place(where, shape.inputs, row);
            uint64_t lifts = 0;
            for (uint32_t i = 0; i < shape.inputs; i += 3) {
                const auto word = weights_of(load<uint64_t>(bytes, place.weights[i / 3]));
                if (!word) {
                    return std::nullopt;
                }
                for (uint32_t k = 0; k < 3 && i + k < shape.inputs; ++k) {
                    layer.weights.push_back((*word)[k]);
                    lifts += static_cast<uint64_t>(std::max(0, -int{(*word)[k]})) * where.input_max;
                }
            }
            const auto mult = static_cast<uint32_t>(load<uint64_t>(bytes, place.mult));
            layer.mult.push_back(mult);
            layer.bias.push_back(static_cast<int64_t>(load<uint64_t>(bytes, place.bias) + mult * lifts));
        }
        const bool last = l + 1 == network.layers.size();
        for (uint32_t e = 0; e < where.table_entries; ++e) {
            const size_t at = where.table_offset + 2 * size_t{e};
            if (last) {
                layer.output_table.push_back(load<int16_t>(bytes, at));
            } else {
                layer.code_table.push_back(load<uint16_t>(bytes, at));
            }
        }
        model.layers.push_back(std::move(layer));
    }
    return model;
}

struct Verdict {
    bool accepted = false;
    adp_complaint why{};
};
Verdict check(const adp_layout& layout, const std::vector<uint8_t>& bytes) {
    // Of the block's own length, so that a sanitizer sees a byte too many.
    const Block block(bytes);
    Verdict verdict;
    verdict.why = {"nothing said", 99, 999, 0};
    const int result =
        adp_kernel_params_check(&layout, block.data(), static_cast<uint32_t>(bytes.size()), &verdict.why);
    EXPECT_TRUE(result == 0 || result == -1);
    verdict.accepted = result == 0;
    return verdict;
}

class Mutations : public ::testing::Test {
protected:
    // The whole promise, for one block. Returns whether it was accepted.
    static bool expect_judged(const Network& network, const std::vector<uint8_t>& bytes, Random& random) {
        const adp_layout layout = layout_of(network);
        const Verdict verdict = check(layout, bytes);
        const std::optional<QuantModel> model = unpack(network, bytes);
        bool sound = false;
        if (model) {
            const Result<std::vector<uint8_t>> again = pack(*model);
            sound = again.ok() && *again == bytes;
        }
        EXPECT_EQ(verdict.accepted, sound) << describe(network) << ": layer " << verdict.why.layer << " row "
                                           << verdict.why.row << ": " << verdict.why.what << ": " << verdict.why.value;
        if (!verdict.accepted) {
            EXPECT_STRNE(verdict.why.what, "nothing said");
            EXPECT_LE(verdict.why.layer, layout.layers);
            if (verdict.why.layer > 0) {
                EXPECT_LE(verdict.why.row, layout.shape[verdict.why.layer - 1].outputs);
            }
        }
        if (verdict.accepted && sound) {
            const Installed installed(network, bytes);
            for (const InputCodes& in : edge_inputs(*model, 6, random)) {
                const std::vector<int32_t> wanted = interpret(*model, in);
                for (const Program program : {Program::generic, Program::avx2, Program::vnni}) {
                    if (cpu_runs(program)) {
                        EXPECT_EQ(installed.run(program, in), wanted) << name_of(program) << " " << describe(network);
                    }
                }
            }
        }
        return verdict.accepted;
    }
};

// A sound block with the knowledge to hurt it in one place and make all others fit again.
class Patient {
public:
    Patient(const Network& network, Random& random)
        : network_(network),
          layout_(network_layout(network).value()),
          model_(random() % 2 == 0 ? random_model(network, random) : extreme_model(network, random)),
          bytes_(pack(model_).value()),
          random_(random) {
        l_ = random_() % network_.layers.size();
        row_ = static_cast<uint32_t>(random_() % shape().outputs);
        place_ = row_place(where(), shape().inputs, row_);
    }

    [[nodiscard]] const std::vector<uint8_t>& bytes() const { return bytes_; }
    [[nodiscard]] size_t layer() const { return l_; }
    [[nodiscard]] uint32_t row() const { return row_; }
    [[nodiscard]] const LayerShape& shape() const { return network_.layers[l_]; }
    [[nodiscard]] const LayerLayout& where() const { return layout_.layers[l_]; }
    // |weights| of any size at one input or padding lane (0..3 * triples - 1); with `mended`, init and bias as they
    // would be.
    void set_weight(uint32_t lane, int64_t weight, bool mended) {
        const std::vector<int64_t> before = row_weights();
        std::vector<int64_t> after = before;
        after[lane] = weight;
        const size_t triple = lane / 3;
        store(bytes_, place_.weights[triple],
              static_cast<uint64_t>(after[3 * triple + 2]) + (static_cast<uint64_t>(after[3 * triple + 1]) << 22) +
                  (static_cast<uint64_t>(after[3 * triple]) << 43));
        if (mended) {
            const uint64_t bias = load<uint64_t>(bytes_, place_.bias) + mult() * lifts(before);
            store(bytes_, place_.bias, bias - mult() * lifts(after));
            mend_inits(after);
        }
    }
    // The bias before lifts are folded in.
    void set_bias(int64_t bias) {
        store(bytes_, place_.bias, static_cast<uint64_t>(bias) - mult() * lifts(row_weights()));
    }
    void set_mult(uint64_t mult, bool mended) {
        const uint64_t bias = load<uint64_t>(bytes_, place_.bias) + this->mult() * lifts(row_weights());
        store(bytes_, place_.mult, mult);
        if (mended) {
            store(bytes_, place_.bias, bias - mult * lifts(row_weights()));
        }
    }
    void add_to_init(uint64_t by) {
        const size_t at = place_.inits[random_() % place_.inits.size()];
        store(bytes_, at, load<uint64_t>(bytes_, at) + by);
    }
    [[nodiscard]] SumRange range() const { return sum_range(model_.layers[l_], shape(), row_, where().input_max); }
    // The bias that makes a sum of `acc` just `sum`. Wraps, since another wound may have left any multiplier.
    [[nodiscard]] int64_t bias_for(int64_t sum, int64_t acc) const {
        return static_cast<int64_t>(static_cast<uint64_t>(sum) - static_cast<uint64_t>(acc) * mult());
    }

    void swap_words() {
        const size_t words = where().row_words * size_t{shape().outputs};
        swap(where().offset + 8 * (random_() % words), where().offset + 8 * (random_() % words), 8);
    }
    // Words of one row, which is where a swap may go unseen by a careless check.
    void swap_words_of_row() {
        const size_t start = place_.inits[0];
        swap(start + 8 * (random_() % where().row_words), start + 8 * (random_() % where().row_words), 8);
    }
    // Still sound: a row is a row.
    void swap_rows() {
        const size_t row_bytes = size_t{where().row_words} * 8;
        swap(where().offset + row_bytes * (random_() % shape().outputs), where().offset + row_bytes * row_, row_bytes);
    }
    void set_table(uint32_t entry, uint16_t value) { store(bytes_, where().table_offset + 2 * size_t{entry}, value); }
    void flip_bit() { bytes_[random_() % bytes_.size()] ^= static_cast<uint8_t>(1U << random_() % 8); }
    void flip_bit_of_row() {
        bytes_[place_.inits[0] + random_() % (size_t{where().row_words} * 8)] ^=
            static_cast<uint8_t>(1U << random_() % 8);
    }
    void randomise_from(size_t offset) {
        for (size_t i = offset; i < bytes_.size(); ++i) {
            bytes_[i] = static_cast<uint8_t>(random_());
        }
    }
    void resize(size_t size) { bytes_.resize(size); }

private:
    [[nodiscard]] uint64_t mult() const { return load<uint64_t>(bytes_, place_.mult); }
    [[nodiscard]] std::vector<int64_t> row_weights() const {
        std::vector<int64_t> weights(3 * size_t{where().triples}, 0);
        const auto first = model_.layers[l_].weights.begin() + static_cast<ptrdiff_t>(size_t{row_} * shape().inputs);
        std::copy(first, first + shape().inputs, weights.begin());
        return weights;
    }
    [[nodiscard]] uint64_t lifts(const std::vector<int64_t>& weights) const {
        uint64_t sum = 0;
        for (const int64_t w : weights) {
            sum += static_cast<uint64_t>(std::max<int64_t>(0, -w)) * where().input_max;
        }
        return sum;
    }
    void mend_inits(const std::vector<int64_t>& weights) {
        const size_t lanes = where().chunk_inputs;
        for (size_t c = 0; c < place_.inits.size(); ++c) {
            uint64_t top = 0;
            uint64_t below = 0;
            for (size_t i = c * lanes; i < std::min((c + 1) * lanes, weights.size()); i += 3) {
                const auto down = [&](int64_t w) {
                    return static_cast<uint64_t>(std::max<int64_t>(0, -w)) * where().input_max;
                };
                top += down(weights[i]) + down(weights[i + 1]) + down(weights[i + 2]);
                below += down(weights[i + 1] * (1 << 22) + weights[i + 2]) + down(weights[i + 2] * (1 << 21));
            }
            store(bytes_, place_.inits[c], (top << 43) + below);
        }
    }
    void swap(size_t a, size_t b, size_t bytes) {
        if (a != b) {
            std::swap_ranges(bytes_.begin() + static_cast<ptrdiff_t>(a),
                             bytes_.begin() + static_cast<ptrdiff_t>(a + bytes),
                             bytes_.begin() + static_cast<ptrdiff_t>(b));
        }
    }

    const Network& network_;
    NetworkLayout layout_;
    QuantModel model_;
    std::vector<uint8_t> bytes_;
    Random& random_;
    size_t l_ = 0;
    uint32_t row_ = 0;
    RowPlace place_;
};

Network small_network(Random& random) {
    // Where most of a slot is not one curve's table, so that hits are spread.
    for (;;) {
        Network network = edge_network(random);
        if (network_layout(network)->bytes < 30000) {
            return network;
        }
    }
}

TEST(Params, EveryPackedBlockIsAccepted) {
    Random random(41);
    std::vector<Network> networks = limit_networks();
    while (networks.size() < 300) {
        networks.push_back(edge_network(random));
    }
    for (const Network& network : networks) {
        for (const QuantModel& model : {random_model(network, random), extreme_model(network, random)}) {
            const Verdict verdict = check(layout_of(network), pack(model).value());
            ASSERT_TRUE(verdict.accepted) << describe(network) << ": layer " << verdict.why.layer << " row "
                                          << verdict.why.row << ": " << verdict.why.what << ": " << verdict.why.value;
        }
    }
}

// What each kind of wound must come to, so that no kind is judged by luck alone.
enum class Expect { refused, accepted, either };

struct Wound {
    const char* name;
    std::function<std::optional<Expect>(Patient&, Random&)> hurt;  // nothing: this patient has no such place
    bool names_row;                                                // a refusal must name the layer and row
};

std::vector<Wound> wounds() {
    const auto lane_of_input = [](Patient& p, Random& random) {
        return static_cast<uint32_t>(random() % p.shape().inputs);
    };
    const auto has_table = [](const Patient& p) { return p.where().table_entries > 0; };
    const auto hidden = [](const Patient& p) { return p.where().table_entries > 0 && p.where().shift == 24; };
    return {
        {"flip any bit",
         [](Patient& p, Random&) {
             p.flip_bit();
             return Expect::either;
         },
         false},
        {"flip a bit of a row",
         [](Patient& p, Random&) {
             p.flip_bit_of_row();
             return Expect::either;
         },
         true},
        {"other weight",
         [=](Patient& p, Random& random) {
             p.set_weight(lane_of_input(p, random), static_cast<int64_t>(random() % 255) - 127, false);
             return Expect::either;
         },
         true},
        {"other weight, mended, small bias",
         [=](Patient& p, Random& random) {
             p.set_bias(static_cast<int64_t>(random() % 1000));
             p.set_weight(lane_of_input(p, random), static_cast<int64_t>(random() % 255) - 127, true);
             return Expect::accepted;
         },
         true},
        {"weight just out of range, mended",
         [=](Patient& p, Random& random) {
             p.set_weight(lane_of_input(p, random), random() % 2 == 0 ? 128 : -128, true);
             return Expect::refused;
         },
         true},
        {"weight far out of range, mended",
         [=](Patient& p, Random& random) {
             const auto weight = static_cast<int64_t>(random() % (1 << 20)) + 128;
             p.set_weight(lane_of_input(p, random), random() % 2 == 0 ? weight : -weight, true);
             return Expect::refused;
         },
         true},
        {"weight of a padding lane, mended",
         [](Patient& p, Random& random) -> std::optional<Expect> {
             const uint32_t lanes = 3 * p.where().triples;
             if (p.shape().inputs == lanes) {
                 return std::nullopt;
             }
             const auto weight = static_cast<int64_t>(random() % 127) + 1;
             p.set_weight(lanes - 1, random() % 2 == 0 ? weight : -weight, true);
             return Expect::refused;
         },
         true},
        {"first word of a chunk",
         [](Patient& p, Random& random) {
             static constexpr uint64_t kBy[] = {1, ~uint64_t{0}, uint64_t{1} << 43, uint64_t{0} - (uint64_t{1} << 43),
                                                uint64_t{1} << 63};
             p.add_to_init(random() % 6 == 0 ? random() | 1 : kBy[random() % std::size(kBy)]);
             return Expect::refused;
         },
         true},
        {"greatest bias that fits",
         [](Patient& p, Random&) {
             p.set_bias(p.bias_for(kLimit - 1, p.range().hi));
             return Expect::accepted;
         },
         true},
        {"a bias greater by one",
         [](Patient& p, Random&) {
             p.set_bias(p.bias_for(kLimit, p.range().hi));
             return Expect::refused;
         },
         true},
        {"least bias that fits",
         [](Patient& p, Random&) {
             p.set_bias(p.bias_for(-kLimit + 1, p.range().lo));
             return Expect::accepted;
         },
         true},
        {"a bias less by one",
         [](Patient& p, Random&) {
             p.set_bias(p.bias_for(-kLimit, p.range().lo));
             return Expect::refused;
         },
         true},
        {"bias at the end of 64 bits",
         [](Patient& p, Random& random) {
             static constexpr int64_t kEnds[] = {INT64_MIN, INT64_MIN + 1, INT64_MAX,  INT64_MAX - 1,
                                                 kLimit,    -kLimit,       -kLimit - 1};
             p.set_bias(kEnds[random() % std::size(kEnds)]);
             return Expect::refused;
         },
         true},
        {"any bias",
         [](Patient& p, Random& random) {
             p.set_bias(static_cast<int64_t>(random()));
             return Expect::either;
         },
         true},
        {"multiplier over 2^32",
         [](Patient& p, Random& random) {
             p.set_mult((uint64_t{1} << 32) << (random() % 32), random() % 2 == 0);
             return Expect::refused;
         },
         true},
        {"other multiplier, mended, small bias",
         [](Patient& p, Random& random) {
             p.set_bias(static_cast<int64_t>(random() % 1000) - 500);
             p.set_mult(random() % 3 == 0 ? 0xffffffff : random() % 3 == 0 ? 0 : random() >> 32, true);
             return Expect::accepted;
         },
         true},
        {"other multiplier",
         [](Patient& p, Random& random) {
             p.set_mult(random() >> (32 - random() % 2), false);
             return Expect::either;
         },
         true},
        {"two words swapped",
         [](Patient& p, Random&) {
             p.swap_words();
             return Expect::either;
         },
         true},
        {"two words of a row swapped",
         [](Patient& p, Random&) {
             p.swap_words_of_row();
             return Expect::either;
         },
         true},
        {"two rows swapped",
         [](Patient& p, Random&) {
             p.swap_rows();
             return Expect::accepted;
         },
         true},
        {"code over the greatest",
         [=](Patient& p, Random& random) -> std::optional<Expect> {
             if (!hidden(p)) {
                 return std::nullopt;
             }
             const auto value =
                 random() % 2 == 0 ? ADP_HIDDEN_CODE_MAX + 1 : ADP_HIDDEN_CODE_MAX + 1 + random() % 60000;
             p.set_table(static_cast<uint32_t>(random() % p.where().table_entries), static_cast<uint16_t>(value));
             return Expect::either;  // the last layer's table may have any
         },
         false},
        {"the greatest code, first and last",
         [=](Patient& p, Random& random) -> std::optional<Expect> {
             if (!has_table(p)) {
                 return std::nullopt;
             }
             p.set_table(random() % 2 == 0 ? 0 : p.where().table_entries - 1, ADP_HIDDEN_CODE_MAX);
             return Expect::accepted;
         },
         false},
        {"padding of a table",
         [](Patient& p, Random& random) -> std::optional<Expect> {
             if (p.where().table_entries % 4 == 0) {
                 return std::nullopt;
             }
             p.set_table(p.where().table_entries + static_cast<uint32_t>(random() % (4 - p.where().table_entries % 4)),
                         static_cast<uint16_t>(1 + random() % 65535));
             return Expect::refused;
         },
         false},
        {"other length",
         [](Patient& p, Random& random) {
             const size_t size = p.bytes().size();
             const size_t sizes[] = {0, 1, 8, size - 1, size - 8, size + 1, size + 8, ADP_PARAMS_BYTES + 64};
             p.resize(sizes[random() % std::size(sizes)]);
             return Expect::refused;
         },
         false},
        {"random bytes from somewhere on",
         [](Patient& p, Random& random) {
             p.randomise_from(random() % p.bytes().size());
             return Expect::either;
         },
         false},
    };
}

TEST_F(Mutations, AreRefusedOrRunAsTheModelThatTheyAre) {
    Random random(environment("ADAPATH_TEST_SEED", 42));
    const uint64_t rounds = environment("ADAPATH_TEST_NETWORKS", 60);
    std::map<std::string, std::pair<int, int>> seen;  // refused, accepted
    for (uint64_t n = 0; n < rounds; ++n) {
        const Network network = n % 4 == 0 ? edge_network(random) : small_network(random);
        for (const Wound& wound : wounds()) {
            Patient patient(network, random);
            const std::optional<Expect> expected = wound.hurt(patient, random);
            if (!expected) {
                continue;
            }
            SCOPED_TRACE(wound.name);
            const bool accepted = expect_judged(network, patient.bytes(), random);
            if (*expected != Expect::either) {
                EXPECT_EQ(accepted, *expected == Expect::accepted) << describe(network);
            }
            if (!accepted && wound.names_row) {
                const adp_complaint why = check(layout_of(network), patient.bytes()).why;
                EXPECT_EQ(why.layer, patient.layer() + 1) << why.what;
                EXPECT_GE(why.row, 1U);
                if (std::string(wound.name) != "two words swapped") {
                    EXPECT_EQ(why.row, patient.row() + 1) << why.what;
                }
            }
            ++(accepted ? seen[wound.name].second : seen[wound.name].first);
            if (HasFailure()) {
                return;
            }
        }
    }
    // Each kind was met, and where both may come out, both did.
    for (const Wound& wound : wounds()) {
        EXPECT_GE(seen[wound.name].first + seen[wound.name].second, static_cast<int>(rounds) / 10) << wound.name;
    }
    for (const char* name : {"flip any bit", "flip a bit of a row", "other weight", "any bias", "two words swapped"}) {
        EXPECT_GT(seen[name].first, 0) << name;
        EXPECT_GT(seen[name].second, 0) << name;
    }
}

// Many hits on one small block: every byte of it, every bit.
TEST_F(Mutations, EveryBitOfASmallBlock) {
    Random random(43);
    const Network network = network_of({4, 3, 1}, {Activation::relu, Activation::identity});
    const std::vector<uint8_t> sound = pack(random_model(network, random)).value();
    int accepted = 0;
    for (size_t bit = 0; bit < sound.size() * 8; ++bit) {
        std::vector<uint8_t> bytes = sound;
        bytes[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
        accepted += expect_judged(network, bytes, random) ? 1 : 0;
        ASSERT_FALSE(HasFailure()) << "bit " << bit;
    }
    EXPECT_GT(accepted, 100);
    EXPECT_GT(static_cast<int>(sound.size() * 8) - accepted, 1000);
}

// Several at once, as a fuzzer would.
TEST_F(Mutations, ManyAtOnce) {
    Random random(environment("ADAPATH_TEST_SEED", 44));
    const std::vector<Wound> kinds = wounds();
    for (uint64_t n = 0; n < 10 * environment("ADAPATH_TEST_NETWORKS", 60); ++n) {
        const Network network = small_network(random);
        Patient patient(network, random);
        for (uint64_t hits = 2 + random() % 4; hits > 0; --hits) {
            const Wound& wound = kinds[random() % kinds.size()];
            if (std::string(wound.name) != "other length") {
                (void)wound.hurt(patient, random);
            }
        }
        (void)expect_judged(network, patient.bytes(), random);
        ASSERT_FALSE(HasFailure()) << n;
    }
}

}  // namespace
}  // namespace adapath::test
