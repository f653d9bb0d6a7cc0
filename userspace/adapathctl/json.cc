// See json.h.
#include "userspace/adapathctl/json.h"

#include <google/protobuf/descriptor.h>

namespace adapath {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// `index` < 0: the field is not repeated.
nlohmann::ordered_json value_of(const Message& message, const FieldDescriptor* field, int index) {
    const Reflection* reflection = message.GetReflection();
#define ADAPATH_GET(name) \
    (index < 0 ? reflection->Get##name(message, field) : reflection->GetRepeated##name(message, field, index))
    switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT32:
            return ADAPATH_GET(Int32);
        case FieldDescriptor::CPPTYPE_INT64:
            return ADAPATH_GET(Int64);
        case FieldDescriptor::CPPTYPE_UINT32:
            return ADAPATH_GET(UInt32);
        case FieldDescriptor::CPPTYPE_UINT64:
            return ADAPATH_GET(UInt64);
        case FieldDescriptor::CPPTYPE_DOUBLE:
            return ADAPATH_GET(Double);
        case FieldDescriptor::CPPTYPE_FLOAT:
            return ADAPATH_GET(Float);
        case FieldDescriptor::CPPTYPE_BOOL:
            return ADAPATH_GET(Bool);
        case FieldDescriptor::CPPTYPE_ENUM:
            return ADAPATH_GET(Enum)->name();
        case FieldDescriptor::CPPTYPE_STRING:
            return ADAPATH_GET(String);
        case FieldDescriptor::CPPTYPE_MESSAGE:
            return to_json(ADAPATH_GET(Message));
    }
#undef ADAPATH_GET
    return nullptr;
}

}  // namespace

nlohmann::ordered_json to_json(const Message& message) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    const google::protobuf::Descriptor* type = message.GetDescriptor();
    for (int i = 0; i < type->field_count(); i++) {
        const FieldDescriptor* field = type->field(i);
        if (field->type() == FieldDescriptor::TYPE_BYTES) {
            continue;
        }
        if (!field->is_repeated()) {
            json[field->name()] = value_of(message, field, -1);
            continue;
        }
        json[field->name()] = nlohmann::ordered_json::array();
        for (int n = 0; n < message.GetReflection()->FieldSize(message, field); n++) {
            json[field->name()].push_back(value_of(message, field, n));
        }
    }
    return json;
}

}  // namespace adapath
