# adapath_codegen: the half of codegen that needs clang's libraries. Included by codegen/CMakeLists.txt.

# Found by hand: LLVM's own CMake packages want the development files of everything that LLVM was built with.
find_path(LLVM19_INCLUDE clang/Frontend/CompilerInstance.h HINTS /usr/lib/llvm-19/include)
find_library(LLVM19_LIBRARY NAMES LLVM-19 HINTS /usr/lib/llvm-19/lib)
find_library(CLANG19_LIBRARY NAMES clang-cpp-19 clang-cpp libclang-cpp.so.19.1 HINTS /usr/lib/llvm-19/lib NO_DEFAULT_PATH)
foreach(name LLVM19_INCLUDE LLVM19_LIBRARY CLANG19_LIBRARY)
  if(NOT ${name})
    message(FATAL_ERROR "clang 19: ${name} not found; install libclang-19-dev and llvm-19-dev (make deps) or set -D${name}=")
  endif()
endforeach()

file(GLOB ADAPATH_SHARED_HEADERS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../include/adapath/*.h)
set(ADAPATH_EMBEDDED ${CMAKE_CURRENT_BINARY_DIR}/embedded_headers.cc)
add_custom_command(
  OUTPUT ${ADAPATH_EMBEDDED}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${ADAPATH_EMBEDDED} -DDIRECTORY=${CMAKE_CURRENT_LIST_DIR}/../include/adapath
          -P ${CMAKE_CURRENT_LIST_DIR}/embed_headers.cmake
  DEPENDS ${ADAPATH_SHARED_HEADERS} ${CMAKE_CURRENT_LIST_DIR}/embed_headers.cmake
  COMMENT "Embedding include/adapath"
  VERBATIM)

add_library(adapath_codegen STATIC
  ${CMAKE_CURRENT_LIST_DIR}/emit.cc
  ${CMAKE_CURRENT_LIST_DIR}/module_tree.cc
  ${CMAKE_CURRENT_LIST_DIR}/compile.cc
  ${CMAKE_CURRENT_LIST_DIR}/host_program.cc
  ${CMAKE_CURRENT_LIST_DIR}/image_program.cc
  ${CMAKE_CURRENT_LIST_DIR}/image_verify.cc
  ${CMAKE_CURRENT_LIST_DIR}/image_freeze.cc
  ${CMAKE_CURRENT_LIST_DIR}/verify.cc
  ${CMAKE_CURRENT_LIST_DIR}/freeze.cc
  ${ADAPATH_EMBEDDED})
target_link_libraries(adapath_codegen PUBLIC adapath_snapshot adapath_include PRIVATE ${CLANG19_LIBRARY} ${LLVM19_LIBRARY} fmt::fmt)
# LLVM is built without RTTI, and its headers do not expect -Wextra.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/compile.cc PROPERTIES
  COMPILE_OPTIONS "-fno-rtti;-isystem;${LLVM19_INCLUDE}")

if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/tool/main.cc)
  add_executable(adapath-codegen ${CMAKE_CURRENT_LIST_DIR}/tool/main.cc)
  target_link_libraries(adapath-codegen PRIVATE adapath_codegen CLI11::CLI11 nlohmann_json::nlohmann_json fmt::fmt)
  install(TARGETS adapath-codegen)
endif()
