// Generated programs in the running kernel, through its verifier and JIT (BPF_PROG_TEST_RUN), against the reference
// interpreter. Needs root (CAP_BPF, CAP_NET_ADMIN); skips with a message otherwise. Nothing is pinned or attached.
// ADAPATH_PROPERTY_NETWORKS sets how many networks.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <elf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <adapath/abi.h>

#include "codegen/codegen.h"
#include "tests/codegen/clang_fixtures.h"

namespace adapath {
namespace {

using test::aurora;
using test::network_of;
using test::random_model;
using test::random_network;

struct Io {
    uint8_t in[ADP_MAX_WIDTH];
    int32_t out[ADP_MAX_OUTPUTS];
};

// A program of target bpf_test in the kernel.
class LoadedProgram {
public:
    // Empty where the verifier refuses it; its log is in `log` then.
    static std::unique_ptr<LoadedProgram> load(const std::vector<uint8_t>& bytes, std::string* log) {
        auto program = std::unique_ptr<LoadedProgram>(new LoadedProgram);
        libbpf_set_print(nullptr);
        program->object_.reset(bpf_object__open_mem(bytes.data(), bytes.size(), nullptr));
        if (!program->object_) {
            *log = std::string("not opened: ") + strerror(errno);
            return nullptr;
        }
        std::vector<char> buffer(1 << 20);
        bpf_program* net = bpf_object__find_program_by_name(program->object_.get(), "adp_test_net");
        if (!net) {
            *log = "no program adp_test_net";
            return nullptr;
        }
        bpf_program__set_log_buf(net, buffer.data(), buffer.size());
        bpf_program__set_log_level(net, 4);
        if (bpf_object__load(program->object_.get()) != 0) {
            size_t length = strlen(buffer.data());
            *log = std::string(buffer.data() + (length > 4000 ? length - 4000 : 0));
            return nullptr;
        }
        program->net_ = bpf_program__fd(net);
        program->params_ = bpf_object__find_map_fd_by_name(program->object_.get(), "adp_test_params");
        program->io_ = bpf_object__find_map_fd_by_name(program->object_.get(), "adp_test_io");
        return program;
    }

    void set_params(const std::vector<uint8_t>& params) {
        std::vector<uint8_t> value(ADP_PARAMS_BYTES);
        std::copy(params.begin(), params.end(), value.begin());
        uint32_t zero = 0;
        ASSERT_EQ(bpf_map_update_elem(params_, &zero, value.data(), BPF_ANY), 0) << strerror(errno);
    }

    void run(const Network& network, const uint8_t* in, int32_t* out) {
        Io io = {};
        char packet[64] = {};
        // A different entry each time: the program must find the right one.
        uint32_t entry = next_++ % 64;
        __sk_buff context = {};
        context.mark = entry;
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .ctx_in = &context,
                    .ctx_size_in = sizeof(context), .repeat = 1);
        std::copy_n(in, network.input_count(), io.in);
        // What the program does not write must not look like an answer.
        std::copy_n(out, network.output_count(), io.out);
        ASSERT_EQ(bpf_map_update_elem(io_, &entry, &io, BPF_ANY), 0) << strerror(errno);
        ASSERT_EQ(bpf_prog_test_run_opts(net_, &options), 0) << strerror(errno);
        ASSERT_EQ(options.retval, 0U);
        ASSERT_EQ(bpf_map_lookup_elem(io_, &entry, &io), 0) << strerror(errno);
        std::copy_n(io.out, network.output_count(), out);
    }

    [[nodiscard]] uint32_t verified_instructions() const {
        bpf_prog_info info = {};
        uint32_t length = sizeof(info);
        return bpf_prog_get_info_by_fd(net_, &info, &length) == 0 ? info.verified_insns : 0;
    }

private:
    struct Close {
        void operator()(bpf_object* object) const { bpf_object__close(object); }
    };
    std::unique_ptr<bpf_object, Close> object_;
    int net_ = -1;
    int params_ = -1;
    int io_ = -1;
    uint32_t next_ = 0;
};

class BpfPrograms : public testing::Test {
protected:
    void SetUp() override {
        if (geteuid() != 0)
            GTEST_SKIP() << "loading BPF programs needs root; run as root to test the kernel's verifier and JIT";
    }

    // Loads a network's program and runs several models on it.
    void check(const Network& network, std::mt19937_64& random, int models, uint64_t inputs) {
        Result<std::string> source = emit_c(network, Target::bpf_test);
        ASSERT_TRUE(source) << source.error().message;
        Result<std::vector<uint8_t>> object = compile(*source, Target::bpf_test);
        ASSERT_TRUE(object) << describe(network) << ": " << object.error().message;
        std::string log;
        std::unique_ptr<LoadedProgram> program = LoadedProgram::load(*object, &log);
        ASSERT_NE(program, nullptr) << describe(network) << ":\n" << log;
        most_verified_ = std::max(most_verified_, program->verified_instructions());
        for (int m = 0; m < models; m++) {
            QuantModel model = random_model(network, random);
            program->set_params(pack(model).value());
            Status status = verify(
                model, [&](const uint8_t* in, int32_t* out) { program->run(network, in, out); }, {}, inputs, random());
            ASSERT_TRUE(status) << status.error().message;
        }
    }

