// The app select between real sockets: cameras in one namespace, the gateway in another, a veth pair with the program
// on its ingress. What the gateway's sockets receive is what counts.
#include <bpf/libbpf.h>
#include <net/if.h>

#include "tests/bpf/select_fixture.h"
#include "tests/support/camera_link.h"

namespace adapath::testing {

class SelectNetns : public SelectFixture {
protected:
    static constexpr uint32_t kCameras = 4;

    void SetUp() override {
        SelectFixture::SetUp();
        if (IsSkipped()) return;
        Result<Namespace> gateway = Namespace::create(Namespace::unique_name("adpsel-g"));
        if (!gateway) GTEST_SKIP() << "no namespaces here: " << gateway.error().message;
        Status made = link_.make(kCameras, std::move(*gateway));
        ASSERT_TRUE(made.ok()) << made.error().message;
        options_.interfaces = {"lan0"};
        add_cameras(kCameras);
    }
    void TearDown() override {
        close();
        if (!IsSkipped() && access(options_.pin_directory.c_str(), F_OK) == 0) remove();
        link_.remove();
    }
    template <typename Work>
    static void in(const Namespace& space, Work work) {
        CameraLink::in(space, work);
    }
    // In the gateway's namespace: that is where the interface is.
    void open_there() {
        in(link_.gateway(), [this]() -> Status {
            open();
            return {};
        });
    }
    void remove() {
        in(link_.gateway(), [this] { return remove_select_backend(options_.pin_directory); });
    }
    void set_market(double price, uint32_t main_limit, double used, uint32_t cameras) {
        EXPECT_TRUE(panel_->set_market({price, main_limit, used, cameras, 0}).ok());
    }
    [[nodiscard]] Result<adp_select_camera> camera_state(uint32_t camera) const { return panel_->camera(camera); }
    [[nodiscard]] static uint32_t least_switches() { return 300; }

    CameraLink link_;
};

TEST_F(SelectNetns, RemovingLeavesNothingAndNobodyElsesThings) {
    const auto qdisc_was_there = [this] {
        bool there = false;
        in(link_.gateway(), [&]() -> Status {
            bpf_tc_hook hook = {};
            hook.sz = sizeof(hook);
            hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
            hook.attach_point = BPF_TC_INGRESS;
            there = bpf_tc_hook_create(&hook) == -EEXIST;
            return {};
        });
        return there;
    };
    const auto destroy_qdisc = [this] {
        in(link_.gateway(), []() -> Status {
            bpf_tc_hook hook = {};
            hook.sz = sizeof(hook);
            hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
            hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
            (void)bpf_tc_hook_destroy(&hook);
            return {};
        });
    };
    open_there();
    close();
    remove();
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
    EXPECT_FALSE(qdisc_was_there()) << "the qdisc was left behind";
    // It is there now, made by somebody else, and stays.
    open_there();
    close();
    remove();
    EXPECT_TRUE(qdisc_was_there());
    destroy_qdisc();
    // Made by us, but by now with somebody else's filter on it: here, a second kernel side's own program at another
    // priority.
    open_there();
    in(link_.gateway(), [this]() -> Status {
        bpf_tc_hook hook = {};
        hook.sz = sizeof(hook);
        hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
        hook.attach_point = BPF_TC_EGRESS;
        bpf_tc_opts filter = {};
        filter.sz = sizeof(filter);
        filter.handle = 1;
        filter.priority = 7;
        filter.prog_fd = program_.get();
        EXPECT_EQ(bpf_tc_attach(&hook, &filter), 0);
        return {};
    });
    close();
    remove();
    EXPECT_TRUE(qdisc_was_there());
    destroy_qdisc();
    // An interface that went away does not keep it from being removed; one that never was is an error that leaves
    // nothing.
    open_there();
    close();
    in(link_.gateway(), [] { return delete_link("lan0"); });
    remove();
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
    Result<Backend> opened = open_select_backend(options_);
    EXPECT_FALSE(opened.ok());
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
}

}  // namespace adapath::testing

#define ADAPATH_SELECT_SUITE SelectNetns
#include "tests/support/select_netns_suite.h"
