// Generated kernel modules without a kernel: the source of target `kmod` with the real net_module.h and a stand-in for
// what these take from the kernel, run in this process against the interpreter; and the tree and the build of
// adapath-codegen's `emit --target kmod`. The same modules in real kernels: tests/vm. ADAPATH_PROPERTY_NETWORKS sets
// how many networks.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <stdlib.h>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include <adapath/layout.h>

#include "codegen/codegen.h"
#include "codegen/llvm_backend.h"
#include "codegen/module_tree.h"
#include "codegen/snapshot_hash.h"
#include "tests/codegen/clang_fixtures.h"

namespace adapath {
namespace {

namespace fs = std::filesystem;

using test::aurora;
using test::network_of;
using test::random_model;
using test::random_network;

// What kmod/adapath.h and kmod/net_module.h take from the kernel. Its types are the kernel's own, so that a pointer to
// a wrong one (u64 is unsigned long long there, adp_u64 is not) is an error here as well.
constexpr const char* kKernel = R"(
#ifndef ADP_TEST_KERNEL
#define ADP_TEST_KERNEL
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef _Bool bool;
typedef struct { int counter; } atomic_t;
typedef struct { long long counter; } atomic64_t;
struct list_head { struct list_head *next, *prev; };
struct module { int unused; };
#define __percpu
#define __init
#define __exit
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
extern struct module adp_test_module;
#define THIS_MODULE (&adp_test_module)
#define module_init(f) int init_module(void); int init_module(void) { return f(); }
#define module_exit(f) void cleanup_module(void); void cleanup_module(void) { f(); }
#define MODULE_LICENSE(text) extern const char adp_test_license[]; const char adp_test_license[] = "license=" text
#define MODULE_AUTHOR(text) _Static_assert(sizeof(text) > 1, "an author")
#define MODULE_DESCRIPTION(text) extern const char adp_test_description[]; const char adp_test_description[] = text
#endif
)";

// adapath.ko as far as a program sees it: holds what registered. What it says of the program goes out as plain numbers.
constexpr const char* kCore = R"(
struct module adp_test_module;
static struct adp_program *adp_test_registered;
int adp_program_register(struct adp_program *program)
{
	if (!program || program->owner != &adp_test_module || adp_test_registered)
		return -22;
	adp_test_registered = program;
	return 0;
}
void adp_program_unregister(struct adp_program *program)
{
	if (adp_test_registered == program)
		adp_test_registered = 0;
}
int adp_test_run(const u8 *params, const u8 *in, s32 *out);
int adp_test_run(const u8 *params, const u8 *in, s32 *out)
{
	if (!adp_test_registered)
		return -1;
	adp_test_registered->forward(params, in, out);
	return 0;
}
/* hash, generator version, layers, then inputs, outputs and activation of each layer */
void adp_test_describe(u64 *numbers);
void adp_test_describe(u64 *numbers)
{
	const struct adp_program *p = adp_test_registered;
	u32 l;

	*numbers++ = p->hash;
	*numbers++ = p->generator_version;
	*numbers++ = p->layers;
	for (l = 0; l < p->layers; l++) {
		*numbers++ = p->shape[l].inputs;
		*numbers++ = p->shape[l].outputs;
		*numbers++ = p->shape[l].activation;
	}
}
)";

const std::regex kKernelInclude(R"(#include <(linux/[^>]+)>)");

std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string kmod_header(const std::string& name) { return text_of(fs::path(ADAPATH_SOURCE_DIR) / "kmod" / name); }

// The file that Kbuild would make of a generated program, with the kernel's part replaced: one that compile() can take.
std::string in_this_process(const std::string& source, bool with_core) {
    std::string net_module = std::regex_replace(kmod_header("net_module.h"), kKernelInclude, "");
    std::string api = std::regex_replace(kmod_header("adapath.h"), kKernelInclude, "");
    auto put = [](std::string text, const std::string& include, const std::string& instead) {
        size_t at = text.find(include);
        if (at == std::string::npos) {
            ADD_FAILURE() << "no " << include;
            return text;
        }
        return text.replace(at, include.size(), instead);
    };
    net_module = put(net_module, "#include \"adapath.h\"", api);
    return put("#define __KERNEL__\n" + source, "#include \"net_module.h\"",
               kKernel + net_module + (with_core ? kCore : ""));
}

