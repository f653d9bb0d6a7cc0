// kmod_instructions: the queries that bench_instructions counts, to be run under valgrind's callgrind. Each program of
// each network answers the same queries between two dumps of the counters, named "NETWORK MULTIPLICATIONS PROGRAM
// QUERIES". Not a benchmark by itself: outside callgrind it counts nothing and says so.
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <valgrind/callgrind.h>

#include "bench/kmod_programs/networks.h"

namespace {

using namespace adapath::bench;

void count(const Subject& subject, const char* name, const Program* program) {
    int32_t out[ADP_MAX_OUTPUTS];
    const auto queries = subject.inputs().size();
    const std::string label = fmt::format("{} {} {} {}", subject.name(), subject.multiplications(), name, queries);

    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
    for (const adapath::InputCodes& in : subject.inputs()) {
        // Hidden from the compiler, so that the loop without a program is the same loop.
        asm volatile("" : : "r"(in.data()), "r"(out) : "memory");
        if (program != nullptr) subject.run(*program, in.data(), out);
    }
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(label.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) {
        const bool help = std::string_view(argv[1]) == "--help";
        fmt::print(help ? stdout : stderr,
                   "usage: kmod_instructions (under callgrind; see bench_instructions --help)\n");
        return help ? 0 : 2;
    }
    if (RUNNING_ON_VALGRIND == 0) {
        fmt::print(stderr, "kmod_instructions: not under valgrind, nothing is counted; run bench_instructions\n");
        return 2;
    }
    const auto subjects = make_subjects();
    if (!subjects) {
        fmt::print(stderr, "kmod_instructions: {}\n", subjects.error().message);
        return 1;
    }
    CALLGRIND_START_INSTRUMENTATION;
    for (const auto& subject : *subjects) {
        count(*subject, "nothing", nullptr);
        for (const Program program : kPrograms) {
            if (cpu_runs(program)) count(*subject, name_of(program), &program);
        }
    }
    return 0;
}
