// Float models in files: the trainer's checkpoints and adapath-codegen's input.
#include <fmt/format.h>

#include "codegen/codegen.h"
#include "codegen/file_bytes.h"
#include "codegen/proto_convert.h"

namespace adapath {

namespace {

constexpr std::string_view kMagic = "ADAPFLOT";
constexpr uint32_t kFormat = 1;
constexpr size_t kMaxBytes = 16 << 20;

}  // namespace

Result<FloatModel> read_float_model(const std::string& path) {
    const Result<std::string> bytes = read_file(path, kMaxBytes);
    if (!bytes) {
        return bytes.error();
    }
    const Result<std::string_view> body = strip_header(*bytes, kMagic, kFormat, "an Adapath float model", path);
    if (!body) {
        return body.error();
    }
    pb::FloatModel message;
    if (!message.ParseFromArray(body->data(), static_cast<int>(body->size()))) {
        return Error{fmt::format("{}: truncated or damaged: what follows the header is no float model message", path)};
    }
    Result<FloatModel> model = from_proto(message);
    if (!model) {
        return Error{fmt::format("{}: {}", path, model.error().message)};
    }
    return model;
}

Status write_float_model(const FloatModel& model, const std::string& path) {
    if (Status s = validate(model); !s) {
        return Error{fmt::format("{}: {}", path, s.error().message)};
    }
    pb::FloatModel message;
    to_proto(model, &message);
    return write_file(path, file_header(kMagic, kFormat) + message.SerializeAsString());
}

}  // namespace adapath