struct Module {
    std::unique_ptr<LoadedObject> object;
    int (*init)() = nullptr;
    void (*exit)() = nullptr;
    int (*run)(const uint8_t*, const uint8_t*, int32_t*) = nullptr;
    void (*describe)(unsigned long long*) = nullptr;
};

Result<Module> load_module(const Network& network) {
    Result<std::string> source = emit_c(network, Target::kmod);
    if (!source) return source.error();
    Result<std::vector<uint8_t>> bytes = compile(in_this_process(*source, true), Target::host);
    if (!bytes) return bytes.error();
    Result<std::unique_ptr<LoadedObject>> object = LoadedObject::load(*bytes);
    if (!object) return object.error();
    Module module;
    module.init = reinterpret_cast<int (*)()>((*object)->symbol("init_module"));
    module.exit = reinterpret_cast<void (*)()>((*object)->symbol("cleanup_module"));
    module.run = reinterpret_cast<int (*)(const uint8_t*, const uint8_t*, int32_t*)>((*object)->symbol("adp_test_run"));
    module.describe = reinterpret_cast<void (*)(unsigned long long*)>((*object)->symbol("adp_test_describe"));
    if (!module.init || !module.exit || !module.run || !module.describe)
        return Error{"a symbol of the module is missing"};
    module.object = std::move(*object);
    return module;
}

// Shapes that BPF's stack has no room for, and the extremes of what a slot takes.
std::vector<Network> edge_networks() {
    auto all = [](uint32_t n, Activation a) { return std::vector<Activation>(n, a); };
    return {
        aurora(),
        network_of({1, 1}, all(1, Activation::relu)),
        network_of({250, 40, 4}, {Activation::sigmoid, Activation::tanh}),
        network_of({256, 1, 1, 256, 1},
                   {Activation::tanh, Activation::relu, Activation::sigmoid, Activation::identity}),
        network_of({4, 256, 4}, all(2, Activation::tanh)),
        network_of({256, 1, 1, 210, 3}, all(4, Activation::relu)),
        network_of({5, 6, 7, 8, 9, 10, 11, 12, 3}, all(8, Activation::relu)),
    };
}

TEST(KmodPrograms, RegisterWhatTheyAreAndAgreeWithTheInterpreter) {
    uint64_t count = test::environment("ADAPATH_PROPERTY_NETWORKS", 60);
    std::mt19937_64 random(20260301);
    std::vector<Network> networks = edge_networks();
    while (networks.size() < count) networks.push_back(random_network(random, 5, 160));
    int too_wide_for_bpf = 0;
    for (size_t n = 0; n < networks.size(); n++) {
        const Network& network = networks[n];
        too_wide_for_bpf += !emit_c(network, Target::bpf);
        Result<Module> module = load_module(network);
        ASSERT_TRUE(module) << describe(network) << ": " << module.error().message;

        int32_t nothing[ADP_MAX_OUTPUTS];
        std::vector<uint8_t> zeros(ADP_PARAMS_BYTES);
        EXPECT_NE(module->run(zeros.data(), zeros.data(), nothing), 0) << "registered before its init ran";
        ASSERT_EQ(module->init(), 0);
        std::vector<unsigned long long> numbers(3 + 3 * ADP_MAX_LAYERS);
        module->describe(numbers.data());
        EXPECT_EQ(numbers[0], std::stoull(program_hash(network).substr(0, 16), nullptr, 16));
        EXPECT_EQ(numbers[1], kGeneratorVersion);
        ASSERT_EQ(numbers[2], network.layers.size());
        for (size_t l = 0; l < network.layers.size(); l++) {
            EXPECT_EQ(numbers[3 + 3 * l], network.layers[l].inputs);
            EXPECT_EQ(numbers[4 + 3 * l], network.layers[l].outputs);
            EXPECT_EQ(numbers[5 + 3 * l], static_cast<unsigned>(network.layers[l].activation));
        }

        for (int m = 0; m < 3; m++) {
            QuantModel model = random_model(network, random);
            std::vector<uint8_t> params = pack(model).value();
            Status status =
                verify(model, [&](const uint8_t* in, int32_t* out) { module->run(params.data(), in, out); }, {}, 30, n);
            ASSERT_TRUE(status) << "network " << n << " model " << m << ": " << status.error().message;
        }
        module->exit();
        EXPECT_NE(module->run(zeros.data(), zeros.data(), nothing), 0) << "still registered after its exit ran";
    }
    EXPECT_GT(too_wide_for_bpf, 0) << "no network here shows that the kernel's stack, not BPF's, is the limit";
}

