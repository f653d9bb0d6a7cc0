// See ring_device.h.
#include "userspace/kmod_backend/ring_device.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cstring>

namespace adapath::kmod {

Result<UniqueFd> open_ring_device(const std::string& device) {
    const std::string path = "/dev/" + device;
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd.valid()) {
        return fd;
    }
    switch (errno) {
        case EBUSY:
            return Error{path + ": in use by another adapathd: stop it first (one daemon an app)"};
        case ENOENT:
        case ENXIO:
        case ENODEV:
            return Error{
                path +
                ": no such device, though the module is loaded: /dev here is not the host's (a container's, or "
                "PrivateDevices=yes in a unit): let it have the device, with --device in a container"};
        case EACCES:
        case EPERM:
            return Error{
                fmt::format("{}: {}: adapathd has to be root to read samples, or its user's group the device's (and "
                            "DeviceAllow= in its unit)",
                            path, std::strerror(errno))};
        default:
            return Error{fmt::format("{}: {}", path, std::strerror(errno))};
    }
}

Result<RingDevice> RingDevice::map(UniqueFd fd, const std::string& device) {
    const auto failed = [&] {
        return Error{fmt::format("/dev/{}: mapping the sample ring: {}", device, std::strerror(errno))};
    };
    void* tails = mmap(nullptr, ADP_RING_TAILS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (tails == MAP_FAILED) {
        return failed();
    }
    Mapping tails_mapping(tails, ADP_RING_TAILS_BYTES);
    size_t bytes = 0;
    {
        void* info = mmap(nullptr, ADP_RING_INFO_BYTES, PROT_READ, MAP_SHARED, fd.get(), ADP_RING_DATA_OFFSET);
        if (info == MAP_FAILED) {
            return failed();
        }
        const Mapping info_mapping(info, ADP_RING_INFO_BYTES);
        bytes = info_mapping.as<const adp_ring_info>()->map_bytes;
    }
    void* data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), ADP_RING_DATA_OFFSET);
    if (data == MAP_FAILED) {
        return failed();
    }
    Mapping data_mapping(data, bytes);
    Result<RingReader> reader =
        RingReader::create(data_mapping.as<const adp_ring_info>(), bytes, tails_mapping.as<adp_ring_tails>());
    if (!reader) {
        return Error{fmt::format("/dev/{}: {}", device, reader.error().message)};
    }
    return RingDevice(std::move(fd), std::move(tails_mapping), std::move(data_mapping), std::move(*reader));
}

}  // namespace adapath::kmod
