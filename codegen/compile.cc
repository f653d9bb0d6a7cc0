// clang in this process: from C in memory to an object in memory, and from a native object to running code. The only
// file that includes LLVM's headers.
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <clang/Basic/Diagnostic.h>
#include <clang/Basic/DiagnosticOptions.h>
#include <clang/CodeGen/CodeGenAction.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/CompilerInvocation.h>
#include <clang/Frontend/TextDiagnosticPrinter.h>
#include <llvm/ADT/SmallVector.h>
#include <llvm/ExecutionEngine/RTDyldMemoryManager.h>
#include <llvm/ExecutionEngine/RuntimeDyld.h>
#include <llvm/ExecutionEngine/SectionMemoryManager.h>
#include <llvm/ObjCopy/CommonConfig.h>
#include <llvm/ObjCopy/ConfigManager.h>
#include <llvm/ObjCopy/ObjCopy.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/VirtualFileSystem.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/TargetParser/Host.h>

#include <fmt/format.h>

#include "codegen/codegen.h"
#include "codegen/llvm_backend.h"

namespace adapath {
namespace {

// Paths in the compiler's in-memory file system. They are all that diagnostics and BTF line information ever show.
constexpr const char* kRoot = "/adapath";
constexpr const char* kSource = "/adapath/program.c";

void initialise_llvm() {
    static std::once_flag once;
    std::call_once(once, [] {
        LLVMInitializeBPFTargetInfo();
        LLVMInitializeBPFTarget();
        LLVMInitializeBPFTargetMC();
        LLVMInitializeBPFAsmPrinter();
        LLVMInitializeBPFAsmParser();
        llvm::InitializeNativeTarget();
        llvm::InitializeNativeTargetAsmPrinter();
        llvm::InitializeNativeTargetAsmParser();
    });
}

std::vector<std::string> arguments(Target target) {
    std::vector<std::string> args = {
        "-emit-obj",
        target == Target::host_simd ? "-O3" : "-O2",
        "-x",
        "c",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffreestanding",
        "-fno-builtin",
        "-nostdsysteminc",
        "-nobuiltininc",
        "-I",
        kRoot,
        "-main-file-name",
        "program.c",
        "-fno-verbose-asm",
        std::string("-fdebug-compilation-dir=") + kRoot,
        std::string("-fcoverage-compilation-dir=") + kRoot,
    };
    if (target == Target::host_simd) {
        args.insert(args.end(),
                    {"-vectorize-loops", "-vectorize-slp", "-target-cpu", llvm::sys::getHostCPUName().str()});
    } else {
        // The row loops stay loops: straight-line code loses as soon as the cache is cold. No `-vectorize-*`: these
        // programs must run where vector registers may not be touched.
        args.emplace_back("-fno-unroll-loops");
    }
    if (target == Target::host || target == Target::host_simd) {
        args.insert(args.end(), {"-triple", llvm::sys::getProcessTriple(), "-mrelocation-model", "pic", "-pic-level",
                                 "2", "-mframe-pointer=none"});
    } else {
        // v3 is what kernels from 5.1 on take. BTF comes out of debug information.
        args.insert(args.end(), {"-triple", "bpfel", "-target-cpu", "v3", "-debug-info-kind=constructor",
                                 "-dwarf-version=5", "-debugger-tuning=gdb"});
    }
    args.emplace_back(kSource);
    return args;
}

llvm::IntrusiveRefCntPtr<llvm::vfs::InMemoryFileSystem> file_system(const std::string& source) {
    auto files = llvm::makeIntrusiveRefCnt<llvm::vfs::InMemoryFileSystem>();

    for (const EmbeddedHeader& header : embedded_headers()) {
        files->addFile(std::string(kRoot) + "/" + header.name, 0, llvm::MemoryBuffer::getMemBuffer(header.text));
    }
    files->addFile(kSource, 0, llvm::MemoryBuffer::getMemBufferCopy(source));
    return files;
}

// Without DWARF an object is a quarter of the size; BTF is in sections of its own and stays.
Result<std::vector<uint8_t>> strip_dwarf(llvm::StringRef object) {
    auto binary = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(object, "program.o"));
    if (!binary) return Error{"clang made an object that can't be read: " + llvm::toString(binary.takeError())};