TEST(KmodPrograms, AreNamedByTheirNetwork) {
    std::set<std::string> names;
    for (const Network& network : edge_networks()) {
        std::string name = module_name(network);
        EXPECT_TRUE(std::regex_match(name, std::regex("adapath_net_[0-9a-f]{16}"))) << name;
        EXPECT_EQ(name, "adapath_net_" + program_hash(network).substr(0, 16));
        names.insert(name);
    }
    EXPECT_EQ(names.size(), edge_networks().size());
    Network broken = aurora();
    broken.layers[1].inputs = 31;
    EXPECT_FALSE(emit_c(broken, Target::kmod));
    Result<std::vector<uint8_t>> object = compile(emit_c(aurora(), Target::kmod).value(), Target::kmod);
    ASSERT_FALSE(object);
    EXPECT_NE(object.error().message.find("--target kmod"), std::string::npos) << object.error().message;
}

// A directory that is removed at the end.
class TemporaryTree {
public:
    TemporaryTree() {
        std::string name = fs::temp_directory_path() / "adapath-kmod-XXXXXX";
        path_ = mkdtemp(name.data());
    }
    ~TemporaryTree() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    TemporaryTree(const TemporaryTree&) = delete;
    TemporaryTree& operator=(const TemporaryTree&) = delete;

    void write(const std::string& name, const std::string& content) const {
        fs::create_directories((path_ / name).parent_path());
        std::ofstream(path_ / name, std::ios::binary) << content;
    }
    [[nodiscard]] std::string at(const std::string& name) const { return (path_ / name).string(); }

private:
    fs::path path_;
};

struct Outcome {
    int code = -1;
    std::string text;  // both streams
};
Outcome shell(const std::string& command) {
    Outcome result;
    char buffer[4096];
    FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
    while (size_t n = fread(buffer, 1, sizeof(buffer), pipe)) result.text.append(buffer, n);
    int status = pclose(pipe);
    if (WIFEXITED(status)) result.code = WEXITSTATUS(status);
    return result;
}

Outcome tool(const std::string& arguments) { return shell("'" ADAPATH_CODEGEN_TOOL "' " + arguments); }

bool has(const Outcome& result, const std::string& text) { return result.text.find(text) != std::string::npos; }

// gcc as a kernel calls it. The frame: ADP_QUERY_STACK less what the core's own part of a query takes.
TEST(KmodPrograms, AreWhatAKernelMayRun) {
    if (shell("gcc --version").code != 0 || shell("objdump --version").code != 0)
        GTEST_SKIP() << "no gcc and objdump here";
    std::string flags =
        "-std=gnu11 -O2 -ffreestanding -fno-strict-aliasing -fno-common -fwrapv -Wall -Wextra -Werror -Wundef -Wvla "
        "-Wmissing-prototypes -Wstrict-prototypes -Wdeclaration-after-statement -Wunused-but-set-variable "
        "-Wframe-larger-than=1600";
#ifdef __x86_64__
    flags += " -mno-sse -mno-mmx -mno-80387 -mno-red-zone -mcmodel=kernel -fno-pic";
#endif
    TemporaryTree tree;
    std::regex forbidden(R"(%[xyz]mm|%st|\b(i?divq?|i?divl?|[us]div|fmul|fadd|fmov)\b|\bv[0-9]+\.[0-9]+[bhsd])");
    std::mt19937_64 random(8);
    std::vector<Network> networks = edge_networks();
    for (int n = 0; n < 4; n++) networks.push_back(random_network(random, 5, 160));
    for (const Network& network : networks) {
        tree.write("module.c", in_this_process(emit_c(network, Target::kmod).value(), false));
        Outcome gcc = shell("gcc " + flags + " -I '" ADAPATH_SOURCE_DIR "/include' -c -o " + tree.at("module.o") + " " +
                            tree.at("module.c"));
        ASSERT_EQ(gcc.code, 0) << describe(network) << ":\n" << gcc.text;
        Outcome code = shell("objdump -d --no-show-raw-insn " + tree.at("module.o"));
        ASSERT_GT(std::count(code.text.begin(), code.text.end(), '\n'), 20) << code.text;
        std::smatch match;
        EXPECT_FALSE(std::regex_search(code.text, match, forbidden)) << describe(network) << ": " << match.str();

        // From the core and from nowhere else: no libgcc, no libc.
        std::istringstream undefined(shell("nm -u " + tree.at("module.o")).text);
        std::set<std::string> symbols;
        for (std::string kind, symbol; undefined >> kind >> symbol;) symbols.insert(symbol);
        EXPECT_EQ(symbols,
                  (std::set<std::string>{"adp_program_register", "adp_program_unregister", "adp_test_module"}));
    }
}

