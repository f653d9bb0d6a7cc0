// A program of target `host`, compiled and linked in memory.
#include <fmt/format.h>

#include "codegen/codegen.h"
#include "codegen/llvm_backend.h"

namespace adapath {

struct HostProgram::Image {
    std::unique_ptr<LoadedObject> object;
};

HostProgram::HostProgram() = default;
HostProgram::HostProgram(HostProgram&&) noexcept = default;
HostProgram& HostProgram::operator=(HostProgram&&) noexcept = default;
HostProgram::~HostProgram() = default;

Result<HostProgram> HostProgram::load(const Network& network) {
    Result<std::string> source = emit_c(network, Target::host);
    if (!source) return source.error();
    Result<std::vector<uint8_t>> bytes = compile(*source, Target::host);
    if (!bytes) return bytes.error();
    Result<std::unique_ptr<LoadedObject>> object = LoadedObject::load(*bytes);
    if (!object) return object.error();

    HostProgram program;
    program.image_ = std::make_unique<Image>();
    program.image_->object = std::move(*object);
    program.entry_ = reinterpret_cast<void (*)(const uint8_t*, const uint8_t*, int32_t*)>(
        program.image_->object->symbol("adp_net_run"));
    if (!program.entry_) return Error{fmt::format("host program of {}: no symbol adp_net_run", describe(network))};
    return program;
}

}  // namespace adapath
