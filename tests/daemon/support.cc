// See support.h.
#include "tests/daemon/support.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "models/cc_model.h"
#include "userspace/common/clock.h"

namespace adapath::test {

TemporaryDirectory::TemporaryDirectory() {
    const char* base = getenv("TMPDIR");
    std::string name = std::string(base ? base : "/tmp") + "/adapath-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
        throw std::runtime_error("mkdtemp " + name);
    }
    path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

Snapshot freeze_light(const FloatModel& model, float explore) {
    std::mt19937 random(7);
    std::vector<InputCodes> codes(128, InputCodes(model.network.input_count()));
    for (InputCodes& code : codes) {
        for (uint8_t& value : code) {
            value = static_cast<uint8_t>(random());
        }
    }
    Result<QuantModel> quantised = quantise(model, codes);
    if (!quantised) {
        throw std::runtime_error(quantised.error().message);
    }
    Snapshot snapshot;
    snapshot.model = std::move(*quantised);
    snapshot.reference = model;
    snapshot.fidelity = measure_fidelity(model, snapshot.model, codes);
    snapshot.provenance.trainer = "test";
    snapshot.provenance.source = "random";
    snapshot.explore = explore;
    snapshot.probes.assign(codes.begin(), codes.begin() + 8);
    Result<Snapshot> sealed = seal(std::move(snapshot));
    if (!sealed) {
        throw std::runtime_error(sealed.error().message);
    }
    return std::move(*sealed);
}

Snapshot random_snapshot(uint32_t seed, const std::vector<uint32_t>& hidden, float explore) {
    FloatModel model;
    model.network = cc_network(hidden);
    std::mt19937 random(seed);
    std::normal_distribution<float> weight(0, 0.3F);
    for (const LayerShape& layer : model.network.layers) {
        std::vector<float> weights(size_t{layer.inputs} * layer.outputs);
        std::vector<float> biases(layer.outputs);
        for (float& value : weights) {
            value = weight(random);
        }
        for (float& value : biases) {
            value = weight(random);
        }
        model.weights.push_back(std::move(weights));
        model.biases.push_back(std::move(biases));
    }
    return freeze_light(model, explore);
}

Snapshot constant_snapshot(float output) { return freeze_light(adversarial_cc(output)); }

std::string file_of(const Snapshot& snapshot) {
    Result<std::string> bytes = serialise(snapshot);
    if (!bytes) {
        throw std::runtime_error(bytes.error().message);
    }
    return std::move(*bytes);
}

adp_cc_sample decide(const LocalDatapath& datapath, HandFlow& flow, uint32_t seed) {
    const LocalDatapath::Active active = datapath.deciding(flow.id);
    adp_cc_sample sample{};
    std::mt19937 random(seed);
    for (adp_u8& code : sample.input) {
        code = static_cast<adp_u8>(random());
    }
    sample.time_us = flow.time_us != 0 ? flow.time_us : monotonic_us();
    sample.flow = flow.id;
    sample.seq = flow.seq++;
    sample.rate = flow.interval_rate;
    sample.interval.us = 100000;
    sample.interval.rtt_us = flow.rtt_us;
    sample.interval.min_rtt_us = 40000;
    sample.interval.mss = 1000;
    sample.interval.delivered = static_cast<adp_u32>(flow.interval_rate / 10000);
    sample.interval.sent = sample.interval.delivered;
    const auto [throughput, delay, loss, unused] = datapath.objective_q16();
    adp_cc_flow aims{};
    adp_cc_set_objective(&aims, throughput, delay, loss);
    sample.objective = aims.objective;
    sample.local_port = 40000;
    sample.remote_port = 554;
    if (active.model == nullptr) {
        sample.flags = ADP_CC_FALLBACK_MADE;
        return sample;
    }
    sample.generation = active.generation;
    sample.slot = active.slot;
    sample.output = interpret(*active.model, sample.input)[0];
    sample.noise = adp_cc_noise(static_cast<adp_u32>(random()), active.explore_q16);
    sample.explore_q16 = active.explore_q16;
    sample.action = static_cast<adp_s32>(
        adp_clamp(static_cast<adp_s64>(sample.output) + sample.noise, -ADP_CC_ACTION_MAX_Q16, ADP_CC_ACTION_MAX_Q16));
    return sample;
}

bool put(LocalDatapath& datapath, const adp_cc_sample& sample) {
    return datapath.put(std::as_bytes(std::span(&sample, 1)));
}

HandDaemon open_hand_daemon(const std::string& state_directory, const std::function<void(pb::DaemonConfig&)>& change,
                            std::unique_ptr<SelectFeed> feed) {
    pb::DaemonConfig config;
    config.set_backend("local");
    config.set_state_directory(state_directory);
    config.set_interval_ms(1);
    if (change) {
        change(config);
    }
    Result<StateLock> lock = StateLock::take(state_directory);
    if (!lock) {
        throw std::runtime_error(lock.error().message);
    }
    Result<LocalBackend> local = open_local_backend({config.ring_bytes(), config.wakeup_bytes(), 5}, nullptr);
    if (!local) {
        throw std::runtime_error(local.error().message);
    }
    HandDaemon hand;
    hand.datapath = local->datapath;
    local->backend.select_feed = std::move(feed);
    Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config, std::move(*lock), std::move(local->backend));
    if (!daemon) {
        throw std::runtime_error(daemon.error().message);
    }
    hand.daemon = std::move(*daemon);
    return hand;
}

}  // namespace adapath::test
