// Structs to Protobuf messages and back. The way back trusts nothing: sizes are those of the message's own fields,
// values are range-checked before they are narrowed, and only models that pass validate() and prove() come out.
#include "codegen/proto_convert.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "codegen/snapshot_hash.h"

namespace adapath {

namespace {

template <typename To, typename From>
bool fits(From value) {
    return value >= std::numeric_limits<To>::min() && value <= std::numeric_limits<To>::max();
}

void layer_to_proto(const QuantLayer& layer, pb::QuantLayer* out) {
    out->set_weights(layer.weights.data(), layer.weights.size());
    out->mutable_mult()->Assign(layer.mult.begin(), layer.mult.end());
    out->mutable_bias()->Assign(layer.bias.begin(), layer.bias.end());
    out->set_shift(layer.shift);
    out->mutable_code_table()->Assign(layer.code_table.begin(), layer.code_table.end());
    out->mutable_output_table()->Assign(layer.output_table.begin(), layer.output_table.end());
    out->set_scale(layer.scale);
    out->set_zero_point(layer.zero_point);
}

Result<QuantLayer> layer_from_proto(const pb::QuantLayer& message, int l) {
    QuantLayer layer;
    layer.weights.assign(message.weights().begin(), message.weights().end());
    layer.mult.assign(message.mult().begin(), message.mult().end());
    layer.bias.assign(message.bias().begin(), message.bias().end());
    if (!fits<uint8_t>(message.shift())) {
        return Error{fmt::format("layer {}: shift {} is over 255", l + 1, message.shift())};
    }
    layer.shift = static_cast<uint8_t>(message.shift());
    layer.code_table.reserve(static_cast<size_t>(message.code_table_size()));
    for (const uint32_t code : message.code_table()) {
        if (!fits<uint16_t>(code)) {
            return Error{fmt::format("layer {}: code {} in its table is over 65535", l + 1, code)};
        }
        layer.code_table.push_back(static_cast<uint16_t>(code));
    }
    layer.output_table.reserve(static_cast<size_t>(message.output_table_size()));
    for (const int32_t value : message.output_table()) {
        if (!fits<int16_t>(value)) {
            return Error{fmt::format("layer {}: output {} in its table is outside -32768..32767", l + 1, value)};
        }
        layer.output_table.push_back(static_cast<int16_t>(value));
    }
    layer.scale = message.scale();
    layer.zero_point = message.zero_point();
    return layer;
}

// A hash as found in a message, for an error message: whatever is no hash could be of any length and content.
std::string printable_hash(const std::string& hash) {
    const bool sound = hash.size() == 64 && hash.find_first_not_of("0123456789abcdef") == std::string::npos;
    return sound ? hash : "(none)";
}

template <typename Model, typename Layers>
void float_layers_to_proto(const Model& model, Layers* out) {
    for (size_t l = 0; l < model.weights.size(); ++l) {
        pb::FloatLayer* layer = out->Add();
        layer->mutable_weights()->Assign(model.weights[l].begin(), model.weights[l].end());
        layer->mutable_biases()->Assign(model.biases[l].begin(), model.biases[l].end());
    }
}

template <typename Model, typename Layers>
void float_layers_from_proto(const Layers& layers, Model* out) {
    for (const pb::FloatLayer& layer : layers) {
        out->weights.emplace_back(layer.weights().begin(), layer.weights().end());
        out->biases.emplace_back(layer.biases().begin(), layer.biases().end());
    }
}

void image_to_proto(const ImageSnapshot& image, pb::ImageModel* out) {
    to_proto(image.model.network, out->mutable_network());
    for (const ImageQuantLayer& layer : image.model.layers) {
        pb::ImageQuantLayer* message = out->add_layers();
        message->set_weights(layer.weights.data(), layer.weights.size());
        message->mutable_bias()->Assign(layer.bias.begin(), layer.bias.end());
        message->mutable_mult()->Assign(layer.mult.begin(), layer.mult.end());
        message->set_pre(layer.pre);
        message->set_shift(layer.shift);
        message->set_scale(layer.scale);
    }
    float_layers_to_proto(image.reference, out->mutable_reference());
    for (const ImageCodes& probe : image.probes) {
        pb::ImageProbe* message = out->add_probes();
        message->set_width(probe.size.width);
        message->set_height(probe.size.height);
        message->set_codes(probe.codes.data(), probe.codes.size());
    }
}

Result<ImageQuantModel> image_model_from_proto(const pb::ImageModel& message) {
    Result<ImageNetwork> network = from_proto(message.network());
    if (!network) {
        return network.error();
    }
    ImageQuantModel model{.network = std::move(*network), .layers = {}};
    for (const pb::ImageQuantLayer& from : message.layers()) {
        ImageQuantLayer& layer = model.layers.emplace_back();
        if (!fits<uint8_t>(from.pre()) || !fits<uint8_t>(from.shift())) {
            return Error{fmt::format("layer {}: shifts {} and {}, 255 is the most", model.layers.size(), from.pre(),
                                     from.shift())};
        }
        layer.weights.assign(from.weights().begin(), from.weights().end());
        layer.bias.assign(from.bias().begin(), from.bias().end());
        layer.mult.assign(from.mult().begin(), from.mult().end());
        layer.pre = static_cast<uint8_t>(from.pre());
        layer.shift = static_cast<uint8_t>(from.shift());
        layer.scale = from.scale();
    }
    if (Status s = validate(model); !s) {
        return s.error();
    }
    if (const size_t bytes = params_bytes(model.network); bytes > ADP_PARAMS_BYTES) {
        return Error{fmt::format("{}: {} bytes of parameters, a slot holds {}: fewer channels", describe(model.network),
                                 bytes, ADP_PARAMS_BYTES)};
    }
    return model;
}

Result<std::vector<ImageCodes>> image_probes_from_proto(const pb::ImageModel& message, const ImageNetwork& network) {
    if (message.probes_size() > static_cast<int>(kImageProbes)) {
        return Error{fmt::format("{} probes, {} is the most", message.probes_size(), kImageProbes)};
    }
    std::vector<ImageCodes> probes;
    size_t pixels = 0;
    for (const pb::ImageProbe& from : message.probes()) {
        const size_t area = size_t{from.width()} * from.height();
        pixels += std::min(area, kImageProbePixels + 1);
        if (area == 0 || pixels > kImageProbePixels || from.codes().size() != area * network.inputs.size()) {
            return Error{fmt::format("probe {} is {}x{} with {} codes: {} channels, and at most {} pixels in all",
                                     probes.size(), from.width(), from.height(), from.codes().size(),
                                     network.inputs.size(), kImageProbePixels)};
        }
        probes.push_back({{from.width(), from.height()}, {from.codes().begin(), from.codes().end()}});
    }
    return probes;
}

// What does not belong beside an image network.
Status check_alone(const pb::Snapshot& message) {
    if (message.has_network() || message.layers_size() != 0 || message.reference_size() != 0 ||
        message.probes_size() != 0 || !message.source_c().empty() || !message.bpf_object().empty()) {
        return Error{"it holds an image network and a dense one: a snapshot has one program"};
    }
    return {};
}

Status image_from_proto(const pb::Snapshot& message, Snapshot* snapshot) {
    if (Status s = check_alone(message); !s) {
        return s;
    }
    Result<ImageQuantModel> model = image_model_from_proto(message.image());
    if (!model) {
        return model.error();
    }
    ImageSnapshot image{.model = std::move(*model), .reference = {}, .probes = {}};
    image.reference.network = image.model.network;
    float_layers_from_proto(message.image().reference(), &image.reference);
    if (!image.reference.weights.empty()) {
        if (Status s = validate(image.reference); !s) {
            return Error{"reference model: " + s.error().message};
        }
    }
    Result<std::vector<ImageCodes>> probes = image_probes_from_proto(message.image(), image.model.network);
    if (!probes) {
        return probes.error();
    }
    image.probes = std::move(*probes);
    snapshot->image = std::move(image);
    return {};
}

Status dense_from_proto(const pb::Snapshot& message, Snapshot* snapshot) {
    Result<Network> network = from_proto(message.network());
    if (!network) {
        return network.error();
    }
    snapshot->model.network = std::move(*network);
    for (int l = 0; l < message.layers_size(); ++l) {
        Result<QuantLayer> layer = layer_from_proto(message.layers(l), l);
        if (!layer) {
            return layer.error();
        }
        snapshot->model.layers.push_back(std::move(*layer));
    }
    if (Status s = prove(snapshot->model); !s) {
        return s;
    }
    snapshot->reference.network = snapshot->model.network;
    float_layers_from_proto(message.reference(), &snapshot->reference);
    if (!snapshot->reference.weights.empty()) {
        if (Status s = validate(snapshot->reference); !s) {
            return Error{"reference model: " + s.error().message};
        }
    }
    for (const std::string& probe : message.probes()) {
        if (probe.size() != snapshot->model.network.input_count()) {
            return Error{fmt::format("probe {} has {} codes, the network has {} inputs", snapshot->probes.size(),
                                     probe.size(), snapshot->model.network.input_count())};
        }
        snapshot->probes.emplace_back(probe.begin(), probe.end());
    }
    snapshot->source_c = message.source_c();
    snapshot->bpf_object.assign(message.bpf_object().begin(), message.bpf_object().end());
    return {};
}

}  // namespace

void to_proto(const Network& network, pb::Network* out) {
    out->set_app(network.app);
    out->set_feature_schema(network.feature_schema);
    for (const InputCode& code : network.inputs) {
        pb::InputCode* input = out->add_inputs();
        input->set_scale(code.scale);
        input->set_zero_point(code.zero_point);
    }
    for (const LayerShape& shape : network.layers) {
        pb::LayerShape* layer = out->add_layers();
        layer->set_inputs(shape.inputs);
        layer->set_outputs(shape.outputs);
        layer->set_activation(static_cast<pb::Activation>(shape.activation));
    }
}

void to_proto(const FloatModel& model, pb::FloatModel* out) {
    to_proto(model.network, out->mutable_network());
    float_layers_to_proto(model, out->mutable_layers());
}

void to_proto(const Fidelity& fidelity, pb::Fidelity* out) {
    out->set_samples(fidelity.samples);
    out->set_range(fidelity.range);
    out->set_mean_error(fidelity.mean_error);
    out->set_p99_error(fidelity.p99_error);
    out->set_max_error(fidelity.max_error);
}

void to_proto(const Provenance& provenance, pb::Provenance* out) {
    out->set_trainer(provenance.trainer);
    out->set_source(provenance.source);
    out->set_samples(provenance.samples);
    out->set_created_unix_s(provenance.created_unix_s);
    out->set_note(provenance.note);
}

void to_proto(const Snapshot& snapshot, pb::Snapshot* out) {
    out->set_hash(snapshot.hash);
    out->set_program_hash(snapshot.program_hash);
    to_proto(snapshot.fidelity, out->mutable_fidelity());
    to_proto(snapshot.provenance, out->mutable_provenance());
    out->set_explore(snapshot.explore);
    if (snapshot.image) {
        image_to_proto(*snapshot.image, out->mutable_image());
        return;
    }
    to_proto(snapshot.model.network, out->mutable_network());
    for (const QuantLayer& layer : snapshot.model.layers) {
        layer_to_proto(layer, out->add_layers());
    }
    float_layers_to_proto(snapshot.reference, out->mutable_reference());
    for (const InputCodes& probe : snapshot.probes) {
        out->add_probes(probe.data(), probe.size());
    }
    out->set_source_c(snapshot.source_c);
    out->set_bpf_object(snapshot.bpf_object.data(), snapshot.bpf_object.size());
}

Result<Network> from_proto(const pb::Network& message) {
    Network network;
    network.app = message.app();
    network.feature_schema = message.feature_schema();
    for (const pb::InputCode& input : message.inputs()) {
        network.inputs.push_back({input.scale(), input.zero_point()});
    }
    for (const pb::LayerShape& layer : message.layers()) {
        const int activation = layer.activation();
        // Protobuf hands unknown enum values through.
        if (activation < 0 || activation > static_cast<int>(Activation::sigmoid)) {
            return Error{fmt::format("layer {}: activation {} is unknown to this version", network.layers.size() + 1,
                                     activation)};
        }
        network.layers.push_back({layer.inputs(), layer.outputs(), static_cast<Activation>(activation)});
    }
    if (Status s = validate(network); !s) {
        return s.error();
    }
    return network;
}

void to_proto(const ImageNetwork& network, pb::ImageNetwork* out) {
    out->set_app(network.app);
    out->set_feature_schema(network.feature_schema);
    for (const InputCode& code : network.inputs) {
        pb::InputCode* input = out->add_inputs();
        input->set_scale(code.scale);
        input->set_zero_point(code.zero_point);
    }
    for (const ImageLayerShape& shape : network.layers) {
        pb::ImageLayerShape* layer = out->add_layers();
        layer->set_kind(static_cast<pb::ImageLayerKind>(shape.kind));
        layer->set_inputs(shape.inputs);
        layer->set_outputs(shape.outputs);
        layer->set_kernel(shape.kernel);
        layer->set_stride(shape.stride);
    }
}

Result<ImageNetwork> from_proto(const pb::ImageNetwork& message) {
    ImageNetwork network;
    network.app = message.app();
    network.feature_schema = message.feature_schema();
    for (const pb::InputCode& input : message.inputs()) {
        network.inputs.push_back({input.scale(), input.zero_point()});
    }
    for (const pb::ImageLayerShape& layer : message.layers()) {
        const int kind = layer.kind();
        if (kind < 0 || kind > static_cast<int>(ImageLayerKind::pool)) {
            return Error{fmt::format("layer {}: kind {} is unknown to this version", network.layers.size() + 1, kind)};
        }
        network.layers.push_back(
            {static_cast<ImageLayerKind>(kind), layer.inputs(), layer.outputs(), layer.kernel(), layer.stride()});
    }
    if (Status s = validate(network); !s) {
        return s.error();
    }
    return network;
}

Result<FloatModel> from_proto(const pb::FloatModel& message) {
    Result<Network> network = from_proto(message.network());
    if (!network) {
        return network.error();
    }
    FloatModel model;
    model.network = std::move(*network);
    float_layers_from_proto(message.layers(), &model);
    if (Status s = validate(model); !s) {
        return s.error();
    }
    return model;
}

Fidelity from_proto(const pb::Fidelity& message) {
    return {message.samples(), message.range(), message.mean_error(), message.p99_error(), message.max_error()};
}

Provenance from_proto(const pb::Provenance& message) {
    return {message.trainer(), message.source(), message.samples(), message.created_unix_s(), message.note()};
}

Result<Snapshot> from_proto(const pb::Snapshot& message) {
    // The hash first: when it is wrong, whatever else is wrong is a consequence.
    const std::string hash = content_hash(message);
    if (message.hash() != hash) {
        return Error{fmt::format("content hash mismatch (named {}, content has {}): file damaged",
                                 printable_hash(message.hash()), hash)};
    }
    Snapshot snapshot;
    snapshot.hash = hash;
    // Before the numbers: under another generator they may mean something else.
    const auto check_program = [&](const auto& network) -> Status {
        snapshot.program_hash = program_hash(network);
        if (message.program_hash() == snapshot.program_hash) {
            return {};
        }
        return Error{
            fmt::format("program hash {} is not that of its network under generator {} ({}): made by another version "
                        "of adapath; freeze the model again",
                        printable_hash(message.program_hash()), kGeneratorVersion, snapshot.program_hash)};
    };
    Status sound;
    if (message.has_image()) {
        Result<ImageNetwork> network = from_proto(message.image().network());
        sound = network ? check_program(*network) : Status(network.error());
        sound = sound ? image_from_proto(message, &snapshot) : sound;
    } else {
        Result<Network> network = from_proto(message.network());
        sound = network ? check_program(*network) : Status(network.error());
        sound = sound ? dense_from_proto(message, &snapshot) : sound;
    }
    if (!sound) {
        return sound.error();
    }
    snapshot.fidelity = from_proto(message.fidelity());
    snapshot.provenance = from_proto(message.provenance());
    snapshot.explore = message.explore();
    if (!std::isfinite(snapshot.explore) || snapshot.explore < 0 || snapshot.explore > 1) {
        return Error{fmt::format("exploration noise {} is outside 0..1", snapshot.explore)};
    }
    return snapshot;
}

}  // namespace adapath
