// See vision_options.h.
#include "userspace/relay/vision_options.h"

#include <utility>

#include "userspace/common/file.h"

namespace adapath::relay {

CLI::Option* add_vision_options(CLI::App& app, FeedbackOptions& feedback, VisionKeys& keys) {
    CLI::Option* vision = app.add_option("--vision", feedback.vision,
                                         "adapath-server's HOST:PORT for reports (its --vision-listen; gRPC, mutual "
                                         "TLS)");
    CLI::Option* ca = app.add_option("--ca", keys.ca, "PEM file: who signs the server's certificate");
    CLI::Option* certificate = app.add_option("--certificate", keys.certificate, "PEM file: this gateway's");
    CLI::Option* key = app.add_option("--key", keys.key, "PEM file: its private key");
    for (CLI::Option* option : {ca, certificate, key}) {
        option->needs(vision);
        vision->needs(option);
    }
    app.add_option("--server-name", feedback.server_name,
                   "Name that the server's certificate must have (default: --vision's HOST)")
        ->needs(vision);
    return vision;
}

Status read_keys(const VisionKeys& keys, FeedbackOptions& feedback) {
    if (feedback.vision.empty()) {
        return {};
    }
    for (const auto& [path, to] : {std::pair<const std::string&, std::string&>{keys.ca, feedback.ca},
                                   {keys.certificate, feedback.certificate},
                                   {keys.key, feedback.key}}) {
        Result<std::string> text = read_file(path);
        if (!text) {
            return text.error();
        }
        to = std::move(*text);
    }
    return {};
}

}  // namespace adapath::relay
