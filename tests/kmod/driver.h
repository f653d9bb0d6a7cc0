// What the tests of the kernel side have in common: the modules, the test module's device, snapshots to install, the
// ring. They run as root in a VM that is theirs alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <adapath/ring.h>

#include "codegen/codegen.h"
#include "tests/kmod/genl.h"
#include "tests/kmod/module/adapath_test.h"
#include "userspace/common/unique_fd.h"

namespace adapath::kmod_test {

// adapath.ko and adapath_test.ko from the directory ADAPATH_MODULES, unless they are loaded. unload() takes away what
// load() brought, and fails where something still holds it.
Status load_modules();
Status unload_modules();
Status load_module(const std::string& path);
Status unload_module(const std::string& name);
[[nodiscard]] bool module_loaded(const std::string& name);
// Names of the adapath_net_<hash>.ko in ADAPATH_MODULES.
[[nodiscard]] std::vector<std::string> generated_modules();
[[nodiscard]] uint64_t hash_of_generated(const std::string& module);
// The network that a registered program says it is for.
[[nodiscard]] std::optional<Network> program_network(Genl& genl, uint64_t hash);

// The test module's device. Requests return 0 or a negative errno.
class Driver {
public:
    static Result<Driver> open();

    int request(unsigned long command, void* argument);
    int register_app(adpt_app& app) { return request(ADPT_IOC_REGISTER, &app); }
    int unregister_app(uint32_t app);
    int vectors(uint32_t app, uint32_t count, uint32_t models, const std::vector<uint8_t>& inputs,
                const std::vector<int32_t>& outputs);
    int start(const adpt_start& start);
    int stop() { return request(ADPT_IOC_STOP, nullptr); }
    adpt_report report();
    // Fills in the result and all that follows; the errno is the request's own, not the query's.
    int query(adpt_query& query, const std::vector<uint8_t>& input);
    int bind(uint32_t app, uint32_t flow, bool* bound = nullptr);
    int unbind(uint32_t app, uint32_t flow);
    int emit(uint32_t app, uint32_t cpu, uint64_t first, uint32_t count);

private:
    explicit Driver(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

// A description that is accepted, with the test's record; tests change what they are about.
[[nodiscard]] adpt_app app_description(const std::string& name, uint32_t inputs, uint32_t outputs);

// A network of these inputs and outputs with random layers between.
[[nodiscard]] Network network_between(uint32_t inputs, uint32_t outputs, std::mt19937_64& random,
                                      uint32_t max_layers = 4, uint32_t max_width = 48);
// A request that installs the model into the app, with a program hash that nobody registers.
[[nodiscard]] InstallRequest request_for(const std::string& app, uint32_t schema, const QuantModel& model,
                                         uint32_t generation);
// An identity layer ADPT_INPUTS -> ADPT_OUTPUTS that says the same to every input.
[[nodiscard]] QuantModel constant_model(int32_t output);

// All 0, all 255, every other one, the first layer's worst for some rows, and random ones: `count` vectors, back to
// back.
[[nodiscard]] std::vector<uint8_t> telling_inputs(const QuantModel& model, size_t count, std::mt19937_64& random);
[[nodiscard]] std::vector<int32_t> interpret_all(const QuantModel& model, std::span<const uint8_t> inputs);

// The sample ring's two mappings.
class RingMapping {
public:
    // error: the errno of what failed.
    static std::unique_ptr<RingMapping> open(const std::string& device, int* error);
    ~RingMapping();
    RingMapping(const RingMapping&) = delete;
    RingMapping& operator=(const RingMapping&) = delete;

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const adp_ring_info& info() const { return *info_; }
    [[nodiscard]] volatile adp_ring_tails& tails() { return *tails_; }
    [[nodiscard]] uint64_t head(uint32_t cpu) const {
        return __atomic_load_n(&info_->heads[cpu].head, __ATOMIC_ACQUIRE);
    }
    [[nodiscard]] uint64_t lost(uint32_t cpu) const {
        return __atomic_load_n(&info_->heads[cpu].lost, __ATOMIC_ACQUIRE);
    }
    // Record number `index` (from 0) of a CPU's ring: its number over all CPUs, then the sample.
    [[nodiscard]] const uint8_t* record(uint32_t cpu, uint64_t index) const;
    void set_tail(uint32_t cpu, uint64_t tail) { __atomic_store_n(&tails_->tail[cpu], tail, __ATOMIC_RELEASE); }

private:
    RingMapping() = default;
    UniqueFd fd_;
    adp_ring_tails* tails_ = nullptr;
    const adp_ring_info* info_ = nullptr;
    size_t map_bytes_ = 0;
};

}  // namespace adapath::kmod_test
