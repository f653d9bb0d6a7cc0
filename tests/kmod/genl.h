// The netlink family "adapath" as the tests of the kernel side speak it: raw messages, so that wrong ones can be sent
// as easily as right ones, and nothing shared with the backend that they are to be trusted for.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/abi.h>
#include <adapath/netlink.h>

#include "codegen/model.h"
#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath::kmod_test {

// Attributes as bytes. Lengths are those of the data: append() never fails, and a message may be as wrong as a test
// likes.
class Attributes {
public:
    Attributes& u32(uint16_t type, uint32_t value);
    Attributes& u64(uint16_t type, uint64_t value);
    Attributes& string(uint16_t type, std::string_view value);  // with its terminating 0
    Attributes& bytes(uint16_t type, std::span<const uint8_t> value);
    Attributes& nest(uint16_t type, const Attributes& inner);
    Attributes& raw(std::span<const uint8_t> bytes);  // no header at all

    [[nodiscard]] const std::vector<uint8_t>& data() const { return data_; }

private:
    std::vector<uint8_t> data_;
};

// One attribute as received; `value` points into the reply.
struct Attribute {
    uint16_t type = 0;
    std::span<const uint8_t> value;

    [[nodiscard]] std::optional<uint32_t> u32() const;
    [[nodiscard]] std::optional<uint64_t> u64() const;
    [[nodiscard]] std::string string() const;  // without the terminating 0
};
// In order; stops at the first that does not fit.
[[nodiscard]] std::vector<Attribute> parse_attributes(std::span<const uint8_t> bytes);
// The first of that type, or nullptr.
[[nodiscard]] const Attribute* find(const std::vector<Attribute>& attributes, uint16_t type);

struct Reply {
    int error = 0;            // errno, positive; 0 = acknowledged
    bool sent = true;         // false: send() itself failed, the family has not seen it
    std::string message;      // of the extended acknowledgement
    bool has_offset = false;  // it names an attribute
    uint32_t offset = 0;
    bool has_missing = false;                    // it names one that is missing
    std::vector<std::vector<uint8_t>> messages;  // the attributes of each message that came back

    [[nodiscard]] bool ok() const { return error == 0; }
};

class Genl {
public:
    // Resolves the family, which loads its module where modprobe finds it.
    static Result<Genl> open(const std::string& family = ADP_GENL_NAME);

    // One command and all that comes back. Times out (error ETIMEDOUT) after 30 s: a kernel that never answers is a
    // failure.
    Reply call(uint8_t command, const Attributes& attributes, bool dump = false);
    // A message from its generic netlink header on, with the family filled in: for messages that call() can't make.
    Reply send_raw(std::span<const uint8_t> genl_message, uint16_t flags);
    // Whole datagram as it is. Returns the errno of the first acknowledgement, or nothing where the kernel said nothing
    // within 20 ms (it need not answer what is not a request).
    std::optional<int> send_datagram(std::span<const uint8_t> datagram);

    [[nodiscard]] uint16_t family() const { return family_; }

private:
    Genl(UniqueFd socket, uint16_t family) : socket_(std::move(socket)), family_(family) {}
    Reply transact(uint16_t type, uint16_t flags, std::span<const uint8_t> payload);

    UniqueFd socket_;
    uint16_t family_ = 0;
    uint32_t sequence_ = 1;
};

// ---- what GET_APP says, decoded ----

struct MeasuredRun {
    uint32_t implementation = 0;
    uint64_t picoseconds = 0;
    bool operator==(const MeasuredRun&) const = default;
};
struct Slot {
    uint32_t slot = 0;
    uint32_t state = ADP_SLOT_FREE;
    uint32_t generation = 0;
    uint64_t hash = 0;
    uint64_t program_hash = 0;
    uint32_t explore = 0;
    uint64_t bound = 0;
    uint32_t params_bytes = 0;
    uint32_t implementation = 0;
    std::vector<MeasuredRun> implementations;
    bool operator==(const Slot&) const = default;
};
struct App {
    std::string name;
    uint32_t id = 0;
    uint32_t schema = 0;
    uint32_t inputs = 0;
    uint32_t outputs = 0;
    uint32_t active = ADP_SLOT_NONE;
    uint32_t standby = ADP_SLOT_NONE;
    uint32_t record_bytes = 0;
    uint32_t wakeup_bytes = 0;
    uint32_t consistency = 0;
    uint32_t canary = ADP_SLOT_NONE;
    uint32_t share = 0;
    std::vector<uint32_t> objective;
    uint32_t abi_version = 0;
    std::string device;
    std::string interface;
    std::vector<uint64_t> stats;  // struct adp_stats, in its order
    std::map<uint32_t, Slot> slots;
};
Result<App> get_app(Genl& genl, std::string_view name);
// Everything of an app that a refused command may not change, in one string that can be compared and printed.
[[nodiscard]] std::string fingerprint(const App& app);

// ---- commands ----

struct InstallRequest {
    std::string app;
    uint32_t generation = 1;
    uint64_t hash = 0;
    uint64_t program_hash = 0;
    uint32_t schema = 0;
    uint32_t explore = 0;
    std::vector<LayerShape> layers;
    std::vector<uint8_t> params;
};
[[nodiscard]] Attributes install_attributes(const InstallRequest& request);
[[nodiscard]] Attributes slot_attributes(std::string_view app, uint32_t slot);
[[nodiscard]] Attributes canary_attributes(std::string_view app, uint32_t slot, uint32_t share);
// The slot that an acknowledged INSTALL said.
[[nodiscard]] std::optional<uint32_t> installed_slot(const Reply& reply);

// Runs inputs (n * inputs bytes) in a slot by one implementation. Outputs: n * outputs.
struct RunReply {
    Reply reply;
    std::vector<int32_t> outputs;
    uint32_t implementation = 0;
    uint64_t elapsed_ns = 0;
};
RunReply run_slot(Genl& genl, std::string_view app, uint32_t slot, std::span<const uint8_t> inputs,
                  uint32_t implementation = ADP_RUN_CHOSEN, uint32_t repeat = 0);

}  // namespace adapath::kmod_test
