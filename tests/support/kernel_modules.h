// The modules under test, in a VM: loaded for as long as a suite runs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codegen/result.h"

namespace adapath::testing {

class KernelModules {
public:
    // `app`: the module that brings the app under test.
    explicit KernelModules(std::string app = "adapath_cc") : app_(std::move(app)) {}
    // adapath.ko and the app's from the directory ADAPATH_MODULES, with every generated program that is there;
    // those that are loaded already are left alone, now and by unload(). Where they can't be loaded, nothing stays
    // loaded.
    Status load();
    // Waits for the sockets that still use them: what closed a moment ago is not gone yet.
    Status unload();

private:
    std::string app_;
    std::vector<std::string> loaded_;
};

}  // namespace adapath::testing
