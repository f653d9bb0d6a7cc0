// What the daemon's core needs to know of an app. The core names no app: it finds one in the registry by the name in
// its configuration and reads every record through it. An app is added by one file like cc_app.cc, a line
// in apps.h and one in app_backends.cc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/abi.h>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/adapathd/objective.h"

namespace adapath {

// One record, in the words that every app shares. The spans point into the record.
struct DecodedSample {
    uint64_t time_us = 0;
    uint64_t flow = 0;
    uint32_t seq = 0;
    uint32_t generation = 0;  // 0 where no snapshot decided
    uint32_t slot = 0;
    bool made_by_network = false;  // a snapshot's run: input and output can be explained by it
    bool in_float = false;         // of them, those that the snapshot's float model made (backend userspace)
    bool accountable = false;      // what follows may be held against this decision (not in a start-up phase)
    bool judged = false;           // the reward here may be compared with others (the app was not idle)
    std::span<const uint8_t> input;
    // Where the app's networks are image networks: the codes above are a window of so many columns and rows, which a
    // picture has at a place; the output is the network's for that place. 0: no image.
    ImageSize window{};
    ImageSize picture{};
    ImageSize place{};
    std::array<int32_t, ADP_MAX_OUTPUTS> output{};  // raw, Q16
    int32_t noise = 0;
    int32_t action = 0;
    bool action_sound = true;  // the action follows from output and noise by the app's own rule
    double reward = 0;         // of what followed the flow's previous decision (seq - 1)
    uint64_t rate = 0;         // bytes/s
    uint32_t rtt_us = 0;
    uint32_t min_rtt_us = 0;
    uint16_t local_port = 0;
    uint16_t remote_port = 0;
};

// One weight of what an app may be told to aim for. The first of an app is the unit: it is above 0, and only the
// others' ratios to it matter to a network.
struct ObjectiveWeight {
    std::string_view name;
    std::string_view meaning;
    double by_default = 0;
    // Of the ratio to the first weight: what the app's networks were trained for.
    double trained_lowest = 0;
    double trained_highest = 0;
};

class App {
public:
    virtual ~App() = default;
    [[nodiscard]] virtual std::string_view name() const = 0;
    [[nodiscard]] virtual uint32_t schema() const = 0;
    [[nodiscard]] virtual size_t record_bytes() const = 0;
    [[nodiscard]] virtual size_t input_count() const = 0;
    [[nodiscard]] virtual size_t output_count() const = 0;
    // `record` is record_bytes() long and need not be aligned.
    [[nodiscard]] virtual DecodedSample decode(std::span<const std::byte> record) const = 0;

    // At most ADP_OBJECTIVES, in the order of adp_control.objective.
    [[nodiscard]] virtual std::span<const ObjectiveWeight> objective() const = 0;

    // The weights by name; those that are not named have the app's default. None named: all 0, which is the kernel
    // side's word for the app's defaults. The error names the weight, its value and what would be right.
    [[nodiscard]] Result<Objective> objective_of(const std::map<std::string, double>& weights) const;
    // What 0 in all of them stands for.
    [[nodiscard]] Objective effective(const Objective& weights) const;
    // Weights that the networks were not trained for, one line each.
    [[nodiscard]] std::vector<std::string> objective_warnings(const Objective& weights) const;
    // "throughput 1, delay 0.5, loss 8"
    [[nodiscard]] std::string objective_text(const Objective& weights) const;

    // May this network decide for the app? The error says what does not fit.
    [[nodiscard]] virtual Status accepts(const Network& network) const;
    [[nodiscard]] virtual Status accepts(const ImageNetwork& network) const;
    [[nodiscard]] Status accepts(const Snapshot& snapshot) const;

    // The daemon takes the server's reports (SelectFeed) on cameras with numbers below this; 0: on those alone that the
    // backend has a feed for.
    [[nodiscard]] virtual uint32_t reported_cameras() const { return 0; }

    // Why no snapshot of this app can be on trial; empty where one can.
    [[nodiscard]] virtual std::string_view no_trials() const { return {}; }

protected:
    // Name and schema, which every network has.
    [[nodiscard]] Status accepts_name(const std::string& app, uint32_t feature_schema) const;
};

// nullptr where no app has that name.
const App* find_app(std::string_view name);
// "cc, select, qp"
std::string app_names();

}  // namespace adapath