    uint32_t most_verified_ = 0;
};

TEST_F(BpfPrograms, AuroraAgreesInTheKernel) {
    std::mt19937_64 random(11);
    check(aurora(), random, 5, 500);
    EXPECT_LT(most_verified_, 50000U) << "loading must stay below a millisecond";
}

TEST_F(BpfPrograms, RandomNetworksAgreeInTheKernel) {
    uint64_t networks = test::environment("ADAPATH_PROPERTY_NETWORKS", 200);
    std::mt19937_64 random(12);
    uint64_t fit = 0;
    for (uint64_t n = 0; n < networks; n++) {
        Network network = random_network(random, 4, 80);
        // Wide ones are refused before the compiler: that is emit_c()'s to say, and Emit's to test.
        if (!emit_c(network, Target::bpf_test)) continue;
        fit++;
        check(network, random, 2, 20);
        if (HasFatalFailure()) return;
    }
    EXPECT_GT(fit, networks / 2);
}

// The widest and the deepest that emit_c() lets through must pass the compiler's stack limit and the verifier.
TEST_F(BpfPrograms, NetworksAtTheLimitsLoad) {
    std::mt19937_64 random(13);
    auto all = [](uint32_t n, Activation a) { return std::vector<Activation>(n, a); };
    for (const Network& network : {
             network_of({64, 64, 64, 4}, all(3, Activation::tanh)),
             network_of({136, 3, 4}, all(2, Activation::sigmoid)),
             network_of({3, 140, 4}, all(2, Activation::relu)),
             network_of({30, 30, 30, 30, 30, 30, 30, 30, 4}, all(8, Activation::tanh)),
             network_of({1, 1}, all(1, Activation::identity)),
         }) {
        check(network, random, 2, 20);
        if (HasFatalFailure()) FAIL() << describe(network);
    }
    EXPECT_LT(most_verified_, 500000U) << "half of the verifier's budget is for the app's glue";
}

// The instructions themselves, without the kernel: classes ALU and ALU64, operations division and modulo.
TEST(BpfObjects, HaveNoDivisionAndNoCallsToFunctions) {
    std::mt19937_64 random(14);
    std::vector<Network> networks = {aurora()};
    while (networks.size() < 6) {
        Network network = random_network(random, 4, 60);
        if (emit_c(network, Target::bpf_test)) networks.push_back(network);
    }
    for (const Network& network : networks) {
        std::vector<uint8_t> object = compile(emit_c(network, Target::bpf_test).value(), Target::bpf_test).value();
        const auto* header = reinterpret_cast<const Elf64_Ehdr*>(object.data());
        const auto* sections = reinterpret_cast<const Elf64_Shdr*>(object.data() + header->e_shoff);
        const char* names = reinterpret_cast<const char*>(object.data() + sections[header->e_shstrndx].sh_offset);
        size_t instructions = 0;
        bool btf = false;
        for (int s = 0; s < header->e_shnum; s++) {
            std::string name = names + sections[s].sh_name;
            btf |= name == ".BTF";
            EXPECT_NE(name.rfind(".debug", 0), 0U) << "DWARF is dead weight in a snapshot";
            if (!(sections[s].sh_flags & SHF_EXECINSTR) || sections[s].sh_size == 0) continue;
            EXPECT_EQ(name, "tc") << "a function of its own would cost a verifier pass and a stack frame";
            const auto* code = reinterpret_cast<const bpf_insn*>(object.data() + sections[s].sh_offset);
            for (size_t i = 0; i < sections[s].sh_size / sizeof(bpf_insn); i++, instructions++) {
                uint8_t kind = BPF_CLASS(code[i].code);
                bool arithmetic = kind == BPF_ALU || kind == BPF_ALU64;
                EXPECT_FALSE(arithmetic && (BPF_OP(code[i].code) == BPF_DIV || BPF_OP(code[i].code) == BPF_MOD))
                    << "at " << i;
                EXPECT_FALSE(code[i].code == (BPF_JMP | BPF_CALL) && code[i].src_reg == BPF_PSEUDO_CALL) << "at " << i;
                if (code[i].code == (BPF_LD | BPF_DW | BPF_IMM)) i++;
            }
        }
        EXPECT_TRUE(btf);
        EXPECT_GT(instructions, 50U);
    }
}

// The glue of the app that ships with it must compile around any program.
TEST(BpfObjects, CcGlueCompiles) {
    Result<std::vector<uint8_t>> object = compile(emit_c(aurora(), Target::bpf).value(), Target::bpf);
    ASSERT_TRUE(object) << object.error().message;
    EXPECT_LT(object->size(), 64U * 1024);
    // No path of the machine that compiled it.
    std::string text(object->begin(), object->end());
    EXPECT_EQ(text.find("/home/"), std::string::npos);
    EXPECT_EQ(text.find("/tmp/"), std::string::npos);
    EXPECT_EQ(text.find("clang version"), std::string::npos);
}

}  // namespace
}  // namespace adapath
