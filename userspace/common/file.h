// Files as the daemon's state needs them: whole reads, and writes that survive a kill or a power cut.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/result.h"

namespace adapath {

Result<std::string> read_file(const std::string& path);
// Temporary file, fsync, rename, fsync of the directory: after a crash the file is whole or not there.
Status write_file_durably(const std::string& path, std::string_view content);
Status write_all(int fd, const void* data, size_t bytes, const std::string& name_for_errors);
// Like mkdir -p; the error names the path that could not be made.
Status make_directories(const std::string& path, unsigned mode = 0755);
Status sync_directory(const std::string& path);
// Names (not paths) of the directory's entries with the given suffix, sorted.
Result<std::vector<std::string>> list_directory(const std::string& path, std::string_view suffix);
// "message: strerror(errno)"
std::string errno_text(std::string_view message);
// 16 bytes as 36 characters; the kernel's random id of this boot. Monotonic times compare only within one.
std::string boot_id();
// Where `make deps` of a source tree puts what it fetches: `name` in $ADAPATH_CACHE, or in out/cache.
std::string fetched_file(const std::string& name);
// The directory that the running program lies in, where its siblings are too; "." where /proc does not say.
std::string own_directory();

}  // namespace adapath
