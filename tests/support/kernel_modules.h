// The modules under test, in a VM: loaded for as long as a suite runs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "codegen/result.h"

namespace adapath::testing {

class KernelModules {
public:
    // `others`: the module that brings the app under test, and what else it takes.
    explicit KernelModules(std::vector<std::string> others = {"adapath_cc"}) : others_(std::move(others)) {}
    // adapath.ko and the others from the directory ADAPATH_MODULES, with every generated program that is there;
    // those that are loaded already are left alone, now and by unload(). Where they can't be loaded, nothing stays
    // loaded.
    Status load();
    // Waits for the sockets that still use them: what closed a moment ago is not gone yet.
    Status unload();

private:
    std::vector<std::string> others_;
    std::vector<std::string> loaded_;
};

}  // namespace adapath::testing
