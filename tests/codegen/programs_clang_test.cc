// Generated programs against the reference interpreter, bit for bit: random networks with random and extreme
// parameters, as clang links them in memory and as gcc compiles them with undefined behaviour trapped.
// ADAPATH_PROPERTY_NETWORKS sets how many networks.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <thread>

#include <dlfcn.h>
#include <stdlib.h>

#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "codegen/llvm_backend.h"
#include "tests/codegen/clang_fixtures.h"

namespace adapath {
namespace {

using test::aurora;
using test::network_of;
using test::random_model;
using test::random_network;

// A directory with the shared headers in it, removed at the end.
class TemporaryTree {
public:
    TemporaryTree() {
        std::string name = std::filesystem::temp_directory_path() / "adapath-programs-XXXXXX";
        path_ = mkdtemp(name.data());
        std::filesystem::create_directory(path_ / "adapath");
        for (const EmbeddedHeader& header : embedded_headers()) std::ofstream(path_ / header.name) << header.text;
    }
    ~TemporaryTree() { std::filesystem::remove_all(path_); }

    [[nodiscard]] std::filesystem::path write(const std::string& name, const std::string& content) const {
        std::ofstream(path_ / name, std::ios::binary) << content;
        return path_ / name;
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

// What a command printed (both streams); its exit status in *status.
std::string output_of(const std::string& command, int* status) {
    std::string text;
    char buffer[4096];
    FILE* pipe = popen((command + " 2>&1").c_str(), "r");
    while (size_t n = fread(buffer, 1, sizeof(buffer), pipe)) text.append(buffer, n);
    *status = pclose(pipe);
    return text;
}

Status verify_with(const QuantModel& model, void (*run)(const uint8_t*, const uint8_t*, int32_t*), uint64_t inputs,
                   uint64_t seed) {
    Result<std::vector<uint8_t>> params = pack(model);
    if (!params) return params.error();
    // No byte behind the parameters and the inputs belongs to the program.
    return verify(model, [&](const uint8_t* in, int32_t* out) { run(params->data(), in, out); }, {}, inputs, seed);
}

TEST(HostPrograms, RandomNetworksAgreeWithTheInterpreter) {
    uint64_t networks = test::environment("ADAPATH_PROPERTY_NETWORKS", 200);
    std::mt19937_64 random(20260101);
    std::set<std::string> seen;
    for (uint64_t n = 0; n < networks; n++) {
        Network network = random_network(random, 4, 80);
        seen.insert(describe(network));
        Result<HostProgram> program = HostProgram::load(network);
        ASSERT_TRUE(program) << describe(network) << ": " << program.error().message;
        // The same program must hold for any parameters.
        for (int m = 0; m < 3; m++) {
            QuantModel model = random_model(network, random);
            std::vector<uint8_t> params = pack(model).value();
            Status status = verify(
                model, [&](const uint8_t* in, int32_t* out) { program->run(params.data(), in, out); }, {}, 30, n);
            ASSERT_TRUE(status) << "network " << n << " model " << m << ": " << status.error().message;
        }
    }
    EXPECT_GT(seen.size(), networks * 9 / 10) << "the networks are hardly random";
}

TEST(HostPrograms, EdgesOfShape) {
    std::mt19937_64 random(3);
    auto all = [](uint32_t n, Activation a) { return std::vector<Activation>(n, a); };
    std::vector<Network> networks = {
        network_of({1, 1}, all(1, Activation::identity)),
        network_of({2, 1, 4}, all(2, Activation::relu)),
        network_of({32, 3, 1}, all(2, Activation::tanh)),
        network_of({33, 2, 2}, all(2, Activation::sigmoid)),
        network_of({256, 12, 13, 1}, all(3, Activation::tanh)),
        network_of({4, 256, 4}, all(2, Activation::sigmoid)),
        network_of({5, 6, 7, 8, 9, 10, 11, 12, 3}, all(8, Activation::relu)),
    };
    for (const Network& network : networks) {
        Result<HostProgram> program = HostProgram::load(network);
        ASSERT_TRUE(program) << describe(network) << ": " << program.error().message;
        for (int m = 0; m < 5; m++) {
            QuantModel model = random_model(network, random);
            std::vector<uint8_t> params = pack(model).value();
            Status status = verify(
                model, [&](const uint8_t* in, int32_t* out) { program->run(params.data(), in, out); }, {}, 50, 1);
            ASSERT_TRUE(status) << status.error().message;
        }
    }
}

TEST(HostPrograms, MovedProgramStillRuns) {
    std::mt19937_64 random(4);
    Result<HostProgram> loaded = HostProgram::load(aurora());
    ASSERT_TRUE(loaded) << loaded.error().message;
    HostProgram program = std::move(*loaded);
    QuantModel model = random_model(aurora(), random);
    std::vector<uint8_t> params = pack(model).value();
    Status status =
        verify(model, [&](const uint8_t* in, int32_t* out) { program.run(params.data(), in, out); }, {}, 10, 1);
    EXPECT_TRUE(status) << status.error().message;
}

TEST(Verify, FindsOneWrongBitAndProgramsThatDoNothing) {
    std::mt19937_64 random(5);
    QuantModel model = random_model(aurora(), random);
    Result<HostProgram> program = HostProgram::load(aurora());
    ASSERT_TRUE(program) << program.error().message;
    std::vector<uint8_t> params = pack(model).value();
    NetworkLayout layout = network_layout(aurora()).value();
    auto run = [&](const uint8_t* in, int32_t* out) { program->run(params.data(), in, out); };
    ASSERT_TRUE(verify(model, run, {}, 100, 1));

    // One unit in the output's bias, before the shift.
    uint32_t bias = layout.layers[2].offset + (layout.layers[2].row_words - 2) * 8;
    params[bias + 2] ^= 0x10;
    Status status = verify(model, run, {}, 100, 1);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("input ["), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("reference ["), std::string::npos) << status.error().message;

    EXPECT_FALSE(verify(model, [](const uint8_t*, int32_t*) {}, {}, 1, 1));
    std::vector<InputCodes> short_input = {InputCodes(29)};
    EXPECT_FALSE(verify(model, run, short_input, 0, 1));
}

// gcc is what the kernel module is built with. Undefined behaviour traps, so it can't hide behind a lucky result.
TEST(Gcc, TakesProgramsWithoutWarningsAndAgrees) {
    int status = 0;
    output_of("gcc --version", &status);
    if (status != 0) GTEST_SKIP() << "no gcc here";
    TemporaryTree tree;
    std::mt19937_64 random(6);
    std::vector<Network> networks = {aurora()};
    for (int n = 0; n < 5; n++) networks.push_back(random_network(random, 3, 40));
    for (size_t n = 0; n < networks.size(); n++) {
        Result<std::string> source = emit_c(networks[n], Target::host);
        ASSERT_TRUE(source) << source.error().message;
        std::filesystem::path c = tree.write("program" + std::to_string(n) + ".c", *source);
        std::filesystem::path so = tree.path() / ("program" + std::to_string(n) + ".so");
        std::string text = output_of(
            "gcc -std=c11 -O2 -Wall -Wextra -Werror -ffreestanding -fPIC -shared -fsanitize=undefined "
            "-fsanitize-undefined-trap-on-error -I " +
                tree.path().string() + " -o " + so.string() + " " + c.string(),
            &status);
        ASSERT_EQ(status, 0) << text;
        void* library = dlopen(so.c_str(), RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(library, nullptr) << dlerror();
        auto run = reinterpret_cast<void (*)(const uint8_t*, const uint8_t*, int32_t*)>(dlsym(library, "adp_net_run"));
        ASSERT_NE(run, nullptr);
        for (int m = 0; m < 5; m++) {
            Status verified = verify_with(random_model(networks[n], random), run, 200, n);
            EXPECT_TRUE(verified) << verified.error().message;
        }
        dlclose(library);
    }
}

TEST(HostPrograms, HaveNoDivisionNoFloatsAndNoLibrary) {
    int status = 0;
    output_of("objdump --version", &status);
    if (status != 0) GTEST_SKIP() << "no objdump here";
    TemporaryTree tree;
    std::mt19937_64 random(7);
    std::vector<Network> networks = {aurora()};
    for (int n = 0; n < 5; n++) networks.push_back(random_network(random, 4, 80));
    // Registers and instructions of x86 and arm64 that the kernel may not use, and division.
    std::regex forbidden(R"(%[xyz]mm|%st|\b(i?divq?|i?divl?|[us]div|fmul|fadd|fmov)\b|\bv[0-9]+\.[0-9]+[bhsd])");
    ASSERT_TRUE(std::regex_search("idivq %rcx", forbidden));
    ASSERT_TRUE(std::regex_search("movaps %xmm0,%xmm1", forbidden));
    for (const Network& network : networks) {
        std::vector<uint8_t> object = compile(emit_c(network, Target::host).value(), Target::host).value();
        std::filesystem::path o = tree.write("program.o", std::string(object.begin(), object.end()));
        std::string text = output_of("objdump -d --no-show-raw-insn " + o.string(), &status);
        ASSERT_EQ(status, 0) << text;
        ASSERT_NE(text.find("adp_net_run"), std::string::npos) << text;
        ASSERT_GT(std::count(text.begin(), text.end(), '\n'), 20);
        std::smatch match;
        EXPECT_FALSE(std::regex_search(text, match, forbidden)) << describe(network) << ": " << match.str();
        EXPECT_EQ(output_of("nm -u " + o.string(), &status), "") << "a program must need nothing from outside";
    }
}

TEST(Emit, DependsOnTheNetworkAloneAndNamesIt) {
    std::string source = emit_c(aurora(), Target::host).value();
    EXPECT_EQ(source, emit_c(aurora(), Target::host).value());
    EXPECT_NE(source.find("30-32-16-1"), std::string::npos);
    EXPECT_NE(source.find("LiteFlow"), std::string::npos);
    EXPECT_NE(source, emit_c(network_of({30, 32, 16, 1}, {Activation::tanh, Activation::relu, Activation::identity}),
                             Target::host)
                          .value());
}

TEST(Emit, RefusesWhatCanNotRun) {
    Network network = aurora();
    network.layers[1].inputs = 31;
    EXPECT_FALSE(emit_c(network, Target::host));

    network = aurora();
    network.app = "cc_net_bpf.h>\n#include </etc/passwd";
    EXPECT_FALSE(emit_c(network, Target::bpf));

    Network wide = network_of({30, 200, 4}, {Activation::tanh, Activation::identity});
    EXPECT_TRUE(emit_c(wide, Target::host));
    Result<std::string> refused = emit_c(wide, Target::bpf);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("200"), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find("stack"), std::string::npos) << refused.error().message;
}

TEST(Compile, CarriesClangsDiagnostics) {
    Result<std::vector<uint8_t>> broken =
        compile("#include <adapath/net.h>\nint f(void) { return undeclared; }\n", Target::host);
    ASSERT_FALSE(broken);
    EXPECT_NE(broken.error().message.find("program.c:2:"), std::string::npos) << broken.error().message;
    EXPECT_NE(broken.error().message.find("undeclared"), std::string::npos) << broken.error().message;

    // Nothing of this machine is in reach of a program.
    Result<std::vector<uint8_t>> outside = compile("#include \"/etc/hostname\"\n", Target::host);
    ASSERT_FALSE(outside);
    EXPECT_NE(outside.error().message.find("not found"), std::string::npos) << outside.error().message;
    EXPECT_FALSE(compile("#include <stdio.h>\n", Target::bpf));

    Network other = aurora();
    other.app = "no_such_app";
    Result<std::vector<uint8_t>> app = compile(emit_c(other, Target::bpf).value(), Target::bpf);
    ASSERT_FALSE(app);
    EXPECT_NE(app.error().message.find("no_such_app_net_bpf.h"), std::string::npos) << app.error().message;
}

TEST(Compile, IsRepeatableAndThreadSafe) {
    std::string host = emit_c(aurora(), Target::host).value();
    std::string bpf = emit_c(aurora(), Target::bpf_test).value();
    std::vector<uint8_t> host_object = compile(host, Target::host).value();
    std::vector<uint8_t> bpf_object = compile(bpf, Target::bpf_test).value();
    int different = 0;
    auto work = [&](int* count) {
        for (int n = 0; n < 5; n++) {
            *count += compile(host, Target::host).value() != host_object;
            *count += compile(bpf, Target::bpf_test).value() != bpf_object;
        }
    };
    int others = 0;
    std::thread thread([&] { work(&others); });
    work(&different);
    thread.join();
    EXPECT_EQ(different + others, 0);
}

TEST(LoadedObject, RefusesWhatIsNotAnObject) {
    std::vector<uint8_t> garbage(100, 0x5a);
    EXPECT_FALSE(LoadedObject::load(garbage));
    std::vector<uint8_t> object = compile("int f(void);\nint f(void) { return 1; }\n", Target::host).value();
    Result<std::unique_ptr<LoadedObject>> loaded = LoadedObject::load(object);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_NE((*loaded)->symbol("f"), nullptr);
    EXPECT_EQ((*loaded)->symbol("adp_net_run"), nullptr);
}

}  // namespace
}  // namespace adapath
