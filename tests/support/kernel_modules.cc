// See kernel_modules.h.
#include "tests/support/kernel_modules.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tests/kmod/driver.h"
#include "tests/support/patience.h"

namespace adapath::testing {

Status KernelModules::load() {
    namespace fs = std::filesystem;
    if (kmod_test::module_loaded("adapath") && std::ranges::all_of(others_, kmod_test::module_loaded)) return {};
    const char* directory = std::getenv("ADAPATH_MODULES");
    if (directory == nullptr || *directory == '\0')
        return Error{
            "ADAPATH_MODULES is not set: it names the directory with the modules for this kernel; run this in a VM, by "
            "tests/vm/run.sh"};
    std::vector<fs::path> files = {fs::path(directory) / "adapath.ko"};
    for (const std::string& other : others_) files.push_back(fs::path(directory) / (other + ".ko"));
    std::error_code none;
    for (fs::directory_iterator entry(directory, none), end; entry != end; entry.increment(none)) {
        if (entry->path().extension() == ".ko" && entry->path().stem().string().starts_with("adapath_net_"))
            files.push_back(entry->path());
    }
    for (const fs::path& file : files) {
        const std::string name = file.stem().string();
        if (kmod_test::module_loaded(name)) continue;
        if (Status status = kmod_test::load_module(file.string()); !status) {
            (void)unload();
            return status;
        }
        loaded_.push_back(name);
    }
    return {};
}

Status KernelModules::unload() {
    while (!loaded_.empty()) {
        Status status;
        wait_until([&] {
            status = kmod_test::unload_module(loaded_.back());
            return status.ok();
        });
        if (!status) return status;
        loaded_.pop_back();
    }
    return {};
}

}  // namespace adapath::testing
