// The configuration: defaults, the shipped file, and errors that a person can act on.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "userspace/adapathd/backends.h"
#include "userspace/adapathd/config.h"

namespace adapath {
namespace {

std::string error_of(std::string_view text) {
    Result<pb::DaemonConfig> config = parse_config(text, "test.conf");
    return config ? "" : config.error().message;
}

// The app select has a file of its own: its message, and its weights in the objective.
bool is_of_select(const std::string& weight) {
    if (weight == "select") {
        return true;
    }
    for (const ObjectiveWeight& known : find_app("select")->objective()) {
        if (known.name == weight) {
            return true;
        }
    }
    return false;
}

// Every field, and every field of every message below it, is set.
void expect_all_set(const google::protobuf::Message& message, const std::string& path) {
    const google::protobuf::Descriptor* type = message.GetDescriptor();
    for (int i = 0; i < type->field_count(); i++) {
        const google::protobuf::FieldDescriptor* field = type->field(i);
        if (is_of_select(field->name())) {
            continue;
        }
        EXPECT_TRUE(message.GetReflection()->HasField(message, field))
            << path << field->name() << " is missing from adapathd.conf";
        if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
            expect_all_set(message.GetReflection()->GetMessage(message, field), path + field->name() + ".");
        }
    }
}

// Sets every field to its default explicitly, so that two configurations can be compared by value.
void spell_out(google::protobuf::Message& message) {
    const google::protobuf::Reflection* reflection = message.GetReflection();
    using google::protobuf::FieldDescriptor;
    for (int i = 0; i < message.GetDescriptor()->field_count(); i++) {
        const FieldDescriptor* field = message.GetDescriptor()->field(i);
        if (is_of_select(field->name())) {
            continue;
        }
        switch (field->cpp_type()) {
            case FieldDescriptor::CPPTYPE_MESSAGE:
                spell_out(*reflection->MutableMessage(&message, field));
                break;
            case FieldDescriptor::CPPTYPE_STRING:
                reflection->SetString(&message, field, reflection->GetString(message, field));
                break;
            case FieldDescriptor::CPPTYPE_UINT32:
                reflection->SetUInt32(&message, field, reflection->GetUInt32(message, field));
                break;
            case FieldDescriptor::CPPTYPE_UINT64:
                reflection->SetUInt64(&message, field, reflection->GetUInt64(message, field));
                break;
            case FieldDescriptor::CPPTYPE_BOOL:
                reflection->SetBool(&message, field, reflection->GetBool(message, field));
                break;
            case FieldDescriptor::CPPTYPE_DOUBLE:
                reflection->SetDouble(&message, field, reflection->GetDouble(message, field));
                break;
            default:
                FAIL() << "a type that this test does not know: " << field->full_name();
        }
    }
}

TEST(ConfigTest, ShippedFileHoldsEveryDefault) {
    Result<pb::DaemonConfig> shipped = parse_config(default_config_text(), "adapathd.conf");
    ASSERT_TRUE(shipped) << shipped.error().message;
    expect_all_set(*shipped, "");
    pb::DaemonConfig defaults;
    spell_out(defaults);
    std::string difference;
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&difference);
    EXPECT_TRUE(differencer.Compare(defaults, *shipped)) << difference;
}

// What the file shows as the default is what the app does without one.
TEST(ConfigTest, ShippedObjectiveIsTheAppsOwn) {
    Result<pb::DaemonConfig> shipped = parse_config(default_config_text(), "adapathd.conf");
    ASSERT_TRUE(shipped) << shipped.error().message;
    const App& app = *find_app(shipped->app());
    Result<Objective> objective = configured_objective(*shipped, app);
    ASSERT_TRUE(objective) << objective.error().message;
    for (size_t i = 0; i < app.objective().size(); i++) {
        EXPECT_NEAR((*objective)[i], app.effective({})[i], 1e-4) << app.objective()[i].name;
    }
}

TEST(ConfigTest, EmptyFileIsValid) { EXPECT_EQ(error_of(""), ""); }

TEST(ConfigTest, UnknownFieldNamesFileLineAndField) {
    const std::string error = error_of("interval_ms: 50\n\nintervall: 3\n");
    EXPECT_TRUE(error.starts_with("test.conf:3:")) << error;
    EXPECT_NE(error.find("intervall"), std::string::npos) << error;
}

TEST(ConfigTest, WrongTypeNamesLine) {
    EXPECT_TRUE(error_of("# x\ninterval_ms: \"fast\"\n").starts_with("test.conf:2:"));
}