// A kernel's build directory as far as a generated tree sees it: reads Kbuild, compiles obj-m with ccflags-y, and like
// modpost fails on a symbol that KBUILD_EXTRA_SYMBOLS does not list.
void write_kernel_tree(const TemporaryTree& tree) {
    tree.write("kernel/include/shim.h", kKernel);
    for (const char* name : {"adapath.h", "net_module.h"}) {
        std::string text = kmod_header(name);
        for (std::sregex_iterator it(text.begin(), text.end(), kKernelInclude), end; it != end; ++it) {
            tree.write("kernel/include/" + (*it)[1].str(), "#include <shim.h>\n");
        }
    }
    tree.write("kernel/Makefile", R"(
include $(M)/Kbuild
modules:
	gcc -std=gnu11 -O2 -ffreestanding -Wall -Werror -D__KERNEL__ -I$(CURDIR)/include $(ccflags-y) -DMODULE -c $(M)/$(obj-m:.o=.c) -o $(M)/$(obj-m)
	for s in $$(nm -u $(M)/$(obj-m) | sed 's/.* //' | grep -v adp_test_module); do \
		grep -q "$$s" $(KBUILD_EXTRA_SYMBOLS) || { echo "modpost: $$s undefined!"; exit 1; }; done
	printf 'license=x\0vermagic=6.9.9-stand-in SMP mod_unload \0' | cat $(M)/$(obj-m) - >$(M)/$(obj-m:.o=.ko)
)");
    tree.write("symvers",
               "0x1\tadp_program_register\tadapath\tEXPORT_SYMBOL_GPL\t\n"
               "0x2\tadp_program_unregister\tadapath\tEXPORT_SYMBOL_GPL\t\n");
}

Result<Network> write_random_model(const TemporaryTree& tree) {
    Outcome made = tool("random --network 30-200-3 --activations tanh,sigmoid -o " + tree.at("a.model"));
    if (made.code != 0) return Error{made.text};
    Result<FloatModel> model = read_float_model(tree.at("a.model"));
    if (!model) return model.error();
    return model->network;
}

