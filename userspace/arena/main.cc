#include <fmt/format.h>
#include <sys/utsname.h>
#include "userspace/arena/group.h"
#include "userspace/arena/results.h"
#include "userspace/arena/traces.h"
using namespace adapath; using namespace adapath::arena;
int main(int argc, char** argv) {
    StopToken stop; SignalWatcher watcher(stop);
    double secs = atof(argv[1]);
    for (int i = 2; i < argc; i++) {
        auto sources = sources_at(argv[i]);
        for (auto& s : *sources) {
            auto t = seeded(s, 1);
            Group g; g.trace = &*t;
            std::vector<std::unique_ptr<Policy>> ps;
            for (const char* n : {"cubic", "bbr"}) {
                ps.push_back(std::move(*make_policy(n, {})));
                GroupCell c; c.inputs.trace = t->name; c.inputs.trace_hash = t->hash; c.inputs.policy = n; c.inputs.seconds = secs;
                c.inputs.queue_bytes = queue_bytes_of(t->trace, c.inputs.link);
                c.policies.push_back(ps.back().get());
                g.cells.push_back(std::move(c));
            }
            auto r = run_group(g, {}, stop, [](double) {});
            if (!r) { fmt::print("{}\n", r.error().message); return 1; }
            for (size_t k = 0; k < r->size(); k++) {
                fmt::print("{}\n", Json{{"key", cell_key(g.cells[k].inputs)}, {"inputs", inputs_json(g.cells[k].inputs)}, {"error", (*r)[k].error}, {"figures", (*r)[k].figures}}.dump());
                fflush(stdout);
            }
        }
    }
}