TEST(ConfigTest, ValuesOutOfRange) {
    for (const auto& [text, field] : std::initializer_list<std::pair<const char*, const char*>>{
             {"app: \"mail\"", "app"},
             {"backend: \"fpga\"", "backend"},
             {"state_directory: \"relative\"", "state_directory"},
             {"interval_ms: 0", "interval_ms"},
             {"interval_ms: 10001", "interval_ms"},
             {"congestion_control: \"a-name-of-16-ch.\"", "congestion_control"},
             {"ring_bytes: 5000", "ring_bytes"},
             {"ring_bytes: 4096 wakeup_bytes: 4096", "wakeup_bytes"},
             {"consistency: \"eventual\"", "consistency"},
             {"sample_log_mb: 0", "sample_log_mb"},
             {"watch { margin: nan }", "watch"},
             {"watch { seconds: 1 }", "watch.seconds"},
             {"watch { window_seconds: 0.1 }", "watch."},
             {"canary { mode: \"sometimes\" }", "canary.mode"},
             {"canary { min_flows: 1 }", "canary.min_flows"},
             {"canary { share: 0 }", "canary.share"},
             {"canary { share: 1 }", "canary.share"},
             {"canary { seconds: nan }", "canary.seconds"},
             {"canary { min_decisions: 0 }", "canary.min_decisions"},
             {"canary { margin: -1 }", "canary"},
             {"canary { watch_factor: 0.5 }", "canary.watch_factor"},
             {"objective { throughput: 0 }", "objective"},
             {"objective { delay: -1 }", "objective"},
             {"objective { loss: 1000 }", "objective"},
             {"local { speed: 0 }", "local.speed"}}) {
        const std::string error = error_of(text);
        EXPECT_NE(error.find(std::string("test.conf: ") + field), std::string::npos) << text << " gave: " << error;
    }
}

TEST(ConfigTest, MissingFileIsNamed) {
    Result<pb::DaemonConfig> config = read_config("/nonexistent/adapathd.conf");
    ASSERT_FALSE(config);
    EXPECT_NE(config.error().message.find("/nonexistent/adapathd.conf"), std::string::npos);
}

// ---- select ----

constexpr const char* kSelect =
    "app: 'select' select { interface: 'lan' camera { name: 'a' address: '10.0.0.2' sub_port: 1 main_port: 2 } ";

TEST(ConfigTest, ShippedExampleOfSelect) {
    Result<pb::DaemonConfig> example = read_config(ADAPATH_SELECT_CONF);
    ASSERT_TRUE(example) << example.error().message;
    EXPECT_EQ(example->app(), "select");
    EXPECT_EQ(example->select().camera_size(), 2);
    EXPECT_EQ(example->select().camera(1).payload_type(), 96U);
    Result<Objective> objective = configured_objective(*example, *find_app("select"));
    ASSERT_TRUE(objective) << objective.error().message;
    EXPECT_EQ(*objective, find_app("select")->effective({}));
}

TEST(ConfigTest, QpRunsOnItsBackendOnly) {
    Result<pb::DaemonConfig> example = read_config(ADAPATH_QP_CONF);
    ASSERT_TRUE(example) << example.error().message;
    EXPECT_EQ(example->app(), "qp");
    EXPECT_EQ(example->host_directory(), pb::DaemonConfig().host_directory());
    EXPECT_NE(error_of("app: 'qp'").find("use \"host\""), std::string::npos) << error_of("app: 'qp'");
    EXPECT_NE(error_of("app: 'qp' backend: 'host' host_directory: 'x'").find("absolute"), std::string::npos);
    EXPECT_NE(error_of("app: 'qp' backend: 'host' consistency: 'flow'").find("decision"), std::string::npos);
    EXPECT_NE(error_of("app: 'qp' backend: 'host' objective { bytes: 1 }").find("no weight"), std::string::npos);
    // And the other way: the others do not run there.
    pb::DaemonConfig config;
    config.set_backend("host");
    EXPECT_NE(open_backend(config).error().message.find("run in the kernel"), std::string::npos);
    EXPECT_TRUE(outlives_daemon("host"));
}

TEST(ConfigTest, SelectsErrorsNameTheCamera) {
    EXPECT_EQ(error_of(std::string(kSelect) + "}"), "");
    const auto expect_error = [](const std::string& text, std::vector<std::string> words) {
        const std::string error = error_of(text);
        for (const std::string& word : words) {
            EXPECT_NE(error.find(word), std::string::npos) << word << " is not in: " << error;
        }
    };
    expect_error("app: 'select'", {"select.camera", "none"});
    expect_error("app: 'select' select { camera { name: 'a' address: '10.0.0.2' sub_port: 1 main_port: 2 } }",
                 {"select.interface"});
    expect_error(std::string(kSelect) + "camera { name: 'b' address: '10.0.0' sub_port: 1 main_port: 2 } }",
                 {"'b'", "10.0.0"});
    expect_error(std::string(kSelect) + "camera { name: 'b' address: '10.0.0.2' sub_port: 3 main_port: 2 } }",
                 {"'b'", "'a'", "port 2"});
    expect_error(std::string(kSelect) + "camera { name: 'b' address: '10.0.0.3' sub_port: 70000 main_port: 2 } }",
                 {"'b'", "70000"});
    expect_error(std::string(kSelect) + "} consistency: 'flow'", {"consistency"});
    expect_error(std::string(kSelect) + "} objective { delay: 1 }", {"objective", "delay", "accuracy, bytes"});
    expect_error("objective { bytes: 1 }", {"objective", "bytes"});
}

}  // namespace
}  // namespace adapath
