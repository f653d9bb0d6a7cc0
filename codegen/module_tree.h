// A network's program as the source tree of a kernel module, and its build by the kernel's own build system.
#pragma once

#include <string>

#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath {

// Writes <name>.c, Kbuild and Makefile into `directory`, which is made where it is missing; <name> is
// module_name(network). Returns the name.
Result<std::string> write_module_tree(const Network& network, const std::string& directory);

// Where adapath.ko's sources are on a gateway that installed them (DKMS's layout).
[[nodiscard]] std::string installed_sources();

struct ModuleBuildOptions {
    std::string kdir;     // the kernel's build directory; empty: /lib/modules/<running release>/build
    std::string sources;  // Adapath's, with include/ and kmod/; empty: installed_sources()
    std::string symvers;  // Module.symvers of adapath.ko's build; empty: <sources>/kmod/Module.symvers
};
struct BuiltModule {
    std::string path;     // of the .ko
    std::string release;  // of the kernel that it is for
};
// Runs `make` in a tree that write_module_tree() wrote. Errors name what is missing and how to get it, or carry make's
// output.
Result<BuiltModule> build_module(const std::string& directory, const std::string& name,
                                 const ModuleBuildOptions& options);

}  // namespace adapath
