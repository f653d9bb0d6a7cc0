// The options by which a tool on a gateway hears adapath-server's reports, the same in all of them.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "codegen/result.h"
#include "userspace/relay/feedback.h"

namespace adapath::relay {

// Paths of PEM files; what is in them goes into FeedbackOptions.
struct VisionKeys {
    std::string ca;
    std::string certificate;
    std::string key;
};

// --vision, --ca, --certificate, --key (all four or none) and --server-name. Returns --vision. Both structs outlive the
// parsing.
CLI::Option* add_vision_options(CLI::App& app, FeedbackOptions& feedback, VisionKeys& keys);
// Without --vision there is nothing to read.
Status read_keys(const VisionKeys& keys, FeedbackOptions& feedback);

}  // namespace adapath::relay