TEST(KmodTree, HasWhatABuildNeeds) {
    if (shell("gcc --version").code != 0 || shell("make --version").code != 0) GTEST_SKIP() << "no gcc and make here";
    TemporaryTree tree;
    write_kernel_tree(tree);
    Result<Network> network = write_random_model(tree);
    ASSERT_TRUE(network) << network.error().message;
    std::string name = module_name(*network);

    Outcome emitted = tool("emit " + tree.at("a.model") + " --target kmod --out " + tree.at("deep/net"));
    ASSERT_EQ(emitted.code, 0) << emitted.text;
    EXPECT_TRUE(has(emitted, name)) << emitted.text;
    EXPECT_EQ(text_of(tree.at("deep/net/" + name + ".c")), emit_c(*network, Target::kmod).value());
    Outcome printed = tool("emit " + tree.at("a.model") + " --target kmod");
    EXPECT_EQ(printed.text, emit_c(*network, Target::kmod).value());

    // By make, as its head says.
    std::string make =
        "make -C " + tree.at("deep/net") + " KDIR=" + tree.at("kernel") + " ADAPATH='" ADAPATH_SOURCE_DIR "'";
    Outcome built = shell(make + " SYMVERS=" + tree.at("symvers"));
    ASSERT_EQ(built.code, 0) << built.text;
    EXPECT_TRUE(fs::exists(tree.at("deep/net/" + name + ".ko"))) << built.text;
    Outcome no_symvers = shell(make + " SYMVERS=" + tree.at("none"));
    EXPECT_NE(no_symvers.code, 0);
    EXPECT_TRUE(has(no_symvers, tree.at("none"))) << no_symvers.text;
    Outcome no_headers = shell("make -C " + tree.at("deep/net") + " KDIR=" + tree.at("none"));
    EXPECT_NE(no_headers.code, 0);
    EXPECT_TRUE(has(no_headers, "linux-headers-")) << no_headers.text;

    // By the tool.
    fs::remove_all(tree.at("deep"));
    Outcome tool_built =
        tool("emit " + tree.at("a.model") + " --target kmod --build --out " + tree.at("deep/net") + " --kdir " +
             tree.at("kernel") + " --sources '" ADAPATH_SOURCE_DIR "' --symvers " + tree.at("symvers"));
    ASSERT_EQ(tool_built.code, 0) << tool_built.text;
    EXPECT_TRUE(fs::exists(tree.at("deep/net/" + name + ".ko")));
    EXPECT_TRUE(has(tool_built, tree.at("deep/net/" + name + ".ko"))) << tool_built.text;
    EXPECT_TRUE(has(tool_built, "/lib/modules/6.9.9-stand-in/extra/" + name + ".ko")) << tool_built.text;
    EXPECT_TRUE(has(tool_built, "depmod 6.9.9-stand-in")) << tool_built.text;
}

TEST(KmodTree, SaysWhatIsMissing) {
    TemporaryTree tree;
    write_kernel_tree(tree);
    Result<Network> network = write_random_model(tree);
    ASSERT_TRUE(network) << network.error().message;
    std::string emit = "emit " + tree.at("a.model") + " ";
    std::string build = emit + "--target kmod --build --out " + tree.at("net") + " ";

    Outcome headers = tool(build + "--kdir " + tree.at("lib/modules/5.5.5-gone/build"));
    EXPECT_EQ(headers.code, 1);
    EXPECT_TRUE(has(headers, "no kernel headers at " + tree.at("lib/modules/5.5.5-gone/build"))) << headers.text;
    EXPECT_TRUE(has(headers, "apt-get install linux-headers-5.5.5-gone")) << headers.text;
    EXPECT_TRUE(has(headers, "generic program")) << headers.text;

    Outcome sources = tool(build + "--kdir " + tree.at("kernel") + " --sources " + tree.at("none"));
    EXPECT_EQ(sources.code, 1);
    EXPECT_TRUE(has(sources, tree.at("none"))) << sources.text;
    EXPECT_TRUE(has(sources, "--sources")) << sources.text;

    std::string whole = build + "--kdir " + tree.at("kernel") + " --sources '" ADAPATH_SOURCE_DIR "' --symvers ";
    Outcome symvers = tool(whole + tree.at("none"));
    EXPECT_EQ(symvers.code, 1);
    EXPECT_TRUE(has(symvers, tree.at("none"))) << symvers.text;
    EXPECT_TRUE(has(symvers, "adapath.ko")) << symvers.text;

    if (shell("make --version").code == 0 && shell("gcc --version").code == 0) {
        tree.write("other", "0x1\tadp_query\tadapath\tEXPORT_SYMBOL_GPL\t\n");
        Outcome undefined = tool(whole + tree.at("other"));
        EXPECT_EQ(undefined.code, 1);
        EXPECT_TRUE(has(undefined, "adp_program_register undefined!")) << undefined.text;
        EXPECT_FALSE(fs::exists(tree.at("net/" + module_name(*network) + ".ko")));
    }

    for (const std::string& wrong :
         {"--target host --out " + tree.at("net2"), std::string("--target kmod --build"),
          std::string("--target kmod --kdir /x"), "--target kmod --out '" + tree.at("a b") + "'"}) {
        Outcome refused = tool(emit + wrong);
        EXPECT_EQ(refused.code, 1) << wrong << ": " << refused.text;
        EXPECT_FALSE(fs::exists(tree.at("net2")));
        EXPECT_FALSE(fs::exists(tree.at("a b")));
    }
}

}  // namespace
}  // namespace adapath
