// See selector.h.
#include "models/qp/selector.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include <adapath/qp.h>

#include "codegen/file_bytes.h"

namespace adapath {

namespace {

using Json = nlohmann::json;

constexpr const char* format_name = "adapath image network 1";

const char* name_of(ImageLayerKind kind) {
    switch (kind) {
        case ImageLayerKind::convolution:
            return "convolution";
        case ImageLayerKind::depthwise:
            return "depthwise";
        case ImageLayerKind::pool:
            break;
    }
    return "pool";
}

Result<ImageLayerKind> kind_of(const std::string& name) {
    for (ImageLayerKind kind : {ImageLayerKind::convolution, ImageLayerKind::depthwise, ImageLayerKind::pool})
        if (name == name_of(kind)) return kind;
    return Error{"a layer of kind '" + name + "'"};
}

// Six digits are more than int8 weights will keep.
std::vector<double> rounded(const std::vector<float>& values) {
    std::vector<double> result;
    for (float v : values) result.push_back(std::stod(fmt::format("{:.6g}", v)));
    return result;
}

}  // namespace

ImageNetwork selector_network() {
    ImageNetwork network;
    network.app = "qp";
    network.feature_schema = ADP_QP_SCHEMA;
    // The border's code is the zero point: 0 for both planes, black and no change.
    network.inputs = {{1.0F / 128, 0}, {1.0F / 64, 0}};
    auto depthwise = [&](uint32_t channels, uint32_t stride) {
        network.layers.push_back({ImageLayerKind::depthwise, channels, channels, 3, stride});
    };
    auto convolution = [&](uint32_t inputs, uint32_t outputs, uint32_t kernel, uint32_t stride) {
        network.layers.push_back({ImageLayerKind::convolution, inputs, outputs, kernel, stride});
    };
    convolution(ADP_QP_PLANES, 16, 3, 2);
    depthwise(16, 2);
    convolution(16, 32, 1, 1);
    for (int i = 0; i < 3; i++) {  // each sees one macroblock further
        depthwise(32, 1);
        convolution(32, 32, 1, 1);
    }
    convolution(32, 1, 1, 1);
    return network;
}

ImageCodes selector_codes(const LumaPlane& first, const LumaPlane& before) {
    ImageCodes codes;
    codes.size = {adp_qp_side(first.width), adp_qp_side(first.height)};
    const size_t count = size_t{codes.size.width} * codes.size.height;
    codes.codes.assign(ADP_QP_PLANES * count, 0);
    adp_qp_luma(first.data, first.width, first.height, first.stride, codes.codes.data());
    if (before.data != nullptr) {
        std::vector<uint8_t> earlier(count);
        adp_qp_luma(before.data, first.width, first.height, before.stride, earlier.data());
        adp_qp_change(codes.codes.data(), earlier.data(), static_cast<uint32_t>(count), codes.codes.data() + count);
    }
    return codes;
}

Status write_selector(const ImageFloatModel& model, const std::string& path) {
    if (Status s = validate(model); !s) return s;
    Json inputs = Json::array();
    for (const InputCode& input : model.network.inputs)
        inputs.push_back({{"scale", input.scale}, {"zero_point", input.zero_point}});
    Json layers = Json::array();
    for (size_t i = 0; i < model.network.layers.size(); i++) {
        const ImageLayerShape& layer = model.network.layers[i];
        layers.push_back({{"kind", name_of(layer.kind)},
                          {"inputs", layer.inputs},
                          {"outputs", layer.outputs},
                          {"kernel", layer.kernel},
                          {"stride", layer.stride},
                          {"weights", rounded(model.weights[i])},
                          {"biases", rounded(model.biases[i])}});
    }
    const Json json = {{"format", format_name},
                       {"app", model.network.app},
                       {"feature_schema", model.network.feature_schema},
                       {"inputs", std::move(inputs)},
                       {"layers", std::move(layers)}};
    return write_file(path, json.dump() + "\n");
}

Result<ImageFloatModel> read_selector(const std::string& path) {
    auto text = read_file(path, 1 << 20);
    if (!text) return text.error();
    ImageFloatModel model;
    try {
        const Json json = Json::parse(*text);
        if (json.at("format") != format_name)
            return Error{fmt::format("{}: its format is not '{}'", path, format_name)};
        model.network.app = json.at("app").get<std::string>();
        model.network.feature_schema = json.at("feature_schema").get<uint32_t>();
        for (const Json& input : json.at("inputs"))
            model.network.inputs.push_back({input.at("scale").get<float>(), input.at("zero_point").get<int32_t>()});
        for (const Json& layer : json.at("layers")) {
            auto kind = kind_of(layer.at("kind").get<std::string>());
            if (!kind) return Error{fmt::format("{}: {}", path, kind.error().message)};
            model.network.layers.push_back({*kind, layer.at("inputs").get<uint32_t>(),
                                            layer.at("outputs").get<uint32_t>(), layer.at("kernel").get<uint32_t>(),
                                            layer.at("stride").get<uint32_t>()});
            model.weights.push_back(layer.at("weights").get<std::vector<float>>());
            model.biases.push_back(layer.at("biases").get<std::vector<float>>());
        }
    } catch (const Json::exception& e) {
        return Error{fmt::format("{}: {}", path, e.what())};
    }
    if (Status s = validate(model); !s) return Error{fmt::format("{}: {}", path, s.error().message)};
    if (model.network.app != "qp" || model.network.feature_schema != ADP_QP_SCHEMA ||
        model.network.inputs.size() != ADP_QP_PLANES || model.network.layers.back().outputs != 1)
        return Error{fmt::format("{}: not a quality selector for schema {}: app '{}', schema {}, {} planes in, {} out",
                                 path, ADP_QP_SCHEMA, model.network.app, model.network.feature_schema,
                                 model.network.inputs.size(), model.network.layers.back().outputs)};
    return model;
}

Result<BlockMap> selector_logits(const ImageFloatModel& model, const ImageCodes& codes, int width, int height) {
    BlockMap map = empty_block_map(width, height);
    const ImageSize out = output_size(model.network, codes.size);
    if (out.width != static_cast<uint32_t>(map.columns) || out.height != static_cast<uint32_t>(map.rows))
        return Error{fmt::format("the selector gives {}x{} numbers for the {}x{} macroblocks of a {}x{} picture",
                                 out.width, out.height, map.columns, map.rows, width, height)};
    map.values = run_float(model, codes);
    return map;
}

}  // namespace adapath