    llvm::objcopy::ConfigManager config;
    config.Common.StripDebug = true;
    llvm::SmallVector<char, 0> stripped;
    llvm::raw_svector_ostream stream(stripped);
    if (llvm::Error error = llvm::objcopy::executeObjcopyOnBinary(config, **binary, stream)) {
        return Error{"stripping debug information from a compiled program: " + llvm::toString(std::move(error))};
    }
    return std::vector<uint8_t>(stripped.begin(), stripped.end());
}

class DyldObject final : public LoadedObject {
public:
    DyldObject() : dyld_(memory_, memory_) {}
    ~DyldObject() override = default;

    Status link(std::span<const uint8_t> object) {
        auto binary = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(
            llvm::StringRef(reinterpret_cast<const char*>(object.data()), object.size()), "program.o"));
        if (!binary) return Error{"not an object file: " + llvm::toString(binary.takeError())};
        dyld_.loadObject(**binary);
        dyld_.resolveRelocations();
        if (dyld_.hasError()) return Error{"linking a host program: " + dyld_.getErrorString().str()};
        std::string message;
        if (memory_.finalizeMemory(&message)) return Error{"making a host program executable: " + message};
        return {};
    }

    [[nodiscard]] void* symbol(const std::string& name) const override {
        return reinterpret_cast<void*>(static_cast<uintptr_t>(dyld_.getSymbol(name).getAddress()));
    }

private:
    // The memory manager outlives the linker that uses it.
    llvm::SectionMemoryManager memory_;
    mutable llvm::RuntimeDyld dyld_;
};

}  // namespace

Result<std::vector<uint8_t>> compile(const std::string& source_c, Target target) {
    if (target == Target::kmod) {
        return Error{
            "a kernel module is not compiled in-process but by the kernel's build: adapath-codegen emit --target kmod "
            "--build"};
    }
    initialise_llvm();

    std::string text;
    llvm::raw_string_ostream text_stream(text);
    auto options = llvm::makeIntrusiveRefCnt<clang::DiagnosticOptions>();
    options->ShowColors = false;
    // Owned by the engine.
    auto* printer = new clang::TextDiagnosticPrinter(text_stream, options.get());
    auto diagnostics = llvm::makeIntrusiveRefCnt<clang::DiagnosticsEngine>(
        llvm::makeIntrusiveRefCnt<clang::DiagnosticIDs>(), options, printer, /*ShouldOwnClient=*/true);

    std::vector<std::string> args = arguments(target);
    std::vector<const char*> pointers;
    for (const std::string& arg : args) pointers.push_back(arg.c_str());

    auto invocation = std::make_shared<clang::CompilerInvocation>();
    if (!clang::CompilerInvocation::CreateFromArgs(*invocation, pointers, *diagnostics)) {
        return Error{"clang 19 refuses codegen's own flags:\n" + text};
    }

    clang::CompilerInstance clang;
    llvm::SmallVector<char, 0> object;
    clang.setInvocation(std::move(invocation));
    clang.setDiagnostics(diagnostics.get());
    // "1 error generated." belongs to the diagnostics, not on this process's stderr.
    clang.setVerboseOutputStream(text_stream);
    clang.createFileManager(file_system(source_c));
    clang.setOutputStream(std::make_unique<llvm::raw_svector_ostream>(object));

    clang::EmitObjAction action;
    if (!clang.ExecuteAction(action) || diagnostics->hasErrorOccurred() || object.empty()) {
        return Error{"the generated program does not compile:\n" + (text.empty() ? "(clang said nothing)" : text)};
    }
    llvm::StringRef bytes(object.data(), object.size());
    if (target == Target::host || target == Target::host_simd)
        return std::vector<uint8_t>(bytes.bytes_begin(), bytes.bytes_end());
    return strip_dwarf(bytes);
}

Result<std::unique_ptr<LoadedObject>> LoadedObject::load(std::span<const uint8_t> object) {
    initialise_llvm();
    auto loaded = std::make_unique<DyldObject>();
    if (Status status = loaded->link(object); !status) return status.error();
    return std::unique_ptr<LoadedObject>(std::move(loaded));
}

}  // namespace adapath
